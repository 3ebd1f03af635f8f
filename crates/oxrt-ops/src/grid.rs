//! Where the points of a sampling grid lie along an axis, for `GridSample`.

use crate::resample::cubic_weights;
use oxrt_ir::Attrs;
use oxrt_tensor::{Result, bail};

/// How points between pixels are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Nearest,
    Linear,
    Cubic,
}

/// What lies outside the image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Padding {
    Zeros,
    Border,
    Reflection,
}

/// What the attributes of `GridSample` say.
#[derive(Clone, Copy, Debug)]
pub struct Sampling {
    pub mode: Mode,
    pub padding: Padding,
    pub corners: bool,
}

/// Pixels along one axis, and their weights; `None` where a zero lies.
pub type Taps = [(Option<usize>, f64); 4];

impl Sampling {
    /// Reads the attributes.
    ///
    /// # Errors
    /// Unknown modes.
    pub fn new(attrs: &Attrs) -> Result<Sampling> {
        let mode = match attrs.string_or("mode", "linear")? {
            "linear" | "bilinear" => Mode::Linear,
            "cubic" | "bicubic" => Mode::Cubic,
            "nearest" => Mode::Nearest,
            other => bail!(invalid, "the mode `{other}` is unknown"),
        };
        let padding = match attrs.string_or("padding_mode", "zeros")? {
            "zeros" => Padding::Zeros,
            "border" => Padding::Border,
            "reflection" => Padding::Reflection,
            other => bail!(invalid, "the padding mode `{other}` is unknown"),
        };
        Ok(Sampling { mode, padding, corners: attrs.bool_or("align_corners", false)? })
    }

    /// Taps per axis.
    pub fn count(&self) -> usize {
        match self.mode {
            Mode::Nearest => 1,
            Mode::Linear => 2,
            Mode::Cubic => 4,
        }
    }

    /// The taps of coordinate `v` (-1 to 1) along an axis of `size` > 0 pixels; the first [`Sampling::count`] count.
    pub fn taps(&self, size: usize, v: f64) -> Taps {
        let last = size as f64 - 1.0;
        let at = if self.corners { (v + 1.0) / 2.0 * last } else { ((v + 1.0) * size as f64 - 1.0) / 2.0 };
        let at = if self.mode == Mode::Nearest { at.round_ties_even() } else { at };
        let (low, high) = if self.corners { (0.0, last) } else { (-0.5, last + 0.5) };
        // Cubic interpolation moves its taps inside, not the point.
        let at = match self.padding {
            _ if self.mode == Mode::Cubic => at,
            Padding::Border if at < low || at > high => at.clamp(0.0, last),
            Padding::Reflection if at < low || at > high => reflect(at, low, high),
            _ => at,
        };
        let place = |i: f64| -> Option<usize> {
            let i = match self.padding {
                Padding::Zeros if i < 0.0 || i > last => return None,
                Padding::Zeros => i,
                Padding::Border => i.clamp(0.0, last),
                Padding::Reflection => reflect(i, low, high).trunc().clamp(0.0, last),
            };
            // NaN lands on the first.
            Some((i as usize).min(size - 1))
        };
        let first = at.floor();
        let part = at - first;
        let mut taps = [(None, 0.0); 4];
        match self.mode {
            Mode::Nearest => taps[0] = (place(at), 1.0),
            Mode::Linear => {
                taps[0] = (place(first), 1.0 - part);
                taps[1] = (place(first + 1.0), part);
            }
            Mode::Cubic => {
                let weights = cubic_weights(part, -0.75);
                (0..4).for_each(|k| taps[k] = (place(first + k as f64 - 1.0), weights[k]));
            }
        }
        taps
    }
}

/// Bounces off both borders until it is between them.
fn reflect(x: f64, low: f64, high: f64) -> f64 {
    let span = high - low;
    if span <= 0.0 {
        return low;
    }
    let away = (x - low).rem_euclid(2.0 * span);
    low + away.min(2.0 * span - away)
}
