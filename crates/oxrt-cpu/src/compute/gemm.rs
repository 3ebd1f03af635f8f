//! Matrix products with a packed right operand, cut for caches and threads.
//!
//! `C[m, n] = act(A[m, taps * kc] B[taps * kc, n] + bias[n] + residual[m, n])`, where the rows of `A` are wherever the
//! caller's [`Rows`] says. Order of the loops inside one task, outermost first: parts of the inner product, panels of `B`,
//! tiles of rows. So a panel stays in the second cache while the rows pass by, and the rows of a task stay there while the
//! panels do.

use super::{Shared, cut};
use crate::kernels::Kernels;
use crate::kernels::activation::Act;
use crate::kernels::gemm::GemmTile;
use crate::pool::ThreadPool;
use core::cell::RefCell;
use core::mem::MaybeUninit;

/// Longest part of the inner product that is summed in registers at once.
const K_PART: usize = 1024;
/// Shortest part that is worth the extra passes over the result.
const K_SHORT: usize = 256;
/// Floats of a right operand that the last cache may not hold for long.
const B_FLOATS: usize = 4 << 20;
/// Row pointers kept on a task's stack.
const POINTERS: usize = 2048;
/// Floats of the left operand that a task keeps in the second cache.
const A_FLOATS: usize = 96 * 1024;

/// Tiles of rows for each thread from which on every thread reads the whole right operand.
const ROW_TILES: usize = 3;

/// Bytes after which addresses share a set of the first cache.
pub(super) const L1_WAY: usize = 4096;

thread_local! {
    /// Where a thread gathers rows that collide; grows to at most `A_FLOATS` and a few rows, once.
    static GATHERED: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

/// Copies the rows behind `pointers` side by side, `kc` floats of each from `offset`, and points at the copies.
///
/// # Safety
/// `pointers` are `rows` pointers to rows of at least `offset + kc` floats; the copies are valid until the next call on
/// this thread.
unsafe fn gather(pointers: *mut *const f32, rows: usize, offset: usize, kc: usize) {
    // Off a power of two by a line, so that the copies spread over the sets.
    let stride = kc.next_multiple_of(16) + 16;
    GATHERED.with_borrow_mut(|buffer| {
        if buffer.len() < rows * stride {
            buffer.resize(rows * stride, 0.0);
        }
        for i in 0..rows {
            // SAFETY: the buffer was made large enough; the source is the caller's promise.
            unsafe {
                let dst = buffer.as_mut_ptr().add(i * stride);
                core::ptr::copy_nonoverlapping((*pointers.add(i)).add(offset), dst, kc);
                *pointers.add(i) = dst;
            }
        }
    });
}

/// Where the rows of the left operand are, and its elements.
pub trait Rows<E = f32>: Sync {
    /// Whether the rows of one tile fall on the same few sets of the first cache, so that reading them side by side keeps
    /// throwing each other out. They are then copied together first.
    fn collide(&self) -> bool {
        false
    }

    /// Writes the pointers of rows `row..row + rows` for taps `tap..tap + taps`: those of one tap together, `stride`
    /// apart from the next tap's.
    ///
    /// # Safety
    /// `out` has room for `taps * stride` pointers, and `rows <= stride`.
    unsafe fn fill(&self, row: usize, rows: usize, tap: usize, taps: usize, stride: usize, out: *mut *const E);
}

/// Rows of a plain matrix, `stride` elements apart.
#[derive(Clone, Copy, Debug)]
pub struct Matrix<E = f32> {
    /// The first row.
    pub data: *const E,
    /// Elements from one row to the next.
    pub stride: usize,
}

// SAFETY: the matrix is only read, by the kernel that the caller vouches for.
unsafe impl<E> Sync for Matrix<E> {}

impl<E> Rows<E> for Matrix<E> {
    fn collide(&self) -> bool {
        self.stride != 0 && (self.stride * size_of::<E>()).is_multiple_of(L1_WAY)
    }

    unsafe fn fill(&self, row: usize, rows: usize, _tap: usize, _taps: usize, _stride: usize, out: *mut *const E) {
        for i in 0..rows {
            // SAFETY: `out` has room by contract; the row exists in the caller's matrix.
            unsafe { *out.add(i) = self.data.add((row + i) * self.stride) };
        }
    }
}

/// The size of a product.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Rows of the result.
    pub m: usize,
    /// Columns of the result.
    pub n: usize,
    /// Pieces of the inner product that lie apart in `A`.
    pub taps: usize,
    /// Floats per piece.
    pub kc: usize,
}

