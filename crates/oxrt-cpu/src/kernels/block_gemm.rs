//! Products with weights of few bits in blocks along the inner dimension.
//!
//! A *strip* holds as many columns as a vector has lanes. One integer of 32 bits carries the codes of one column in
//! consecutive rows, lowest bits first; a vector of them is a *chunk*:
//!
//! ```text
//!               lane 0              lane 1           …
//! chunk 0   [w[3,0]…w[0,0]]    [w[3,1]…w[0,1]]            (8 bits: 4 rows a chunk; 4 bits: 8; 2 bits: 16)
//! chunk 1   [w[7,0]…w[4,0]]    [w[7,1]…w[4,1]]
//! ```
//!
//! Codes are signed: moved down by half of their range. A block has one scale, and one zero point or none, per column.

use crate::simd::bytes::Bytes;

/// Rows that [`block_rows`] takes at most.
pub const ROWS: usize = 8;
/// Strips that [`block_rows`] takes at most.
pub const STRIPS: usize = 4;

/// Strips side by side.
#[derive(Clone, Copy, Debug)]
pub struct Strips {
    /// Bits of a code: 2, 4 or 8.
    pub bits: usize,
    /// The first strip's chunks.
    pub codes: *const i32,
    /// The first strip's scales, a vector per block.
    pub scales: *const f32,
    /// The first strip's zero points likewise, or null for none.
    pub zeros: *const f32,
    /// Chunks of a strip.
    pub chunks: usize,
    /// Chunks of a block; the last block may have fewer.
    pub block_chunks: usize,
    /// Strips.
    pub count: usize,
}

impl Strips {
    /// Blocks of a strip.
    pub fn blocks(&self) -> usize {
        self.chunks.div_ceil(self.block_chunks)
    }

    /// Those from strip `first` on.
    ///
    /// # Safety
    /// There are as many.
    pub unsafe fn from(self, first: usize, lanes: usize) -> Strips {
        let vectors = first * self.blocks() * lanes;
        // SAFETY: as the caller promises.
        unsafe {
            Strips {
                codes: self.codes.add(first * self.chunks * lanes),
                scales: self.scales.add(vectors),
                zeros: if self.zeros.is_null() { self.zeros } else { self.zeros.add(vectors) },
                count: self.count - first,
                ..self
            }
        }
    }
}

/// A few rows by at most [`STRIPS`] strips.
#[derive(Clone, Copy, Debug)]
pub struct BlockRows {
    /// The strips.
    pub strips: Strips,
    /// Rows, with zeros up to the end of the last chunk.
    pub x: *const f32,
    /// Floats from one row to the next.
    pub x_stride: usize,
    /// Rows, at most [`ROWS`].
    pub rows: usize,
    /// The sums of each row's blocks, where there are zero points.
    pub sums: *const f32,
    /// One float per column, or null.
    pub bias: *const f32,
    /// Result.
    pub out: *mut f32,
    /// Floats from one row of the result to the next.
    pub out_stride: usize,
    /// Columns of the result.
    pub cols: usize,
}

/// Strips as reals.
#[derive(Clone, Copy, Debug)]
pub struct BlockPanel {
    /// The strips.
    pub strips: Strips,
    /// Chunks to leave out.
    pub first: usize,
    /// Rows to write, from those chunks on.
    pub rows: usize,
    /// `rows` rows of all strips' columns.
    pub out: *mut f32,
}

/// The product.
///
/// # Safety
/// The pointers cover what the descriptions say.
#[inline(always)]
pub unsafe fn block_rows<S: Bytes>(s: S, t: &BlockRows) {
    // SAFETY: as the caller promises.
    unsafe {
        match t.strips.bits {
            2 => split::<S, 2>(s, t),
            4 => split::<S, 4>(s, t),
            _ => split::<S, 8>(s, t),
        }
    }
}

/// Rows and strips in pieces that registers hold.
#[inline(always)]
unsafe fn split<S: Bytes, const BITS: u32>(s: S, t: &BlockRows) {
    let mut row = 0;
    while row < t.rows {
        let rows = match t.rows - row {
            1 => 1,
            2 | 3 => 2,
            4..=7 => 4,
            _ => 8,
        };
        let mut strip = 0;
        while strip < t.strips.count {
            let count = match (rows, t.strips.count - strip) {
                (1, 4..) => 4,
                (2 | 4, 2..) => 2,
                // As many sums as there are registers for.
                (8, 2..) if S::LANES == 16 => 2,
                _ => 1,
            };
            // SAFETY: a part of what the caller describes.
            unsafe {
                let first = strip * S::LANES;
                let part = BlockRows {
                    strips: t.strips.from(strip, S::LANES),
                    x: t.x.add(row * t.x_stride),
                    sums: t.sums.wrapping_add(row * t.strips.blocks()),
                    bias: if t.bias.is_null() { t.bias } else { t.bias.add(first) },
                    out: t.out.add(row * t.out_stride + first),
                    cols: t.cols - first,
                    ..*t
                };
                match (rows, count) {
                    (1, 4) => one::<S, BITS, 4>(s, &part),
                    (1, _) => one::<S, BITS, 1>(s, &part),
                    (2, 2) => some::<S, BITS, 2, 2>(s, &part),
                    (2, _) => some::<S, BITS, 2, 1>(s, &part),
                    (4, 2) => some::<S, BITS, 4, 2>(s, &part),
                    (4, _) => some::<S, BITS, 4, 1>(s, &part),
                    (_, 2) => some::<S, BITS, 8, 2>(s, &part),
                    _ => some::<S, BITS, 8, 1>(s, &part),
                }
            }
            strip += count;
        }
        row += rows;
    }
}

