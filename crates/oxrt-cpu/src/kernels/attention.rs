//! The softmax inside attention, one block of scores at a time with running maximum and sum.
//!
//! Milakov and Gimelshein, "Online normalizer calculation for softmax": when a later block has a larger maximum, what was
//! summed before is scaled down by the returned factor.

use super::math;
use super::rows::{load_or, store_n};
use crate::simd::Simd;

/// What is added to or hidden from a row of scores.
#[derive(Clone, Copy, Debug)]
pub enum Mask {
    /// Nothing.
    None,
    /// These values are added; the second field is the step between columns (0 or 1).
    Add(*const f32, usize),
    /// Columns whose byte is zero are hidden; the second field is the step between columns (0 or 1).
    Keep(*const u8, usize),
}

/// One row of a block: scores become weights relative to the running maximum.
#[derive(Clone, Copy, Debug)]
pub struct ScoreRow {
    /// Scores, replaced by weights.
    pub scores: *mut f32,
    /// Columns in the block.
    pub n: usize,
    /// Columns from here on are hidden (causal attention); at most `n`.
    pub visible: usize,
    /// Factor of the scores.
    pub scale: f32,
    /// Soft cap of the scores (`cap tanh(s / cap)`), or zero.
    pub softcap: f32,
    /// Mask of the row.
    pub mask: Mask,
}

/// Turns the row into weights, updates `state` (maximum so far, of the scores times `log2 e`, and sum), and returns the
/// factor for what was summed before.
///
/// A NaN among the scores makes the sum, and so the whole result, NaN.
///
/// # Safety
/// The row's pointers cover `n` columns, `state` two floats.
#[inline(always)]
pub unsafe fn score_row<S: Simd>(s: S, row: &ScoreRow, state: *mut f32) -> f32 {
    use core::f32::consts::LOG2_E;
    let hidden = f32::NEG_INFINITY;
    let p = row.scores;
    let plain = row.softcap == 0.0 && matches!(row.mask, Mask::None) && row.scale >= 0.0;
    let mut top = s.splat(hidden);
    // SAFETY: inside the row.
    unsafe {
        let whole = row.visible / S::LANES * S::LANES;
        if plain {
            // Nothing comes between: the factor waits for the exponential.
            for i in (0..whole).step_by(S::LANES) {
                top = s.max(s.load(p.add(i)), top);
            }
            if whole < row.visible {
                top = s.max(load_or(s, p.add(whole), row.visible - whole, hidden), top);
            }
        } else {
            for i in (0..row.visible).step_by(S::LANES) {
                let left = row.visible - i;
                let v = masked(s, row, i, left);
                top = s.max(v, top);
                store_n(s, p.add(i), v, left);
            }
        }
        let factor = if plain { row.scale * LOG2_E } else { 1.0 };
        let before = *state;
        let mut now = s.max_lane(top);
        // A row that is hidden so far stays at weight zero.
        now = if now == hidden { hidden } else { now * factor };
        if before > now {
            now = before;
        }
        let base = if now == hidden { 0.0 } else { now };
        let (factor, basev) = (s.splat(factor), s.splat(-base));
        let mut sum = s.zero();
        for i in (0..whole).step_by(S::LANES) {
            let e = math::exp2_down(s, s.fma(s.load(p.add(i)), factor, basev));
            s.store(p.add(i), e);
            sum = s.add(sum, e);
        }
        if whole < row.visible {
            let left = row.visible - whole;
            let m = s.first(left);
            let v = s.fma(s.load_mask(p.add(whole), m), factor, basev);
            let e = math::exp2_down(s, s.blend(m, v, s.splat(hidden)));
            s.store_mask(p.add(whole), e, m);
            sum = s.add(sum, e);
        }
        for j in row.visible..row.n {
            *p.add(j) = 0.0;
        }
        let factor = if before == hidden { 0.0 } else { (before - base).exp2() };
        *state = now;
        *state.add(1) = *state.add(1) * factor + s.sum(sum);
        factor
    }
}

/// Scores from column `i` on, with factor, soft cap and mask, times `log2 e`; hidden ones minus infinity.
///
/// # Safety
/// As [`score_row`].
#[inline(always)]
unsafe fn masked<S: Simd>(s: S, row: &ScoreRow, i: usize, left: usize) -> S::F {
    let hidden = f32::NEG_INFINITY;
    let log2e = s.splat(core::f32::consts::LOG2_E);
    // SAFETY: inside the row.
    unsafe {
        let scores = load_or(s, row.scores.add(i), left, hidden);
        let mut v = if row.softcap != 0.0 {
            let t = math::tanh(s, s.div(s.mul(scores, s.splat(row.scale)), s.splat(row.softcap)));
            s.mul(t, s.mul(s.splat(row.softcap), log2e))
        } else {
            s.mul(scores, s.splat(row.scale * core::f32::consts::LOG2_E))
        };
        match row.mask {
            Mask::None => {}
            Mask::Add(m, 0) => v = s.fma(s.splat(*m), log2e, v),
            Mask::Add(m, _) => v = s.fma(load_or(s, m.add(i), left, 0.0), log2e, v),
            Mask::Keep(m, 1) if left >= S::LANES => {
                // Of constant length, so that vectors do it.
                let mut lanes = [hidden; 16];
                for l in 0..S::LANES {
                    lanes[l] = if *m.add(i + l) != 0 { 0.0 } else { hidden };
                }
                v = s.add(v, s.load(lanes.as_ptr()));
            }
            Mask::Keep(m, step) => {
                let mut lanes = [hidden; 16];
                for (l, lane) in lanes.iter_mut().enumerate().take(left.min(S::LANES)) {
                    if *m.add((i + l) * step) != 0 {
                        *lane = 0.0;
                    }
                }
                v = s.add(v, s.load(lanes.as_ptr()));
            }
        }
        if left < S::LANES { s.blend(s.first(left), v, s.splat(hidden)) } else { v }
    }
}
