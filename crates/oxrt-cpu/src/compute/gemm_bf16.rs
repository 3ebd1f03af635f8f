//! Matrix products on the units for bfloat16: operands narrowed, sums in single precision.
//!
//! The left operand may be single precision or bfloat16, anywhere [`Rows`] says. It is brought into the unit's order (rows
//! side by side, padded to [`KB`]) in one of three ways: not at all, when it lies so already; once for all tasks, when
//! several of them need the same rows; or by each task for its own rows, in its second cache.

use super::gemm::{Rows, Size};
use super::{Shared, cut};
use crate::kernels::activation::Act;
use crate::kernels::bf16::{Bf16Finish, Bf16Tile, Bf16Unit, KB, NR};
use crate::pool::ThreadPool;
use core::cell::RefCell;
use core::mem::MaybeUninit;

/// Bytes of left operand that a task keeps in the second cache.
const A_BYTES: usize = 512 * 1024;
/// Longest part of the inner product for which a part of a panel stays in the first cache while tiles pass by.
const K_PART: usize = 512;
/// Tiles whose sums are kept side by side when the inner product is longer than a part.
const TILES: usize = 4;
/// Row pointers kept on the stack.
const POINTERS: usize = 2048;

/// An element of a left operand.
pub trait Element: Copy + Send + Sync + 'static {
    /// Brings `n` values behind `src` to bfloat16.
    ///
    /// # Safety
    /// `n` values are readable and writable.
    unsafe fn narrow(unit: &Bf16Unit, src: *const Self, n: usize, dst: *mut u16);
}

impl Element for f32 {
    unsafe fn narrow(unit: &Bf16Unit, src: *const f32, n: usize, dst: *mut u16) {
        // SAFETY: passed on.
        unsafe { (unit.narrow)(src, n, dst) }
    }
}

/// The bits of a bfloat16.
impl Element for u16 {
    unsafe fn narrow(_: &Bf16Unit, src: *const u16, n: usize, dst: *mut u16) {
        // SAFETY: passed on; a packed row never overlaps its source.
        unsafe { core::ptr::copy_nonoverlapping(src, dst, n) }
    }
}

/// Result, and what happens to it before it is stored.
#[derive(Clone, Copy, Debug)]
pub struct Out {
    /// The result.
    pub c: *mut u8,
    /// Whether it is bfloat16 and not single precision.
    pub c_half: bool,
    /// Elements from one row of the result to the next.
    pub c_stride: usize,
    /// One float per column, or null.
    pub bias: *const f32,
    /// Added before the activation, or null.
    pub residual: *const u8,
    /// Whether it is bfloat16 and not single precision.
    pub residual_half: bool,
    /// Elements from one residual row to the next.
    pub residual_stride: usize,
    /// The activation.
    pub act: Act,
}

// SAFETY: tasks write disjoint tiles of the result, and only read the rest.
unsafe impl Sync for Out {}

/// Panels of a right operand with `n` columns.
pub fn panels(n: usize) -> usize {
    n.div_ceil(NR)
}

/// Values that a packed right operand takes.
pub fn packed_len(k: usize, n: usize) -> usize {
    k.next_multiple_of(KB) * panels(n) * NR
}

/// Packs a right operand whose element `(k, n)` is `b[k * row + n * col]`.
///
/// # Panics
/// When the slices are shorter than the sizes say.
pub fn pack(k: usize, n: usize, b: &[f32], row: usize, col: usize, out: &mut [u16]) {
    let k_full = k.next_multiple_of(KB);
    assert_eq!(out.len(), packed_len(k, n));
    for p in 0..panels(n) {
        let panel = &mut out[p * k_full * NR..(p + 1) * k_full * NR];
        panel.fill(0);
        for j in 0..NR.min(n - p * NR) {
            for i in 0..k {
                panel[(i / 2 * NR + j) * 2 + i % 2] = half::bf16::from_f32(b[i * row + (p * NR + j) * col]).to_bits();
            }
        }
    }
}

/// How the left operand reaches the unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Left {
    /// It lies right.
    AsIs,
    /// Brought in order once, for all tasks.
    Once,
    /// By each task.
    ByTask,
}

/// A product bound to its sizes.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    size: Size,
    /// The inner product's length as the right operand has it.
    k: usize,
    /// The same as the unit runs over it: what is behind it is zeros.
    work: usize,
    left: Left,
    /// Elements from one row of the ordered left operand to the next.
    stride: usize,
    tiles: usize,
    row_blocks: usize,
    col_blocks: usize,
}

