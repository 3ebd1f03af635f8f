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

/// Turns the row into weights, updates `state` (maximum and sum so far), and returns the factor for what was summed before.
///
/// # Safety
/// The row's pointers cover `n` columns, `state` two floats.
#[inline(always)]
pub unsafe fn score_row<S: Simd>(s: S, row: &ScoreRow, state: *mut f32) -> f32 {
    let hidden = f32::NEG_INFINITY;
    let p = row.scores;
    let mut top = s.splat(hidden);
    let mut nan = s.zero();
    let scale = s.splat(row.scale);
    let mut i = 0;
    // SAFETY: inside the row.
    unsafe {
        while i < row.visible {
            let left = row.visible - i;
            let mut v = s.mul(load_or(s, p.add(i), left, hidden), scale);
            if row.softcap != 0.0 {
                let t = math::tanh(s, s.div(v, s.splat(row.softcap)));
                v = s.mul(t, s.splat(row.softcap));
            }
            match row.mask {
                Mask::None => {}
                Mask::Add(m, 0) => v = s.add(v, s.splat(*m)),
                Mask::Add(m, _) => v = s.add(v, load_or(s, m.add(i), left, 0.0)),
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
            if left < S::LANES {
                v = s.blend(s.first(left), v, s.splat(hidden));
            }
            top = s.max(v, top);
            nan = s.blend(s.eq(v, v), nan, s.splat(1.0));
            store_n(s, p.add(i), v, left);
            i += S::LANES;
        }
        let before = *state;
        let mut now = s.max_lane(top);
        if before > now {
            now = before;
        }
        if s.sum(nan) > 0.0 || before.is_nan() {
            now = f32::NAN;
        }
        // A row that is hidden so far stays at weight zero.
        let base = if now == hidden { 0.0 } else { now };
        let basev = s.splat(base);
        let mut sum = s.zero();
        i = 0;
        while i < row.visible {
            let left = row.visible - i;
            let e = math::exp(s, s.sub(load_or(s, p.add(i), left, hidden), basev));
            store_n(s, p.add(i), e, left);
            sum = s.add(sum, e);
            i += S::LANES;
        }
        for j in row.visible..row.n {
            *p.add(j) = 0.0;
        }
        let factor = if before == hidden { 0.0 } else { (before - base).exp() };
        *state = now;
        *state.add(1) = *state.add(1) * factor + s.sum(sum);
        factor
    }
}
