//! Quantised matrix products with a packed right operand: sums of bytes, and the way to the next bytes fused behind.
//!
//! The inner product is never split: its sums are 32-bit integers that the result's bytes cannot hold in between. A panel of
//! the right operand stays in the second cache while the rows of a task pass by.

use super::cut;
use crate::kernels::activation::Act;
use crate::kernels::dot_i8::{DotTile, Finish, Rounding, Store};
use crate::kernels::dot_tables::DotKernels;
use core::mem::MaybeUninit;

/// Row pointers kept on a task's stack.
const POINTERS: usize = 4096;
/// Bytes of the left operand that a task keeps in the second cache.
const A_BYTES: usize = 256 * 1024;
/// Sums of one tile.
const TILE: usize = 12 * 32;
/// Most rows of one tile.
pub const MAX_MR: usize = 12;

/// Where the rows of the left operand are; as [`super::gemm::Rows`], in bytes.
pub trait ByteRows: Sync {
    /// Writes the pointers of rows `row..row + rows` for all taps: those of one tap together, `stride` apart from the
    /// next tap's.
    ///
    /// # Safety
    /// `out` has room for `taps * stride` pointers, and `rows <= stride`.
    unsafe fn fill(&self, row: usize, rows: usize, stride: usize, out: *mut *const u8);
}

/// Rows of a plain matrix.
#[derive(Clone, Copy, Debug)]
pub struct ByteMatrix {
    /// The first row.
    pub data: *const u8,
    /// Bytes from one row to the next.
    pub stride: usize,
}

// SAFETY: the matrix is only read, by the kernel that the caller vouches for.
unsafe impl Sync for ByteMatrix {}

impl ByteRows for ByteMatrix {
    unsafe fn fill(&self, row: usize, rows: usize, _: usize, out: *mut *const u8) {
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
    /// Pieces of the inner product that lie apart in the left operand.
    pub taps: usize,
    /// Bytes per piece.
    pub kc: usize,
}

impl Size {
    /// Packed bytes per column: every tap filled up to whole groups of four.
    pub fn column(self) -> usize {
        self.taps * self.kc.next_multiple_of(4)
    }
}

/// Columns of a right operand with those that fill up its last panel.
pub fn padded(kernels: &DotKernels, n: usize) -> usize {
    match n.div_ceil(kernels.nr) {
        0 => 0,
        panels => (panels - 1) * kernels.nr + width(kernels, n, panels - 1),
    }
}

/// Columns of panel `p`: all, or those of one vector where that is enough.
fn width(kernels: &DotKernels, n: usize, p: usize) -> usize {
    if n - p * kernels.nr <= kernels.lanes { kernels.lanes } else { kernels.nr }
}

/// Bytes a packed right operand takes.
pub fn packed_len(kernels: &DotKernels, size: Size) -> usize {
    size.column() * padded(kernels, size.n)
}

/// Packs panel `p` of a right operand whose element (tap, k, n) is `at(tap * kc + k, n)`.
pub fn pack_panel(kernels: &DotKernels, size: Size, p: usize, out: &mut [i8], at: impl Fn(usize, usize) -> i8) {
    let (first, width) = (p * kernels.nr, width(kernels, size.n, p));
    let group = size.kc.div_ceil(4);
    for tap in 0..size.taps {
        for g in 0..group {
            for c in 0..width {
                for i in 0..4 {
                    let (k, col) = (4 * g + i, first + c);
                    let v = if k < size.kc && col < size.n { at(tap * size.kc + k, col) } else { 0 };
                    out[((tap * group + g) * width + c) * 4 + i] = v;
                }
            }
        }
    }
}

/// Packs a right operand, and gives the sums of its columns, [`padded`] with zeros.
pub fn pack(kernels: &DotKernels, size: Size, at: impl Fn(usize, usize) -> i8, out: &mut [i8]) -> Vec<i32> {
    let mut sums = vec![0i32; padded(kernels, size.n)];
    for p in 0..size.n.div_ceil(kernels.nr) {
        let (start, len) = (size.column() * p * kernels.nr, size.column() * width(kernels, size.n, p));
        pack_panel(kernels, size, p, &mut out[start..start + len], &at);
    }
    for (n, sum) in sums.iter_mut().enumerate().take(size.n) {
        *sum = (0..size.taps * size.kc).fold(0, |s, k| s + i32::from(at(k, n)));
    }
    sums
}

/// What happens to the sums, sizes and places of operands aside: the constant part of [`Finish`].
#[derive(Clone, Copy, Debug)]
pub struct End {
    /// As [`Finish::w_zero`].
    pub w_zero: i32,
    /// As [`Finish::store`].
    pub store: Store,
    /// The activation; one that is not simple makes the product write reals first.
    pub act: Act,
    /// As [`Finish::mid`].
    pub mid: Rounding,
    /// As [`Finish::mid_scale`].
    pub mid_scale: f32,
    /// As [`Finish::mid_flip`].
    pub mid_flip: i32,
    /// As [`Finish::mid_zero`].
    pub mid_zero: i32,
    /// As [`Finish::residual_flip`].
    pub residual_flip: i32,
    /// As [`Finish::residual_zero`].
    pub residual_zero: i32,
    /// As [`Finish::residual_scale`].
    pub residual_scale: f32,
    /// As [`Finish::y`].
    pub y: Rounding,
    /// As [`Finish::saturates`].
    pub saturates: bool,
    /// As [`Finish::signed`].
    pub signed: bool,
}

/// The operands of a product, or of one group of a convolution.
#[derive(Clone, Copy, Debug)]
pub struct Io {
    /// As [`DotTile::flip`].
    pub flip: i32,
    /// As [`DotTile::slack`].
    pub slack: bool,
    /// The packed right operand.
    pub b: *const i8,
    /// What the sums start from, [`padded`].
    pub init: *const i32,
    /// A factor per column.
    pub scale: *const f32,
    /// An addend per column, or null.
    pub bias: *const f32,
    /// The residual, or null.
    pub residual: *const u8,
    /// Bytes from one of its rows to the next.
    pub residual_stride: usize,
    /// 256 bytes for what is rounded before the residual is added, or null.
    pub mid_table: *const u8,
    /// 256 bytes, or null.
    pub table: *const u8,
    /// The result.
    pub y: *mut u8,
    /// Bytes from one of its rows to the next.
    pub y_stride: usize,
}

// SAFETY: tasks write disjoint tiles of the result, and only read the rest.
unsafe impl Sync for Io {}

/// How a product is cut into tasks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut {
    /// Tiles along the rows.
    pub tiles: usize,
    /// Groups of tiles.
    pub row_blocks: usize,
    /// Groups of panels.
    pub col_blocks: usize,
}

