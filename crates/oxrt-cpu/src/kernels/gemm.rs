//! The matrix microkernel: a tile of at most `MR x NV*LANES` outputs, kept in registers over the whole inner product.
//!
//! The left operand is not packed. The kernel takes one pointer per row and *tap*, and runs over `kc` floats behind
//! each; so a plain product is one tap, and a channels-last convolution is one tap per kernel position, with padding
//! positions pointing at a row of zeros:
//!
//! ```text
//!            tap 0        tap 1              packed right operand (one panel)
//! row 0   [* kc floats][* kc floats]…        k=0  [ NV*LANES floats ]
//! row 1   [* kc floats][* kc floats]…   x    k=1  [ NV*LANES floats ]   (taps * kc of them)
//!  …                                          …
//! ```

use super::activation::{Act, ClipMap, HardSwishMap, LeakyMap, Map, activate};
use crate::simd::Simd;

/// Floats in a cache line.
const LINE: usize = 16;

/// One call of the microkernel.
#[derive(Clone, Copy, Debug)]
pub struct GemmTile {
    /// Row pointers: those of tap `t` start at `a.add(t * a_tap)`, one per row.
    pub a: *const *const f32,
    /// Pointers from one tap to the next.
    pub a_tap: usize,
    /// Floats added to every row pointer.
    pub a_offset: usize,
    /// How many taps.
    pub taps: usize,
    /// Inner products' length per tap.
    pub kc: usize,
    /// The panel of the right operand, `taps * kc` rows of the panel's width.
    pub b: *const f32,
    /// The output tile.
    pub c: *mut f32,
    /// Floats from one output row to the next.
    pub c_stride: usize,
    /// Columns to write (at most the panel's width).
    pub cols: usize,
    /// Start from what `c` holds (a later part of a split inner product) and not from the bias.
    pub accumulate: bool,
    /// This is the last part: add the residual and apply the activation.
    pub finish: bool,
    /// One float per column, or null.
    pub bias: *const f32,
    /// Added before the activation, or null. May be `c` itself only when the inner product is not split.
    pub residual: *const f32,
    /// Floats from one residual row to the next.
    pub residual_stride: usize,
    /// The activation.
    pub act: Act,
    /// What will be read next: its cache lines are asked for on the way, because the hardware stops looking ahead at
    /// page borders.
    pub ahead: *const f32,
    /// Lines to ask for per four steps of the inner product.
    pub ahead_lines: usize,
}

/// Sums per output: as many as few rows need, so that a multiply-add need not wait for the one before.
pub(super) const fn sums(rows: usize) -> usize {
    match rows {
        1 => 4,
        2 | 3 => 2,
        _ => 1,
    }
}

/// The microkernel for exactly `MR` rows and a panel of `NV` vectors, with `U` sums per output ([`sums`]).
///
/// # Safety
/// Every pointer of `t` covers what its description says.
#[inline(always)]
pub unsafe fn gemm_tile<S: Simd, const MR: usize, const NV: usize, const U: usize>(s: S, t: &GemmTile) {
    // SAFETY: the caller's promise covers every access; masks keep partial columns inside it.
    unsafe {
        let mut acc = [[[s.zero(); NV]; MR]; U];
        let masks: [S::M; NV] = core::array::from_fn(|_| s.first(0));
        let mut masks = masks;
        for j in 0..NV {
            masks[j] = s.first(t.cols.saturating_sub(j * S::LANES));
        }
        if t.accumulate {
            for i in 0..MR {
                for j in 0..NV {
                    acc[0][i][j] = s.load_mask(t.c.add(i * t.c_stride + j * S::LANES), masks[j]);
                }
            }
        } else if !t.bias.is_null() {
            for j in 0..NV {
                let v = s.load_mask(t.bias.add(j * S::LANES), masks[j]);
                for i in 0..MR {
                    acc[0][i][j] = v;
                }
            }
        }

        let mut b = t.b;
        let mut ahead = t.ahead;
        let width = NV * S::LANES;
        macro_rules! step {
            ($p:ident, $k:expr, $u:literal) => {{
                let mut bv = [s.zero(); NV];
                for j in 0..NV {
                    bv[j] = s.load(b.add($u * width + j * S::LANES));
                }
                for i in 0..MR {
                    let av = s.splat(*$p[i].add($k + $u));
                    for j in 0..NV {
                        acc[$u % U][i][j] = s.fma(av, bv[j], acc[$u % U][i][j]);
                    }
                }
            }};
        }
        for tap in 0..t.taps {
            let rows = t.a.add(tap * t.a_tap);
            let mut p = [core::ptr::null::<f32>(); MR];
            for i in 0..MR {
                p[i] = (*rows.add(i)).add(t.a_offset);
            }
            let mut k = 0;
            while k + 4 <= t.kc {
                step!(p, k, 0);
                step!(p, k, 1);
                step!(p, k, 2);
                step!(p, k, 3);
                for _ in 0..t.ahead_lines {
                    s.prefetch(ahead);
                    ahead = ahead.wrapping_add(LINE);
                }
                b = b.add(4 * width);
                k += 4;
            }
            while k < t.kc {
                step!(p, k, 0);
                b = b.add(width);
                k += 1;
            }
        }

        let mut all = acc[0];
        for u in 1..U {
            for i in 0..MR {
                for j in 0..NV {
                    all[i][j] = s.add(all[i][j], acc[u][i][j]);
                }
            }
        }
        let mut acc = all;

        if t.finish {
            if !t.residual.is_null() {
                for i in 0..MR {
                    for j in 0..NV {
                        let r = s.load_mask(t.residual.add(i * t.residual_stride + j * S::LANES), masks[j]);
                        acc[i][j] = s.add(acc[i][j], r);
                    }
                }
            }
            // The simple ones, each with a loop of its own.
            match t.act {
                Act::Relu => each(s, &mut acc, ClipMap(0.0, f32::INFINITY)),
                Act::Clip(lo, hi) => each(s, &mut acc, ClipMap(lo, hi)),
                Act::Leaky(alpha) => each(s, &mut acc, LeakyMap(alpha)),
                Act::HardSwish => each(s, &mut acc, HardSwishMap),
                _ => {}
            }
        }
        if t.cols >= width {
            for i in 0..MR {
                for j in 0..NV {
                    s.store(t.c.add(i * t.c_stride + j * S::LANES), acc[i][j]);
                }
            }
        } else {
            for i in 0..MR {
                for j in 0..NV {
                    s.store_mask(t.c.add(i * t.c_stride + j * S::LANES), acc[i][j], masks[j]);
                }
            }
        }
    }
}

#[inline(always)]
fn each<S: Simd, T: Map, const MR: usize, const NV: usize>(s: S, acc: &mut [[S::F; NV]; MR], f: T) {
    for i in 0..MR {
        for j in 0..NV {
            acc[i][j] = f.at(s, acc[i][j]);
        }
    }
}

/// The activations the microkernel leaves to a second pass over the tile, while it is in the first cache: those too
/// large to be repeated in every size of the kernel.
///
/// # Safety
/// As [`activate`].
#[inline(always)]
pub unsafe fn finish_tile<S: Simd>(s: S, p: *mut f32, rows: usize, cols: usize, stride: usize, act: Act) {
    if !act.is_simple() {
        // SAFETY: as the caller promises.
        unsafe { activate(s, p, rows, cols, stride, act) }
    }
}
