//! Softmax and the normalisations over rows of floats: some passes over a row that stays in the first cache.

use super::math;
use crate::simd::Simd;

/// A vector from `p`, or its first `n` lanes with `other` in the rest.
#[inline(always)]
pub(super) unsafe fn load_or<S: Simd>(s: S, p: *const f32, n: usize, other: f32) -> S::F {
    // SAFETY: the caller gives `n` readable floats.
    unsafe {
        if n >= S::LANES {
            s.load(p)
        } else {
            let m = s.first(n);
            s.blend(m, s.load_mask(p, m), s.splat(other))
        }
    }
}

#[inline(always)]
pub(super) unsafe fn store_n<S: Simd>(s: S, p: *mut f32, v: S::F, n: usize) {
    // SAFETY: the caller gives `n` writable floats.
    unsafe {
        if n >= S::LANES {
            s.store(p, v);
        } else {
            s.store_mask(p, v, s.first(n));
        }
    }
}

/// Largest of a row; -inf when it is empty, NaN when one is there.
#[inline(always)]
unsafe fn row_max<S: Simd>(s: S, x: *const f32, n: usize) -> f32 {
    let mut top = s.splat(f32::NEG_INFINITY);
    let mut nan = s.zero();
    let mut i = 0;
    while i < n {
        // SAFETY: inside the row.
        let v = unsafe { load_or(s, x.add(i), n - i, f32::NEG_INFINITY) };
        top = s.max(v, top);
        nan = s.blend(s.eq(v, v), nan, s.splat(1.0));
        i += S::LANES;
    }
    if s.sum(nan) > 0.0 { f32::NAN } else { s.max_lane(top) }
}

/// Floats that a task works on from which on they come from memory.
const FAR: usize = 1 << 20;

/// Asks for what the next row needs of place `i`: while a row is worked on in the first cache, the hardware looks no further.
#[inline(always)]
fn next_row<S: Simd>(s: S, x: *const f32, y: *const f32, n: usize, i: usize) {
    s.prefetch(x.wrapping_add(n + i));
    s.prefetch(y.wrapping_add(n + i));
}

/// Softmax of `rows` rows of `n` floats. `y` may be `x`.
///
/// # Safety
/// `rows * n` floats are readable at `x` and writable at `y`.
#[inline(always)]
pub unsafe fn softmax<S: Simd>(s: S, x: *const f32, y: *mut f32, rows: usize, n: usize) {
    let far = rows * n >= FAR;
    for r in 0..rows {
        // SAFETY: inside the rows.
        unsafe {
            let (x, y) = (x.add(r * n), y.add(r * n));
            let top = s.splat(row_max(s, x, n));
            let mut sum = s.zero();
            let mut i = 0;
            while i < n {
                let v = load_or(s, x.add(i), n - i, f32::NEG_INFINITY);
                let e = math::exp_down(s, s.sub(v, top));
                store_n(s, y.add(i), e, n - i);
                // Lanes behind the row are e^-inf (or NaN, as the row then is).
                sum = s.add(sum, e);
                i += S::LANES;
            }
            let scale = s.splat(1.0 / s.sum(sum));
            i = 0;
            while i < n {
                if far {
                    next_row(s, x, y, n, i);
                }
                store_n(s, y.add(i), s.mul(load_or(s, y.add(i), n - i, 0.0), scale), n - i);
                i += S::LANES;
            }
        }
    }
}

/// Half floats from `p`, or the first `n` of them with `other` in the rest.
#[inline(always)]
unsafe fn load_halves<S: Simd>(s: S, p: *const u16, n: usize, other: f32) -> S::F {
    // SAFETY: the caller gives `n` readable elements.
    unsafe {
        if n >= S::LANES {
            return s.load_f16(p);
        }
        let mut all = [half::f16::from_f32(other).to_bits(); 16];
        core::ptr::copy_nonoverlapping(p, all.as_mut_ptr(), n);
        s.load_f16(all.as_ptr())
    }
}

/// Stores a vector, or its first `n` lanes, as half floats.
#[inline(always)]
unsafe fn store_halves<S: Simd>(s: S, p: *mut u16, v: S::F, n: usize) {
    // SAFETY: the caller gives `n` writable elements.
    unsafe {
        if n >= S::LANES {
            return s.store_f16(p, v);
        }
        let mut all = [0u16; 16];
        s.store_f16(all.as_mut_ptr(), v);
        core::ptr::copy_nonoverlapping(all.as_ptr(), p, n);
    }
}