/// One row: codes are summed as they are, a block's scale and zero point come behind.
#[inline(always)]
unsafe fn one<S: Bytes, const BITS: u32, const V: usize>(s: S, t: &BlockRows) {
    let Strips { codes, scales, zeros, chunks, block_chunks, .. } = t.strips;
    let (per, blocks) = (32 / BITS as usize, t.strips.blocks());
    // SAFETY: inside what the caller describes.
    unsafe {
        let mut sums = first_sums::<S, V>(s, t);
        for b in 0..blocks {
            let mut parts = [s.zero(); V];
            for c in b * block_chunks..chunks.min((b + 1) * block_chunks) {
                let mut words = [s.int_splat(0); V];
                for v in 0..V {
                    words[v] = s.int_load(codes.add((v * chunks + c) * S::LANES));
                }
                for j in 0..per {
                    let x = s.splat(*t.x.add(c * per + j));
                    for v in 0..V {
                        parts[v] = s.fma(s.code::<BITS>(words[v], j as u32 * BITS), x, parts[v]);
                    }
                }
            }
            for v in 0..V {
                let at = (v * blocks + b) * S::LANES;
                if !zeros.is_null() {
                    parts[v] = s.fma(s.load(zeros.add(at)), s.splat(-*t.sums.add(b)), parts[v]);
                }
                sums[v] = s.fma(parts[v], s.load(scales.add(at)), sums[v]);
            }
        }
        for v in 0..V {
            s.store_mask(t.out.add(v * S::LANES), sums[v], s.first(t.cols.saturating_sub(v * S::LANES)));
        }
    }
}

/// Several rows, which share the weights made real.
#[inline(always)]
unsafe fn some<S: Bytes, const BITS: u32, const R: usize, const V: usize>(s: S, t: &BlockRows) {
    let Strips { codes, scales, zeros, chunks, block_chunks, .. } = t.strips;
    let (per, blocks) = (32 / BITS as usize, t.strips.blocks());
    // SAFETY: inside what the caller describes.
    unsafe {
        let mut sums = [first_sums::<S, V>(s, t); R];
        for b in 0..blocks {
            let (mut scale, mut shift) = ([s.zero(); V], [s.zero(); V]);
            for v in 0..V {
                let at = (v * blocks + b) * S::LANES;
                scale[v] = s.load(scales.add(at));
                if !zeros.is_null() {
                    shift[v] = s.mul(s.neg(s.load(zeros.add(at))), scale[v]);
                }
            }
            for c in b * block_chunks..chunks.min((b + 1) * block_chunks) {
                let mut words = [s.int_splat(0); V];
                for v in 0..V {
                    words[v] = s.int_load(codes.add((v * chunks + c) * S::LANES));
                }
                for j in 0..per {
                    let mut w = [s.zero(); V];
                    for v in 0..V {
                        w[v] = s.fma(s.code::<BITS>(words[v], j as u32 * BITS), scale[v], shift[v]);
                    }
                    for r in 0..R {
                        let x = s.splat(*t.x.add(r * t.x_stride + c * per + j));
                        for v in 0..V {
                            sums[r][v] = s.fma(w[v], x, sums[r][v]);
                        }
                    }
                }
            }
        }
        for r in 0..R {
            for v in 0..V {
                let to = t.out.add(r * t.out_stride + v * S::LANES);
                s.store_mask(to, sums[r][v], s.first(t.cols.saturating_sub(v * S::LANES)));
            }
        }
    }
}

/// What the sums start from: the bias.
#[inline(always)]
unsafe fn first_sums<S: Bytes, const V: usize>(s: S, t: &BlockRows) -> [S::F; V] {
    let mut sums = [s.zero(); V];
    if !t.bias.is_null() {
        for v in 0..V {
            let at = v * S::LANES;
            // SAFETY: masked to the columns there are.
            sums[v] = unsafe { s.load_mask(t.bias.add(at), s.first(t.cols.saturating_sub(at))) };
        }
    }
    sums
}

/// Strips as reals, row by row.
///
/// # Safety
/// The pointers cover what the description says.
#[inline(always)]
pub unsafe fn block_panel<S: Bytes>(s: S, t: &BlockPanel) {
    // SAFETY: as the caller promises.
    unsafe {
        match t.strips.bits {
            2 => reals::<S, 2>(s, t),
            4 => reals::<S, 4>(s, t),
            _ => reals::<S, 8>(s, t),
        }
    }
}

#[inline(always)]
unsafe fn reals<S: Bytes, const BITS: u32>(s: S, t: &BlockPanel) {
    let Strips { codes, scales, zeros, chunks, block_chunks, count, .. } = t.strips;
    let (per, blocks, width) = (32 / BITS as usize, t.strips.blocks(), count * S::LANES);
    for c in t.first..chunks.min(t.first + t.rows.div_ceil(per)) {
        let row = (c - t.first) * per;
        for v in 0..count {
            // SAFETY: inside what the caller describes.
            unsafe {
                let at = (v * blocks + c / block_chunks) * S::LANES;
                let scale = s.load(scales.add(at));
                let zero = if zeros.is_null() { s.zero() } else { s.load(zeros.add(at)) };
                let words = s.int_load(codes.add((v * chunks + c) * S::LANES));
                let out = t.out.add(row * width + v * S::LANES);
                if row + per <= t.rows {
                    for j in 0..per {
                        let code = s.sub(s.code::<BITS>(words, j as u32 * BITS), zero);
                        s.store(out.add(j * width), s.mul(code, scale));
                    }
                } else {
                    for j in 0..t.rows - row {
                        let code = s.sub(s.code::<BITS>(words, j as u32 * BITS), zero);
                        s.store(out.add(j * width), s.mul(code, scale));
                    }
                }
            }
        }
    }
}
