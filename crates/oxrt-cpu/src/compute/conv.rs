//! Convolution, channels last: implicit matrix product, or a direct kernel when every channel has its own filter.

use super::gemm::{self, Cut, Matrix, Out, Rows, Size};
use super::window::{Tap, Window, for_runs};
use super::{Shared, cut};
use crate::kernels::Kernels;
use crate::kernels::activation::Act;
use crate::kernels::taps::TapRun;
use crate::pool::ThreadPool;

/// Fewer input channels than this and whole kernel rows are read as one piece, from a padded copy where needed.
const FEW_CHANNELS: usize = 16;
/// Kernel positions whose list lives on the stack.
pub(super) const STACK_TAPS: usize = 512;

/// What a convolution does, sizes aside: all that its packed weights depend on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Filter {
    /// Input channels.
    pub cin: usize,
    /// Output channels.
    pub cout: usize,
    /// Groups of channels that do not see each other.
    pub groups: usize,
    /// Kernel positions.
    pub taps: usize,
}

impl Filter {
    /// One filter per channel.
    pub fn is_depthwise(&self) -> bool {
        self.groups == self.cin && self.groups == self.cout && self.groups > 1
    }

    /// The weights of one group as the right operand of its product: `[taps][cin / groups][cout / groups]`, because the
    /// inner product runs over kernel positions, then channels.
    pub(super) fn matrix(&self, w: &[f32], g: usize) -> Vec<f32> {
        let (cg, mg) = (self.cin / self.groups, self.cout / self.groups);
        let mut matrix = vec![0.0f32; self.k() * mg];
        for m in 0..mg {
            for c in 0..cg {
                for t in 0..self.taps {
                    matrix[(t * cg + c) * mg + m] = w[((g * mg + m) * cg + c) * self.taps + t];
                }
            }
        }
        matrix
    }

    /// Length of one inner product.
    pub(super) fn k(&self) -> usize {
        self.taps * (self.cin / self.groups)
    }

    /// Floats of one group's packed weights.
    fn group_len(&self, kernels: &Kernels) -> usize {
        gemm::packed_len(kernels, self.k(), self.cout / self.groups)
    }

    /// Floats of the packed weights.
    pub fn packed_len(&self, kernels: &Kernels) -> usize {
        if self.is_depthwise() { self.taps * self.cout } else { self.groups * self.group_len(kernels) }
    }

    /// Packs weights in ONNX's order, `[cout][cin / groups][taps]`.
    ///
    /// # Panics
    /// When the slices do not have the lengths of the filter.
    pub fn pack(&self, kernels: &Kernels, w: &[f32], out: &mut [f32]) {
        let (cg, mg) = (self.cin / self.groups, self.cout / self.groups);
        assert_eq!(w.len(), self.cout * cg * self.taps);
        assert_eq!(out.len(), self.packed_len(kernels));
        if self.is_depthwise() {
            for c in 0..self.cout {
                for t in 0..self.taps {
                    out[t * self.cout + c] = w[c * self.taps + t];
                }
            }
            return;
        }
        for g in 0..self.groups {
            let matrix = self.matrix(w, g);
            let group = &mut out[g * self.group_len(kernels)..(g + 1) * self.group_len(kernels)];
            for p in 0..gemm::panels(kernels, mg) {
                // SAFETY: the matrix and the group's part have the sizes they are packed with.
                unsafe {
                    gemm::pack_panel(kernels, self.k(), mg, matrix.as_ptr(), mg, 1, p, group.as_mut_ptr());
                }
            }
        }
    }
}

/// The way a convolution is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Path {
    /// Every pixel by itself: a plain matrix product.
    Pointwise,
    /// One tap per kernel position.
    Positions,
    /// One tap per kernel row; `padded` is the width of the padded copy of the input, where one is needed.
    KernelRows { padded: Option<usize> },
    /// One filter per channel.
    Depthwise,
}

/// A convolution's window read as the left operand of a product: whatever the elements and the arithmetic are.
#[derive(Clone, Debug)]
pub(super) struct Lowered {
    pub filter: Filter,
    pub window: Window,
    path: Path,
    pub size: Size,
    /// Zeros in every format; long enough for one tap of single precision.
    zeros: Vec<f32>,
    /// Elements from the first tap's input to each tap's.
    offsets: Vec<isize>,
}

