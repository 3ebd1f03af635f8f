//! Products of matrices of `f64` and of integers, in plain code that the compiler vectorises. Sums run in the order of the
//! inner dimension.

use super::{Shared, cut};
use crate::kernels::Kernels;
use crate::kernels::product::{PANEL, ProductTile, ROWS, Scalar};
use crate::pool::ThreadPool;

/// Products of two elements that a task computes at least.
const MIN_PER_TASK: usize = 64 * 1024;

/// Elements of a packed right operand of `k` rows and `n` columns.
pub fn packed_len(k: usize, n: usize) -> usize {
    n.div_ceil(PANEL) * PANEL * k
}

/// Packs panel `panel` of a right operand of `k` rows and `n` columns, whose element in a row and column `get` gives.
///
/// # Safety
/// `to` has room for the panel.
pub unsafe fn pack_panel<T: Scalar>(k: usize, n: usize, panel: usize, to: *mut T, get: impl Fn(usize, usize) -> T) {
    for p in 0..k {
        for j in 0..PANEL {
            let column = panel * PANEL + j;
            let value = if column < n { get(p, column) } else { T::default() };
            // SAFETY: inside the panel.
            unsafe { *to.add(p * PANEL + j) = value };
        }
    }
}

/// Products of `pairs` of row-major matrices `[m, k]` with packed ones, given by where they start, to `[m, n]` one after
/// another.
///
/// # Safety
/// The pointers cover these sizes.
pub unsafe fn products<T: Scalar>(
    kernels: &Kernels,
    pool: &ThreadPool,
    (m, k, n): (usize, usize, usize),
    pairs: &[(usize, usize)],
    a: *const T,
    packed: *const T,
    c: *mut T,
) {
    let (panels, blocks) = (n.div_ceil(PANEL), m.div_ceil(ROWS));
    let units = pairs.len() * panels * blocks;
    if units == 0 {
        return;
    }
    let work = units.saturating_mul(ROWS * PANEL).saturating_mul(k);
    let parts = pool.parts(work / MIN_PER_TASK).min(units);
    let (a, packed, c) = (Shared(a.cast_mut()), Shared(packed.cast_mut()), Shared(c));
    pool.run(parts, |part| {
        let (start, count) = cut(units, parts, part);
        for unit in start..start + count {
            // A panel stays in the first cache while the rows pass by.
            let (pair, panel, row) = (unit / (panels * blocks), unit / blocks % panels, unit % blocks * ROWS);
            let (columns, rows) = (PANEL.min(n - panel * PANEL), ROWS.min(m - row));
            // SAFETY: blocks are disjoint parts of the result; the operands have these rows and panels.
            unsafe {
                let a = a.at(pairs[pair].0 + row * k);
                let b = packed.at(pairs[pair].1 + panel * PANEL * k);
                let c = c.at((pair * m + row) * n + panel * PANEL);
                T::kernel(kernels)(&ProductTile { k, a, b, c, stride: n, rows, columns });
            }
        }
    });
}
