//! Attention without a score matrix: blocks of queries against blocks of keys, with running maxima.
//!
//! Both products run on the matrix microkernel: keys (transposed) and values of a head are packed once, then every block of
//! queries passes over them.

use super::gemm;
use super::{Shared, cut};
use crate::kernels::Kernels;
use crate::kernels::activation::Act;
use crate::kernels::attention::{Mask, ScoreRow};
use crate::kernels::gemm::GemmTile;
use crate::pool::ThreadPool;
use core::cell::RefCell;

/// Keys per block.
const KEYS: usize = 512;
/// Row tiles of a block of queries.
const TILES: usize = 4;
/// Rows of the largest microkernel.
const MAX_MR: usize = 16;

thread_local! {
    /// Scores and sums of a block of queries; of one size per head size.
    static BLOCK: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

/// Floats from one batch, head and row to the next; the row itself is contiguous.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Strides {
    /// To the next batch.
    pub batch: usize,
    /// To the next head.
    pub head: usize,
    /// To the next position.
    pub row: usize,
}

/// Where the mask of a query is: strides in elements, zero where it is broadcast.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MaskStrides {
    /// Position strides.
    pub at: Strides,
    /// To the next key: 0 or 1.
    pub key: usize,
    /// One byte per key ("keep") and not a float that is added.
    pub bytes: bool,
}

/// Sizes and layout of an attention.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Attention {
    /// Batches.
    pub batch: usize,
    /// Heads of the queries.
    pub heads: usize,
    /// Heads of keys and values; divides `heads`.
    pub kv_heads: usize,
    /// Queries.
    pub queries: usize,
    /// Keys and values.
    pub keys: usize,
    /// Length of a query and of a key.
    pub dim: usize,
    /// Length of a value.
    pub value_dim: usize,
    /// Factor of the scores.
    pub scale: f32,
    /// Soft cap of the scores, or zero.
    pub softcap: f32,
    /// Keys from here on are hidden from all queries.
    pub visible: usize,
    /// Query `i` sees keys up to `i + offset` only.
    pub causal: Option<isize>,
    /// Layouts.
    pub q: Strides,
    /// Layout of the keys.
    pub k: Strides,
    /// Layout of the values.
    pub v: Strides,
    /// Layout of the result.
    pub out: Strides,
    /// Layout of the mask, if there is one.
    pub mask: Option<MaskStrides>,
}

impl Attention {
    fn packed_keys(&self, kernels: &Kernels) -> usize {
        gemm::packed_len(kernels, self.dim, self.keys)
    }

    fn packed_values(&self, kernels: &Kernels) -> usize {
        gemm::packed_len(kernels, self.keys, self.value_dim)
    }

    /// Floats of workspace.
    pub fn workspace_len(&self, kernels: &Kernels) -> usize {
        self.batch * self.kv_heads * (self.packed_keys(kernels) + self.packed_values(kernels))
    }

    /// Operations of one run.
    pub fn flops(&self) -> usize {
        2 * self.batch * self.heads * self.queries * self.keys * (self.dim + self.value_dim)
    }