impl Lowered {
    pub fn new(filter: Filter, window: Window) -> Lowered {
        let cg = filter.cin / filter.groups;
        let unpadded = window.interior() == (0, window.output[2]);
        let whole_rows = filter.groups == 1 && window.dilations[2] == 1 && window.kernel[2] > 1;
        let path = if filter.is_depthwise() {
            Path::Depthwise
        } else if window.is_pointwise() {
            Path::Pointwise
        } else if whole_rows && unpadded {
            Path::KernelRows { padded: None }
        } else if whole_rows && cg < FEW_CHANNELS {
            let needed = (window.output[2].max(1) - 1) * window.strides[2] + window.kernel[2];
            Path::KernelRows { padded: Some(needed.max(window.pads[2] + window.input[2])) }
        } else {
            Path::Positions
        };
        let (taps, kc) = match path {
            Path::KernelRows { .. } => (window.kernel[0] * window.kernel[1], window.kernel[2] * cg),
            _ => (filter.taps, cg),
        };
        let size = Size { m: window.batch * window.output_pixels(), n: filter.cout / filter.groups, taps, kc };
        let zeros = if path == Path::Depthwise { Vec::new() } else { vec![0.0; kc] };
        let width = match path {
            Path::KernelRows { padded: Some(width) } => width,
            _ => window.input[2],
        };
        let [kernel_d, kernel_h, kernel_w] = window.kernel;
        let columns = if matches!(path, Path::KernelRows { .. }) { 1 } else { kernel_w };
        let mut offsets = Vec::new();
        for d in 0..kernel_d {
            for h in 0..kernel_h {
                for w in 0..columns {
                    let line = d * window.dilations[0] * window.input[1] + h * window.dilations[1];
                    offsets.push(((line * width + w * window.dilations[2]) * filter.cin) as isize);
                }
            }
        }
        Lowered { filter, window, path, size, zeros, offsets }
    }

    /// Whether every pixel stands by itself: the input is the left operand as it lies.
    pub fn is_pointwise(&self) -> bool {
        self.path == Path::Pointwise
    }

    /// Elements of the padded copy of the input that [`Lowered::padded`] makes.
    pub fn padded_len(&self) -> usize {
        match self.path {
            Path::KernelRows { padded: Some(width) } => {
                self.window.batch * self.window.input[0] * self.window.input[1] * width * self.filter.cin
            }
            _ => 0,
        }
    }

    /// The input as [`Lowered::rows`] reads it: itself, or a copy with its padding columns in `workspace`.
    ///
    /// # Safety
    /// `x` covers the input, `workspace` has [`Lowered::padded_len`] elements.
    pub unsafe fn padded<E: Copy>(&self, pool: &ThreadPool, x: *const E, workspace: *mut E) -> *const E {
        match self.path {
            Path::KernelRows { padded: Some(width) } => {
                // SAFETY: as the caller promises.
                unsafe { self.copy_padded(pool, x, workspace, width) };
                workspace
            }
            _ => x,
        }
    }

    /// The rows of group `g`, of what [`Lowered::padded`] gave.
    pub fn rows<E>(&self, x: *const E, g: usize) -> ConvRows<'_, E> {
        let whole_rows = matches!(self.path, Path::KernelRows { .. });
        let width = match self.path {
            Path::KernelRows { padded: Some(width) } => width,
            _ => self.window.input[2],
        };
        ConvRows {
            window: &self.window,
            x: x.wrapping_add(g * (self.filter.cin / self.filter.groups)),
            width,
            channels: self.filter.cin,
            zeros: self.zeros.as_ptr().cast(),
            offsets: &self.offsets,
            whole_rows,
        }
    }

    /// The same, of a pointwise convolution.
    pub fn matrix<E>(&self, x: *const E, g: usize) -> Matrix<E> {
        Matrix { data: x.wrapping_add(g * (self.filter.cin / self.filter.groups)), stride: self.filter.cin }
    }

    /// Copies the input with zeros left and right of its rows.
    unsafe fn copy_padded<E: Copy>(&self, pool: &ThreadPool, x: *const E, out: *mut E, width: usize) {
        let [depth, height, in_w] = self.window.input;
        let rows = self.window.batch * depth * height;
        let c = self.filter.cin;
        let (left, kept) = (self.window.pads[2] * c, in_w * c);
        let (x, out) = (Shared(x.cast_mut()), Shared(out));
        let parts = rows.min(4 * pool.threads());
        pool.run(parts, |i| {
            let (start, count) = cut(rows, parts, i);
            for row in start..start + count {
                // SAFETY: rows of input and copy are inside their buffers and disjoint between tasks.
                unsafe {
                    let dst = out.at(row * width * c);
                    core::ptr::write_bytes(dst, 0, left);
                    core::ptr::copy_nonoverlapping(x.at(row * kept), dst.add(left), kept);
                    core::ptr::write_bytes(dst.add(left + kept), 0, width * c - left - kept);
                }
            }
        });
    }
}

/// A convolution bound to sizes.
#[derive(Clone, Debug)]
pub struct Conv {
    kernels: &'static Kernels,
    lowered: Lowered,
    cut: Cut,
}