impl Size {
    /// Of a plain product.
    pub fn plain(m: usize, n: usize, k: usize) -> Size {
        Size { m, n, taps: 1, kc: k }
    }

    /// The length of the inner product.
    pub fn k(self) -> usize {
        self.taps * self.kc
    }
}

/// Result, and what happens to it before it is stored.
#[derive(Clone, Copy, Debug)]
pub struct Out {
    /// The result.
    pub c: *mut f32,
    /// Floats from one row of the result to the next.
    pub c_stride: usize,
    /// One float per column, or null.
    pub bias: *const f32,
    /// Added before the activation, or null; may not overlap the result.
    pub residual: *const f32,
    /// Floats from one residual row to the next.
    pub residual_stride: usize,
    /// The activation.
    pub act: Act,
}

// SAFETY: tasks write disjoint tiles of the result, and only read the rest.
unsafe impl Sync for Out {}

impl Out {
    /// A result without anything fused.
    pub fn plain(c: *mut f32, c_stride: usize) -> Out {
        Out { c, c_stride, bias: core::ptr::null(), residual: core::ptr::null(), residual_stride: 0, act: Act::None }
    }
}

/// Panels of a right operand with `n` columns: full ones, and a last one of one vector where that is enough.
pub fn panels(kernels: &Kernels, n: usize) -> usize {
    n.div_ceil(kernels.nr)
}

/// Width in floats of panel `p`.
fn panel_width(kernels: &Kernels, n: usize, p: usize) -> usize {
    if n - p * kernels.nr <= kernels.lanes { kernels.lanes } else { kernels.nr }
}

/// Floats a packed right operand takes.
pub fn packed_len(kernels: &Kernels, k: usize, n: usize) -> usize {
    match panels(kernels, n) {
        0 => 0,
        p => k * ((p - 1) * kernels.nr + panel_width(kernels, n, p - 1)),
    }
}

/// Packs panel `p` of a right operand whose element `(k, n)` is at `b[k * row + n * col]`.
///
/// # Safety
/// `b` covers `k x n` elements with these strides, `out` is the whole packed operand of [`packed_len`] floats.
pub unsafe fn pack_panel(
    kernels: &Kernels,
    k: usize,
    n: usize,
    b: *const f32,
    row: usize,
    col: usize,
    p: usize,
    out: *mut f32,
) {
    let width = panel_width(kernels, n, p);
    let first = p * kernels.nr;
    let cols = width.min(n - first);
    // SAFETY: the loops stay inside the panel and the operand.
    unsafe {
        let panel = out.add(first * k);
        let b = b.add(first * col);
        if col == 1 {
            for i in 0..k {
                let dst = panel.add(i * width);
                core::ptr::copy_nonoverlapping(b.add(i * row), dst, cols);
                core::ptr::write_bytes(dst.add(cols), 0, width - cols);
            }
        } else {
            // Sixteen rows at a time: the column-wise reads then use whole cache lines.
            let mut i0 = 0;
            while i0 < k {
                let rows = 16.min(k - i0);
                let dst = panel.add(i0 * width);
                for j in 0..cols {
                    let src = b.add(i0 * row + j * col);
                    if rows == 16 && row == 1 {
                        for i in 0..16 {
                            *dst.add(i * width + j) = *src.add(i);
                        }
                    } else {
                        for i in 0..rows {
                            *dst.add(i * width + j) = *src.add(i * row);
                        }
                    }
                }
                for i in 0..rows {
                    core::ptr::write_bytes(dst.add(i * width + cols), 0, width - cols);
                }
                i0 += rows;
            }
        }
    }
}

/// Packs a whole right operand.
///
/// # Safety
/// As [`pack_panel`].
pub unsafe fn pack(
    kernels: &Kernels,
    pool: &ThreadPool,
    k: usize,
    n: usize,
    b: *const f32,
    row: usize,
    col: usize,
    out: *mut f32,
) {
    let (b, out) = (Shared(b.cast_mut()), Shared(out));
    // SAFETY: every task writes its own panel.
    pool.run(panels(kernels, n), |p| unsafe { pack_panel(kernels, k, n, b.get(), row, col, p, out.get()) });
}

