//! Transposed convolution, channels last: one matrix product per kernel position, whose results are laid out or summed.

use super::conv::STACK_TAPS;
use super::gemm::{self, Cut, Matrix, Out, Size};
use super::window::Window;
use super::{Shared, cut};
use crate::kernels::Kernels;
use crate::kernels::activation::Act;
use crate::kernels::taps::TapRun;
use crate::pool::ThreadPool;

/// What a transposed convolution does, sizes aside.
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
    /// Floats of the packed weights of one group and kernel position.
    fn piece(&self, kernels: &Kernels) -> usize {
        gemm::packed_len(kernels, self.cin / self.groups, self.cout / self.groups)
    }

    /// Floats of the packed weights: `[groups][taps]` pieces.
    pub fn packed_len(&self, kernels: &Kernels) -> usize {
        self.groups * self.taps * self.piece(kernels)
    }

    /// Packs weights in ONNX's order, `[cin][cout / groups][taps]`.
    ///
    /// # Panics
    /// When the slices do not have the lengths of the filter.
    pub fn pack(&self, kernels: &Kernels, w: &[f32], out: &mut [f32]) {
        let (cg, mg) = (self.cin / self.groups, self.cout / self.groups);
        assert_eq!(w.len(), self.cin * mg * self.taps);
        assert_eq!(out.len(), self.packed_len(kernels));
        let piece = self.piece(kernels);
        for g in 0..self.groups {
            for t in 0..self.taps {
                let from = &w[g * cg * mg * self.taps + t..];
                let to = &mut out[(g * self.taps + t) * piece..][..piece];
                for p in 0..gemm::panels(kernels, mg) {
                    // SAFETY: element (c, m) of the piece is at `c * mg * taps + m * taps`, inside the group's weights.
                    unsafe {
                        let (row, col) = (mg * self.taps, self.taps);
                        gemm::pack_panel(kernels, cg, mg, from.as_ptr(), row, col, p, to.as_mut_ptr());
                    }
                }
            }
        }
    }
}

/// Operands of a transposed convolution.
#[derive(Clone, Copy, Debug)]
pub struct Operands {
    /// Input, `[batch][pixels][cin]`.
    pub x: *const f32,
    /// Packed weights.
    pub w: *const f32,
    /// `cout` floats, or null.
    pub bias: *const f32,
    /// Output, `[batch][pixels][cout]`.
    pub y: *mut f32,
    /// The activation.
    pub act: Act,
}

// SAFETY: tasks write disjoint parts of the output and only read the rest.
unsafe impl Sync for Operands {}

/// A transposed convolution bound to sizes.
#[derive(Clone, Debug)]
pub struct ConvTranspose {
    kernels: &'static Kernels,
    filter: Filter,
    /// The convolution that this one transposes: its input is our output.
    window: Window,
    /// Kernel positions never meet: each output pixel has exactly one.
    tiles: bool,
}

impl ConvTranspose {
    /// Binds a filter. `window` is the geometry of the plain convolution from our output to our input.
    pub fn new(kernels: &'static Kernels, filter: Filter, window: Window) -> ConvTranspose {
        let exact = (0..3).all(|d| window.input[d] == window.output[d] * window.kernel[d]);
        let tiles = window.kernel == window.strides && window.pads == [0; 3] && window.dilations == [1; 3] && exact;
        ConvTranspose { kernels, filter, window, tiles }
    }

    /// Floats of workspace.
    pub fn workspace_len(&self) -> usize {
        if self.tiles { 0 } else { self.pixels_in() * self.filter.taps * self.filter.cout }
    }

    /// Our input pixels, all images.
    fn pixels_in(&self) -> usize {
        self.window.batch * self.window.output_pixels()
    }

    /// Runs it.
    ///
    /// # Safety
    /// The operands cover the bound sizes; `workspace` has [`ConvTranspose::workspace_len`] floats.
    pub unsafe fn run(&self, pool: &ThreadPool, op: &Operands, workspace: *mut f32) {
        // SAFETY: passed on.
        unsafe {
            if self.tiles {
                self.run_tiles(pool, op);
            } else {
                self.products(pool, op, workspace);
                self.sum_up(pool, op, workspace);
            }
        }
    }

    /// Every kernel position writes its own output pixels directly.
    unsafe fn run_tiles(&self, pool: &ThreadPool, op: &Operands) {
        let Filter { cin, cout, groups, taps } = self.filter;
        let (cg, mg) = (cin / groups, cout / groups);
        let [_, in_h, in_w] = self.window.output;
        let [out_d, out_h, out_w] = self.window.input;
        let [kd, kh, kw] = self.window.kernel;
        let piece = self.filter.piece(self.kernels);
        let rows = self.window.rows();
        let size = Size::plain(in_w, mg, cg);
        let how = Cut::choose(self.kernels, size, 1);
        let op = &op;
        pool.run(rows, |row| {
            let (image, d, h) = (row / (in_h * self.window.output[0]), row / in_h % self.window.output[0], row % in_h);
            for g in 0..groups {
                for t in 0..taps {
                    let (td, th, tw) = (t / (kh * kw), t / kw % kh, t % kw);
                    let pixel = ((image * out_d + d * kd + td) * out_h + h * kh + th) * out_w + tw;
                    // SAFETY: input rows and kernel positions write disjoint output pixels.
                    unsafe {
                        let out = Out {
                            c: op.y.add(pixel * cout + g * mg),
                            c_stride: kw * cout,
                            bias: if op.bias.is_null() { op.bias } else { op.bias.add(g * mg) },
                            residual: core::ptr::null(),
                            residual_stride: 0,
                            act: op.act,
                        };
                        let a = Matrix { data: op.x.add(row * in_w * cin + g * cg), stride: cin };
                        let w = op.w.add((g * taps + t) * piece);
                        for task in 0..how.tasks() {
                            gemm::block(self.kernels, size, how, &a, w, out, task);
                        }
                    }
                }
            }
        });
    }

