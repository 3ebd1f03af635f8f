//! Reductions over whole tensors.

use super::{Shared, cut};
use crate::kernels::Kernels;
use crate::kernels::reduce::Reduction;
use crate::pool::ThreadPool;

/// Fewer floats than this are not worth waking another thread for.
const MIN_PER_TASK: usize = 16 * 1024;
/// Columns that a task takes at least: whole cache lines, so that tasks do not share any.
const COLUMNS: usize = 64;

/// Reduces the middle of `[outer][n][inner]` floats to `[outer][inner]`.
///
/// # Safety
/// The pointers cover these sizes.
pub unsafe fn reduce(
    kernels: &Kernels,
    pool: &ThreadPool,
    kind: Reduction,
    x: *const f32,
    y: *mut f32,
    outer: usize,
    n: usize,
    inner: usize,
) {
    let (x, y) = (Shared(x.cast_mut()), Shared(y));
    let most = pool.parts(outer * n * inner / MIN_PER_TASK);
    if inner == 1 {
        let parts = most.min(outer.max(1));
        pool.run(parts, |part| {
            let (start, count) = cut(outer, parts, part);
            // SAFETY: parts are disjoint rows.
            unsafe { (kernels.reduce_rows)(kind, x.at(start * n), count, n, y.at(start)) }
        });
        return;
    }
    let groups = inner.div_ceil(COLUMNS);
    let parts = most.min((outer * groups).max(1));
    pool.run(parts, |part| {
        let (start, count) = cut(outer * groups, parts, part);
        let mut i = start;
        while i < start + count {
            // As many neighbouring groups as this part has of the same outer index.
            let (o, g) = (i / groups, i % groups);
            let together = (groups - g).min(start + count - i);
            let first = g * COLUMNS;
            let cols = (together * COLUMNS).min(inner - first);
            // SAFETY: groups are disjoint columns.
            unsafe {
                let (from, to) = (x.at(o * n * inner + first), y.at(o * inner + first));
                (kernels.reduce_columns)(kind, from, n, inner, cols, to);
            }
            i += together;
        }
    });
}

/// Logarithm of the sum of exponentials of `rows` rows of `n` floats.
///
/// # Safety
/// The pointers cover these sizes.
pub unsafe fn log_sum_exp(kernels: &Kernels, pool: &ThreadPool, x: *const f32, y: *mut f32, rows: usize, n: usize) {
    let (x, y) = (Shared(x.cast_mut()), Shared(y));
    let parts = pool.parts(rows * n / MIN_PER_TASK).min(rows.max(1));
    pool.run(parts, |part| {
        let (start, count) = cut(rows, parts, part);
        // SAFETY: parts are disjoint rows.
        unsafe { (kernels.log_sum_exp)(x.at(start * n), count, n, y.at(start)) }
    });
}

/// Positions of the largest (or smallest) values along the middle of `[outer][n][inner]` floats; of the first of equal
/// ones, or of the last. NaN is larger (smaller) than everything.
///
/// # Safety
/// The pointers cover these sizes.
pub unsafe fn arg_extreme<T: Copy + PartialOrd>(
    pool: &ThreadPool,
    largest: bool,
    last: bool,
    x: *const T,
    y: *mut i64,
    outer: usize,
    n: usize,
    inner: usize,
) {
    let (x, y) = (Shared(x.cast_mut()), Shared(y));
    let parts = pool.parts(outer * n * inner / MIN_PER_TASK).min((outer * inner).max(1));
    pool.run(parts, |part| {
        let (start, count) = cut(outer * inner, parts, part);
        for i in start..start + count {
            // SAFETY: parts are disjoint results.
            unsafe {
                let base = x.at(i / inner * n * inner + i % inner).cast_const();
                let (mut best, mut at) = (*base, 0);
                for j in 1..n {
                    let v = *base.add(j * inner);
                    // What differs from itself is NaN.
                    let nan = |v: T| v.partial_cmp(&v).is_none();
                    let more = if largest { v > best } else { v < best };
                    let takes = more || (nan(v) && !nan(best)) || (last && (v == best || nan(v) && nan(best)));
                    if takes {
                        (best, at) = (v, j);
                    }
                }
                *y.at(i) = at as i64;
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{close, every_tier, noise};

    #[test]
    fn reductions_agree_with_their_definition() {
        let pool = ThreadPool::new(2);
        use Reduction::*;
        for kind in [Sum, SumSquare, SumAbs, Max, Min, Prod] {
            for (outer, n, inner) in [
                (1, 1, 1),
                (3, 7, 1),
                (2, 64, 1),
                (2, 65, 1),
                (1, 5000, 1),
                (2, 3, 5),
                (2, 9, 64),
                (1, 50, 131),
                (2, 0, 3),
                (40, 33, 70),
            ] {
                let mut x = noise(outer * n * inner, 1);
                if n > 4 && n < 60 {
                    x[inner * 3] = f32::NAN;
                    x[inner * 3 + inner / 2] = f32::INFINITY;
                }
                let want: Vec<f64> = (0..outer * inner)
                    .map(|i| {
                        let mut acc = f64::from(kind.identity());
                        for j in 0..n {
                            let v = f64::from(x[(i / inner * n + j) * inner + i % inner]);
                            acc = match kind {
                                Sum => acc + v,
                                SumSquare => acc + v * v,
                                SumAbs => acc + v.abs(),
                                Max => {
                                    if v > acc || v.is_nan() {
                                        v
                                    } else {
                                        acc
                                    }
                                }
                                Min => {
                                    if v < acc || v.is_nan() {
                                        v
                                    } else {
                                        acc
                                    }
                                }
                                Prod => acc * v,
                            };
                        }
                        acc
                    })
                    .collect();
                every_tier(|kernels| {
                    let mut y = vec![0.0f32; outer * inner];
                    // SAFETY: the buffers have the sizes.
                    unsafe { reduce(kernels, &pool, kind, x.as_ptr(), y.as_mut_ptr(), outer, n, inner) };
                    close(&y, &want, 2e-4, 1e-5, &format!("{kind:?} {outer} {n} {inner} on {}", kernels.isa.name()));
                });
            }
        }
    }

    #[test]
    fn positions_of_extremes() {
        let pool = ThreadPool::new(2);
        let x = [1.0f32, 5.0, 5.0, -1.0, f32::NAN, 2.0, f32::NAN, 0.0];
        let get = |largest, last| {
            let mut y = [0i64; 2];
            // SAFETY: two rows of four.
            unsafe { arg_extreme(&pool, largest, last, x.as_ptr(), y.as_mut_ptr(), 2, 4, 1) };
            y
        };
        assert_eq!(get(true, false), [1, 0]);
        assert_eq!(get(true, true), [2, 2]);
        assert_eq!(get(false, false), [3, 0]);
    }
}