/// The operands of a convolution.
#[derive(Clone, Copy, Debug)]
pub struct Operands {
    /// Input, `[batch][pixels][cin]`.
    pub x: *const f32,
    /// Packed weights.
    pub w: *const f32,
    /// `cout` floats, or null.
    pub bias: *const f32,
    /// Like the output, added before the activation; or null.
    pub residual: *const f32,
    /// Output, `[batch][pixels][cout]`.
    pub y: *mut f32,
    /// Floats from one output pixel to the next (`cout`, unless the output is a part of a larger tensor's channels).
    pub y_step: usize,
    /// The activation.
    pub act: Act,
}

// SAFETY: tasks write disjoint parts of the output and only read the rest.
unsafe impl Sync for Operands {}

impl Conv {
    /// Binds a filter to the sizes of `window`, for a pool of `threads` threads.
    pub fn new(kernels: &'static Kernels, filter: Filter, window: Window, threads: usize) -> Conv {
        let lowered = Lowered::new(filter, window);
        // Groups are tasks of their own.
        let cut = Cut::choose(kernels, lowered.size, threads.div_ceil(filter.groups));
        Conv { kernels, lowered, cut }
    }

    /// Floats of workspace a run needs.
    pub fn workspace_len(&self) -> usize {
        self.lowered.padded_len()
    }

    /// Runs it.
    ///
    /// # Safety
    /// The operands cover the bound sizes; `workspace` has [`Conv::workspace_len`] floats that nobody else uses.
    pub unsafe fn run(&self, pool: &ThreadPool, op: &Operands, workspace: *mut f32) {
        // SAFETY: passed on.
        unsafe {
            match self.lowered.path {
                Path::Depthwise => self.run_depthwise(pool, op),
                Path::Pointwise => self.run_product(pool, op, |g| self.lowered.matrix(op.x, g)),
                Path::Positions | Path::KernelRows { .. } => {
                    let x = Shared(self.lowered.padded(pool, op.x, workspace).cast_mut());
                    self.run_product(pool, op, |g| self.lowered.rows(x.get().cast_const(), g));
                }
            }
        }
    }

    unsafe fn run_product<R: Rows>(&self, pool: &ThreadPool, op: &Operands, rows: impl Fn(usize) -> R + Sync) {
        let Lowered { filter, size, .. } = &self.lowered;
        if size.m == 0 || size.n == 0 {
            return;
        }
        let mg = filter.cout / filter.groups;
        let group_len = filter.group_len(self.kernels);
        let tasks = self.cut.tasks();
        let op = &op;
        pool.run(filter.groups * tasks, |i| {
            let (g, task) = (i / tasks, i % tasks);
            let offset = |p: *const f32| if p.is_null() { p } else { p.wrapping_add(g * mg) };
            // SAFETY: groups write disjoint channels, tasks of a group disjoint tiles.
            unsafe {
                let out = Out {
                    c: op.y.add(g * mg),
                    c_stride: op.y_step,
                    bias: offset(op.bias),
                    residual: offset(op.residual),
                    residual_stride: filter.cout,
                    act: op.act,
                };
                gemm::block(self.kernels, *size, self.cut, &rows(g), op.w.add(g * group_len), out, task);
            }
        });
    }

    unsafe fn run_depthwise(&self, pool: &ThreadPool, op: &Operands) {
        let channels = self.lowered.filter.cout;
        let window = &self.lowered.window;
        let op = &op;
        // SAFETY: the operands cover the window's pixels and channels; runs are disjoint parts of the output.
        each_run(pool, window, &|pixel, pixels, taps| unsafe {
            let mut x = [core::ptr::null::<f32>(); STACK_TAPS];
            let mut w = [core::ptr::null::<f32>(); STACK_TAPS];
            let out = op.y.add(pixel * op.y_step);
            debug_assert!(taps.len() <= STACK_TAPS);
            for (i, tap) in taps.iter().enumerate() {
                x[i] = op.x.add(tap.pixel * channels);
                w[i] = op.w.add(tap.index * channels);
            }
            let residual = if op.residual.is_null() { op.residual } else { op.residual.add(pixel * channels) };
            (self.kernels.depthwise)(&TapRun {
                x: x.as_ptr(),
                w: w.as_ptr(),
                taps: taps.len(),
                pixels,
                step: window.strides[2] * channels,
                channels,
                out,
                out_step: op.y_step,
                bias: op.bias,
                residual,
                residual_step: channels,
                scale: 1.0,
                act: op.act,
            });
            if !op.act.is_simple() {
                (self.kernels.activate)(out, pixels, channels, op.y_step, op.act);
            }
        });
    }
}