impl Cut {
    /// The cut for a size and a number of threads.
    pub fn choose(kernels: &DotKernels, size: Size, threads: usize) -> Cut {
        let tiles = size.m.div_ceil(kernels.mr).max(1);
        let panels = size.n.div_ceil(kernels.nr).max(1);
        if threads <= 1 {
            return Cut { tiles, row_blocks: 1, col_blocks: 1 };
        }
        // Work of a few microseconds is not cut: waking the others costs as much.
        let work = size.m * size.n * size.column();
        let want = crate::pool::parts(work >> 17, threads);
        // What the busiest thread does, in cycles: tiles of each panel, row pointers for each block of panels, tasks.
        const POINTER: usize = 2;
        const TASK: usize = 500;
        let vectors = kernels.nr / kernels.lanes;
        let tile = kernels.mr * vectors * size.column() / 4;
        let cost = |rows: usize, cols: usize| {
            let rounds = (rows * cols).div_ceil(threads);
            let each = tiles.div_ceil(rows) * (panels.div_ceil(cols) * tile + POINTER * kernels.mr * size.taps);
            rounds * (each + TASK)
        };
        let pairs = (1..=want.min(tiles)).flat_map(|rows| (1..=want.min(panels)).map(move |cols| (rows, cols)));
        // Where the costs are near each other, more tasks: they even out what is not counted.
        let best = pairs
            .filter(|&(rows, cols)| rows * cols <= want)
            .min_by_key(|&(rows, cols)| (cost(rows, cols) * 256 / cost(1, 1).max(1), core::cmp::Reverse(rows * cols)));
        let (row_blocks, col_blocks) = best.unwrap_or((1, 1));
        Cut { tiles, row_blocks, col_blocks }
    }

    /// Tasks of the cut.
    pub fn tasks(self) -> usize {
        self.row_blocks * self.col_blocks
    }
}

