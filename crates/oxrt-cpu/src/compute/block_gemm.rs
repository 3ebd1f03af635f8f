//! Products with weights of few bits: few rows read the codes as they lie, many rows read panels that were made real.

use super::gemm::{self, Cut, L1_WAY, Matrix, Out, Size};
use super::{Shared, cut};
use crate::kernels::Kernels;
use crate::kernels::block_gemm::{BlockPanel, BlockRows, ROWS, STRIPS, Strips};
use crate::pool::ThreadPool;

/// Rows up to which the codes are read as they lie.
const FEW: usize = 16;
/// Panels that are made real at once, and rows of them: they stay in the second cache while the rows of the left operand pass by.
const PANELS: usize = 4;
const PART: usize = 1024;

/// The weights' form: `k` rows and `n` columns.
#[derive(Clone, Copy, Debug)]
pub struct Weights {
    /// Rows.
    pub k: usize,
    /// Columns.
    pub n: usize,
    /// Bits of a code: 2, 4 or 8.
    pub bits: usize,
    /// Rows of a block, a multiple of 16.
    pub block: usize,
}

/// Packed weights.
#[derive(Clone, Debug, Default)]
pub struct Packed {
    /// Codes.
    pub codes: Vec<i32>,
    /// Scales, a vector per strip and block.
    pub scales: Vec<f32>,
    /// Zero points likewise, or nothing where all are half of the codes' range.
    pub zeros: Vec<f32>,
}

impl Weights {
    fn chunks(&self) -> usize {
        self.k.div_ceil(32 / self.bits)
    }

    /// Floats from one copied row of the left operand to the next: up to the end of the last chunk, and off a power of two by a
    /// line, so that rows spread over the sets of the first cache.
    fn wide(&self) -> usize {
        (self.chunks() * (32 / self.bits)).next_multiple_of(16) + 16
    }

    /// Blocks along the rows.
    pub fn blocks(&self) -> usize {
        self.k.div_ceil(self.block)
    }

    /// Integers of the packed codes.
    pub fn codes_len(&self, lanes: usize) -> usize {
        self.n.div_ceil(lanes) * lanes * self.chunks()
    }

    /// Packed scales, or zero points.
    pub fn scales_len(&self, lanes: usize) -> usize {
        self.n.div_ceil(lanes) * lanes * self.blocks()
    }

    /// Packs. `code` gives the unsigned code of a row and column, `scale` and `zero` those of a block and column.
    pub fn pack(
        &self,
        lanes: usize,
        code: impl Fn(usize, usize) -> u8,
        scale: impl Fn(usize, usize) -> f32,
        zero: impl Fn(usize, usize) -> f32,
    ) -> Packed {
        let (chunks, blocks, half) = (self.chunks(), self.blocks(), 1u32 << (self.bits - 1));
        let mut codes = vec![0u32; self.codes_len(lanes)];
        for column in 0..self.n {
            for row in 0..self.k {
                let (chunk, place) = (row / (32 / self.bits), row % (32 / self.bits));
                // Moving down by half of the range turns the highest bit.
                let moved = u32::from(code(row, column)) ^ half;
                codes[(column / lanes * chunks + chunk) * lanes + column % lanes] |= moved << (place * self.bits);
            }
        }
        let mut packed = Packed {
            codes: codes.into_iter().map(|c| c as i32).collect(),
            scales: vec![0.0; self.scales_len(lanes)],
            zeros: vec![0.0; self.scales_len(lanes)],
        };
        for column in 0..self.n {
            for block in 0..blocks {
                let at = (column / lanes * blocks + block) * lanes + column % lanes;
                packed.scales[at] = scale(block, column);
                packed.zeros[at] = zero(block, column) - half as f32;
            }
        }
        if packed.zeros.iter().all(|&z| z == 0.0) {
            packed.zeros.clear();
        }
        packed
    }

    /// Floats of workspace for `m` rows.
    pub fn workspace_len(&self, kernels: &Kernels, m: usize, threads: usize) -> usize {
        if m <= FEW {
            m * (self.wide() + self.blocks())
        } else {
            // Every task has room of its own.
            self.parts(kernels, m, threads).tasks() * PANELS * kernels.nr * PART.min(self.k) + m * self.apart()
        }
    }

