//! Quantised convolution, channels last: implicit matrix product, or a direct kernel when every channel has its own filter.
//!
//! Padding is the input's zero point, so that its positions count as zeros: they point at a row of such bytes, and one
//! correction per output channel serves all pixels.

use super::conv::Filter;
pub(crate) use super::conv::each_run;
use super::gemm_i8::{self, ByteMatrix, ByteRows, Cut, End, Io, MAX_MR, Size};
use super::window::Window;
use super::{Shared, cut};
use crate::kernels::dot_i8::{DEPTH_PIXELS, DepthRun, Store};
use crate::kernels::dot_tables::DotKernels;
use crate::pool::ThreadPool;

/// Fewer input channels than this and whole kernel rows are read as one piece, from a padded copy where needed.
const FEW_CHANNELS: usize = 16;
/// Channels whose sums stay on the stack in a depthwise convolution.
const DEPTH_CHANNELS: usize = 256;
/// Most kernel rows of a depthwise convolution, a multiple of four.
const DEPTH_ROWS: usize = 32;

/// The way a convolution is done. It decides the order of the packed weights, so it follows from what is known when they are
/// packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Path {
    /// One tap per kernel position (a plain matrix product where there is only one).
    Positions,
    /// One tap per kernel row.
    KernelRows,
    /// One filter per channel.
    Depthwise,
}

/// The weights of a convolution: what their packing depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Weights {
    /// Channels and kernel positions.
    pub filter: Filter,
    /// Kernel positions along a row.
    pub kernel_w: usize,
    /// The way.
    pub path: Path,
}

impl Weights {
    /// The way that suits a filter: kernel rows in one piece where they lie so in the input and are short.
    pub fn new(filter: Filter, kernel_w: usize, dilation_w: usize) -> Weights {
        let path = if filter.is_depthwise() && filter.taps / kernel_w.max(1) <= DEPTH_ROWS {
            Path::Depthwise
        } else if filter.groups == 1 && dilation_w == 1 && kernel_w > 1 && filter.cin < FEW_CHANNELS {
            Path::KernelRows
        } else {
            Path::Positions
        };
        Weights { filter, kernel_w, path }
    }

    /// The product of one group, for `m` pixels.
    fn size(&self, m: usize) -> Size {
        let Filter { cin, cout, groups, taps } = self.filter;
        let pieces = if self.path == Path::KernelRows { self.kernel_w } else { 1 };
        Size { m, n: cout / groups, taps: taps / pieces, kc: pieces * (cin / groups) }
    }

    /// Groups of four kernel rows of a depthwise convolution.
    fn depth_groups(&self) -> usize {
        (self.filter.taps / self.kernel_w).div_ceil(4)
    }

    /// Bytes of the packed weights.
    pub fn packed_len(&self, kernels: &DotKernels) -> usize {
        match self.path {
            Path::Depthwise => 4 * self.kernel_w * self.depth_groups() * self.filter.cout,
            _ => self.filter.groups * gemm_i8::packed_len(kernels, self.size(1)),
        }
    }

    /// Length of the vectors that have an element per output channel: every group filled up to whole panels.
    pub fn columns(&self, kernels: &DotKernels) -> usize {
        match self.path {
            Path::Depthwise => self.filter.cout,
            _ => self.filter.groups * gemm_i8::padded(kernels, self.filter.cout / self.filter.groups),
        }
    }

    /// Where output channel `m` is in such a vector.
    pub fn column(&self, kernels: &DotKernels, m: usize) -> usize {
        let mg = self.filter.cout / self.filter.groups;
        match self.path {
            Path::Depthwise => m,
            _ => m / mg * gemm_i8::padded(kernels, mg) + m % mg,
        }
    }

    /// Packs weights in ONNX's order, `[cout][cin / groups][taps]`, and gives their sums per output channel (in the order of
    /// [`Weights::column`]).
    ///
    /// # Panics
    /// When the slices do not have the lengths of the filter.
    pub fn pack(&self, kernels: &DotKernels, w: &[i8], out: &mut [i8]) -> Vec<i32> {
        let Filter { cin, cout, groups, taps } = self.filter;
        let (cg, mg) = (cin / groups, cout / groups);
        assert_eq!(w.len(), cout * cg * taps);
        assert_eq!(out.len(), self.packed_len(kernels));
        if self.path == Path::Depthwise {
            let mut sums = vec![0; cout];
            let groups = self.depth_groups();
            out.fill(0);
            for (c, sum) in sums.iter_mut().enumerate() {
                for t in 0..taps {
                    let (row, k) = (t / self.kernel_w, t % self.kernel_w);
                    let v = w[c * taps + t];
                    out[((k * groups + row / 4) * cout + c) * 4 + row % 4] = v;
                    *sum += i32::from(v);
                }
            }
            return sums;
        }
        let size = self.size(1);
        let each = gemm_i8::packed_len(kernels, size);
        let mut sums = Vec::with_capacity(self.columns(kernels));
        for g in 0..groups {
            // The inner product runs over kernel positions, then channels.
            let at = |k: usize, n: usize| w[((g * mg + n) * cg + k % cg) * taps + k / cg];
            sums.extend(gemm_i8::pack(kernels, size, at, &mut out[g * each..(g + 1) * each]));
        }
        sums
    }
}

