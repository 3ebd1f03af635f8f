//! Vector forms of the transcendental functions, accurate to a few units in the last place of `f32`.
//!
//! Polynomials are minimax fits on the ranges named beside them. NaN goes in and comes out: `Simd::min` and `max` return
//! their second operand when either is NaN, so the data always stands second.

use crate::simd::Simd;

/// `c[0] + c[1] x + …` by Horner's rule.
#[inline(always)]
pub fn poly<S: Simd, const N: usize>(s: S, x: S::F, c: [f32; N]) -> S::F {
    let mut y = s.splat(c[N - 1]);
    for i in (0..N - 1).rev() {
        y = s.fma(y, x, s.splat(c[i]));
    }
    y
}

/// `2^n` for `-126 <= n <= 127`; zero for -127, infinity for 128.
#[inline(always)]
fn pow2<S: Simd>(s: S, n: S::I) -> S::F {
    s.as_float(s.int_shl::<23>(s.int_add(n, s.int_splat(127))))
}

/// `e^x` as `p 2^n`, with p near 1.
#[inline(always)]
fn exp_parts<S: Simd>(s: S, x: S::F) -> (S::F, S::I) {
    let n = s.round(s.mul(x, s.splat(std::f32::consts::LOG2_E)));
    // ln 2 in two pieces: the first has few enough bits that n times it is exact.
    let r = s.fma(n, s.splat(-0.693_359_4), x);
    let r = s.fma(n, s.splat(2.121_944_4e-4), r);
    // |r| <= ln(2)/2
    let q = poly(s, r, [0.5, 0.166_665_12, 0.041_666_187, 0.008_369_6, 0.001_395_171_2]);
    (s.add(s.fma(s.mul(r, r), q, r), s.splat(1.0)), s.to_int(n))
}

/// `e^x`; 0 below the smallest denormal, infinity above the largest float.
#[inline(always)]
pub fn exp<S: Simd>(s: S, x: S::F) -> S::F {
    let (p, n) = exp_parts(s, s.min(s.splat(89.0), s.max(s.splat(-104.0), x)));
    // Two factors, so that results in the denormal range and up to 2^128 - 1 scale correctly.
    let half = s.int_sar::<1>(n);
    s.mul(s.mul(p, pow2(s, half)), pow2(s, s.int_sub(n, half)))
}

/// `e^x` for what is added to one or divides: as [`exp`], but nothing smaller than about `1e-38`, and infinity from 88.4 on.
#[inline(always)]
fn exp_near<S: Simd>(s: S, x: S::F) -> S::F {
    let (p, n) = exp_parts(s, s.min(s.splat(88.7), s.max(s.splat(-87.3), x)));
    // The scale of 128 is infinity.
    s.mul(p, pow2(s, n))
}

/// `e^x` for `x <= 0`; 0 below the smallest normal float.
#[inline(always)]
pub fn exp_down<S: Simd>(s: S, x: S::F) -> S::F {
    // A scale of -127 is no bits at all, which is zero.
    let (p, n) = exp_parts(s, s.max(s.splat(-88.0), x));
    s.mul(p, pow2(s, n))
}

/// Natural logarithm; -inf at 0, NaN below.
#[inline(always)]
pub fn log<S: Simd>(s: S, x: S::F) -> S::F {
    // Denormals are scaled into the normal range first.
    let tiny = s.lt(x, s.splat(f32::MIN_POSITIVE));
    let scaled = s.blend(tiny, s.mul(x, s.splat(8_388_608.0)), x);
    let shift = s.blend(tiny, s.splat(-23.0), s.zero());
    // m in [sqrt(1/2), sqrt(2)), x = m 2^e
    let bits = s.bits(scaled);
    let offset = s.int_sub(bits, s.int_splat(0x3f35_04f3));
    let e = s.int_sar::<23>(offset);
    let m = s.as_float(s.int_sub(bits, s.int_shl::<23>(e)));
    let e = s.add(s.int_to_float(e), shift);
    let f = s.sub(m, s.splat(1.0));
    let q = poly(
        s,
        f,
        [
            0.333_333_16,
            -0.250_008_14,
            0.200_022_94,
            -0.166_244_95,
            0.141_809_75,
            -0.131_291_55,
            0.128_833_9,
            -0.078_606_65,
        ],
    );
    let ff = s.mul(f, f);
    let tail = s.fma(e, s.splat(-2.121_944_4e-4), s.mul(s.mul(ff, f), q));
    let tail = s.fma(ff, s.splat(-0.5), tail);
    let y = s.fma(e, s.splat(0.693_359_4), s.add(f, tail));
    let y = s.blend(s.lt(s.splat(f32::MAX), x), s.splat(f32::INFINITY), y);
    let y = s.blend(s.eq(x, s.zero()), s.splat(f32::NEG_INFINITY), y);
    // Negative or NaN.
    s.blend(s.le(s.zero(), x), y, s.splat(f32::NAN))
}

