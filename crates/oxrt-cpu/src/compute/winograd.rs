//! Convolution with 3x3 kernels and stride one by Winograd's transforms, channels last.
//!
//! A block of tiles is transformed, multiplied position by position with the transformed weights, and transformed back,
//! all within the second cache. Images of few tiles are cut by output channels instead, after one transform of all inputs.

use super::conv::{Filter, Operands};
use super::gemm;
use super::window::Window;
use super::{Shared, cut};
use crate::kernels::Kernels;
use crate::kernels::activation::Act;
use crate::kernels::gemm::GemmTile;
use crate::kernels::winograd::{OutputTile, points};
use crate::pool::ThreadPool;
use core::cell::RefCell;

/// Floats of transformed inputs of one block.
const BLOCK_FLOATS: usize = 128 * 1024;
/// Panels of output channels that are multiplied before they are transformed back.
const PANELS: usize = 2;
/// Rows of the largest microkernel.
const MAX_MR: usize = 16;
/// Most positions of a tile.
const POSITIONS: usize = 36;

thread_local! {
    /// Transformed inputs and products of a block; of one size per layer shape.
    static BLOCK: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

/// Whether the transforms exist for a convolution of this kind.
pub fn fits(filter: &Filter, kernel: [usize; 3], strides: [usize; 3], dilations: [usize; 3]) -> bool {
    filter.groups == 1 && kernel == [1, 3, 3] && strides == [1; 3] && dilations == [1; 3]
}

/// Floats of the weights transformed for tiles of `m x m` outputs.
pub fn packed_len(kernels: &Kernels, filter: &Filter, m: usize) -> usize {
    (m + 2) * (m + 2) * gemm::packed_len(kernels, filter.cin, filter.cout)
}

/// Transforms and packs weights in ONNX's order, `[cout][cin][3][3]`.
///
/// # Panics
/// When the slices do not have the lengths of the filter.
pub fn pack(kernels: &Kernels, pool: &ThreadPool, filter: &Filter, m: usize, w: &[f32], out: &mut [f32]) {
    let Filter { cin, cout, .. } = *filter;
    assert_eq!(w.len(), cout * cin * 9);
    assert_eq!(out.len(), packed_len(kernels, filter, m));
    let points = points(m);
    let n = m + 2;
    // Row i of G: powers of point i over the product of its distances from the others; the last row is infinity's.
    let g: Vec<[f64; 3]> = (0..n)
        .map(|i| {
            let Some(&p) = points.get(i) else { return [0.0, 0.0, 1.0] };
            let d: f64 = points.iter().enumerate().filter(|&(j, _)| j != i).map(|(_, q)| p - q).product();
            [1.0 / d, p / d, p * p / d]
        })
        .collect();
    let mut matrices = vec![0.0f32; n * n * cin * cout];
    let to = Shared(matrices.as_mut_ptr());
    pool.run(cin, |c| {
        for o in 0..cout {
            let k = &w[(o * cin + c) * 9..][..9];
            for i in 0..n {
                let row: [f64; 3] = core::array::from_fn(|x| (0..3).map(|y| g[i][y] * f64::from(k[y * 3 + x])).sum());
                for j in 0..n {
                    let value: f64 = (0..3).map(|x| row[x] * g[j][x]).sum();
                    // SAFETY: inside the matrices; every input channel has rows of its own.
                    unsafe { *to.at(((i * n + j) * cin + c) * cout + o) = value as f32 };
                }
            }
        }
    });
    let len = gemm::packed_len(kernels, cin, cout);
    let panels = gemm::panels(kernels, cout);
    let (from, to) = (Shared(matrices.as_mut_ptr()), Shared(out.as_mut_ptr()));
    pool.run(n * n * panels, |i| {
        let (p, panel) = (i / panels, i % panels);
        // SAFETY: each position's matrix and packed part have the sizes they are packed with; panels are disjoint.
        unsafe {
            let from = from.at(p * cin * cout);
            gemm::pack_panel(kernels, cin, cout, from, cout, 1, panel, to.at(p * len));
        }
    });
}

/// A convolution bound to sizes.
#[derive(Clone, Debug)]
pub struct Winograd {
    kernels: &'static Kernels,
    filter: Filter,
    window: Window,
    /// Outputs per side of a tile.
    m: usize,
    /// Tiles down and across an image.
    down: usize,
    across: usize,
    /// Most tiles of one block.
    block: usize,
    /// Blocks: as many for each thread.
    blocks: usize,
    /// Inputs are transformed for all blocks first.
    split: bool,
    /// Floats from one tile's transformed inputs to the next, a line off powers of two.
    step: usize,
    zeros: Vec<f32>,
}

impl Winograd {
    /// Binds a filter to the sizes of `window` (which [`fits`]), with tiles of `m x m` outputs, 2 or 4.
    pub fn new(kernels: &'static Kernels, filter: Filter, window: Window, m: usize, threads: usize) -> Winograd {
        let (down, across) = (window.output[1].div_ceil(m), window.output[2].div_ceil(m));
        let tiles = window.batch * window.input[0] * down * across;
        let positions = (m + 2) * (m + 2);
        let step = filter.cin.next_multiple_of(16) + 16;
        // Whole microkernel tiles, and two blocks per thread at least.
        let most = (BLOCK_FLOATS / (positions * step)).max(1);
        let rounded = |n: usize| if n >= kernels.mr { n / kernels.mr * kernels.mr } else { kernels.mr };
        let wanted = rounded(most);
        let split = tiles < 2 * threads * wanted;
        let block = if split { tiles.clamp(1, wanted) } else { wanted };
        let mut blocks = tiles.div_ceil(block);
        if !split {
            blocks = blocks.next_multiple_of(threads.max(1));
        }
        Winograd { kernels, filter, window, m, down, across, block, blocks, split, step, zeros: vec![0.0; filter.cin] }
    }

    fn positions(&self) -> usize {
        (self.m + 2) * (self.m + 2)
    }

    fn tiles(&self) -> usize {
        self.window.batch * self.window.input[0] * self.down * self.across
    }

    /// Floats of workspace.
    pub fn workspace_len(&self) -> usize {
        if self.split { self.blocks * self.positions() * self.block * self.step } else { 0 }
    }

    /// Multiplications of one run in units of the direct method's, roughly: what tiles at the border waste, counted in.
    pub fn relative_cost(&self) -> f64 {
        let direct = (self.window.batch * self.window.output_pixels() * 9) as f64;
        (self.tiles() * self.positions()) as f64 / direct.max(1.0)
    }

    /// Runs it. `op.w` are the transformed weights.
    ///
    /// # Safety
    /// The operands cover the bound sizes; `workspace` has [`Winograd::workspace_len`] floats that nobody else uses.
    pub unsafe fn run(&self, pool: &ThreadPool, op: &Operands, workspace: *mut f32) {
        if self.tiles() == 0 || self.filter.cout == 0 {
            return;
        }
        let op = &op;
        let inputs_len = self.positions() * self.block * self.step;
        let panels = gemm::panels(self.kernels, self.filter.cout);
        let products_len = self.positions() * self.block * (PANELS * self.kernels.nr + 16);
        if !self.split {
            let blocks = self.blocks;
            pool.run(blocks, |block| {
                let (first, count) = cut(self.tiles(), blocks, block);
                BLOCK.with_borrow_mut(|buffer| {
                    grow(buffer, inputs_len + products_len);
                    // SAFETY: both parts lie inside the buffer; blocks write their own tiles' pixels.
                    unsafe {
                        let inputs = buffer.as_mut_ptr();
                        self.transform(op, first, count, inputs);
                        let products = inputs.add(inputs_len);
                        for p in (0..panels).step_by(PANELS) {
                            self.multiply(op, first, count, inputs, products, p, PANELS.min(panels - p));
                        }
                    }
                });
            });
            return;
        }
        let blocks = self.blocks;
        let shared = Shared(workspace);
        // Tiles one by one: there are few, and they are all the same work.
        pool.run(self.tiles(), |tile| {
            let (block, first) = block_of(self.tiles(), blocks, tile);
            // SAFETY: every tile has its own rows of its block's part of the workspace.
            unsafe { self.transform_one(op, tile, shared.at(block * inputs_len + (tile - first) * self.step)) };
        });
        let groups = panels.div_ceil(PANELS);
        pool.run(blocks * groups, |i| {
            let (block, group) = (i / groups, i % groups);
            let (first, count) = cut(self.tiles(), blocks, block);
            BLOCK.with_borrow_mut(|buffer| {
                grow(buffer, products_len);
                let p = group * PANELS;
                // SAFETY: the inputs were transformed above; groups write their own channels.
                unsafe {
                    let inputs = shared.at(block * inputs_len);
                    self.multiply(op, first, count, inputs, buffer.as_mut_ptr(), p, PANELS.min(panels - p));
                }
            });
        });
    }

    /// Transformed inputs of tiles `first..first + count`: position `p` of tile `t` at `(p * block + t) * step`.
    unsafe fn transform(&self, op: &Operands, first: usize, count: usize, out: *mut f32) {
        for t in 0..count {
            // SAFETY: passed on.
            unsafe { self.transform_one(op, first + t, out.add(t * self.step)) };
        }
    }

    /// Image, row and column of a tile's first output.
    fn corner(&self, tile: usize) -> (usize, usize, usize) {
        let (image, at) = (tile / (self.down * self.across), tile % (self.down * self.across));
        (image, at / self.across * self.m, at % self.across * self.m)
    }

    unsafe fn transform_one(&self, op: &Operands, tile: usize, out: *mut f32) {
        let n = self.m + 2;
        let [_, height, width] = self.window.input;
        let (image, row, col) = self.corner(tile);
        let mut pixels = [self.zeros.as_ptr(); POSITIONS];
        for i in 0..n {
            let Some(y) = (row + i).checked_sub(self.window.pads[1]).filter(|&y| y < height) else { continue };
            for j in 0..n {
                let Some(x) = (col + j).checked_sub(self.window.pads[2]).filter(|&x| x < width) else { continue };
                // SAFETY: the pixel lies inside the input.
                pixels[i * n + j] = unsafe { op.x.add(((image * height + y) * width + x) * self.filter.cin) };
            }
        }
        // SAFETY: as the caller promises.
        unsafe {
            (self.kernels.winograd_input)(self.m, pixels.as_ptr(), self.filter.cin, out, self.block * self.step);
        }
    }

    /// Products of a block with panels `panel0..panel0 + panels` of the weights, and their way back.
    unsafe fn multiply(
        &self,
        op: &Operands,
        first: usize,
        count: usize,
        inputs: *const f32,
        products: *mut f32,
        panel0: usize,
        panels: usize,
    ) {
        let Filter { cin, cout, .. } = self.filter;
        let kernels = self.kernels;
        let nr = kernels.nr;
        let weights_len = gemm::packed_len(kernels, cin, cout);
        // Off a power of two, as the inputs' rows.
        let row = PANELS * nr + 16;
        let tiles = count.div_ceil(kernels.mr);
        // SAFETY: inputs, weights and products have the sizes of the block.
        unsafe {
            for position in 0..self.positions() {
                let a = inputs.add(position * self.block * self.step);
                for p in panel0..panel0 + panels {
                    let left = cout - p * nr;
                    let narrow = left <= kernels.lanes;
                    let b = op.w.add(position * weights_len + p * nr * cin);
                    // The panel after this one, of this position or the next.
                    let next = if p + 1 < panel0 + panels {
                        b.wrapping_add(nr * cin)
                    } else {
                        op.w.wrapping_add((position + 1) * weights_len + panel0 * nr * cin)
                    };
                    for t in 0..tiles {
                        let (start, rows) = cut(count, tiles, t);
                        let mut pointers = [core::ptr::null(); MAX_MR];
                        for (i, pointer) in pointers.iter_mut().enumerate().take(rows) {
                            *pointer = a.add((start + i) * self.step);
                        }
                        let tile = GemmTile {
                            a: pointers.as_ptr(),
                            a_tap: 0,
                            a_offset: 0,
                            taps: 1,
                            kc: cin,
                            b,
                            c: products.add((position * self.block + start) * row + (p - panel0) * nr),
                            c_stride: row,
                            cols: left.min(if narrow { kernels.lanes } else { nr }),
                            accumulate: false,
                            finish: false,
                            bias: core::ptr::null(),
                            residual: core::ptr::null(),
                            residual_stride: 0,
                            act: Act::None,
                            ahead: next.wrapping_add(cin * nr / tiles * t),
                            ahead_lines: gemm::ahead_lines(tiles, nr),
                        };
                        kernels.gemm[rows - 1][usize::from(!narrow)](&tile);
                    }
                }
            }
            let channel = panel0 * nr;
            let channels = (panels * nr).min(cout - channel);
            for t in 0..count {
                self.finish(op, first + t, products.add(t * row), self.block * row, channel, channels);
            }
        }
    }

    /// The way back of one tile, for `channels` channels from `channel`.
    unsafe fn finish(&self, op: &Operands, tile: usize, m: *const f32, step: usize, channel: usize, channels: usize) {
        let side = self.m;
        let [_, height, width] = self.window.output;
        let (image, row, col) = self.corner(tile);
        let mut y = [core::ptr::null_mut::<f32>(); 16];
        let mut residual = [core::ptr::null::<f32>(); 16];
        // SAFETY: pixels inside the image, channels inside the pixels.
        unsafe {
            for i in 0..side.min(height - row) {
                for j in 0..side.min(width - col) {
                    let pixel = (image * height + row + i) * width + col + j;
                    y[i * side + j] = op.y.add(pixel * op.y_step + channel);
                    if !op.residual.is_null() {
                        residual[i * side + j] = op.residual.add(pixel * self.filter.cout + channel);
                    }
                }
            }
            (self.kernels.winograd_output)(
                side,
                &OutputTile {
                    m,
                    step,
                    channels,
                    y: y.as_ptr(),
                    residual: if op.residual.is_null() { core::ptr::null() } else { residual.as_ptr() },
                    bias: if op.bias.is_null() { op.bias } else { op.bias.add(channel) },
                    act: op.act,
                },
            );
            if !op.act.is_simple() {
                for pixel in y.iter().filter(|p| !p.is_null()) {
                    (self.kernels.activate)(*pixel, 1, channels, channels, op.act);
                }
            }
        }
    }
}

/// The block that a tile belongs to when `tiles` are [`cut`] into `blocks`, and that block's first tile.
fn block_of(tiles: usize, blocks: usize, tile: usize) -> (usize, usize) {
    let block = ((tile + 1) * blocks - 1) / tiles;
    (block, cut(tiles, blocks, block).0)
}

fn grow(buffer: &mut Vec<f32>, len: usize) {
    if buffer.len() < len {
        buffer.resize(len, 0.0);
    }
}

#[cfg(test)]
#[path = "winograd_tests.rs"]
mod tests;
