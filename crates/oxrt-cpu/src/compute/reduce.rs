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

/// Parts that the middle of `[outer][n][inner]` is cut into, so that threads reduce the rows that they made themselves in the
/// step before; 1 where that is not worth the joining.
pub fn row_parts(pool: &ThreadPool, outer: usize, n: usize, inner: usize) -> usize {
    let worth = outer == 1 && inner > 1 && n * inner >= 2 * MIN_PER_TASK;
    if worth { pool.threads().min(n) } else { 1 }
}

/// A kernel that reduces columns.
pub type ReduceColumns<E> = unsafe fn(Reduction, *const E, usize, usize, usize, *mut f32);

/// Reduces `[n][inner]` elements to `[inner]` floats in `parts` parts ([`row_parts`]) of rows.
///
/// # Safety
/// The pointers cover these sizes, `scratch` has `parts * inner` floats.
pub unsafe fn reduce_by_rows<E: Copy>(
    kernels: &Kernels,
    columns: ReduceColumns<E>,
    pool: &ThreadPool,
    kind: Reduction,
    x: *const E,
    y: *mut f32,
    (n, inner): (usize, usize),
    parts: usize,
    scratch: *mut f32,
) {
    let (x, to) = (Shared(x.cast_mut()), Shared(scratch));
    pool.run(parts, |part| {
        let (start, count) = cut(n, parts, part);
        // SAFETY: parts are disjoint rows, with results of their own.
        unsafe { columns(kind, x.at(start * inner), count, inner, inner, to.at(part * inner)) }
    });
    let join = match kind {
        Reduction::SumSquare | Reduction::SumAbs => Reduction::Sum,
        other => other,
    };
    // SAFETY: the parts' results lie side by side.
    unsafe { (kernels.reduce_columns)(join, scratch, parts, inner, inner, y) }
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
    // What differs from itself is NaN.
    let nan = |v: T| v.partial_cmp(&v).is_none();
    let takes = |v: T, best: T| {
        let more = if largest { v > best } else { v < best };
        more || (nan(v) && !nan(best)) || (last && (v == best || nan(v) && nan(best)))
    };
    // Columns side by side, so that whole cache lines are read.
    let groups = inner.div_ceil(COLUMNS);
    let parts = pool.parts(outer * n * inner / MIN_PER_TASK).min((outer * groups).max(1));
    pool.run(parts, |part| {
        let (start, count) = cut(outer * groups, parts, part);
        for i in start..start + count {
            let (o, first) = (i / groups, i % groups * COLUMNS);
            let cols = COLUMNS.min(inner - first);
            // SAFETY: parts are disjoint results.
            unsafe {
                let base = x.at(o * n * inner + first).cast_const();
                let to = y.at(o * inner + first);
                if inner == 1 {
                    *to = match (largest, last) {
                        (true, false) => row_extreme(base, n, not_above, takes),
                        (false, false) => row_extreme(base, n, |v, best| not_above(best, v), takes),
                        _ => row_extreme(base, n, |_, _| false, takes),
                    } as i64;
                    continue;
                }
                let mut best = [*base; COLUMNS];
                let mut at = [0; COLUMNS];
                best.iter_mut().enumerate().take(cols).for_each(|(c, b)| *b = *base.add(c));
                for j in 1..n {
                    for c in 0..cols {
                        let v = *base.add(j * inner + c);
                        let take = takes(v, best[c]);
                        best[c] = if take { v } else { best[c] };
                        at[c] = if take { j as i64 } else { at[c] };
                    }
                }
                to.copy_from_nonoverlapping(at.as_ptr(), cols);
            }
        }
    });
}

/// Whether `a` stands behind `b` or beside it; not so where one is NaN.
#[inline(always)]
fn not_above<T: PartialOrd>(a: T, b: T) -> bool {
    a <= b
}

/// The place that is left when one element after the other `takes` it from the best before; none that is `behind` the best does.
#[inline(always)]
unsafe fn row_extreme<T: Copy>(
    x: *const T,
    n: usize,
    behind: impl Fn(T, T) -> bool,
    takes: impl Fn(T, T) -> bool,
) -> usize {
    /// Elements that are looked at together: mostly none of them takes the place.
    const RUN: usize = 32;
    // SAFETY: inside the row.
    unsafe {
        let (mut best, mut at, mut i) = (*x, 0, 1);
        while i < n {
            let run = RUN.min(n - i);
            if run == RUN && (0..RUN).fold(true, |all, j| all & behind(*x.add(i + j), best)) {
                i += RUN;
                continue;
            }
            for j in i..i + run {
                if takes(*x.add(j), best) {
                    (best, at) = (*x.add(j), j);
                }
            }
            i += run;
        }
        at
    }
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
                    let what = format!("{kind:?} {outer} {n} {inner} on {}", kernels.isa.name());
                    close(&y, &want, 2e-4, 1e-5, &what);
                    if outer == 1 && n > 0 {
                        let parts = n.min(3);
                        let (mut y, mut scratch) = (vec![0.0f32; inner], vec![0.0f32; parts * inner]);
                        let (x, to, columns) = (x.as_ptr(), y.as_mut_ptr(), kernels.reduce_columns);
                        // SAFETY: as above.
                        unsafe {
                            let scratch = scratch.as_mut_ptr();
                            reduce_by_rows(kernels, columns, &pool, kind, x, to, (n, inner), parts, scratch);
                        }
                        close(&y, &want, 2e-4, 1e-5, &format!("{what}, by rows"));
                    }
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