/// How a product is cut into tasks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut {
    /// Tiles along the rows.
    pub tiles: usize,
    /// Groups of tiles, each kept in the second cache.
    pub row_blocks: usize,
    /// Groups of panels.
    pub col_blocks: usize,
    /// Taps per part of the inner product (all of them when one tap is cut instead).
    pub tap_part: usize,
    /// Floats of one tap per part.
    pub k_part: usize,
}

impl Cut {
    /// The cut for a size and a number of threads.
    pub fn choose(kernels: &Kernels, size: Size, threads: usize) -> Cut {
        let mut tiles = size.m.div_ceil(kernels.mr).max(1);
        // Threads keep to rows of their own where there are enough: those that they made themselves in the step before.
        let by_rows = threads > 1 && tiles >= ROW_TILES * threads;
        if by_rows {
            tiles = tiles.next_multiple_of(threads).min(size.m);
        }
        let panels = panels(kernels, size.n).max(1);
        // When all rows fit the second cache at a shorter part, `B` passes by only once.
        let fits = A_FLOATS / (tiles * kernels.mr);
        let streams = size.k() * size.n > B_FLOATS && fits >= K_SHORT;
        let k_most = if streams { fits.min(K_PART) } else { K_PART };
        let (tap_part, k_part) = if size.taps > 1 {
            let most = (k_most / size.kc.max(1)).min(POINTERS / kernels.mr).max(1);
            let parts = size.taps.div_ceil(most);
            (size.taps.div_ceil(parts), size.kc)
        } else {
            let parts = size.kc.div_ceil(k_most).max(1);
            (1, size.kc.div_ceil(parts))
        };
        let part = (tap_part * k_part).max(1);
        let block = (A_FLOATS / (kernels.mr * part)).min(POINTERS / (kernels.mr * tap_part)).clamp(1, tiles);
        let mut row_blocks = tiles.div_ceil(block);
        if by_rows {
            row_blocks = row_blocks.next_multiple_of(threads);
        }
        let want = if threads > 1 { 4 * threads } else { 1 };
        // Two panels per task at least: rows that are gathered for one alone are not worth it.
        let mut col_blocks = want.div_ceil(row_blocks).clamp(1, (panels / 2).max(1));
        if row_blocks * col_blocks < want {
            row_blocks = want.div_ceil(col_blocks).min(tiles);
        }
        if row_blocks * col_blocks < want {
            col_blocks = want.div_ceil(row_blocks).min(panels);
        }
        // Equal shares: a whole number of rounds for the threads where that is possible.
        if threads > 1 && row_blocks * col_blocks < 4 * want {
            if row_blocks == 1 {
                col_blocks = col_blocks.next_multiple_of(threads).min(panels);
            } else if !(row_blocks * col_blocks).is_multiple_of(threads) {
                row_blocks = row_blocks.next_multiple_of(threads).min(tiles);
            }
        }
        Cut { tiles, row_blocks, col_blocks, tap_part, k_part }
    }

    /// Tasks of the cut.
    pub fn tasks(self) -> usize {
        self.row_blocks * self.col_blocks
    }
}

/// The product. `b` is packed by [`pack`] for the same kernels.
///
/// # Safety
/// `rows` gives readable rows, `b` is the packed operand, and `out` covers `m x n` (bias `n`) floats.
pub unsafe fn run(
    kernels: &Kernels,
    pool: &ThreadPool,
    size: Size,
    cut: Cut,
    rows: &impl Rows,
    b: *const f32,
    out: Out,
) {
    if size.m == 0 || size.n == 0 {
        return;
    }
    let b = Shared(b.cast_mut());
    pool.run(cut.tasks(), |task| {
        // SAFETY: tasks own disjoint blocks of the result.
        unsafe { block(kernels, size, cut, rows, b.get(), out, task) }
    });
}

/// Cache lines to ask for per four steps, so that `tiles` passes over a panel ask for a whole one of the same size. With
/// many passes the hardware's own looking ahead, in the first of them, costs less than asking.
pub(super) fn ahead_lines(tiles: usize, width: usize) -> usize {
    if tiles > 4 { 0 } else { (4 * width / 16).div_ceil(tiles) }
}

