//! Reductions of rows and of columns, weighted sums of rows, and positions of extremes.

use super::math;
use super::rows::{load_or, store_n};
use super::taps::Input;
use crate::simd::Simd;

/// What a reduction computes. Means, roots and logarithms of these are left to the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reduction {
    /// Sum of values.
    Sum,
    /// Sum of squares.
    SumSquare,
    /// Sum of magnitudes.
    SumAbs,
    /// Largest value; NaN when there is one.
    Max,
    /// Smallest value; NaN when there is one.
    Min,
    /// Product of values.
    Prod,
}

impl Reduction {
    /// The result of nothing.
    pub fn identity(self) -> f32 {
        match self {
            Reduction::Sum | Reduction::SumSquare | Reduction::SumAbs => 0.0,
            Reduction::Max => f32::NEG_INFINITY,
            Reduction::Min => f32::INFINITY,
            Reduction::Prod => 1.0,
        }
    }

    /// One more value.
    pub fn fold(self, acc: f32, v: f32) -> f32 {
        match self {
            Reduction::Sum => acc + v,
            Reduction::SumSquare => acc + v * v,
            Reduction::SumAbs => acc + v.abs(),
            Reduction::Max => {
                if v > acc || v.is_nan() {
                    v
                } else {
                    acc
                }
            }
            Reduction::Min => {
                if v < acc || v.is_nan() {
                    v
                } else {
                    acc
                }
            }
            Reduction::Prod => acc * v,
        }
    }

    /// Two partial results.
    pub fn join(self, a: f32, b: f32) -> f32 {
        match self {
            Reduction::SumSquare | Reduction::SumAbs => a + b,
            other => other.fold(a, b),
        }
    }
}

/// A reduction known to the compiler.
trait Fold: Copy {
    const KIND: Reduction;
    fn step<S: Simd>(s: S, acc: S::F, v: S::F) -> S::F;
}

macro_rules! folds {
    ($($name:ident = |$s:ident, $acc:ident, $v:ident| $body:expr;)+) => {$(
        #[derive(Clone, Copy)]
        struct $name;
        impl Fold for $name {
            const KIND: Reduction = Reduction::$name;
            #[inline(always)]
            fn step<S: Simd>($s: S, $acc: S::F, $v: S::F) -> S::F {
                $body
            }
        }
    )+};
}

folds! {
    Sum = |s, acc, v| s.add(acc, v);
    SumSquare = |s, acc, v| s.fma(v, v, acc);
    SumAbs = |s, acc, v| s.add(acc, s.abs(v));
    Max = |s, acc, v| s.blend(s.or(s.lt(acc, v), s.not(s.eq(v, v))), v, acc);
    Min = |s, acc, v| s.blend(s.or(s.lt(v, acc), s.not(s.eq(v, v))), v, acc);
    Prod = |s, acc, v| s.mul(acc, v);
}

#[inline(always)]
unsafe fn rows_of<S: Simd, R: Fold>(s: S, _: R, x: *const f32, rows: usize, n: usize, out: *mut f32) {
    let identity = R::KIND.identity();
    for r in 0..rows {
        let mut acc = [s.splat(identity); 4];
        let mut i = 0;
        // SAFETY: inside the row.
        unsafe {
            let x = x.add(r * n);
            while i + 4 * S::LANES <= n {
                for (j, a) in acc.iter_mut().enumerate() {
                    *a = R::step(s, *a, s.load(x.add(i + j * S::LANES)));
                }
                i += 4 * S::LANES;
            }
            while i + S::LANES <= n {
                acc[0] = R::step(s, acc[0], s.load(x.add(i)));
                i += S::LANES;
            }
            if i < n {
                let m = s.first(n - i);
                let v = R::step(s, acc[0], s.load_mask(x.add(i), m));
                acc[0] = s.blend(m, v, acc[0]);
            }
            let mut lanes = [identity; 64];
            for (j, a) in acc.iter().enumerate() {
                s.store(lanes.as_mut_ptr().add(j * S::LANES), *a);
            }
            *out.add(r) = lanes[..4 * S::LANES].iter().fold(identity, |a, &b| R::KIND.join(a, b));
        }
    }
}