/// Softmax of `rows` rows of `n` half floats, each step rounded as the standard's function body has it (a sum beyond the range
/// of half floats is left as it is). `y` may be `x`.
///
/// # Safety
/// `rows * n` half floats are readable at `x` and writable at `y`.
#[inline(always)]
pub unsafe fn softmax_f16<S: Simd>(s: S, x: *const u16, y: *mut u16, rows: usize, n: usize) {
    let lowest = f32::NEG_INFINITY;
    for r in 0..rows {
        // SAFETY: inside the rows.
        unsafe {
            let (x, y) = (x.add(r * n), y.add(r * n));
            let (mut top, mut nan) = (s.splat(lowest), s.zero());
            for i in (0..n).step_by(S::LANES) {
                let v = load_halves(s, x.add(i), n - i, lowest);
                top = s.max(v, top);
                nan = s.blend(s.eq(v, v), nan, s.splat(1.0));
            }
            let top = s.splat(if s.sum(nan) > 0.0 { f32::NAN } else { s.max_lane(top) });
            let mut sum = s.zero();
            for i in (0..n).step_by(S::LANES) {
                let left = n - i;
                let mut rounded = [0u16; 16];
                s.store_f16(rounded.as_mut_ptr(), s.sub(load_halves(s, x.add(i), left, lowest), top));
                let e = math::exp(s, s.load_f16(rounded.as_ptr()));
                store_halves(s, y.add(i), e, left);
                sum = s.add(sum, load_halves(s, y.add(i), left, 0.0));
            }
            let sum = s.sum(sum);
            let rounded = half::f16::from_f32(sum).to_f32();
            let sum = s.splat(if rounded.is_infinite() { sum } else { rounded });
            for i in (0..n).step_by(S::LANES) {
                store_halves(s, y.add(i), s.div(load_halves(s, y.add(i), n - i, 0.0), sum), n - i);
            }
        }
    }
}

/// Logarithm of the softmax of `rows` rows of `n` floats. `y` may be `x`.
///
/// # Safety
/// As [`softmax`].
#[inline(always)]
pub unsafe fn log_softmax<S: Simd>(s: S, x: *const f32, y: *mut f32, rows: usize, n: usize) {
    for r in 0..rows {
        // SAFETY: inside the rows.
        unsafe {
            let (x, y) = (x.add(r * n), y.add(r * n));
            let top = row_max(s, x, n);
            let topv = s.splat(top);
            let mut sum = s.zero();
            let mut i = 0;
            while i < n {
                let v = load_or(s, x.add(i), n - i, f32::NEG_INFINITY);
                sum = s.add(sum, math::exp(s, s.sub(v, topv)));
                i += S::LANES;
            }
            // Two subtractions: the sum of both terms would round at the size of the larger one.
            let log = s.splat(s.sum(sum).ln());
            i = 0;
            while i < n {
                let v = load_or(s, x.add(i), n - i, 0.0);
                store_n(s, y.add(i), s.sub(s.sub(v, topv), log), n - i);
                i += S::LANES;
            }
        }
    }
}

/// What a row normalisation does besides.
#[derive(Clone, Copy, Debug)]
pub struct Norm {
    /// One factor per column, or null.
    pub scale: *const f32,
    /// One addend per column, or null.
    pub bias: *const f32,
    /// Added to the variance.
    pub epsilon: f32,
    /// Subtract the mean first (layer normalisation), or not (root mean square).
    pub center: bool,
}

/// `a + v`, or `a + (v - mean)^2`.
#[inline(always)]
fn term<S: Simd>(s: S, v: S::F, a: S::F, mean: S::F, square: bool) -> S::F {
    if square {
        let d = s.sub(v, mean);
        s.fma(d, d, a)
    } else {
        s.add(v, a)
    }
}

/// Mean, what rounding took from it, and variance of a row. Where all elements are about equal, the sum's rounding error
/// is as large as their differences: the sum of what is left after the mean was taken away tells it.
#[inline(always)]
unsafe fn centre<S: Simd>(s: S, x: *const f32, n: usize) -> (f32, f32, f32) {
    // SAFETY: as the caller promises.
    let mean = unsafe { row_sum(s, x, n, 0.0, false) } / n as f32;
    let (mut sums, mut squares) = ([s.zero(); 2], [s.zero(); 2]);
    let meanv = s.splat(mean);
    let mut i = 0;
    while i < n {
        for j in 0..2 {
            let at = i + j * S::LANES;
            if at < n {
                // SAFETY: inside the row; lanes behind it are the mean.
                let d = s.sub(unsafe { load_or(s, x.add(at), n - at, mean) }, meanv);
                sums[j] = s.add(sums[j], d);
                squares[j] = s.fma(d, d, squares[j]);
            }
        }
        i += 2 * S::LANES;
    }
    let rest = s.sum(s.add(sums[0], sums[1])) / n as f32;
    let variance = s.sum(s.add(squares[0], squares[1])) / n as f32 - rest * rest;
    // Not `max`, which would lose NaN.
    (mean, rest, if variance < 0.0 { 0.0 } else { variance })
}

/// Sum of the terms of a row: several chains, so that rounding errors and latencies are spread.
#[inline(always)]
unsafe fn row_sum<S: Simd>(s: S, x: *const f32, n: usize, mean: f32, square: bool) -> f32 {
    let mut acc = [s.zero(); 4];
    let meanv = s.splat(mean);
    let mut i = 0;
    // SAFETY: inside the row.
    unsafe {
        while i + 4 * S::LANES <= n {
            for (j, a) in acc.iter_mut().enumerate() {
                *a = term(s, s.load(x.add(i + j * S::LANES)), *a, meanv, square);
            }
            i += 4 * S::LANES;
        }
        while i < n {
            // Lanes behind the row are the mean, whose square term is zero; for the plain sum the mean is zero.
            acc[0] = term(s, load_or(s, x.add(i), n - i, mean), acc[0], meanv, square);
            i += S::LANES;
        }
    }
    s.sum(s.add(s.add(acc[0], acc[1]), s.add(acc[2], acc[3])))
}