    /// Runs it. `mask` points at floats or bytes, as [`MaskStrides::bytes`] says.
    ///
    /// # Safety
    /// Pointers cover the sizes with their strides; `workspace` has [`Attention::workspace_len`] floats.
    pub unsafe fn run(
        &self,
        kernels: &Kernels,
        pool: &ThreadPool,
        q: *const f32,
        k: *const f32,
        v: *const f32,
        mask: *const u8,
        out: *mut f32,
        workspace: *mut f32,
    ) {
        if self.batch * self.heads * self.queries * self.value_dim == 0 {
            return;
        }
        let (keys_len, values_len) = (self.packed_keys(kernels), self.packed_values(kernels));
        let (q, k, v) = (Shared(q.cast_mut()), Shared(k.cast_mut()), Shared(v.cast_mut()));
        let (mask, out, packed) = (Shared(mask.cast_mut()), Shared(out), Shared(workspace));
        let (key_panels, value_panels) = (gemm::panels(kernels, self.keys), gemm::panels(kernels, self.value_dim));
        let panels = key_panels + value_panels;
        // One task per few panels would be finer than needed: a head each, cut in two for the threads' sake.
        pool.run(self.batch * self.kv_heads * 2, |i| {
            let (bh, half) = (i / 2, i % 2);
            let (b, h) = (bh / self.kv_heads, bh % self.kv_heads);
            let (first, count) = cut(panels, 2, half);
            // SAFETY: every task packs its own panels of its own head.
            unsafe {
                let keys = packed.at(bh * (keys_len + values_len));
                let values = keys.add(keys_len);
                let k = k.at(b * self.k.batch + h * self.k.head);
                let v = v.at(b * self.v.batch + h * self.v.head);
                for p in first..first + count {
                    if p < key_panels {
                        gemm::pack_panel(kernels, self.dim, self.keys, k, 1, self.k.row, p, keys);
                    } else {
                        let p = p - key_panels;
                        gemm::pack_panel(kernels, self.keys, self.value_dim, v, self.v.row, 1, p, values);
                    }
                }
            }
        });
        let blocks = self.queries.div_ceil(kernels.mr * TILES);
        pool.run(self.batch * self.heads * blocks, |i| {
            let (bh, block) = (i / blocks, i % blocks);
            let (b, h) = (bh / self.heads, bh % self.heads);
            let kv = b * self.kv_heads + h / (self.heads / self.kv_heads);
            let (first, count) = cut(self.queries, blocks, block);
            // SAFETY: every task writes its own rows of the result.
            unsafe {
                let keys = packed.at(kv * (keys_len + values_len)).cast_const();
                let mask = self.mask.map(|m| {
                    let at = b * m.at.batch + h * m.at.head + first * m.at.row;
                    (mask.at(if m.bytes { at } else { at * 4 }).cast_const(), m)
                });
                let q = q.at(b * self.q.batch + h * self.q.head + first * self.q.row);
                let out = out.at(b * self.out.batch + h * self.out.head + first * self.out.row);
                self.block(kernels, q, keys, keys.add(keys_len), mask, out, first, count);
            }
        });
    }

    /// `count` queries from query `first`, whose operands the pointers stand at.
    unsafe fn block(
        &self,
        kernels: &Kernels,
        q: *const f32,
        keys: *const f32,
        values: *const f32,
        mask: Option<(*const u8, MaskStrides)>,
        out: *mut f32,
        first: usize,
        count: usize,
    ) {
        let part = self.keys.clamp(1, KEYS);
        // Rows of scores a cache line apart from a power of two.
        let step = part.next_multiple_of(16) + 16;
        let (dv, mr) = (self.value_dim, kernels.mr);
        BLOCK.with_borrow_mut(|buffer| {
            let len = count * (step + dv + 2);
            if buffer.len() < len {
                buffer.resize(len, 0.0);
            }
            let scores = buffer.as_mut_ptr();
            // SAFETY: the three parts lie inside the buffer; see the microkernel's contract for the rest.
            unsafe {
                let sums = scores.add(count * step);
                let state = sums.add(count * dv);
                for i in 0..count {
                    *state.add(2 * i) = f32::NEG_INFINITY;
                    *state.add(2 * i + 1) = 0.0;
                }
                // What a causal mask hides from the last query, it hides from all.
                let seen = |query: usize| match self.causal {
                    Some(offset) => (query as isize + 1 + offset).clamp(0, self.visible as isize) as usize,
                    None => self.visible,
                };
                let most = seen(first + count - 1);
                let mut key0 = 0;
                let mut started = false;
                while key0 < most {
                    let n = part.min(most - key0);
                    product(kernels, q, self.q.row, self.dim, count, keys, self.keys, key0, n, scores, step);
                    for i in 0..count {
                        let visible = seen(first + i).saturating_sub(key0).min(n);
                        let mask = match mask {
                            None => Mask::None,
                            Some((p, m)) => {
                                let at = i * m.at.row + key0 * m.key;
                                if m.bytes {
                                    Mask::Keep(p.add(at), m.key)
                                } else {
                                    Mask::Add(p.cast::<f32>().add(at), m.key)
                                }
                            }
                        };
                        let row = ScoreRow {
                            scores: scores.add(i * step),
                            n,
                            visible,
                            scale: self.scale,
                            softcap: self.softcap,
                            mask,
                        };
                        let factor = (kernels.score_row)(&row, state.add(2 * i));
                        if started && factor != 1.0 {
                            (kernels.affine)(sums.add(i * dv), sums.add(i * dv), dv, factor, 0.0);
                        }
                    }
                    weigh(kernels, scores, step, count, values, self.keys, key0, n, sums, dv, started);
                    started = true;
                    key0 += n;
                }
                debug_assert!(count.div_ceil(mr) <= TILES);
                for i in 0..count {
                    let to = out.add(i * self.out.row);
                    // A query that sees no key has no weights to share out: zeros, as ONNX wants it.
                    let total = *state.add(2 * i + 1);
                    if started && total != 0.0 {
                        (kernels.affine)(sums.add(i * dv), to, dv, 1.0 / total, 0.0);
                    } else {
                        core::ptr::write_bytes(to, 0, dv);
                    }
                }
            }
        });
    }
}