impl Plan {
    /// For a size and a number of threads. `ordered` is the row stride of a left operand that lies as the unit reads it.
    pub fn new(unit: &Bf16Unit, size: Size, threads: usize, ordered: Option<usize>) -> Plan {
        let k = size.k().next_multiple_of(KB);
        let work = size.k().next_multiple_of(unit.step);
        let tiles = size.m.div_ceil(unit.mr).max(1);
        let columns = panels(size.n).max(1);
        let want = if threads > 1 { 4 * threads } else { 1 };
        // Rows alone share out well when there are many; else columns too.
        let block = (A_BYTES / (2 * k.max(1) * unit.mr)).clamp(1, tiles);
        let mut row_blocks = tiles.div_ceil(block);
        let mut col_blocks = 1;
        if row_blocks < want {
            if tiles >= 2 * want {
                row_blocks = want;
            } else {
                col_blocks = want.div_ceil(row_blocks).next_multiple_of(threads.max(1)).min(columns);
            }
        }
        // Rows a power of two apart fall on few sets of the first cache.
        let ordered = ordered.filter(|stride| !(2 * stride).is_multiple_of(1024));
        let left = match ordered {
            Some(_) => Left::AsIs,
            None if col_blocks > 1 => Left::Once,
            None => Left::ByTask,
        };
        // Off a power of two by a line, so that rows spread over the sets of the first cache.
        let stride = ordered.unwrap_or(work + if (2 * work).is_multiple_of(1024) { KB } else { 0 });
        Plan { size, k, work, left, stride, tiles, row_blocks, col_blocks }
    }

    /// Bytes of workspace a run needs.
    pub fn workspace_bytes(&self) -> usize {
        if self.left == Left::Once { 2 * self.size.m * self.stride } else { 0 }
    }

    /// Tasks of the product proper.
    pub fn tasks(&self) -> usize {
        self.row_blocks * self.col_blocks
    }
}

thread_local! {
    /// A thread's ordered rows and its sums; grows to at most what one block needs, once.
    static SCRATCH: RefCell<(Vec<Line>, Vec<Line>)> = const { RefCell::new((Vec::new(), Vec::new())) };
}

/// A cache line, for its alignment.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([u8; 64]);

fn lines(buffer: &mut Vec<Line>, bytes: usize) -> *mut u8 {
    let count = bytes.div_ceil(64);
    if buffer.len() < count {
        buffer.resize(count, Line([0; 64]));
    }
    buffer.as_mut_ptr().cast()
}

/// Brings rows `row..row + rows` in order.
///
/// # Safety
/// `rows_of` gives readable rows; `out` has `rows * plan.stride` values.
unsafe fn order<E: Element>(
    unit: &Bf16Unit,
    plan: &Plan,
    rows_of: &impl Rows<E>,
    row: usize,
    rows: usize,
    out: *mut u16,
) {
    let Size { taps, kc, .. } = plan.size;
    // Rows are asked for in groups that the row source can take.
    const GROUP: usize = 14;
    let mut pointers = [MaybeUninit::<*const E>::uninit(); POINTERS];
    let pointers = pointers.as_mut_ptr().cast::<*const E>();
    let most_taps = (POINTERS / GROUP).min(taps).max(1);
    for first in (0..rows).step_by(GROUP) {
        let count = GROUP.min(rows - first);
        let mut tap = 0;
        while tap < taps {
            let some = most_taps.min(taps - tap);
            // SAFETY: `some * count` pointers fit; rows and results are inside their buffers.
            unsafe {
                rows_of.fill(row + first, count, tap, some, count, pointers);
                for t in 0..some {
                    for i in 0..count {
                        let dst = out.add((first + i) * plan.stride + (tap + t) * kc);
                        E::narrow(unit, *pointers.add(t * count + i), kc, dst);
                    }
                }
            }
            tap += some;
        }
        for i in 0..count {
            // SAFETY: the padding is part of the row.
            unsafe { core::ptr::write_bytes(out.add((first + i) * plan.stride + taps * kc), 0, plan.work - taps * kc) };
        }
    }
}

/// Brings the whole left operand in order, when the plan says so; gives what the tasks then read.
///
/// # Safety
/// `rows_of` gives readable rows; `workspace` has [`Plan::workspace_bytes`].
pub unsafe fn prepare<E: Element>(
    unit: &Bf16Unit,
    pool: &ThreadPool,
    plan: &Plan,
    rows_of: &impl Rows<E>,
    workspace: *mut u8,
) {
    if plan.left != Left::Once {
        return;
    }
    let m = plan.size.m;
    let parts = pool.parts(m * plan.k / 4096).min(m.max(1));
    let to = Shared(workspace.cast::<u16>());
    pool.run(parts, |i| {
        let (row, rows) = cut(m, parts, i);
        // SAFETY: parts write disjoint rows of the workspace.
        unsafe { order(unit, plan, rows_of, row, rows, to.at(row * plan.stride)) }
    });
}

