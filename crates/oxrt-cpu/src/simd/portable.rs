//! The tier that needs nothing: arrays of eight floats, which the compiler turns into whatever the target has.

use super::Simd;

/// Token of the portable tier.
#[derive(Clone, Copy, Debug)]
pub struct Portable;

const L: usize = 8;
type F = [f32; L];
type I = [i32; L];
type M = [bool; L];

#[inline(always)]
fn map(a: F, f: impl Fn(f32) -> f32) -> F {
    let mut out = [0.0; L];
    for l in 0..L {
        out[l] = f(a[l]);
    }
    out
}

#[inline(always)]
fn zip<A: Copy, B: Copy, T: Copy + Default>(a: [A; L], b: [B; L], f: impl Fn(A, B) -> T) -> [T; L] {
    let mut out = [T::default(); L];
    for l in 0..L {
        out[l] = f(a[l], b[l]);
    }
    out
}

impl Simd for Portable {
    type F = F;
    type I = I;
    type M = M;
    const LANES: usize = L;
    const MR: usize = 4;
    const NV: usize = 1;
    const FUSED: bool = false;

    #[inline(always)]
    unsafe fn assume() -> Self {
        Portable
    }
    #[inline(always)]
    fn splat(self, x: f32) -> F {
        [x; L]
    }
    #[inline(always)]
    unsafe fn load(self, p: *const f32) -> F {
        // SAFETY: the caller gives LANES readable floats.
        unsafe { p.cast::<F>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut f32, v: F) {
        // SAFETY: the caller gives LANES writable floats.
        unsafe { p.cast::<F>().write_unaligned(v) }
    }
    #[inline(always)]
    fn first(self, n: usize) -> M {
        let mut m = [false; L];
        for (l, lane) in m.iter_mut().enumerate() {
            *lane = l < n;
        }
        m
    }
    #[inline(always)]
    unsafe fn load_mask(self, p: *const f32, m: M) -> F {
        let mut out = [0.0; L];
        for l in 0..L {
            if m[l] {
                // SAFETY: the caller gives readable memory for the lanes of the mask.
                out[l] = unsafe { *p.add(l) };
            }
        }
        out
    }
    #[inline(always)]
    unsafe fn store_mask(self, p: *mut f32, v: F, m: M) {
        for l in 0..L {
            if m[l] {
                // SAFETY: the caller gives writable memory for the lanes of the mask.
                unsafe { *p.add(l) = v[l] };
            }
        }
    }
    #[inline(always)]
    fn add(self, a: F, b: F) -> F {
        zip(a, b, |a, b| a + b)
    }
    #[inline(always)]
    fn sub(self, a: F, b: F) -> F {
        zip(a, b, |a, b| a - b)
    }
    #[inline(always)]
    fn mul(self, a: F, b: F) -> F {
        zip(a, b, |a, b| a * b)
    }
    #[inline(always)]
    fn div(self, a: F, b: F) -> F {
        zip(a, b, |a, b| a / b)
    }
    #[inline(always)]
    fn fma(self, a: F, b: F, c: F) -> F {
        // Two roundings: a true fused operation would be a library call on targets without the instruction.
        self.add(self.mul(a, b), c)
    }
    #[inline(always)]
    fn min(self, a: F, b: F) -> F {
        zip(a, b, |a, b| if a < b { a } else { b })
    }
    #[inline(always)]
    fn max(self, a: F, b: F) -> F {
        zip(a, b, |a, b| if a > b { a } else { b })
    }
    #[inline(always)]
    fn abs(self, a: F) -> F {
        map(a, f32::abs)
    }
    #[inline(always)]
    fn neg(self, a: F) -> F {
        map(a, |a| -a)
    }
    #[inline(always)]
    fn sqrt(self, a: F) -> F {
        map(a, f32::sqrt)
    }
    #[inline(always)]
    fn floor(self, a: F) -> F {
        map(a, f32::floor)
    }
    #[inline(always)]
    fn ceil(self, a: F) -> F {
        map(a, f32::ceil)
    }
    #[inline(always)]
    fn round(self, a: F) -> F {
        map(a, f32::round_ties_even)
    }
    #[inline(always)]
    fn lt(self, a: F, b: F) -> M {
        zip(a, b, |a, b| a < b)
    }
    #[inline(always)]
    fn le(self, a: F, b: F) -> M {
        zip(a, b, |a, b| a <= b)
    }
    #[inline(always)]
    fn eq(self, a: F, b: F) -> M {
        zip(a, b, |a, b| a == b)
    }
    #[inline(always)]
    fn and(self, a: M, b: M) -> M {
        zip(a, b, |a, b| a & b)
    }
    #[inline(always)]
    fn or(self, a: M, b: M) -> M {
        zip(a, b, |a, b| a | b)
    }
    #[inline(always)]
    fn not(self, a: M) -> M {
        zip(a, a, |a, _| !a)
    }
    #[inline(always)]
    fn blend(self, m: M, a: F, b: F) -> F {
        let mut out = b;
        for l in 0..L {
            if m[l] {
                out[l] = a[l];
            }
        }
        out
    }
    #[inline(always)]
    fn to_int(self, a: F) -> I {
        // Adding 1.5 * 2^23 leaves the rounded integer in the low mantissa bits; good for |a| < 2^22, which is all the
        // callers need, and free of the library call that rounding is on old targets.
        zip(a, a, |a, _| {
            if a.abs() < 4_000_000.0 {
                ((a + 12_582_912.0).to_bits() as i32) - 0x4b40_0000
            } else {
                a.round_ties_even() as i32
            }
        })
    }
    #[inline(always)]
    fn int_to_float(self, a: I) -> F {
        zip(a, a, |a, _| a as f32)
    }
    #[inline(always)]
    fn int_splat(self, a: i32) -> I {
        [a; L]
    }
    #[inline(always)]
    fn int_add(self, a: I, b: I) -> I {
        zip(a, b, i32::wrapping_add)
    }
    #[inline(always)]
    fn int_sub(self, a: I, b: I) -> I {
        zip(a, b, i32::wrapping_sub)
    }
    #[inline(always)]
    fn int_and(self, a: I, b: I) -> I {
        zip(a, b, |a, b| a & b)
    }
    #[inline(always)]
    fn int_or(self, a: I, b: I) -> I {
        zip(a, b, |a, b| a | b)
    }
    #[inline(always)]
    fn int_shl<const N: u32>(self, a: I) -> I {
        zip(a, a, |a, _| a << N)
    }
    #[inline(always)]
    fn int_sar<const N: u32>(self, a: I) -> I {
        zip(a, a, |a, _| a >> N)
    }
    #[inline(always)]
    fn int_shl_by(self, a: I, n: u32) -> I {
        zip(a, a, |a, _| a << n)
    }
    #[inline(always)]
    fn int_sar_by(self, a: I, n: u32) -> I {
        zip(a, a, |a, _| a >> n)
    }
    #[inline(always)]
    fn bits(self, a: F) -> I {
        zip(a, a, |a, _| a.to_bits() as i32)
    }
    #[inline(always)]
    fn as_float(self, a: I) -> F {
        zip(a, a, |a, _| f32::from_bits(a as u32))
    }
    #[inline(always)]
    fn sum(self, a: F) -> f32 {
        ((a[0] + a[4]) + (a[2] + a[6])) + ((a[1] + a[5]) + (a[3] + a[7]))
    }
    #[inline(always)]
    fn max_lane(self, a: F) -> f32 {
        a.into_iter().reduce(|a, b| if a > b { a } else { b }).unwrap_or(f32::NEG_INFINITY)
    }
    #[inline(always)]
    fn min_lane(self, a: F) -> f32 {
        a.into_iter().reduce(|a, b| if a < b { a } else { b }).unwrap_or(f32::INFINITY)
    }
    #[inline(always)]
    unsafe fn load_f16(self, p: *const u16) -> F {
        // SAFETY: the caller gives LANES readable values.
        let h = unsafe { p.cast::<[u16; L]>().read_unaligned() };
        zip(h, h, |h, _| half::f16::from_bits(h).to_f32())
    }
    #[inline(always)]
    unsafe fn store_f16(self, p: *mut u16, v: F) {
        let h = zip(v, v, |v, _| half::f16::from_f32(v).to_bits());
        // SAFETY: the caller gives LANES writable values.
        unsafe { p.cast::<[u16; L]>().write_unaligned(h) }
    }
    #[inline(always)]
    unsafe fn load_bf16(self, p: *const u16) -> F {
        // SAFETY: the caller gives LANES readable values.
        let h = unsafe { p.cast::<[u16; L]>().read_unaligned() };
        zip(h, h, |h, _| half::bf16::from_bits(h).to_f32())
    }
    #[inline(always)]
    unsafe fn store_bf16(self, p: *mut u16, v: F) {
        let h = zip(v, v, |v, _| half::bf16::from_f32(v).to_bits());
        // SAFETY: the caller gives LANES writable values.
        unsafe { p.cast::<[u16; L]>().write_unaligned(h) }
    }
    #[inline(always)]
    fn prefetch(self, _p: *const f32) {}
}