/// Scores of `rows` queries against keys `key0..key0 + n`; blocks of keys start at whole panels.
unsafe fn product(
    kernels: &Kernels,
    q: *const f32,
    q_step: usize,
    dim: usize,
    rows: usize,
    keys: *const f32,
    total: usize,
    key0: usize,
    n: usize,
    out: *mut f32,
    step: usize,
) {
    let nr = kernels.nr;
    let tiles = rows.div_ceil(kernels.mr);
    debug_assert!(key0.is_multiple_of(nr));
    for p in key0 / nr..(key0 + n).div_ceil(nr) {
        let (vectors, cols) = panel(kernels, total, p, key0 + n);
        for t in 0..tiles {
            let (row, count) = cut(rows, tiles, t);
            let mut pointers = [core::ptr::null(); MAX_MR];
            // SAFETY: rows and panels exist by the caller's sizes.
            unsafe {
                for (i, pointer) in pointers.iter_mut().enumerate().take(count) {
                    *pointer = q.add((row + i) * q_step);
                }
                let c = out.add(row * step + p * nr - key0);
                let b = keys.add(p * nr * dim);
                kernels.gemm[count - 1][vectors](&tile(&pointers, dim, b, c, step, cols, false));
            }
        }
    }
}

/// `sums += weights values[key0..key0 + n]`.
unsafe fn weigh(
    kernels: &Kernels,
    weights: *const f32,
    step: usize,
    rows: usize,
    values: *const f32,
    total: usize,
    key0: usize,
    n: usize,
    sums: *mut f32,
    dv: usize,
    accumulate: bool,
) {
    let nr = kernels.nr;
    let tiles = rows.div_ceil(kernels.mr);
    for p in 0..dv.div_ceil(nr) {
        let (vectors, cols) = panel(kernels, dv, p, dv);
        let width = if vectors == 1 { nr } else { kernels.lanes };
        for t in 0..tiles {
            let (row, count) = cut(rows, tiles, t);
            let mut pointers = [core::ptr::null(); MAX_MR];
            // SAFETY: rows and panels exist by the caller's sizes.
            unsafe {
                for (i, pointer) in pointers.iter_mut().enumerate().take(count) {
                    *pointer = weights.add((row + i) * step);
                }
                let b = values.add(p * nr * total + key0 * width);
                let c = sums.add(row * dv + p * nr);
                kernels.gemm[count - 1][vectors](&tile(&pointers, n, b, c, dv, cols, accumulate));
            }
        }
    }
}

/// Width (as the microkernel table's index) and used columns of panel `p` of `total` columns, of which `end` are wanted.
fn panel(kernels: &Kernels, total: usize, p: usize, end: usize) -> (usize, usize) {
    let first = p * kernels.nr;
    let narrow = total - first <= kernels.lanes;
    let width = if narrow { kernels.lanes } else { kernels.nr };
    (usize::from(!narrow), width.min(end - first))
}

fn tile(
    pointers: &[*const f32; MAX_MR],
    kc: usize,
    b: *const f32,
    c: *mut f32,
    c_stride: usize,
    cols: usize,
    accumulate: bool,
) -> GemmTile {
    GemmTile {
        a: pointers.as_ptr(),
        a_tap: 0,
        a_offset: 0,
        taps: 1,
        kc,
        b,
        c,
        c_stride,
        cols,
        accumulate,
        finish: true,
        bias: core::ptr::null(),
        residual: core::ptr::null(),
        residual_stride: 0,
        act: Act::None,
        ahead: core::ptr::null(),
        ahead_lines: 0,
    }
}

#[cfg(test)]
#[path = "attention_tests.rs"]
mod tests;