/// One task of the product.
///
/// # Safety
/// `rows` gives readable rows; the operands cover `size`; `task < how.tasks()`; `size.taps * mr` pointers fit [`POINTERS`]
/// (see [`fits`]).
pub unsafe fn block(kernels: &DotKernels, size: Size, how: Cut, rows: &impl ByteRows, io: &Io, end: &End, task: usize) {
    let (row_block, col_block) = (task / how.col_blocks, task % how.col_blocks);
    let (tile0, tiles) = cut(how.tiles, how.row_blocks, row_block);
    let (panel0, panels) = cut(size.n.div_ceil(kernels.nr), how.col_blocks, col_block);
    let mr = kernels.mr;
    let each = (size.taps * mr).max(1);
    let mut pointers = [MaybeUninit::<*const u8>::uninit(); POINTERS];
    let pointers = pointers.as_mut_ptr().cast::<*const u8>();
    let group = (POINTERS / each).min(A_BYTES / (each * size.kc).max(1)).max(1);
    let mut sums = [MaybeUninit::<i32>::uninit(); POINTERS];
    let sums = sums.as_mut_ptr().cast::<i32>();
    let mut acc = [MaybeUninit::<i32>::uninit(); TILE];
    let acc = acc.as_mut_ptr().cast::<i32>();
    let tile_of = |p: *const *const u8| DotTile {
        a: p,
        a_tap: mr,
        taps: size.taps,
        kc: size.kc,
        flip: io.flip,
        b: io.b,
        slack: io.slack,
        init: io.init,
        out: acc,
    };
    for group0 in (0..tiles).step_by(group) {
        let group = group.min(tiles - group0);
        for t in 0..group {
            let (row, count) = cut(size.m, how.tiles, tile0 + group0 + t);
            // SAFETY: `group * taps * mr` pointers fit by the choice of `group`, and as many sums.
            unsafe {
                let own = pointers.add(t * each);
                rows.fill(row, count, mr, own);
                if end.w_zero != 0 {
                    (kernels.row_sums)(&tile_of(own), count, sums.add(t * mr));
                }
            }
        }
        for p in panel0..panel0 + panels {
            let width = width(kernels, size.n, p);
            let col = p * kernels.nr;
            let vectors = usize::from(width == kernels.nr) + if io.flip == 0 { 0 } else { 2 };
            for t in 0..group {
                let (row, count) = cut(size.m, how.tiles, tile0 + group0 + t);
                // SAFETY: the tile lies inside the result; panel and pointers were prepared above.
                unsafe {
                    let tile = DotTile {
                        b: io.b.add(col * size.column()),
                        init: io.init.add(col),
                        ..tile_of(pointers.add(t * each))
                    };
                    kernels.tile[count - 1][vectors](&tile);
                    let sums = sums.add(t * mr).cast_const();
                    let row_sums = if end.w_zero == 0 { core::ptr::null() } else { sums };
                    let cols = width.min(size.n - col);
                    (kernels.finish)(&Finish { row_sums, ..finish_of(io, end, acc, width, (row, count), (col, cols)) });
                }
            }
        }
    }
}

/// The end of a rectangle of sums: rows and columns as (first, count). Row sums are left out.
pub(super) fn finish_of(
    io: &Io,
    end: &End,
    acc: *const i32,
    acc_stride: usize,
    (row, rows): (usize, usize),
    (col, cols): (usize, usize),
) -> Finish {
    let at = |p: *const u8, n: usize| if p.is_null() { p } else { p.wrapping_add(n) };
    let size_of = if end.store == Store::Byte { 1 } else { 4 };
    Finish {
        acc,
        acc_stride,
        rows,
        cols,
        row_sums: core::ptr::null(),
        w_zero: end.w_zero,
        store: end.store,
        scale: io.scale.wrapping_add(col),
        bias: if io.bias.is_null() { io.bias } else { io.bias.wrapping_add(col) },
        act: end.act,
        mid: end.mid,
        mid_table: io.mid_table,
        mid_flip: end.mid_flip,
        mid_zero: end.mid_zero,
        mid_scale: end.mid_scale,
        residual: at(io.residual, row * io.residual_stride + col),
        residual_stride: io.residual_stride,
        residual_flip: end.residual_flip,
        residual_zero: end.residual_zero,
        residual_scale: end.residual_scale,
        y: end.y,
        saturates: end.saturates,
        signed: end.signed,
        table: io.table,
        out: io.y.wrapping_add(row * io.y_stride + col * size_of),
        out_stride: io.y_stride,
    }
}

/// Whether a product of so many taps can be done.
pub fn fits(taps: usize) -> bool {
    taps * MAX_MR <= POINTERS
}

#[cfg(test)]
#[path = "gemm_i8_tests.rs"]
mod tests;