/// A convolution bound to sizes.
#[derive(Clone, Debug)]
pub struct ConvI8 {
    kernels: &'static DotKernels,
    weights: Weights,
    window: Window,
    size: Size,
    cut: Cut,
    /// Width of the padded copy of the input, where one is needed.
    padded: Option<usize>,
    /// Bytes from the first tap's input to each tap's.
    offsets: Vec<isize>,
}

/// The operands of a convolution. What is per output channel is in the order of [`Weights::column`].
#[derive(Clone, Copy, Debug)]
pub struct Operands {
    /// Input, `[batch][pixels][cin]`.
    pub x: *const u8,
    /// Its zero point, as a byte.
    pub x_zero: u8,
    /// Output, weights, scales and so on.
    pub io: Io,
    /// The end.
    pub end: End,
}

// SAFETY: tasks write disjoint parts of the output and only read the rest.
unsafe impl Sync for Operands {}

impl ConvI8 {
    /// Binds weights to the sizes of `window`.
    pub fn new(kernels: &'static DotKernels, weights: Weights, window: Window, threads: usize) -> ConvI8 {
        let size = weights.size(window.batch * window.output_pixels());
        let cut = Cut::choose(kernels, size, threads.div_ceil(weights.filter.groups));
        let unpadded = window.interior() == (0, window.output[2]);
        let needed = (window.output[2].max(1) - 1) * window.strides[2] + window.kernel[2];
        let padded =
            (weights.path == Path::KernelRows && !unpadded).then_some(needed.max(window.pads[2] + window.input[2]));
        let width = padded.unwrap_or(window.input[2]);
        let [kernel_d, kernel_h, kernel_w] = window.kernel;
        let columns = if weights.path == Path::KernelRows { 1 } else { kernel_w };
        let mut offsets = Vec::new();
        for d in 0..kernel_d {
            for h in 0..kernel_h {
                for w in 0..columns {
                    let line = d * window.dilations[0] * window.input[1] + h * window.dilations[1];
                    offsets.push(((line * width + w * window.dilations[2]) * weights.filter.cin) as isize);
                }
            }
        }
        ConvI8 { kernels, weights, window, size, cut, padded, offsets }
    }

    /// Bytes of a row of zero points: what a tap reads, or a whole row of the input.
    fn zeros(&self) -> usize {
        match self.weights.path {
            Path::Depthwise => (self.weights.filter.cin * self.window.input[2].max(1)).next_multiple_of(64),
            _ => self.size.kc.next_multiple_of(64),
        }
    }

    /// Bytes of workspace a run needs.
    pub fn workspace_len(&self) -> usize {
        let copy = self.padded.map_or(0, |width| {
            self.window.batch * self.window.input[0] * self.window.input[1] * width * self.weights.filter.cin
        });
        // Kernels may read a little behind the copy.
        self.zeros() + copy + 64
    }

    /// Runs it.
    ///
    /// # Safety
    /// The operands cover the bound sizes; `workspace` has [`ConvI8::workspace_len`] bytes that nobody else uses.
    pub unsafe fn run(&self, pool: &ThreadPool, op: &Operands, workspace: *mut u8) {
        // SAFETY: the workspace holds the row of zero points, then the padded copy.
        unsafe {
            core::ptr::write_bytes(workspace, op.x_zero, self.zeros());
            if self.weights.path == Path::Depthwise {
                return self.run_depthwise(pool, op, workspace);
            }
            let mut x = op.x;
            if let Some(width) = self.padded {
                let copy = workspace.add(self.zeros());
                self.copy_padded(pool, op.x, op.x_zero, copy, width);
                x = copy;
            }
            self.run_product(pool, op, x, workspace);
        }
    }