    /// Every input pixel's contribution through every kernel position: `[pixels][taps][cout]`.
    unsafe fn products(&self, pool: &ThreadPool, op: &Operands, out: *mut f32) {
        let Filter { cin, cout, groups, taps } = self.filter;
        let (cg, mg) = (cin / groups, cout / groups);
        let piece = self.filter.piece(self.kernels);
        let size = Size::plain(self.pixels_in(), mg, cg);
        if size.m == 0 || mg == 0 {
            return;
        }
        let how = Cut::choose(self.kernels, size, pool.threads().div_ceil(groups * taps));
        let tasks = how.tasks();
        let (op, out) = (&op, Shared(out));
        pool.run(groups * taps * tasks, |i| {
            let (g, t, task) = (i / tasks / taps, i / tasks % taps, i % tasks);
            // SAFETY: groups and kernel positions have columns of their own, tasks tiles.
            unsafe {
                let to = Out::plain(out.at(t * cout + g * mg), taps * cout);
                let a = Matrix { data: op.x.add(g * cg), stride: cin };
                let w = op.w.add((g * taps + t) * piece);
                gemm::block(self.kernels, size, how, &a, w, to, task);
            }
        });
    }

    /// Every output pixel is the sum of what reaches it.
    unsafe fn sum_up(&self, pool: &ThreadPool, op: &Operands, cols: *const f32) {
        let Filter { cout, taps, .. } = self.filter;
        let window = &self.window;
        let pixels = window.batch * window.input_pixels();
        let parts = pool.parts(pixels * cout / 4096).min(pixels.max(1));
        let zeros = vec![0.0f32; if op.bias.is_null() { cout } else { 0 }];
        // The bias is one more term of every sum; without one, zeros are, so that no sum is empty.
        let bias = Shared(if op.bias.is_null() { zeros.as_ptr().cast_mut() } else { op.bias.cast_mut() });
        let (op, cols) = (&op, Shared(cols.cast_mut()));
        pool.run(parts, |part| {
            let (start, count) = cut(pixels, parts, part);
            let mut terms = [core::ptr::null::<f32>(); STACK_TAPS];
            for pixel in start..start + count {
                let mut found = 1;
                terms[0] = bias.get();
                // SAFETY: contributions lie inside the products; pixels are disjoint parts of the output.
                unsafe {
                    self.reaching(pixel, |from, tap| {
                        terms[found] = cols.at((from * taps + tap) * cout);
                        found += 1;
                    });
                    let out = op.y.add(pixel * cout);
                    (self.kernels.average_pool)(&TapRun {
                        x: terms.as_ptr(),
                        w: core::ptr::null(),
                        taps: found,
                        pixels: 1,
                        step: 0,
                        channels: cout,
                        out,
                        out_step: cout,
                        bias: core::ptr::null(),
                        residual: core::ptr::null(),
                        residual_step: 0,
                        scale: 1.0,
                        act: Act::None,
                    });
                    (self.kernels.activate)(out, 1, cout, cout, op.act);
                }
            }
        });
    }

    /// Calls `f(input pixel, kernel position)` for everything that reaches an output pixel.
    fn reaching(&self, pixel: usize, mut f: impl FnMut(usize, usize)) {
        let w = &self.window;
        let [out_d, out_h, out_w] = w.input;
        let (rest, at_w) = (pixel / out_w, pixel % out_w);
        let (rest, at_h) = (rest / out_h, rest % out_h);
        let (image, at_d) = (rest / out_d, rest % out_d);
        // Input position along `d` that reaches `at` through kernel position `k`.
        let source = |d: usize, at: usize, k: usize| -> Option<usize> {
            let i = (at + w.pads[d]).checked_sub(k * w.dilations[d])?;
            (i % w.strides[d] == 0 && i / w.strides[d] < w.output[d]).then(|| i / w.strides[d])
        };
        for kd in 0..w.kernel[0] {
            let Some(d) = source(0, at_d, kd) else { continue };
            for kh in 0..w.kernel[1] {
                let Some(h) = source(1, at_h, kh) else { continue };
                for kw in 0..w.kernel[2] {
                    let Some(v) = source(2, at_w, kw) else { continue };
                    let from = ((image * w.output[0] + d) * w.output[1] + h) * w.output[2] + v;
                    f(from, (kd * w.kernel[1] + kh) * w.kernel[2] + kw);
                }
            }
        }
    }
}

/// Most kernel positions of a transposed convolution: their contributions to a pixel, and the bias, are listed on the stack.
pub const MAX_TAPS: usize = STACK_TAPS - 1;