#[inline(always)]
unsafe fn columns_of<S: Simd, R: Fold, E: Input>(
    s: S,
    _: R,
    x: *const E,
    rows: usize,
    step: usize,
    cols: usize,
    out: *mut f32,
) {
    let mut c = 0;
    // SAFETY: inside the rows and columns.
    unsafe {
        let all = s.first(S::LANES);
        while c + 4 * S::LANES <= cols {
            let mut acc = [s.splat(R::KIND.identity()); 4];
            for r in 0..rows {
                for (j, a) in acc.iter_mut().enumerate() {
                    *a = R::step(s, *a, E::load(s, x.add(r * step + c + j * S::LANES), all));
                }
            }
            for (j, a) in acc.iter().enumerate() {
                s.store(out.add(c + j * S::LANES), *a);
            }
            c += 4 * S::LANES;
        }
        while c < cols {
            let mut acc = s.splat(R::KIND.identity());
            for r in 0..rows {
                acc = R::step(s, acc, E::load(s, x.add(r * step + c), s.first(cols - c)));
            }
            store_n(s, out.add(c), acc, cols - c);
            c += S::LANES;
        }
    }
}

/// Reduces each of `rows` rows of `n` floats to one.
///
/// # Safety
/// `rows * n` floats are readable at `x`, `rows` writable at `out`.
#[inline(always)]
pub unsafe fn reduce_rows<S: Simd>(s: S, kind: Reduction, x: *const f32, rows: usize, n: usize, out: *mut f32) {
    // SAFETY: as the caller promises.
    unsafe {
        match kind {
            Reduction::Sum => rows_of(s, Sum, x, rows, n, out),
            Reduction::SumSquare => rows_of(s, SumSquare, x, rows, n, out),
            Reduction::SumAbs => rows_of(s, SumAbs, x, rows, n, out),
            Reduction::Max => rows_of(s, Max, x, rows, n, out),
            Reduction::Min => rows_of(s, Min, x, rows, n, out),
            Reduction::Prod => rows_of(s, Prod, x, rows, n, out),
        }
    }
}

/// Reduces each of `cols` columns, over `rows` rows that are `step` elements apart, to one.
///
/// # Safety
/// The rows are readable, `cols` floats writable at `out`.
#[inline(always)]
pub unsafe fn reduce_columns<S: Simd, E: Input>(
    s: S,
    kind: Reduction,
    x: *const E,
    rows: usize,
    step: usize,
    cols: usize,
    out: *mut f32,
) {
    // SAFETY: as the caller promises.
    unsafe {
        match kind {
            Reduction::Sum => columns_of(s, Sum, x, rows, step, cols, out),
            Reduction::SumSquare => columns_of(s, SumSquare, x, rows, step, cols, out),
            Reduction::SumAbs => columns_of(s, SumAbs, x, rows, step, cols, out),
            Reduction::Max => columns_of(s, Max, x, rows, step, cols, out),
            Reduction::Min => columns_of(s, Min, x, rows, step, cols, out),
            Reduction::Prod => columns_of(s, Prod, x, rows, step, cols, out),
        }
    }
}

/// Logarithm of the sum of exponentials of each of `rows` rows of `n` floats.
///
/// # Safety
/// As [`reduce_rows`].
#[inline(always)]
pub unsafe fn log_sum_exp<S: Simd>(s: S, x: *const f32, rows: usize, n: usize, out: *mut f32) {
    for r in 0..rows {
        // SAFETY: inside the rows.
        unsafe {
            let x = x.add(r * n);
            rows_of(s, Max, x, 1, n, out.add(r));
            let top = *out.add(r);
            // An infinite maximum is the result.
            if top.is_finite() {
                let topv = s.splat(top);
                let mut sum = s.zero();
                let mut i = 0;
                while i < n {
                    let v = load_or(s, x.add(i), n - i, f32::NEG_INFINITY);
                    sum = s.add(sum, math::exp(s, s.sub(v, topv)));
                    i += S::LANES;
                }
                *out.add(r) = top + s.sum(sum).ln();
            }
        }
    }
}

/// `out[c] = sum over t of weights[t] * rows[t][c]`.
///
/// # Safety
/// `count` row pointers and weights are readable, `n` floats behind each row, `n` writable at `out`.
#[inline(always)]
pub unsafe fn weighted_rows<S: Simd>(
    s: S,
    rows: *const *const f32,
    weights: *const f32,
    count: usize,
    n: usize,
    out: *mut f32,
) {
    let mut c = 0;
    // SAFETY: inside the rows.
    unsafe {
        while c < n {
            let mut acc = s.zero();
            for t in 0..count {
                let v = load_or(s, (*rows.add(t)).add(c), n - c, 0.0);
                acc = s.fma(v, s.splat(*weights.add(t)), acc);
            }
            store_n(s, out.add(c), acc, n - c);
            c += S::LANES;
        }
    }
}