/// Layer or root-mean-square normalisation of `rows` rows of `n` floats. `y` may be `x`.
///
/// # Safety
/// As [`softmax`]; `norm`'s vectors have `n` floats.
#[inline(always)]
pub unsafe fn normalize<S: Simd>(s: S, x: *const f32, y: *mut f32, rows: usize, n: usize, norm: &Norm) {
    let far = rows * n >= FAR;
    for r in 0..rows {
        // SAFETY: inside the rows.
        unsafe {
            let (x, y) = (x.add(r * n), y.add(r * n));
            let (mean, rest, variance) =
                if norm.center { centre(s, x, n) } else { (0.0, 0.0, row_sum(s, x, n, 0.0, true) / n as f32) };
            let (meanv, restv, factor) =
                (s.splat(mean), s.splat(rest), s.splat(1.0 / (variance + norm.epsilon).sqrt()));
            let mut i = 0;
            while i < n {
                if far {
                    next_row(s, x, y, n, i);
                }
                let mut v = s.mul(s.sub(s.sub(load_or(s, x.add(i), n - i, 0.0), meanv), restv), factor);
                if !norm.scale.is_null() {
                    v = s.mul(v, load_or(s, norm.scale.add(i), n - i, 0.0));
                }
                if !norm.bias.is_null() {
                    v = s.add(v, load_or(s, norm.bias.add(i), n - i, 0.0));
                }
                store_n(s, y.add(i), v, n - i);
                i += S::LANES;
            }
        }
    }
}

/// Mean and variance of `n` floats, for groups that are contiguous.
///
/// # Safety
/// `n` floats are readable at `x`, two writable at `out`.
#[inline(always)]
pub unsafe fn moments<S: Simd>(s: S, x: *const f32, n: usize, out: *mut f32) {
    // SAFETY: as the caller promises.
    unsafe {
        let (mean, rest, variance) = centre(s, x, n);
        *out = mean + rest;
        *out.add(1) = variance;
    }
}

/// `y = x * scale + shift` with one pair of values for all.
///
/// # Safety
/// `n` floats are readable at `x` and writable at `y`.
#[inline(always)]
pub unsafe fn affine<S: Simd>(s: S, x: *const f32, y: *mut f32, n: usize, scale: f32, shift: f32) {
    let (a, b) = (s.splat(scale), s.splat(shift));
    let mut i = 0;
    while i < n {
        // SAFETY: inside the row.
        unsafe { store_n(s, y.add(i), s.fma(load_or(s, x.add(i), n - i, 0.0), a, b), n - i) };
        i += S::LANES;
    }
}

/// `y[r][c] = x[r][c] * scale[c] + shift[c]`: normalisation and per-channel factors, channels last.
///
/// # Safety
/// `rows * n` floats are readable at `x` and writable at `y`, `n` readable at `scale` and `shift`.
#[inline(always)]
pub unsafe fn affine_columns<S: Simd>(
    s: S,
    x: *const f32,
    y: *mut f32,
    rows: usize,
    n: usize,
    scale: *const f32,
    shift: *const f32,
) {
    let mut i = 0;
    // SAFETY: inside the rows.
    unsafe {
        while i < n {
            let (a, b) = (load_or(s, scale.add(i), n - i, 0.0), load_or(s, shift.add(i), n - i, 0.0));
            for r in 0..rows {
                let at = r * n + i;
                store_n(s, y.add(at), s.fma(load_or(s, x.add(at), n - i, 0.0), a, b), n - i);
            }
            i += S::LANES;
        }
    }
}

/// `sum[c] += x[r][c]` and `squares[c] += (x[r][c] - center[c])^2`, per column over `rows` rows.
///
/// # Safety
/// `rows * n` floats are readable at `x`, `n` at `center`; `n` are writable at `sum` and at `squares`.
#[inline(always)]
pub unsafe fn column_moments<S: Simd>(
    s: S,
    x: *const f32,
    rows: usize,
    n: usize,
    center: *const f32,
    sum: *mut f32,
    squares: *mut f32,
) {
    let mut i = 0;
    // SAFETY: inside the rows and columns.
    unsafe {
        while i < n {
            let left = n - i;
            let c = load_or(s, center.add(i), left, 0.0);
            let mut a = load_or(s, sum.add(i), left, 0.0);
            let mut q = load_or(s, squares.add(i), left, 0.0);
            for r in 0..rows {
                let d = s.sub(load_or(s, x.add(r * n + i), left, 0.0), c);
                a = s.add(a, d);
                q = s.fma(d, d, q);
            }
            store_n(s, sum.add(i), a, left);
            store_n(s, squares.add(i), q, left);
            i += S::LANES;
        }
    }
}
