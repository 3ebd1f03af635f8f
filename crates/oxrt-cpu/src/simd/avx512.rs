//! AVX-512 F/BW/DQ/VL: sixteen lanes, thirty-two registers, mask registers.

// An `Avx512` value exists only where the CPU has these features (`Simd::assume`), and the methods are
// inlined into functions that enable them. Pointer methods pass their own contract on to the instruction.

use super::Simd;
use core::arch::x86_64::*;

/// Token of the AVX-512 tier.
#[derive(Clone, Copy, Debug)]
pub struct Avx512(());

impl Simd for Avx512 {
    type F = __m512;
    type I = __m512i;
    type M = __mmask16;
    const LANES: usize = 16;
    const MR: usize = 14;
    const NV: usize = 2;
    const FUSED: bool = true;

    #[inline(always)]
    unsafe fn assume() -> Self {
        Avx512(())
    }
    #[inline(always)]
    fn splat(self, x: f32) -> __m512 {
        // SAFETY: a token of this type is made only where the CPU has the instructions.
        unsafe { _mm512_set1_ps(x) }
    }
    #[inline(always)]
    unsafe fn load(self, p: *const f32) -> __m512 {
        // SAFETY: as the caller promises of the memory; the token says that the CPU has the instructions.
        unsafe { _mm512_loadu_ps(p) }
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut f32, v: __m512) {
        // SAFETY: as the caller promises of the memory; the token says that the CPU has the instructions.
        unsafe { _mm512_storeu_ps(p, v) }
    }
    #[inline(always)]
    fn first(self, n: usize) -> __mmask16 {
        if n >= 16 { 0xffff } else { (1u16 << n) - 1 }
    }
    #[inline(always)]
    unsafe fn load_mask(self, p: *const f32, m: __mmask16) -> __m512 {
        // SAFETY: as the caller promises of the memory; the token says that the CPU has the instructions.
        unsafe { _mm512_maskz_loadu_ps(m, p) }
    }
    #[inline(always)]
    unsafe fn store_mask(self, p: *mut f32, v: __m512, m: __mmask16) {
        // SAFETY: as the caller promises of the memory; the token says that the CPU has the instructions.
        unsafe { _mm512_mask_storeu_ps(p, m, v) }
    }
    #[inline(always)]
    fn add(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: a token of this type is made only where the CPU has the instructions.
        unsafe { _mm512_add_ps(a, b) }
    }
    #[inline(always)]
    fn sub(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: a token of this type is made only where the CPU has the instructions.
        unsafe { _mm512_sub_ps(a, b) }
    }
    #[inline(always)]
    fn mul(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: a token of this type is made only where the CPU has the instructions.
        unsafe { _mm512_mul_ps(a, b) }
    }
    #[inline(always)]
    fn div(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: a token of this type is made only where the CPU has the instructions.
        unsafe { _mm512_div_ps(a, b) }
    }
    #[inline(always)]
    fn fma(self, a: __m512, b: __m512, c: __m512) -> __m512 {
        // SAFETY: a token of this type is made only where the CPU has the instructions.
        unsafe { _mm512_fmadd_ps(a, b, c) }
    }
    #[inline(always)]
    fn min(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: a token of this type is made only where the CPU has the instructions.
        unsafe { _mm512_min_ps(a, b) }
    }
    #[inline(always)]
    fn max(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: a token of this type is made only where the CPU has the instructions.
        unsafe { _mm512_max_ps(a, b) }
    }
    #[inline(always)]
    fn abs(self, a: __m512) -> __m512 {
        // SAFETY: a token of this type is made only where the CPU has the instructions.
        unsafe { _mm512_abs_ps(a) }
    }
    #[inline(always)]
    fn neg(self, a: __m512) -> __m512 {
        // SAFETY: a token of this type is made only where the CPU has the instructions.
        unsafe { _mm512_xor_ps(_mm512_set1_ps(-0.0), a) }
    }
    #[inline(always)]
    fn sqrt(self, a: __m512) -> __m512 {
        // SAFETY: a token of this type is made only where the CPU has the instructions.
        unsafe { _mm512_sqrt_ps(a) }
    }
    #[inline(always)]
    fn floor(self, a: __m512) -> __m512 {
        // SAFETY: a token of this type is made only where the CPU has the instructions.
        unsafe { _mm512_roundscale_ps::<{ _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC }>(a) }
    }
    #[inline(always)]
    fn ceil(self, a: __m512) -> __m512 {
        // SAFETY: a token of this type is made only where the CPU has the instructions.
        unsafe { _mm512_roundscale_ps::<{ _MM_FROUND_TO_POS_INF | _MM_FROUND_NO_EXC }>(a) }
    }
    #[inline(always)]
    fn round(self, a: __m512) -> __m512 {
        // SAFETY: a token of this type is made only where the CPU has the instructions.
        unsafe { _mm512_roundscale_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(a) }
    }
    #[inline(always)]
    fn lt(self, a: __m512, b: __m512) -> __mmask16 {
        // SAFETY: a token of this type is made only where the CPU has the instructions.
        unsafe { _mm512_cmp_ps_mask::<_CMP_LT_OQ>(a, b) }
    }
    #[inline(always)]
    fn le(self, a: __m512, b: __m512) -> __mmask16 {
        // SAFETY: a token of this type is made only where the CPU has the instructions.
        unsafe { _mm512_cmp_ps_mask::<_CMP_LE_OQ>(a, b) }
    }
    #[inline(always)]
    fn eq(self, a: __m512, b: __m512) -> __mmask16 {
        // SAFETY: a token of this type is made only where the CPU has the instructions.
        unsafe { _mm512_cmp_ps_mask::<_CMP_EQ_OQ>(a, b) }
    }
    #[inline(always)]
    fn and(self, a: __mmask16, b: __mmask16) -> __mmask16 {
        a & b
    }
    #[inline(always)]
    fn or(self, a: __mmask16, b: __mmask16) -> __mmask16 {
        a | b
    }
    #[inline(always)]
    fn not(self, a: __mmask16) -> __mmask16 {
        !a
    }
    #[inline(always)]
    fn blend(self, m: __mmask16, a: __m512, b: __m512) -> __m512 {
        // SAFETY: a token of this type is made only where the CPU has the instructions.
        unsafe { _mm512_mask_blend_ps(m, b, a) }
    }
    #[inline(always)]
    fn to_int(self, a: __m512) -> __m512i {
        // SAFETY: a token of this type is made only where the CPU has the instructions.
        unsafe { _mm512_cvtps_epi32(a) }
    }
    #[inline(always)]
    fn int_to_float(self, a: __m512i) -> __m512 {
        // SAFETY: a token of this type is made only where the CPU has the instructions.
        unsafe { _mm512_cvtepi32_ps(a) }
    }
    #[inline(always)]
    fn int_splat(self, a: i32) -> __m512i {
        // SAFETY: a token of this type is made only where the CPU has the instructions.
        unsafe { _mm512_set1_epi32(a) }
    }
    #[inline(always)]
    fn int_add(self, a: __m512i, b: __m512i) -> __m512i {
        // SAFETY: a token of this type is made only where the CPU has the instructions.
        unsafe { _mm512_add_epi32(a, b) }
    }
    #[inline(always)]
    fn int_sub(self, a: __m512i, b: __m512i) -> __m512i {
        // SAFETY: a token of this type is made only where the CPU has the instructions.
        unsafe { _mm512_sub_epi32(a, b) }
    }
    #[inline(always)]
    fn int_and(self, a: __m512i, b: __m512i) -> __m512i {
        // SAFETY: a token of this type is made only where the CPU has the instructions.
        unsafe { _mm512_and_si512(a, b) }
    }
    #[inline(always)]
    fn int_or(self, a: __m512i, b: __m512i) -> __m512i {
        // SAFETY: a token of this type is made only where the CPU has the instructions.
        unsafe { _mm512_or_si512(a, b) }
    }
    #[inline(always)]
    fn int_shl<const N: u32>(self, a: __m512i) -> __m512i {
        // SAFETY: a token of this type is made only where the CPU has the instructions.
        unsafe { _mm512_slli_epi32::<N>(a) }
    }
    #[inline(always)]
    fn int_sar<const N: u32>(self, a: __m512i) -> __m512i {
        // SAFETY: a token of this type is made only where the CPU has the instructions.
        unsafe { _mm512_srai_epi32::<N>(a) }
    }
    #[inline(always)]
    fn int_shl_by(self, a: __m512i, n: u32) -> __m512i {
        // SAFETY: a token of this type is made only where the CPU has the instructions.
        unsafe { _mm512_sll_epi32(a, _mm_cvtsi32_si128(n as i32)) }
    }
    #[inline(always)]
    fn int_sar_by(self, a: __m512i, n: u32) -> __m512i {
        // SAFETY: a token of this type is made only where the CPU has the instructions.
        unsafe { _mm512_sra_epi32(a, _mm_cvtsi32_si128(n as i32)) }
    }
    #[inline(always)]
    fn code<const BITS: u32>(self, a: __m512i, at: u32) -> __m512 {
        // A lane looks up its lowest four bits: one code of four bits, or two of two bits of which the table knows the lower.
        const TABLES: [[f32; 16]; 2] = {
            let mut tables = [[0.0; 16]; 2];
            let mut i = 0;
            while i < 16 {
                tables[0][i as usize] = if i & 2 == 0 { i & 3 } else { (i & 3) - 4 } as f32;
                tables[1][i as usize] = if i < 8 { i } else { i - 16 } as f32;
                i += 1;
            }
            tables
        };
        if BITS > 4 {
            return self.int_to_float(self.int_sar_by(self.int_shl_by(a, 32 - BITS - at), 32 - BITS));
        }
        // SAFETY: a token of this type is made only where the CPU has the instructions; a table has sixteen floats.
        unsafe {
            let table = _mm512_loadu_ps(TABLES[if BITS == 4 { 1 } else { 0 }].as_ptr());
            _mm512_permutexvar_ps(_mm512_srl_epi32(a, _mm_cvtsi32_si128(at as i32)), table)
        }
    }
    #[inline(always)]
    fn bits(self, a: __m512) -> __m512i {
        // SAFETY: a token of this type is made only where the CPU has the instructions.
        unsafe { _mm512_castps_si512(a) }
    }
    #[inline(always)]
    fn as_float(self, a: __m512i) -> __m512 {
        // SAFETY: a token of this type is made only where the CPU has the instructions.
        unsafe { _mm512_castsi512_ps(a) }
    }
    #[inline(always)]
    fn sum(self, a: __m512) -> f32 {
        // SAFETY: a token of this type is made only where the CPU has the instructions.
        unsafe { _mm512_reduce_add_ps(a) }
    }
    #[inline(always)]
    fn max_lane(self, a: __m512) -> f32 {
        // SAFETY: a token of this type is made only where the CPU has the instructions.
        unsafe { _mm512_reduce_max_ps(a) }
    }
    #[inline(always)]
    fn min_lane(self, a: __m512) -> f32 {
        // SAFETY: a token of this type is made only where the CPU has the instructions.
        unsafe { _mm512_reduce_min_ps(a) }
    }
    #[inline(always)]
    unsafe fn load_f16(self, p: *const u16) -> __m512 {
        // SAFETY: as the caller promises of the memory; the token says that the CPU has the instructions.
        unsafe { _mm512_cvtph_ps(_mm256_loadu_si256(p.cast())) }
    }
    #[inline(always)]
    unsafe fn store_f16(self, p: *mut u16, v: __m512) {
        // SAFETY: as the caller promises of the memory; the token says that the CPU has the instructions.
        unsafe { _mm256_storeu_si256(p.cast(), _mm512_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(v)) }
    }
    #[inline(always)]
    unsafe fn load_bf16(self, p: *const u16) -> __m512 {
        // SAFETY: as the caller promises of the memory; the token says that the CPU has the instructions.
        unsafe {
            let wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256(p.cast()));
            _mm512_castsi512_ps(_mm512_slli_epi32::<16>(wide))
        }
    }
    #[inline(always)]
    unsafe fn load_bf16_mask(self, p: *const u16, m: __mmask16) -> __m512 {
        // SAFETY: as the caller promises of the memory; the token says that the CPU has the instructions.
        unsafe {
            let wide = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(m, p.cast()));
            _mm512_castsi512_ps(_mm512_slli_epi32::<16>(wide))
        }
    }
    #[inline(always)]
    unsafe fn store_bf16(self, p: *mut u16, v: __m512) {
        // SAFETY: as the caller promises of the memory; the token says that the CPU has the instructions.
        unsafe {
            let bits = _mm512_castps_si512(v);
            let odd = _mm512_and_si512(_mm512_srli_epi32::<16>(bits), _mm512_set1_epi32(1));
            let rounded = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
            let nan = _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(v, v);
            let quiet = _mm512_or_si512(bits, _mm512_set1_epi32(0x0040_0000));
            let high = _mm512_srli_epi32::<16>(_mm512_mask_blend_epi32(nan, rounded, quiet));
            _mm256_storeu_si256(p.cast(), _mm512_cvtepi32_epi16(high));
        }
    }
    #[inline(always)]
    fn prefetch(self, p: *const f32) {
        // SAFETY: a token of this type is made only where the CPU has the instructions.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(p.cast()) }
    }
}