    /// Floats from a row of a copy of the left operand to the next, where rows as they are fall on the same few sets of the
    /// first cache; else 0.
    fn apart(&self) -> usize {
        if self.k > 0 && (self.k * 4).is_multiple_of(L1_WAY) { self.k + 16 } else { 0 }
    }

    fn parts(&self, kernels: &Kernels, m: usize, threads: usize) -> Parts {
        let groups = self.n.div_ceil(PANELS * kernels.nr).max(1);
        let want = if threads > 1 { 4 * threads } else { 1 };
        let columns = groups.min(want);
        // Rows are cut only where columns do not keep the threads busy: each part makes the weights real again.
        let rows = (threads.div_ceil(columns)).min(m / (8 * kernels.mr)).max(1);
        Parts { groups, columns, rows }
    }
}

/// How many rows share a task's panels.
#[derive(Clone, Copy, Debug)]
struct Parts {
    /// Groups of panels.
    groups: usize,
    /// Parts of the groups.
    columns: usize,
    /// Parts of the rows.
    rows: usize,
}

impl Parts {
    fn tasks(&self) -> usize {
        self.columns * self.rows
    }
}

/// Operands of a product.
#[derive(Clone, Copy, Debug)]
pub struct Operands {
    /// `m` rows of `k`.
    pub x: *const f32,
    /// Packed codes.
    pub codes: *const i32,
    /// Packed scales.
    pub scales: *const f32,
    /// Packed zero points, or null.
    pub zeros: *const f32,
    /// One float per column, or null.
    pub bias: *const f32,
    /// `m` rows of `n`.
    pub y: *mut f32,
}

// SAFETY: tasks write disjoint parts of the result, and only read the rest.
unsafe impl Sync for Operands {}

impl Weights {
    fn strips(&self, op: &Operands, lanes: usize) -> Strips {
        Strips {
            bits: self.bits,
            codes: op.codes,
            scales: op.scales,
            zeros: op.zeros,
            chunks: self.chunks(),
            block_chunks: self.block / (32 / self.bits),
            count: self.n.div_ceil(lanes),
        }
    }

    /// The product of `m` rows.
    ///
    /// # Safety
    /// The operands cover the sizes, the weights are packed for these kernels, and `workspace` has
    /// [`Weights::workspace_len`] floats.
    pub unsafe fn run(&self, kernels: &Kernels, pool: &ThreadPool, m: usize, op: &Operands, workspace: *mut f32) {
        if m == 0 || self.n == 0 {
            return;
        }
        // SAFETY: as the caller promises.
        unsafe {
            if m <= FEW {
                self.few(kernels, pool, m, op, workspace);
            } else {
                self.many(kernels, pool, m, op, workspace);
            }
        }
    }

    unsafe fn few(&self, kernels: &Kernels, pool: &ThreadPool, m: usize, op: &Operands, workspace: *mut f32) {
        let (wide, blocks) = (self.wide(), self.blocks());
        let end = self.chunks() * (32 / self.bits);
        // SAFETY: the workspace holds the rows with zeros behind, then the sums of their blocks.
        unsafe {
            let sums = workspace.add(m * wide);
            for row in 0..m {
                let (from, to) = (op.x.add(row * self.k), workspace.add(row * wide));
                core::ptr::copy_nonoverlapping(from, to, self.k);
                core::ptr::write_bytes(to.add(self.k), 0, wide - self.k);
                for b in 0..blocks {
                    let rows = self.block.min(end - b * self.block);
                    let block = core::slice::from_raw_parts(to.add(b * self.block), rows);
                    // Side by side, so that vectors can do it.
                    let mut lanes = [0.0f32; 16];
                    for piece in block.chunks(16) {
                        lanes.iter_mut().zip(piece).for_each(|(l, v)| *l += v);
                    }
                    *sums.add(row * blocks + b) = lanes.iter().sum();
                }
            }
            let all = self.strips(op, kernels.lanes);
            let groups = all.count.div_ceil(STRIPS);
            let parts = pool.parts(groups * STRIPS * kernels.lanes * self.k / 16_384).min(groups);
            let (x, sums) = (Shared(workspace), Shared(sums));
            let (y, bias, all) = (Shared(op.y), Shared(op.bias.cast_mut()), SharedStrips(all));
            pool.run(parts, |part| {
                let (start, count) = cut(groups, parts, part);
                for group in start..start + count {
                    let first = group * STRIPS;
                    let strips = all.get().from(first, kernels.lanes);
                    let strips = Strips { count: strips.count.min(STRIPS), ..strips };
                    let column = first * kernels.lanes;
                    let mut row = 0;
                    while row < m {
                        let rows = ROWS.min(m - row);
                        (kernels.block_rows)(&BlockRows {
                            strips,
                            x: x.at(row * wide),
                            x_stride: wide,
                            rows,
                            sums: sums.at(row * blocks),
                            bias: if bias.get().is_null() { bias.get() } else { bias.at(column) },
                            out: y.at(row * self.n + column),
                            out_stride: self.n,
                            cols: self.n - column,
                        });
                        row += rows;
                    }
                }
            });
        }
    }