    unsafe fn run_product(&self, pool: &ThreadPool, op: &Operands, x: *const u8, zeros: *const u8) {
        if self.size.m == 0 || self.size.n == 0 {
            return;
        }
        let Filter { cin, groups, .. } = self.weights.filter;
        let (cg, mg) = (cin / groups, self.size.n);
        let (each, columns) = (gemm_i8::packed_len(self.kernels, self.size), gemm_i8::padded(self.kernels, mg));
        let tasks = self.cut.tasks();
        let size_of = if op.end.store == Store::Byte { 1 } else { 4 };
        let (x, zeros) = (Shared(x.cast_mut()), Shared(zeros.cast_mut()));
        let op = &op;
        pool.run(groups * tasks, |i| {
            let (g, task) = (i / tasks, i % tasks);
            // SAFETY: groups write disjoint channels, tasks of a group disjoint tiles.
            unsafe {
                let io = Io {
                    slack: self.padded.is_some(),
                    b: op.io.b.add(g * each),
                    init: op.io.init.add(g * columns),
                    scale: op.io.scale.wrapping_add(g * columns),
                    bias: if op.io.bias.is_null() { op.io.bias } else { op.io.bias.add(g * columns) },
                    residual: if op.io.residual.is_null() { op.io.residual } else { op.io.residual.add(g * mg) },
                    y: op.io.y.add(g * mg * size_of),
                    ..op.io
                };
                let x = x.at(g * cg).cast_const();
                let end = &op.end;
                if self.window.is_pointwise() {
                    let rows = ByteMatrix { data: x, stride: cin };
                    gemm_i8::block(self.kernels, self.size, self.cut, &rows, &io, end, task);
                } else {
                    let rows = ConvRows {
                        window: &self.window,
                        x,
                        width: self.padded.unwrap_or(self.window.input[2]),
                        channels: cin,
                        zeros: zeros.get(),
                        offsets: &self.offsets,
                        whole_rows: self.weights.path == Path::KernelRows,
                    };
                    gemm_i8::block(self.kernels, self.size, self.cut, &rows, &io, end, task);
                }
            }
        });
    }

    /// Copies the input with zero points left and right of its rows.
    unsafe fn copy_padded(&self, pool: &ThreadPool, x: *const u8, zero: u8, out: *mut u8, width: usize) {
        let [depth, height, in_w] = self.window.input;
        let rows = self.window.batch * depth * height;
        let c = self.weights.filter.cin;
        let (left, kept) = (self.window.pads[2] * c, in_w * c);
        let (x, out) = (Shared(x.cast_mut()), Shared(out));
        let parts = rows.min(2 * pool.threads());
        pool.run(parts, |i| {
            let (start, count) = cut(rows, parts, i);
            for row in start..start + count {
                // SAFETY: rows of input and copy are inside their buffers and disjoint between tasks.
                unsafe {
                    let dst = out.at(row * width * c);
                    core::ptr::write_bytes(dst, zero, left);
                    core::ptr::copy_nonoverlapping(x.at(row * kept), dst.add(left), kept);
                    core::ptr::write_bytes(dst.add(left + kept), zero, width * c - left - kept);
                }
            }
        });
    }

    unsafe fn run_depthwise(&self, pool: &ThreadPool, op: &Operands, zeros: *const u8) {
        let window = &self.window;
        let channels = self.weights.filter.cout;
        let groups = self.weights.depth_groups();
        let [out_d, out_h, out_w] = window.output;
        let [in_d, in_h, in_w] = window.input;
        let [_, kernel_h, kernel_w] = window.kernel;
        let kernel_rows = self.weights.filter.taps / kernel_w;
        let rows = window.rows();
        // Tasks are blocks of channels of some output rows.
        let blocks = channels.div_ceil(DEPTH_CHANNELS);
        let parts = if rows * out_w * channels < 16 * 1024 { 1 } else { rows.min(4 * pool.threads()) };
        let (op, zeros) = (&op, Shared(zeros.cast_mut()));
        pool.run(parts, |part| {
            let (start, count) = cut(rows, parts, part);
            let mut acc = [0i32; DEPTH_CHANNELS * DEPTH_PIXELS];
            for row in start..start + count {
                let (image, od, oh) = (row / (out_d * out_h), row / out_h % out_d, row % out_h);
                let mut lines = [zeros.get().cast_const(); DEPTH_ROWS];
                for (k, line) in lines.iter_mut().enumerate().take(kernel_rows) {
                    if let (Some(d), Some(h)) = (window.at(0, od, k / kernel_h), window.at(1, oh, k % kernel_h)) {
                        // SAFETY: the row lies in the input.
                        *line = unsafe { op.x.add(((image * in_d + d) * in_h + h) * in_w * channels) };
                    }
                }
                for block in 0..blocks {
                    let c = block * DEPTH_CHANNELS;
                    let cols = DEPTH_CHANNELS.min(channels - c);
                    let mut here = lines;
                    // SAFETY: every row, that of zero points as well, has all channels of its pixels.
                    here.iter_mut().for_each(|line| *line = unsafe { line.add(c) });
                    for ow in (0..out_w).step_by(DEPTH_PIXELS) {
                        let pixels = DEPTH_PIXELS.min(out_w - ow);
                        // SAFETY: rows, weights and sums cover these channels; tasks write disjoint rows of the output.
                        unsafe {
                            (self.kernels.depthwise)(&DepthRun {
                                rows: here.as_ptr(),
                                groups,
                                outside: zeros.get(),
                                width: in_w,
                                step: channels,
                                column: (ow * window.strides[2]) as isize - window.pads[2] as isize,
                                kernel: kernel_w,
                                stride: window.strides[2],
                                dilation: window.dilations[2],
                                pixels,
                                channels: cols,
                                flip: op.io.flip,
                                w: op.io.b.add(4 * c),
                                w_group: 4 * channels,
                                init: op.io.init.add(c),
                                out: acc.as_mut_ptr(),
                                out_stride: DEPTH_CHANNELS,
                            });
                            let rows = (row * out_w + ow, pixels);
                            let end = End { w_zero: 0, ..op.end };
                            let finish =
                                gemm_i8::finish_of(&op.io, &end, acc.as_ptr(), DEPTH_CHANNELS, rows, (c, cols));
                            (self.kernels.finish)(&finish);
                        }
                    }
                }
            }
        });
    }
}

