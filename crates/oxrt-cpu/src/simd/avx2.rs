//! AVX2 + FMA + F16C: eight lanes, sixteen registers.

// An `Avx2` value exists only where the CPU has these features (`Simd::assume`), and the methods are
// inlined into functions that enable them. Pointer methods pass their own contract on to the instruction.

use super::Simd;
use core::arch::x86_64::*;

/// Token of the AVX2 tier.
#[derive(Clone, Copy, Debug)]
pub struct Avx2(());

impl Simd for Avx2 {
    type F = __m256;
    type I = __m256i;
    type M = __m256;
    const LANES: usize = 8;
    const MR: usize = 6;
    const NV: usize = 2;
    const FUSED: bool = true;

    #[inline(always)]
    unsafe fn assume() -> Self {
        Avx2(())
    }
    #[inline(always)]
    fn splat(self, x: f32) -> __m256 {
        // SAFETY: a token of this type is made only where the CPU has the instructions.
        unsafe { _mm256_set1_ps(x) }
    }
    #[inline(always)]
    unsafe fn load(self, p: *const f32) -> __m256 {
        // SAFETY: as the caller promises of the memory; the token says that the CPU has the instructions.
        unsafe { _mm256_loadu_ps(p) }
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut f32, v: __m256) {
        // SAFETY: as the caller promises of the memory; the token says that the CPU has the instructions.
        unsafe { _mm256_storeu_ps(p, v) }
    }
    #[inline(always)]
    fn first(self, n: usize) -> __m256 {
        // SAFETY: a token of this type is made only where the CPU has the instructions.
        unsafe {
            let lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
            _mm256_castsi256_ps(_mm256_cmpgt_epi32(_mm256_set1_epi32(n.min(8) as i32), lane))
        }
    }
    #[inline(always)]
    unsafe fn load_mask(self, p: *const f32, m: __m256) -> __m256 {
        // SAFETY: as the caller promises of the memory; the token says that the CPU has the instructions.
        unsafe { _mm256_maskload_ps(p, _mm256_castps_si256(m)) }
    }
    #[inline(always)]
    unsafe fn store_mask(self, p: *mut f32, v: __m256, m: __m256) {
        // SAFETY: as the caller promises of the memory; the token says that the CPU has the instructions.
        unsafe { _mm256_maskstore_ps(p, _mm256_castps_si256(m), v) }
    }
    #[inline(always)]
    fn add(self, a: __m256, b: __m256) -> __m256 {
        // SAFETY: a token of this type is made only where the CPU has the instructions.
        unsafe { _mm256_add_ps(a, b) }
    }
    #[inline(always)]
    fn sub(self, a: __m256, b: __m256) -> __m256 {
        // SAFETY: a token of this type is made only where the CPU has the instructions.
        unsafe { _mm256_sub_ps(a, b) }
    }
    #[inline(always)]
    fn mul(self, a: __m256, b: __m256) -> __m256 {
        // SAFETY: a token of this type is made only where the CPU has the instructions.
        unsafe { _mm256_mul_ps(a, b) }
    }
    #[inline(always)]
    fn div(self, a: __m256, b: __m256) -> __m256 {
        // SAFETY: a token of this type is made only where the CPU has the instructions.
        unsafe { _mm256_div_ps(a, b) }
    }
    #[inline(always)]
    fn fma(self, a: __m256, b: __m256, c: __m256) -> __m256 {
        // SAFETY: a token of this type is made only where the CPU has the instructions.
        unsafe { _mm256_fmadd_ps(a, b, c) }
    }
    #[inline(always)]
    fn min(self, a: __m256, b: __m256) -> __m256 {
        // SAFETY: a token of this type is made only where the CPU has the instructions.
        unsafe { _mm256_min_ps(a, b) }
    }
    #[inline(always)]
    fn max(self, a: __m256, b: __m256) -> __m256 {
        // SAFETY: a token of this type is made only where the CPU has the instructions.
        unsafe { _mm256_max_ps(a, b) }
    }
    #[inline(always)]
    fn abs(self, a: __m256) -> __m256 {
        // SAFETY: a token of this type is made only where the CPU has the instructions.
        unsafe { _mm256_andnot_ps(_mm256_set1_ps(-0.0), a) }
    }
    #[inline(always)]
    fn neg(self, a: __m256) -> __m256 {
        // SAFETY: a token of this type is made only where the CPU has the instructions.
        unsafe { _mm256_xor_ps(_mm256_set1_ps(-0.0), a) }
    }
    #[inline(always)]
    fn sqrt(self, a: __m256) -> __m256 {
        // SAFETY: a token of this type is made only where the CPU has the instructions.
        unsafe { _mm256_sqrt_ps(a) }
    }
    #[inline(always)]
    fn floor(self, a: __m256) -> __m256 {
        // SAFETY: a token of this type is made only where the CPU has the instructions.
        unsafe { _mm256_round_ps::<{ _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC }>(a) }
    }
    #[inline(always)]
    fn ceil(self, a: __m256) -> __m256 {
        // SAFETY: a token of this type is made only where the CPU has the instructions.
        unsafe { _mm256_round_ps::<{ _MM_FROUND_TO_POS_INF | _MM_FROUND_NO_EXC }>(a) }
    }
    #[inline(always)]
    fn round(self, a: __m256) -> __m256 {
        // SAFETY: a token of this type is made only where the CPU has the instructions.
        unsafe { _mm256_round_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(a) }
    }
    #[inline(always)]
    fn lt(self, a: __m256, b: __m256) -> __m256 {
        // SAFETY: a token of this type is made only where the CPU has the instructions.
        unsafe { _mm256_cmp_ps::<_CMP_LT_OQ>(a, b) }
    }
    #[inline(always)]
    fn le(self, a: __m256, b: __m256) -> __m256 {
        // SAFETY: a token of this type is made only where the CPU has the instructions.
        unsafe { _mm256_cmp_ps::<_CMP_LE_OQ>(a, b) }
    }
    #[inline(always)]
    fn eq(self, a: __m256, b: __m256) -> __m256 {
        // SAFETY: a token of this type is made only where the CPU has the instructions.
        unsafe { _mm256_cmp_ps::<_CMP_EQ_OQ>(a, b) }
    }
    #[inline(always)]
    fn and(self, a: __m256, b: __m256) -> __m256 {
        // SAFETY: a token of this type is made only where the CPU has the instructions.
        unsafe { _mm256_and_ps(a, b) }
    }
    #[inline(always)]
    fn or(self, a: __m256, b: __m256) -> __m256 {
        // SAFETY: a token of this type is made only where the CPU has the instructions.
        unsafe { _mm256_or_ps(a, b) }
    }
    #[inline(always)]
    fn not(self, a: __m256) -> __m256 {
        // SAFETY: a token of this type is made only where the CPU has the instructions.
        unsafe { _mm256_xor_ps(a, _mm256_castsi256_ps(_mm256_set1_epi32(-1))) }
    }
    #[inline(always)]
    fn blend(self, m: __m256, a: __m256, b: __m256) -> __m256 {
        // SAFETY: a token of this type is made only where the CPU has the instructions.
        unsafe { _mm256_blendv_ps(b, a, m) }
    }
    #[inline(always)]
    fn to_int(self, a: __m256) -> __m256i {
        // SAFETY: a token of this type is made only where the CPU has the instructions.
        unsafe { _mm256_cvtps_epi32(a) }
    }
    #[inline(always)]
    fn int_to_float(self, a: __m256i) -> __m256 {
        // SAFETY: a token of this type is made only where the CPU has the instructions.
        unsafe { _mm256_cvtepi32_ps(a) }
    }
    #[inline(always)]
    fn int_splat(self, a: i32) -> __m256i {
        // SAFETY: a token of this type is made only where the CPU has the instructions.
        unsafe { _mm256_set1_epi32(a) }
    }
    #[inline(always)]
    fn int_add(self, a: __m256i, b: __m256i) -> __m256i {
        // SAFETY: a token of this type is made only where the CPU has the instructions.
        unsafe { _mm256_add_epi32(a, b) }
    }
    #[inline(always)]
    fn int_sub(self, a: __m256i, b: __m256i) -> __m256i {
        // SAFETY: a token of this type is made only where the CPU has the instructions.
        unsafe { _mm256_sub_epi32(a, b) }
    }
    #[inline(always)]
    fn int_and(self, a: __m256i, b: __m256i) -> __m256i {
        // SAFETY: a token of this type is made only where the CPU has the instructions.
        unsafe { _mm256_and_si256(a, b) }
    }
    #[inline(always)]
    fn int_or(self, a: __m256i, b: __m256i) -> __m256i {
        // SAFETY: a token of this type is made only where the CPU has the instructions.
        unsafe { _mm256_or_si256(a, b) }
    }
    #[inline(always)]
    fn int_shl<const N: u32>(self, a: __m256i) -> __m256i {
        // SAFETY: a token of this type is made only where the CPU has the instructions.
        unsafe { _mm256_sll_epi32(a, _mm_cvtsi32_si128(N as i32)) }
    }
    #[inline(always)]
    fn int_sar<const N: u32>(self, a: __m256i) -> __m256i {
        // SAFETY: a token of this type is made only where the CPU has the instructions.
        unsafe { _mm256_sra_epi32(a, _mm_cvtsi32_si128(N as i32)) }
    }
    #[inline(always)]
    fn int_shl_by(self, a: __m256i, n: u32) -> __m256i {
        // SAFETY: a token of this type is made only where the CPU has the instructions.
        unsafe { _mm256_sll_epi32(a, _mm_cvtsi32_si128(n as i32)) }
    }
    #[inline(always)]
    fn int_sar_by(self, a: __m256i, n: u32) -> __m256i {
        // SAFETY: a token of this type is made only where the CPU has the instructions.
        unsafe { _mm256_sra_epi32(a, _mm_cvtsi32_si128(n as i32)) }
    }
    #[inline(always)]
    fn bits(self, a: __m256) -> __m256i {
        // SAFETY: a token of this type is made only where the CPU has the instructions.
        unsafe { _mm256_castps_si256(a) }
    }
    #[inline(always)]
    fn as_float(self, a: __m256i) -> __m256 {
        // SAFETY: a token of this type is made only where the CPU has the instructions.
        unsafe { _mm256_castsi256_ps(a) }
    }
    #[inline(always)]
    fn sum(self, a: __m256) -> f32 {
        // SAFETY: a token of this type is made only where the CPU has the instructions.
        unsafe {
            let h = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps::<1>(a));
            let h = _mm_add_ps(h, _mm_movehl_ps(h, h));
            _mm_cvtss_f32(_mm_add_ss(h, _mm_movehdup_ps(h)))
        }
    }
    #[inline(always)]
    fn max_lane(self, a: __m256) -> f32 {
        // SAFETY: a token of this type is made only where the CPU has the instructions.
        unsafe {
            let h = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps::<1>(a));
            let h = _mm_max_ps(h, _mm_movehl_ps(h, h));
            _mm_cvtss_f32(_mm_max_ss(h, _mm_movehdup_ps(h)))
        }
    }
    #[inline(always)]
    fn min_lane(self, a: __m256) -> f32 {
        // SAFETY: a token of this type is made only where the CPU has the instructions.
        unsafe {
            let h = _mm_min_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps::<1>(a));
            let h = _mm_min_ps(h, _mm_movehl_ps(h, h));
            _mm_cvtss_f32(_mm_min_ss(h, _mm_movehdup_ps(h)))
        }
    }
    #[inline(always)]
    unsafe fn load_f16(self, p: *const u16) -> __m256 {
        // SAFETY: as the caller promises of the memory; the token says that the CPU has the instructions.
        unsafe { _mm256_cvtph_ps(_mm_loadu_si128(p.cast())) }
    }
    #[inline(always)]
    unsafe fn store_f16(self, p: *mut u16, v: __m256) {
        // SAFETY: as the caller promises of the memory; the token says that the CPU has the instructions.
        unsafe { _mm_storeu_si128(p.cast(), _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(v)) }
    }
    #[inline(always)]
    unsafe fn load_bf16(self, p: *const u16) -> __m256 {
        // SAFETY: as the caller promises of the memory; the token says that the CPU has the instructions.
        unsafe {
            let wide = _mm256_cvtepu16_epi32(_mm_loadu_si128(p.cast()));
            _mm256_castsi256_ps(_mm256_slli_epi32::<16>(wide))
        }
    }
    #[inline(always)]
    unsafe fn store_bf16(self, p: *mut u16, v: __m256) {
        // SAFETY: as the caller promises of the memory; the token says that the CPU has the instructions.
        unsafe {
            let bits = _mm256_castps_si256(v);
            let odd = _mm256_and_si256(_mm256_srli_epi32::<16>(bits), _mm256_set1_epi32(1));
            let rounded = _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
            let nan = _mm256_castps_si256(_mm256_cmp_ps::<_CMP_UNORD_Q>(v, v));
            let quiet = _mm256_or_si256(bits, _mm256_set1_epi32(0x0040_0000));
            let high = _mm256_srli_epi32::<16>(_mm256_blendv_epi8(rounded, quiet, nan));
            let packed = _mm256_permute4x64_epi64::<0b1000>(_mm256_packus_epi32(high, high));
            _mm_storeu_si128(p.cast(), _mm256_castsi256_si128(packed));
        }
    }
    #[inline(always)]
    fn prefetch(self, p: *const f32) {
        // SAFETY: a token of this type is made only where the CPU has the instructions.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(p.cast()) }
    }
}