/// Calls `run` for every run of every output row, rows shared out among the threads.
pub(crate) fn each_run(pool: &ThreadPool, window: &Window, run: &(dyn Fn(usize, usize, &[Tap]) + Sync)) {
    let rows = window.rows();
    let parts = rows.min(4 * pool.threads());
    pool.run(parts, |i| {
        let none = Tap { pixel: 0, index: 0 };
        let mut stack = [none; STACK_TAPS];
        let mut heap = Vec::new();
        let taps: &mut [Tap] = if window.taps() <= STACK_TAPS {
            &mut stack
        } else {
            heap.resize(window.taps(), none);
            &mut heap
        };
        let (start, count) = cut(rows, parts, i);
        for row in start..start + count {
            for_runs(window, row, taps, run);
        }
    });
}

/// Row pointers of a convolution: row `i` is output pixel `i`.
pub(super) struct ConvRows<'a, E> {
    window: &'a Window,
    x: *const E,
    /// Pixels in a row of `x`, which may be the padded copy.
    width: usize,
    channels: usize,
    zeros: *const E,
    /// Elements from the first tap's input to each tap's.
    offsets: &'a [isize],
    /// Taps are kernel rows, and `x` has its padding columns.
    whole_rows: bool,
}

// SAFETY: only read, by tasks of the convolution.
unsafe impl<E> Sync for ConvRows<'_, E> {}

/// Most rows of one tile.
const MAX_MR: usize = 16;

impl<E> ConvRows<'_, E> {
    /// Where the window of an output position starts in the input; negative in the padding.
    #[inline(always)]
    fn corner(&self, position: [usize; 3]) -> [isize; 3] {
        let w = self.window;
        let mut corner = [0; 3];
        for d in 0..3 {
            corner[d] = (position[d] * w.strides[d]) as isize - w.pads[d] as isize;
        }
        if self.whole_rows {
            // The padding columns are there.
            corner[2] += w.pads[2] as isize;
        }
        corner
    }

    /// Whether tap `t` of the window at `corner` lies inside the input.
    #[inline]
    fn inside(&self, corner: [isize; 3], t: usize) -> bool {
        let w = self.window;
        let [_, kh, kw] = w.kernel;
        let (rest, k2) = if self.whole_rows { (t, 0) } else { (t / kw, t % kw) };
        let k = [rest / kh, rest % kh, k2];
        let last = if self.whole_rows { 2 } else { 3 };
        (0..last).all(|d| {
            let at = corner[d] + (k[d] * w.dilations[d]) as isize;
            (0..w.input[d] as isize).contains(&at)
        })
    }

    /// Whether the whole window at `corner` lies inside the input.
    #[inline(always)]
    fn interior(&self, corner: [isize; 3]) -> bool {
        let w = self.window;
        let last = if self.whole_rows { 2 } else { 3 };
        let mut inside = true;
        for d in 0..last {
            let end = corner[d] + ((w.kernel[d] - 1) * w.dilations[d]) as isize;
            inside &= corner[d] >= 0 && end < w.input[d] as isize;
        }
        inside
    }
}

impl<E> Rows<E> for ConvRows<'_, E> {
    fn collide(&self) -> bool {
        (self.window.strides[2] * self.channels * size_of::<E>()).is_multiple_of(gemm::L1_WAY)
    }

    unsafe fn fill(&self, row: usize, rows: usize, tap: usize, taps: usize, stride: usize, out: *mut *const E) {
        debug_assert!(rows <= MAX_MR);
        let w = self.window;
        let [out_d, out_h, out_w] = w.output;
        let [in_d, in_h, _] = w.input;
        let (mut ow, rest) = (row % out_w, row / out_w);
        let (mut oh, rest) = (rest % out_h, rest / out_h);
        let (mut od, mut image) = (rest % out_d, rest / out_d);
        let mut first = [core::ptr::null::<E>(); MAX_MR];
        let mut corners = [[0isize; 3]; MAX_MR];
        let mut border = 0u32;
        for i in 0..rows {
            let corner = self.corner([od, oh, ow]);
            let line = ((image * in_d) as isize + corner[0]) * in_h as isize + corner[1];
            let pixel = line * self.width as isize + corner[2];
            // Wrapping: a corner in the padding lies outside the buffer, and is not read.
            first[i] = self.x.wrapping_offset(pixel * self.channels as isize);
            corners[i] = corner;
            border |= u32::from(!self.interior(corner)) << i;
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
        for t in 0..taps {
            let offset = self.offsets[tap + t];
            for i in 0..rows {
                // SAFETY: `out` has room for `taps * stride` pointers by contract.
                unsafe { *out.add(t * stride + i) = first[i].wrapping_offset(offset) };
            }
        }
        while border != 0 {
            let i = border.trailing_zeros() as usize;
            border &= border - 1;
            for t in 0..taps {
                if !self.inside(corners[i], tap + t) {
                    // SAFETY: as above.
                    unsafe { *out.add(t * stride + i) = self.zeros };
                }
            }
        }
    }
}

#[cfg(test)]
#[path = "conv_tests.rs"]
mod tests;