    unsafe fn many(&self, kernels: &Kernels, pool: &ThreadPool, m: usize, op: &Operands, workspace: *mut f32) {
        let parts = self.parts(kernels, m, pool.threads());
        let (lanes, nr, k) = (kernels.lanes, kernels.nr, self.k);
        let (mut op, room) = (*op, Shared(workspace));
        let mut stride = k;
        if self.apart() > 0 {
            stride = self.apart();
            // SAFETY: the copy lies behind the tasks' rooms.
            unsafe {
                let copy = room.at(parts.tasks() * PANELS * nr * PART.min(k));
                let from = Shared(op.x.cast_mut());
                let to = Shared(copy);
                pool.run(m, |row| core::ptr::copy_nonoverlapping(from.at(row * k), to.at(row * stride), k));
                op.x = copy;
            }
        }
        let all = SharedStrips(self.strips(&op, lanes));
        let op = &op;
        pool.run(parts.tasks(), |task| {
            let (row, rows) = cut(m, parts.rows, task / parts.columns);
            let (start, count) = cut(parts.groups, parts.columns, task % parts.columns);
            // SAFETY: tasks have room of their own and write disjoint parts of the result.
            unsafe {
                let room = room.at(task * PANELS * nr * PART.min(k));
                for group in start..start + count {
                    let column = group * PANELS * nr;
                    let columns = (PANELS * nr).min(self.n - column);
                    let c = op.y.add(row * self.n + column);
                    let mut first = 0;
                    while first < k || first == 0 {
                        let part = PART.min(k - first);
                        for p in 0..columns.div_ceil(nr) {
                            let strips = all.get().from((column + p * nr) / lanes, lanes);
                            let strips = Strips { count: strips.count.min(nr / lanes), ..strips };
                            let out = room.add(p * nr * part);
                            let first = first * self.bits / 32;
                            (kernels.block_panel)(&BlockPanel { strips, first, rows: part, out });
                        }
                        let size = Size::plain(rows, columns, part);
                        // One part of the inner product: what was summed before may be the residual.
                        let how = Cut { k_part: part, ..Cut::choose(kernels, size, 1) };
                        let left = Matrix { data: op.x.add(row * stride + first), stride };
                        let mut out = Out::plain(c, self.n);
                        if first > 0 {
                            (out.residual, out.residual_stride) = (c, self.n);
                        } else if !op.bias.is_null() {
                            out.bias = op.bias.add(column);
                        }
                        for task in 0..how.tasks() {
                            gemm::block(kernels, size, how, &left, room, out, task);
                        }
                        first += part.max(1);
                    }
                }
            }
        });
    }
}

/// Strips that tasks only read.
#[derive(Clone, Copy)]
struct SharedStrips(Strips);

// SAFETY: nothing is written through these pointers.
unsafe impl Sync for SharedStrips {}

impl SharedStrips {
    fn get(&self) -> Strips {
        self.0
    }
}