/// The sign bit of `sign` on the magnitude `a >= 0`.
#[inline(always)]
fn with_sign<S: Simd>(s: S, a: S::F, sign: S::F) -> S::F {
    s.as_float(s.int_or(s.bits(a), s.int_and(s.bits(sign), s.int_splat(i32::MIN))))
}

/// Hyperbolic tangent.
#[inline(always)]
pub fn tanh<S: Simd>(s: S, x: S::F) -> S::F {
    let a = s.abs(x);
    let z = s.mul(a, a);
    // a < 0.625
    let q = poly(s, z, [-0.333_332_84, 0.133_314_91, -0.053_743_485, 0.020_650_554, -0.005_717_011_6]);
    let small = s.fma(s.mul(z, a), q, a);
    let e = exp_near(s, s.add(a, a));
    let large = s.sub(s.splat(1.0), s.div(s.splat(2.0), s.add(e, s.splat(1.0))));
    with_sign(s, s.blend(s.lt(a, s.splat(0.625)), small, large), x)
}

/// Error function.
#[inline(always)]
pub fn erf<S: Simd>(s: S, x: S::F) -> S::F {
    // erf(4) is 1 in f32.
    let a = s.min(s.splat(4.0), s.abs(x));
    let z = s.mul(a, a);
    // a < 1
    let small = s.mul(
        a,
        poly(
            s,
            z,
            [1.128_379_1, -0.376_126_26, 0.112_836_003, -0.026_854_444, 0.005_189_535, -8.020_838e-4, 7.889_109e-5],
        ),
    );
    // 1 <= a <= 4: -ln(erfc(a))
    let p = poly(
        s,
        a,
        [
            -1.880_366_6e-4,
            1.129_578_5,
            0.633_219_9,
            0.108_418_56,
            -0.025_208_252,
            0.004_204_561,
            -4.413_364_2e-4,
            2.168_686_8e-5,
        ],
    );
    let large = s.sub(s.splat(1.0), exp(s, s.neg(p)));
    with_sign(s, s.blend(s.lt(a, s.splat(1.0)), small, large), x)
}

/// `1 / (1 + e^-x)`.
#[inline(always)]
pub fn sigmoid<S: Simd>(s: S, x: S::F) -> S::F {
    let one = s.splat(1.0);
    s.div(one, s.add(one, exp_near(s, s.neg(x))))
}

/// `x / (1 + e^-x)`.
#[inline(always)]
pub fn silu<S: Simd>(s: S, x: S::F) -> S::F {
    s.div(x, s.add(s.splat(1.0), exp_near(s, s.neg(x))))
}

/// `2^x` for `x <= 0`, exactly 1 at 0; 0 below the smallest normal float.
#[inline(always)]
pub fn exp2_down<S: Simd>(s: S, x: S::F) -> S::F {
    // A scale of no bits at all is zero.
    let x = s.max(s.splat(-127.0), x);
    let n = s.round(x);
    let r = s.sub(x, n);
    // |r| <= 1/2
    let q = poly(s, r, [0.693_147, 0.240_222_42, 0.055_507_325, 0.009_671_5, 0.001_326_512]);
    s.mul(s.fma(q, r, s.splat(1.0)), pow2(s, s.to_int(n)))
}

/// `x (1 + erf(x / sqrt 2)) / 2`, as `max(x, 0) - |x| erfc(|x| / sqrt 2) / 2`: without the cancellation at negative `x`.
#[inline(always)]
pub fn gelu_erf<S: Simd>(s: S, x: S::F) -> S::F {
    // |x|, but not infinite for infinity, whose product with zero would be NaN.
    let a = s.max(s.min(s.splat(f32::MAX), x), s.neg(x));
    // log2(erfc(a / sqrt 2) / 2) for a <= 5.8; it keeps falling behind.
    let p = poly(
        s,
        a,
        [
            -1.0,
            -1.151_106_8,
            -0.459_199_37,
            -0.052_506_704,
            0.007_043_774,
            -7.907_215_3e-5,
            -2.417_541_8e-4,
            6.553_635_5e-5,
            -9.111_569e-6,
            6.876_792_3e-7,
            -2.223_475_3e-8,
        ],
    );
    s.sub(s.max(s.zero(), x), s.mul(a, exp2_down(s, p)))
}

/// `x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))) / 2`, in the equal form `x sigmoid(2 ...)`.
#[inline(always)]
pub fn gelu_tanh<S: Simd>(s: S, x: S::F) -> S::F {
    let u = s.fma(s.mul(x, x), s.splat(0.044_715 * 1.595_769_1), s.splat(1.595_769_1));
    let e = exp_near(s, s.neg(s.mul(u, x)));
    s.div(x, s.add(s.splat(1.0), e))
}