/// One task of the product.
///
/// # Safety
/// [`prepare`] has run with the same arguments, `b` is the packed operand, `out` covers the result.
pub unsafe fn block<E: Element>(
    unit: &Bf16Unit,
    plan: &Plan,
    rows_of: &impl Rows<E>,
    workspace: *const u8,
    b: *const u16,
    out: &Out,
    task: usize,
) {
    let (row_block, col_block) = (task / plan.col_blocks, task % plan.col_blocks);
    let (tile0, tiles) = cut(plan.tiles, plan.row_blocks, row_block);
    let (panel0, panels) = cut(panels(plan.size.n), plan.col_blocks, col_block);
    if plan.size.m == 0 {
        return;
    }
    let k = plan.k;
    let whole = tiles.min((A_BYTES / (2 * k.max(1) * unit.mr)).max(1));
    SCRATCH.with_borrow_mut(|(rows_buffer, sums_buffer)| {
        let sums = lines(sums_buffer, TILES * unit.mr * NR * 4).cast::<f32>();
        for group0 in (tile0..tile0 + tiles).step_by(whole) {
            let group = whole.min(tile0 + tiles - group0);
            let (row, _) = cut(plan.size.m, plan.tiles, group0);
            let (last, count) = cut(plan.size.m, plan.tiles, group0 + group - 1);
            let rows = last + count - row;
            // SAFETY: the rows were put where they are read, and tiles stay inside result, panel and sums.
            unsafe {
                let a = match plan.left {
                    Left::AsIs => {
                        let mut first = core::ptr::null();
                        rows_of.fill(row, 1, 0, 1, 1, &mut first);
                        first.cast::<u16>()
                    }
                    Left::Once => workspace.cast::<u16>().add(row * plan.stride),
                    Left::ByTask => {
                        let to = lines(rows_buffer, 2 * rows * plan.stride).cast::<u16>();
                        order(unit, plan, rows_of, row, rows, to);
                        to
                    }
                };
                for p in panel0..panel0 + panels {
                    let panel = b.add(p * k * NR);
                    let cols = NR.min(plan.size.n - p * NR);
                    let some = if k <= K_PART { 1 } else { TILES };
                    for t0 in (0..group).step_by(some) {
                        let some = some.min(group - t0);
                        let tile_rows = |t: usize| cut(plan.size.m, plan.tiles, group0 + t0 + t);
                        let parts = k.div_ceil(K_PART).max(1);
                        for part in 0..parts {
                            let (steps0, steps) = cut(k / KB, parts, part);
                            for t in 0..some {
                                let (r, count) = tile_rows(t);
                                (unit.tile)(&Bf16Tile {
                                    a: a.add((r - row) * plan.stride + steps0 * KB),
                                    a_stride: plan.stride,
                                    rows: count,
                                    k: (steps * KB).min(plan.work - steps0 * KB),
                                    b: panel.add(steps0 * KB * NR),
                                    c: sums.add(t * unit.mr * NR),
                                    accumulate: part > 0,
                                });
                            }
                        }
                        for t in 0..some {
                            let (r, count) = tile_rows(t);
                            let size = |half: bool| if half { 2 } else { 4 };
                            let residual = (r * out.residual_stride + p * NR) * size(out.residual_half);
                            (unit.finish)(&Bf16Finish {
                                sums: sums.add(t * unit.mr * NR),
                                rows: count,
                                cols,
                                bias: if out.bias.is_null() { out.bias } else { out.bias.add(p * NR) },
                                residual: if out.residual.is_null() {
                                    out.residual
                                } else {
                                    out.residual.add(residual)
                                },
                                residual_half: out.residual_half,
                                residual_stride: out.residual_stride,
                                act: out.act,
                                out: out.c.add((r * out.c_stride + p * NR) * size(out.c_half)),
                                out_half: out.c_half,
                                out_stride: out.c_stride,
                            });
                        }
                    }
                }
            }
        }
        (unit.release)();
    });
}

/// The product. `b` is packed by [`pack`].
///
/// # Safety
/// `rows_of` gives readable rows, `workspace` has [`Plan::workspace_bytes`], `out` covers `m x n` (bias `n`) elements.
pub unsafe fn run<E: Element>(
    unit: &Bf16Unit,
    pool: &ThreadPool,
    plan: &Plan,
    rows_of: &impl Rows<E>,
    b: *const u16,
    out: &Out,
    workspace: *mut u8,
) {
    if plan.size.m == 0 || plan.size.n == 0 {
        return;
    }
    // SAFETY: passed on; tasks own disjoint blocks of the result.
    unsafe { prepare(unit, pool, plan, rows_of, workspace) };
    let (b, workspace) = (Shared(b.cast_mut()), Shared(workspace));
    pool.run(plan.tasks(), |task| {
        // SAFETY: as above.
        unsafe { block(unit, plan, rows_of, workspace.get(), b.get(), out, task) }
    });
}

#[cfg(test)]
#[path = "gemm_bf16_tests.rs"]
mod tests;