/// One task of the product.
///
/// # Safety
/// As [`run`]; `task < cut.tasks()`.
pub unsafe fn block(kernels: &Kernels, size: Size, how: Cut, rows: &impl Rows, b: *const f32, out: Out, task: usize) {
    let (row_block, col_block) = (task / how.col_blocks, task % how.col_blocks);
    let (tile0, tiles) = cut(how.tiles, how.row_blocks, row_block);
    let (panel0, panels) = cut(panels(kernels, size.n), how.col_blocks, col_block);
    let mr = kernels.mr;
    let k = size.k();
    let mut pointers = [MaybeUninit::<*const f32>::uninit(); POINTERS];
    let pointers = pointers.as_mut_ptr().cast::<*const f32>();
    let mut tap = 0;
    let mut offset = 0;
    // An empty inner product still has to store bias and activation.
    loop {
        let taps = how.tap_part.min(size.taps - tap);
        let kc = if size.taps == 1 { how.k_part.min(size.kc - offset) } else { size.kc };
        let first = tap == 0 && offset == 0;
        let k0 = tap * size.kc + offset;
        let last = k0 + taps * kc >= k;
        // Tiles whose pointers fit at once.
        let group = (POINTERS / (mr * taps)).min(A_FLOATS / (mr * taps * kc).max(1)).max(1);
        for group0 in (0..tiles).step_by(group) {
            let group = group.min(tiles - group0);
            for t in 0..group {
                let (row, count) = cut(size.m, how.tiles, tile0 + group0 + t);
                // SAFETY: `group * taps * mr` pointers fit by the choice of `group`.
                unsafe { rows.fill(row, count, tap, taps, mr, pointers.add(t * taps * mr)) };
            }
            let mut a_offset = offset;
            if panels > 1 && rows.collide() {
                // Tiles may leave the last pointers of their `mr` unused: those repeat the first one.
                // SAFETY: every pointer of the group is set, to a row of `size.kc` floats.
                unsafe {
                    for t in 0..group {
                        let (_, count) = cut(size.m, how.tiles, tile0 + group0 + t);
                        for tap in 0..taps {
                            let tile = pointers.add((t * taps + tap) * mr);
                            for i in count..mr {
                                *tile.add(i) = *tile;
                            }
                        }
                    }
                    gather(pointers, group * taps * mr, offset, kc);
                }
                a_offset = 0;
            }
            for p in panel0..panel0 + panels {
                let width = panel_width(kernels, size.n, p);
                let col = p * kernels.nr;
                let cols = width.min(size.n - col);
                let vectors = if width == kernels.nr { 1 } else { 0 };
                // The next panel comes to the second cache while the tiles pass over this one, a share with each.
                let part = taps * kc * width;
                let ahead = b.wrapping_add((col + kernels.nr) * k + k0 * width);
                let ahead_lines = if p + 1 < panel0 + panels { ahead_lines(group, width) } else { 0 };
                for t in 0..group {
                    let (row, count) = cut(size.m, how.tiles, tile0 + group0 + t);
                    // SAFETY: the tile lies inside the result; the panel and the pointers were prepared above.
                    unsafe {
                        let c = out.c.add(row * out.c_stride + col);
                        let tile = GemmTile {
                            a: pointers.add(t * taps * mr),
                            a_tap: mr,
                            a_offset,
                            taps,
                            kc,
                            b: b.add(col * k + k0 * width),
                            c,
                            c_stride: out.c_stride,
                            cols,
                            accumulate: !first,
                            finish: last,
                            bias: if out.bias.is_null() { out.bias } else { out.bias.add(col) },
                            residual: if out.residual.is_null() {
                                out.residual
                            } else {
                                out.residual.add(row * out.residual_stride + col)
                            },
                            residual_stride: out.residual_stride,
                            act: out.act,
                            ahead: ahead.wrapping_add(part / group * t),
                            ahead_lines,
                        };
                        kernels.gemm[count - 1][vectors](&tile);
                        if last && !out.act.is_simple() {
                            (kernels.finish_tile)(c, count, cols, out.c_stride, out.act);
                        }
                    }
                }
            }
        }
        if last {
            return;
        }
        if size.taps == 1 {
            offset += kc;
        } else {
            tap += taps;
        }
    }
}

#[cfg(test)]
#[path = "gemm_tests.rs"]
mod tests;
