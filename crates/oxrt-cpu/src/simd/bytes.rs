//! What integer kernels need beside the floats of a tier: bytes widened to 32-bit lanes and narrowed again, and the product
//! that sums four bytes per lane.

// SAFETY (whole file): as in the tiers' own files: a token exists only where the CPU has the tier's features, and the methods
// are inlined into functions that enable them; pointer methods pass their own contract on to the instruction.
#![allow(clippy::undocumented_unsafe_blocks)]

use super::{Portable, Simd};

/// Bytes and 32-bit integers in a tier's registers.
#[allow(clippy::missing_safety_doc)]
pub trait Bytes: Simd {
    unsafe fn int_load(self, p: *const i32) -> Self::I;
    unsafe fn int_store(self, p: *mut i32, v: Self::I);
    /// The first `n` lanes, zeros behind.
    unsafe fn int_load_first(self, p: *const i32, n: usize) -> Self::I;
    /// The first `n` lanes alone.
    unsafe fn int_store_first(self, p: *mut i32, v: Self::I, n: usize);
    fn int_mul(self, a: Self::I, b: Self::I) -> Self::I;
    fn int_xor(self, a: Self::I, b: Self::I) -> Self::I;
    fn int_max(self, a: Self::I, b: Self::I) -> Self::I;
    /// `a.low16 * b.low16` per lane, where the high halves of `b` are zero or `a`'s are.
    fn mul_low16(self, a: Self::I, b: Self::I) -> Self::I;
    /// `n` bytes (at most a lane each), unsigned.
    unsafe fn widen(self, p: *const u8, n: usize) -> Self::I;
    /// The low byte of each of the first `n` lanes.
    unsafe fn narrow(self, p: *mut u8, v: Self::I, n: usize);
    /// For each lane `l`, the bytes `l` of the four rows, the first one lowest. Of each row, `n` bytes are read.
    unsafe fn interleave(self, rows: [*const u8; 4], n: usize) -> Self::I;
    /// Bytes in a register.
    const BYTES: usize = 4 * Self::LANES;
}

/// What some CPUs of a tier do with one instruction, and others with several.
#[allow(clippy::missing_safety_doc)]
pub trait Dot<S: Bytes>: Copy {
    /// `acc + a0 b0 + a1 b1 + a2 b2 + a3 b3` in every lane, exactly: bytes of `a` are unsigned, those of `b` signed.
    fn dot(s: S, acc: S::I, a: S::I, b: S::I) -> S::I;
    /// `table[b]` for `n` bytes (as many as a register holds, or fewer); `x` and `y` may be the same.
    unsafe fn look_up(s: S, table: *const u8, x: *const u8, y: *mut u8, n: usize);
}

/// By the tier's common instructions.
#[derive(Clone, Copy, Debug)]
pub struct Plain;

/// By the dot products that not every CPU of the tier has, and, in 512 bits, by shuffles across the register (VNNI and
/// VBMI).
#[derive(Clone, Copy, Debug)]
pub struct Vnni;

const L: usize = 8;

