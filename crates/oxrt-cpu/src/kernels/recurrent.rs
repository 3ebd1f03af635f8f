//! The elementwise ends of recurrent cells: gates in, new state out.

use super::math;
use super::rows::{load_or, store_n};
use crate::simd::Simd;

/// One LSTM cell of `n` units: `gates` holds the sums of input, output, forget and cell gate, `step` apart; `c` is updated in
/// place.
///
/// # Safety
/// `n` floats are readable at each of the four gates, `n` writable at `c` and `h`.
#[inline(always)]
pub unsafe fn lstm_cell<S: Simd>(s: S, gates: *const f32, step: usize, c: *mut f32, h: *mut f32, n: usize) {
    let mut i = 0;
    while i < n {
        let left = n - i;
        // SAFETY: inside the units.
        unsafe {
            let input = math::sigmoid(s, load_or(s, gates.add(i), left, 0.0));
            let output = math::sigmoid(s, load_or(s, gates.add(step + i), left, 0.0));
            let forget = math::sigmoid(s, load_or(s, gates.add(2 * step + i), left, 0.0));
            let cell = math::tanh(s, load_or(s, gates.add(3 * step + i), left, 0.0));
            let next = s.fma(forget, load_or(s, c.add(i), left, 0.0), s.mul(input, cell));
            store_n(s, c.add(i), next, left);
            store_n(s, h.add(i), s.mul(output, math::tanh(s, next)), left);
        }
        i += S::LANES;
    }
}

/// What an LSTM cell may have beside its gates.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LstmExtras {
    /// Weights of the cell state in the sums of input, output and forget gate, or null.
    pub peepholes: *const f32,
    /// Floats from the weights of one gate to those of the next.
    pub peephole_step: usize,
    /// Largest magnitude of what an activation takes.
    pub clip: f32,
    /// The forget gate is one less the input gate.
    pub coupled: bool,
}

/// [`lstm_cell`] with extras.
///
/// # Safety
/// As [`lstm_cell`]; the peepholes have `n` floats for each of the three gates.
#[inline(always)]
pub unsafe fn lstm_cell_with<S: Simd>(
    s: S,
    gates: *const f32,
    step: usize,
    c: *mut f32,
    h: *mut f32,
    n: usize,
    extras: &LstmExtras,
) {
    let (low, high) = (s.splat(-extras.clip), s.splat(extras.clip));
    for i in (0..n).step_by(S::LANES) {
        let left = n - i;
        // No closures: they would not inherit the tier's instructions. A NaN stays one, as the second operand.
        macro_rules! clipped {
            ($v:expr) => {
                s.max(low, s.min(high, $v))
            };
        }
        macro_rules! sum {
            ($gate:literal, $peephole:literal, $cell:expr) => {{
                let sum = load_or(s, gates.add($gate * step + i), left, 0.0);
                if extras.peepholes.is_null() {
                    clipped!(sum)
                } else {
                    clipped!(s.fma(
                        load_or(s, extras.peepholes.add($peephole * extras.peephole_step + i), left, 0.0),
                        $cell,
                        sum
                    ))
                }
            }};
        }
        // SAFETY: inside the units.
        unsafe {
            let old = load_or(s, c.add(i), left, 0.0);
            let input = math::sigmoid(s, sum!(0, 0, old));
            let forget = if extras.coupled { s.sub(s.splat(1.0), input) } else { math::sigmoid(s, sum!(2, 2, old)) };
            let cell = math::tanh(s, clipped!(load_or(s, gates.add(3 * step + i), left, 0.0)));
            let next = s.fma(forget, old, s.mul(input, cell));
            let output = math::sigmoid(s, sum!(1, 1, next));
            store_n(s, c.add(i), next, left);
            store_n(s, h.add(i), s.mul(output, math::tanh(s, clipped!(next))), left);
        }
    }
}

/// One GRU cell of `n` units, from the sums of update, reset and hidden gate of the input (`x`) and of the state (`r`), `x_step`
/// and `r_step` apart:
/// `h' = (1 - z) tanh(x_h + reset r_h) + z h`, or without `linear` `tanh(x_h + r_h)`, where the reset gate is in the state
/// that `r_h` was made of ([`gru_reset`]). The new state may replace `h`.
///
/// # Safety
/// `n` floats are readable at each gate of `x` and `r`, and at `h`, `n` writable at `out`.
#[inline(always)]
pub unsafe fn gru_cell<S: Simd>(
    s: S,
    x: *const f32,
    x_step: usize,
    r: *const f32,
    r_step: usize,
    h: *const f32,
    out: *mut f32,
    n: usize,
    linear: bool,
) {
    let mut i = 0;
    while i < n {
        let left = n - i;
        // SAFETY: inside the units.
        unsafe {
            let (xz, rz) = (load_or(s, x.add(i), left, 0.0), load_or(s, r.add(i), left, 0.0));
            let (xr, rr) = (load_or(s, x.add(x_step + i), left, 0.0), load_or(s, r.add(r_step + i), left, 0.0));
            let (xh, rh) = (load_or(s, x.add(2 * x_step + i), left, 0.0), load_or(s, r.add(2 * r_step + i), left, 0.0));
            let z = math::sigmoid(s, s.add(xz, rz));
            let reset = if linear { math::sigmoid(s, s.add(xr, rr)) } else { s.splat(1.0) };
            let new = math::tanh(s, s.fma(reset, rh, xh));
            let old = load_or(s, h.add(i), left, 0.0);
            store_n(s, out.add(i), s.fma(z, s.sub(old, new), new), left);
        }
        i += S::LANES;
    }
}

/// The state of `n` units behind the reset gate: `sigmoid(x + r) h`, from that gate's sums.
///
/// # Safety
/// `n` floats are readable at `x`, `r` and `h`, `n` writable at `out`.
#[inline(always)]
pub unsafe fn gru_reset<S: Simd>(s: S, x: *const f32, r: *const f32, h: *const f32, out: *mut f32, n: usize) {
    for i in (0..n).step_by(S::LANES) {
        let left = n - i;
        // SAFETY: inside the units.
        unsafe {
            let sum = s.add(load_or(s, x.add(i), left, 0.0), load_or(s, r.add(i), left, 0.0));
            store_n(s, out.add(i), s.mul(math::sigmoid(s, sum), load_or(s, h.add(i), left, 0.0)), left);
        }
    }
}