/// Row pointers of a convolution: row `i` is output pixel `i`.
struct ConvRows<'a> {
    window: &'a Window,
    x: *const u8,
    /// Pixels in a row of `x`, which may be the padded copy.
    width: usize,
    channels: usize,
    zeros: *const u8,
    offsets: &'a [isize],
    /// Taps are kernel rows, and `x` has its padding columns.
    whole_rows: bool,
}

// SAFETY: only read, by tasks of the convolution.
unsafe impl Sync for ConvRows<'_> {}

impl ConvRows<'_> {
    /// Where the window of an output position starts in the input; negative in the padding.
    #[inline(always)]
    fn corner(&self, position: [usize; 3]) -> [isize; 3] {
        let w = self.window;
        let mut corner: [isize; 3] =
            core::array::from_fn(|d| (position[d] * w.strides[d]) as isize - w.pads[d] as isize);
        if self.whole_rows {
            corner[2] += w.pads[2] as isize;
        }
        corner
    }

    /// Dimensions in which a tap may lie outside.
    #[inline(always)]
    fn last(&self) -> usize {
        if self.whole_rows { 2 } else { 3 }
    }

    #[inline]
    fn inside(&self, corner: [isize; 3], t: usize) -> bool {
        let w = self.window;
        let [_, kh, kw] = w.kernel;
        let (rest, k2) = if self.whole_rows { (t, 0) } else { (t / kw, t % kw) };
        let k = [rest / kh, rest % kh, k2];
        (0..self.last()).all(|d| {
            let at = corner[d] + (k[d] * w.dilations[d]) as isize;
            (0..w.input[d] as isize).contains(&at)
        })
    }

    #[inline(always)]
    fn interior(&self, corner: [isize; 3]) -> bool {
        let w = self.window;
        (0..self.last()).all(|d| {
            let end = corner[d] + ((w.kernel[d] - 1) * w.dilations[d]) as isize;
            corner[d] >= 0 && end < w.input[d] as isize
        })
    }
}

impl ByteRows for ConvRows<'_> {
    unsafe fn fill(&self, row: usize, rows: usize, stride: usize, out: *mut *const u8) {
        debug_assert!(rows <= MAX_MR);
        let w = self.window;
        let [out_d, out_h, out_w] = w.output;
        let [in_d, in_h, _] = w.input;
        let (mut ow, rest) = (row % out_w, row / out_w);
        let (mut oh, rest) = (rest % out_h, rest / out_h);
        let (mut od, mut image) = (rest % out_d, rest / out_d);
        for i in 0..rows {
            let corner = self.corner([od, oh, ow]);
            let line = ((image * in_d) as isize + corner[0]) * in_h as isize + corner[1];
            let pixel = line * self.width as isize + corner[2];
            // Wrapping: a corner in the padding lies outside the buffer, and is not read.
            let first = self.x.wrapping_offset(pixel * self.channels as isize);
            let whole = self.interior(corner);
            for (t, &offset) in self.offsets.iter().enumerate() {
                let p = if whole || self.inside(corner, t) { first.wrapping_offset(offset) } else { self.zeros };
                // SAFETY: `out` has room for `taps * stride` pointers by contract.
                unsafe { *out.add(t * stride + i) = p };
            }
            ow += 1;
            if ow == out_w {
                ow = 0;
                oh += 1;
                if oh == out_h {
                    oh = 0;
                    od += 1;
                    if od == out_d {
                        od = 0;
                        image += 1;
                    }
                }
            }
        }
    }
}