impl Bytes for Portable {
    #[inline(always)]
    unsafe fn int_load(self, p: *const i32) -> [i32; L] {
        unsafe { p.cast::<[i32; L]>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn int_store(self, p: *mut i32, v: [i32; L]) {
        unsafe { p.cast::<[i32; L]>().write_unaligned(v) }
    }
    #[inline(always)]
    unsafe fn int_load_first(self, p: *const i32, n: usize) -> [i32; L] {
        core::array::from_fn(|l| if l < n { unsafe { *p.add(l) } } else { 0 })
    }
    #[inline(always)]
    unsafe fn int_store_first(self, p: *mut i32, v: [i32; L], n: usize) {
        for (l, &v) in v.iter().enumerate().take(n) {
            unsafe { *p.add(l) = v };
        }
    }
    #[inline(always)]
    fn int_mul(self, a: [i32; L], b: [i32; L]) -> [i32; L] {
        core::array::from_fn(|l| a[l].wrapping_mul(b[l]))
    }
    #[inline(always)]
    fn int_xor(self, a: [i32; L], b: [i32; L]) -> [i32; L] {
        core::array::from_fn(|l| a[l] ^ b[l])
    }
    #[inline(always)]
    fn int_max(self, a: [i32; L], b: [i32; L]) -> [i32; L] {
        core::array::from_fn(|l| a[l].max(b[l]))
    }
    #[inline(always)]
    fn mul_low16(self, a: [i32; L], b: [i32; L]) -> [i32; L] {
        core::array::from_fn(|l| i32::from(a[l] as i16) * i32::from(b[l] as i16))
    }
    #[inline(always)]
    unsafe fn widen(self, p: *const u8, n: usize) -> [i32; L] {
        core::array::from_fn(|l| if l < n { i32::from(unsafe { *p.add(l) }) } else { 0 })
    }
    #[inline(always)]
    unsafe fn narrow(self, p: *mut u8, v: [i32; L], n: usize) {
        for (l, &v) in v.iter().enumerate().take(n) {
            unsafe { *p.add(l) = v as u8 };
        }
    }
    #[inline(always)]
    unsafe fn interleave(self, rows: [*const u8; 4], n: usize) -> [i32; L] {
        core::array::from_fn(|l| {
            let byte = |r: *const u8| if l < n { unsafe { *r.add(l) } } else { 0 };
            i32::from_le_bytes(rows.map(byte))
        })
    }
}

impl Dot<Portable> for Plain {
    #[inline(always)]
    fn dot(_: Portable, acc: [i32; L], a: [i32; L], b: [i32; L]) -> [i32; L] {
        core::array::from_fn(|l| {
            let (a, b) = (a[l].to_le_bytes(), b[l].to_le_bytes());
            (0..4).fold(acc[l], |sum, i| sum.wrapping_add(i32::from(a[i]) * i32::from(b[i] as i8)))
        })
    }
    #[inline(always)]
    unsafe fn look_up(_: Portable, table: *const u8, x: *const u8, y: *mut u8, n: usize) {
        unsafe { look_up_each(table, x, y, n) }
    }
}

/// Byte by byte.
#[inline(always)]
unsafe fn look_up_each(table: *const u8, x: *const u8, y: *mut u8, n: usize) {
    for i in 0..n {
        unsafe { *y.add(i) = *table.add(usize::from(*x.add(i))) };
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{Bytes, Dot, Plain, Vnni, look_up_each};
    use crate::simd::{Avx2, Avx512, Simd};
    use core::arch::x86_64::*;

    /// Loads `n` of eight bytes.
    #[inline(always)]
    unsafe fn load_8(p: *const u8, n: usize) -> __m128i {
        unsafe {
            if n >= 8 {
                return _mm_loadl_epi64(p.cast());
            }
            let mut buffer = [0u8; 8];
            core::ptr::copy_nonoverlapping(p, buffer.as_mut_ptr(), n);
            _mm_loadl_epi64(buffer.as_ptr().cast())
        }
    }

    impl Bytes for Avx2 {
        #[inline(always)]
        unsafe fn int_load(self, p: *const i32) -> __m256i {
            unsafe { _mm256_loadu_si256(p.cast()) }
        }
        #[inline(always)]
        unsafe fn int_store(self, p: *mut i32, v: __m256i) {
            unsafe { _mm256_storeu_si256(p.cast(), v) }
        }
        #[inline(always)]
        unsafe fn int_load_first(self, p: *const i32, n: usize) -> __m256i {
            unsafe { _mm256_maskload_epi32(p, _mm256_castps_si256(self.first(n))) }
        }
        #[inline(always)]
        unsafe fn int_store_first(self, p: *mut i32, v: __m256i, n: usize) {
            unsafe { _mm256_maskstore_epi32(p, _mm256_castps_si256(self.first(n)), v) }
        }
        #[inline(always)]
        fn int_mul(self, a: __m256i, b: __m256i) -> __m256i {
            unsafe { _mm256_mullo_epi32(a, b) }
        }
        #[inline(always)]
        fn int_xor(self, a: __m256i, b: __m256i) -> __m256i {
            unsafe { _mm256_xor_si256(a, b) }
        }
        #[inline(always)]
        fn int_max(self, a: __m256i, b: __m256i) -> __m256i {
            unsafe { _mm256_max_epi32(a, b) }
        }
        #[inline(always)]
        fn mul_low16(self, a: __m256i, b: __m256i) -> __m256i {
            unsafe { _mm256_madd_epi16(a, b) }
        }
        #[inline(always)]
        unsafe fn widen(self, p: *const u8, n: usize) -> __m256i {
            unsafe { _mm256_cvtepu8_epi32(load_8(p, n)) }
        }
        #[inline(always)]
        unsafe fn narrow(self, p: *mut u8, v: __m256i, n: usize) {
            unsafe {
                let low = _mm256_set1_epi64x(0x0c08_0400);
                let bytes = _mm256_shuffle_epi8(v, low);
                let (a, b) = (_mm256_castsi256_si128(bytes), _mm256_extracti128_si256::<1>(bytes));
                let both = _mm_unpacklo_epi32(a, b);
                if n >= 8 {
                    return _mm_storel_epi64(p.cast(), both);
                }
                let mut buffer = [0u8; 8];
                _mm_storel_epi64(buffer.as_mut_ptr().cast(), both);
                core::ptr::copy_nonoverlapping(buffer.as_ptr(), p, n);
            }
        }
        #[inline(always)]
        unsafe fn interleave(self, rows: [*const u8; 4], n: usize) -> __m256i {
            unsafe {
                let r = [load_8(rows[0], n), load_8(rows[1], n), load_8(rows[2], n), load_8(rows[3], n)];
                let (a, b) = (_mm_unpacklo_epi8(r[0], r[1]), _mm_unpacklo_epi8(r[2], r[3]));
                _mm256_set_m128i(_mm_unpackhi_epi16(a, b), _mm_unpacklo_epi16(a, b))
            }
        }
    }

    impl Dot<Avx2> for Plain {
        #[inline(always)]
        fn dot(_: Avx2, acc: __m256i, a: __m256i, b: __m256i) -> __m256i {
            unsafe {
                // Even and odd bytes as 16-bit numbers: `vpmaddubsw` would saturate.
                let even = _mm256_and_si256(a, _mm256_set1_epi16(0xff));
                let odd = _mm256_srli_epi16::<8>(a);
                let b_even = _mm256_srai_epi16::<8>(_mm256_slli_epi16::<8>(b));
                let b_odd = _mm256_srai_epi16::<8>(b);
                let sum = _mm256_add_epi32(_mm256_madd_epi16(even, b_even), _mm256_madd_epi16(odd, b_odd));
                _mm256_add_epi32(acc, sum)
            }
        }
        #[inline(always)]
        unsafe fn look_up(_: Avx2, table: *const u8, x: *const u8, y: *mut u8, n: usize) {
            // Sixteen shuffles would cost as much.
            unsafe { look_up_each(table, x, y, n) }
        }
    }

    impl Dot<Avx2> for Vnni {
        #[inline(always)]
        fn dot(_: Avx2, acc: __m256i, a: __m256i, b: __m256i) -> __m256i {
            unsafe { _mm256_dpbusd_avx_epi32(acc, a, b) }
        }
        #[inline(always)]
        unsafe fn look_up(_: Avx2, table: *const u8, x: *const u8, y: *mut u8, n: usize) {
            // Sixteen shuffles would cost as much.
            unsafe { look_up_each(table, x, y, n) }
        }
    }

    /// The lowest `n` bits.
    #[inline(always)]
    fn low_16(n: usize) -> __mmask16 {
        if n >= 16 { 0xffff } else { (1 << n) - 1 }
    }

    /// Loads `n` of sixteen bytes.
    #[inline(always)]
    unsafe fn load_16(p: *const u8, n: usize) -> __m128i {
        unsafe { if n >= 16 { _mm_loadu_si128(p.cast()) } else { _mm_maskz_loadu_epi8(low_16(n), p.cast()) } }
    }

    impl Bytes for Avx512 {
        #[inline(always)]
        unsafe fn int_load(self, p: *const i32) -> __m512i {
            unsafe { _mm512_loadu_si512(p.cast()) }
        }
        #[inline(always)]
        unsafe fn int_store(self, p: *mut i32, v: __m512i) {
            unsafe { _mm512_storeu_si512(p.cast(), v) }
        }
        #[inline(always)]
        unsafe fn int_load_first(self, p: *const i32, n: usize) -> __m512i {
            unsafe { _mm512_maskz_loadu_epi32(low_16(n), p) }
        }
        #[inline(always)]
        unsafe fn int_store_first(self, p: *mut i32, v: __m512i, n: usize) {
            unsafe { _mm512_mask_storeu_epi32(p, low_16(n), v) }
        }
        #[inline(always)]
        fn int_mul(self, a: __m512i, b: __m512i) -> __m512i {
            unsafe { _mm512_mullo_epi32(a, b) }
        }
        #[inline(always)]
        fn int_xor(self, a: __m512i, b: __m512i) -> __m512i {
            unsafe { _mm512_xor_si512(a, b) }
        }
        #[inline(always)]
        fn int_max(self, a: __m512i, b: __m512i) -> __m512i {
            unsafe { _mm512_max_epi32(a, b) }
        }
        #[inline(always)]
        fn mul_low16(self, a: __m512i, b: __m512i) -> __m512i {
            unsafe { _mm512_madd_epi16(a, b) }
        }
        #[inline(always)]
        unsafe fn widen(self, p: *const u8, n: usize) -> __m512i {
            unsafe { _mm512_cvtepu8_epi32(load_16(p, n)) }
        }
        #[inline(always)]
        unsafe fn narrow(self, p: *mut u8, v: __m512i, n: usize) {
            unsafe {
                let bytes = _mm512_cvtepi32_epi8(v);
                if n >= 16 {
                    _mm_storeu_si128(p.cast(), bytes)
                } else {
                    _mm_mask_storeu_epi8(p.cast(), low_16(n), bytes)
                }
            }
        }
        #[inline(always)]
        unsafe fn interleave(self, rows: [*const u8; 4], n: usize) -> __m512i {
            unsafe {
                let mut all = _mm512_castsi128_si512(load_16(rows[0], n));
                all = _mm512_inserti32x4::<1>(all, load_16(rows[1], n));
                all = _mm512_inserti32x4::<2>(all, load_16(rows[2], n));
                all = _mm512_inserti32x4::<3>(all, load_16(rows[3], n));
                // Four bytes of every row side by side, then turned inside each quarter.
                let quads = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
                let turn = _mm512_broadcast_i32x4(_mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15));
                _mm512_shuffle_epi8(_mm512_permutexvar_epi32(quads, all), turn)
            }
        }
    }

    impl Dot<Avx512> for Plain {
        #[inline(always)]
        fn dot(_: Avx512, acc: __m512i, a: __m512i, b: __m512i) -> __m512i {
            unsafe {
                let even = _mm512_and_si512(a, _mm512_set1_epi16(0xff));
                let odd = _mm512_srli_epi16::<8>(a);
                let b_even = _mm512_srai_epi16::<8>(_mm512_slli_epi16::<8>(b));
                let b_odd = _mm512_srai_epi16::<8>(b);
                let sum = _mm512_add_epi32(_mm512_madd_epi16(even, b_even), _mm512_madd_epi16(odd, b_odd));
                _mm512_add_epi32(acc, sum)
            }
        }
        #[inline(always)]
        unsafe fn look_up(_: Avx512, table: *const u8, x: *const u8, y: *mut u8, n: usize) {
            unsafe {
                let m = if n >= 64 { u64::MAX } else { (1u64 << n) - 1 };
                let v = _mm512_maskz_loadu_epi8(m, x.cast());
                // A quarter of the table per shuffle of 16-byte rows: the high nibble picks the row.
                let low = _mm512_and_si512(v, _mm512_set1_epi8(0x0f));
                let high = _mm512_and_si512(_mm512_srli_epi16::<4>(v), _mm512_set1_epi8(0x0f));
                let mut out = _mm512_setzero_si512();
                for row in 0..16 {
                    let part = _mm512_broadcast_i32x4(_mm_loadu_si128(table.add(16 * row).cast()));
                    let here = _mm512_cmpeq_epi8_mask(high, _mm512_set1_epi8(row as i8));
                    out = _mm512_mask_shuffle_epi8(out, here, part, low);
                }
                _mm512_mask_storeu_epi8(y.cast(), m, out);
            }
        }
    }

    impl Dot<Avx512> for Vnni {
        #[inline(always)]
        fn dot(_: Avx512, acc: __m512i, a: __m512i, b: __m512i) -> __m512i {
            unsafe { _mm512_dpbusd_epi32(acc, a, b) }
        }
        #[inline(always)]
        unsafe fn look_up(_: Avx512, table: *const u8, x: *const u8, y: *mut u8, n: usize) {
            unsafe {
                let m = if n >= 64 { u64::MAX } else { (1u64 << n) - 1 };
                let v = _mm512_maskz_loadu_epi8(m, x.cast());
                let t = table.cast::<__m512i>();
                let low = _mm512_permutex2var_epi8(t.read_unaligned(), v, t.add(1).read_unaligned());
                let high = _mm512_permutex2var_epi8(t.add(2).read_unaligned(), v, t.add(3).read_unaligned());
                _mm512_mask_storeu_epi8(y.cast(), m, _mm512_mask_blend_epi8(_mm512_movepi8_mask(v), low, high));
            }
        }
    }
}
