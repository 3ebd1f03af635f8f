//! Reductions of any stored numbers: one loop, which the compiler vectorises for what is done in it.

use super::element::Element;
use super::{Shared, cut};
use crate::pool::ThreadPool;

/// Fewer elements than this are not worth waking another thread for.
const MIN_PER_TASK: usize = 16 * 1024;
/// Sums that run side by side along a row.
const LANES: usize = 16;
/// Columns that are reduced together.
const COLUMNS: usize = 64;

/// A tensor as `[outer][n][inner]`, of which the middle goes.
#[derive(Clone, Copy, Debug)]
pub struct Middle {
    pub outer: usize,
    pub n: usize,
    pub inner: usize,
}

/// How elements join.
pub struct Rule<A, S, J, E> {
    /// What nothing gives; joining it changes nothing.
    pub start: A,
    /// Takes an element in.
    pub step: S,
    /// Joins two parts.
    pub join: J,
    /// The result.
    pub end: E,
}

/// Reduces the middle.
///
/// # Safety
/// The pointers cover these sizes.
pub unsafe fn fold<T: Element, R: Element, A: Copy + Send + Sync>(
    pool: &ThreadPool,
    m: Middle,
    x: *const T,
    y: *mut R,
    rule: &Rule<A, impl Fn(A, T) -> A + Sync, impl Fn(A, A) -> A + Sync, impl Fn(A) -> R + Sync>,
) {
    let (x, y) = (Shared(x.cast_mut()), Shared(y));
    let groups = m.inner.div_ceil(COLUMNS);
    let units = m.outer * groups;
    let parts = pool.parts(m.outer * m.n * m.inner / MIN_PER_TASK).min(units.max(1));
    pool.run(parts, |part| {
        let (first, count) = cut(units, parts, part);
        for unit in first..first + count {
            let (o, column) = (unit / groups, unit % groups * COLUMNS);
            // SAFETY: units are disjoint columns of the result; rows lie inside the operand.
            unsafe {
                let from = x.at(o * m.n * m.inner + column).cast_const();
                let to = y.at(o * m.inner + column);
                if m.inner == 1 {
                    *to = (rule.end)(row(from, m.n, rule));
                } else {
                    columns(from, m, COLUMNS.min(m.inner - column), to, rule);
                }
            }
        }
    });
}

#[inline(always)]
unsafe fn row<T: Copy, A: Copy, R>(
    x: *const T,
    n: usize,
    rule: &Rule<A, impl Fn(A, T) -> A, impl Fn(A, A) -> A, impl Fn(A) -> R>,
) -> A {
    let mut lanes = [rule.start; LANES];
    let whole = n / LANES * LANES;
    // SAFETY: the row has `n` elements.
    unsafe {
        for i in (0..whole).step_by(LANES) {
            for (l, lane) in lanes.iter_mut().enumerate() {
                *lane = (rule.step)(*lane, *x.add(i + l));
            }
        }
        let total = lanes.into_iter().fold(rule.start, |a, b| (rule.join)(a, b));
        (whole..n).fold(total, |a, i| (rule.step)(a, *x.add(i)))
    }
}

#[inline(always)]
unsafe fn columns<T: Copy, A: Copy, R>(
    x: *const T,
    m: Middle,
    count: usize,
    y: *mut R,
    rule: &Rule<A, impl Fn(A, T) -> A, impl Fn(A, A) -> A, impl Fn(A) -> R>,
) {
    let mut sums = [rule.start; COLUMNS];
    // SAFETY: `count` columns of `n` rows lie inside both sides.
    unsafe {
        for i in 0..m.n {
            let row = x.add(i * m.inner);
            for (c, sum) in sums[..count].iter_mut().enumerate() {
                *sum = (rule.step)(*sum, *row.add(c));
            }
        }
        for (c, &sum) in sums[..count].iter().enumerate() {
            *y.add(c) = (rule.end)(sum);
        }
    }
}

/// Logarithm of the sum of exponentials, shifted by the greatest element so that nothing overflows.
///
/// # Safety
/// The pointers cover these sizes.
pub unsafe fn log_sum_exp<T: Element>(pool: &ThreadPool, m: Middle, x: *const T, y: *mut T) {
    let (x, y) = (Shared(x.cast_mut()), Shared(y));
    let units = m.outer * m.inner;
    let parts = pool.parts(units * m.n / MIN_PER_TASK).min(units.max(1));
    pool.run(parts, |part| {
        let (first, count) = cut(units, parts, part);
        for unit in first..first + count {
            // SAFETY: units are disjoint results; lines lie inside the operand.
            unsafe {
                let line = x.at(unit / m.inner * m.n * m.inner + unit % m.inner).cast_const();
                let at = |i: usize| (*line.add(i * m.inner)).to_f64();
                let top = (0..m.n).fold(f64::NEG_INFINITY, |a, i| at(i).greater(a));
                let sum = if top.is_infinite() || top.is_nan() {
                    top
                } else {
                    top + (0..m.n).map(|i| (at(i) - top).exp()).sum::<f64>().ln()
                };
                *y.at(unit) = T::from_f64(sum);
            }
        }
    });
}
