//! Where `RoiAlign` samples its regions (He et al., 2017, Mask R-CNN).

use crate::shape::sizes;
use oxrt_ir::Attrs;
use oxrt_tensor::{Result, bail};

/// The attributes of `RoiAlign`.
#[derive(Clone, Debug)]
pub struct Regions {
    /// Bins, rows before columns.
    pub out: [usize; 2],
    /// The mean of a bin's points, or the greatest.
    pub average: bool,
    half: f64,
    scale: f64,
    samples: i64,
}

/// Bins of a region; all pairs are rows before columns.
#[derive(Clone, Copy, Debug)]
pub struct Region {
    start: [f64; 2],
    bin: [f64; 2],
    /// Points in each bin.
    pub points: [usize; 2],
}

/// The bins that the attributes ask for.
pub fn window(attrs: &Attrs) -> Result<[usize; 2]> {
    let window = sizes(&[attrs.int_or("output_height", 1)?, attrs.int_or("output_width", 1)?])?;
    crate::copy::checked_len(&[window[0].max(1), window[1].max(1)])?;
    Ok([window[0], window[1]])
}

impl Regions {
    /// Reads the attributes.
    ///
    /// # Errors
    /// For sizes below 0 and modes that the operator does not have.
    pub fn new(attrs: &Attrs) -> Result<Regions> {
        let half = match attrs.string_or("coordinate_transformation_mode", "half_pixel")? {
            "half_pixel" => 0.5,
            "output_half_pixel" => 0.0,
            other => bail!(invalid, "the coordinate transformation `{other}` is unknown"),
        };
        let average = match attrs.string_or("mode", "avg")? {
            "avg" => true,
            "max" => false,
            other => bail!(invalid, "the mode is avg or max, not `{other}`"),
        };
        let scale = attrs.float_or("spatial_scale", 1.0)? as f64;
        Ok(Regions { out: window(attrs)?, average, half, scale, samples: attrs.int_or("sampling_ratio", 0)? })
    }

    /// The region with corners x1, y1, x2, y2.
    pub fn place(&self, corners: &[f64; 4]) -> Region {
        let at = corners.map(|v| v * self.scale - self.half);
        let (mut w, mut h) = (at[2] - at[0], at[3] - at[1]);
        if self.half == 0.0 {
            (w, h) = (w.max(1.0), h.max(1.0));
        }
        let bin = [h / self.out[0] as f64, w / self.out[1] as f64];
        let grid = |bin: f64| match self.samples {
            1.. => self.samples as usize,
            _ => bin.ceil().clamp(0.0, 1e9) as usize,
        };
        Region { start: [at[1], at[0]], bin, points: bin.map(grid) }
    }
}

impl Region {
    /// Refuses regions that ask for unreasonably many points, for so many results.
    ///
    /// # Errors
    /// Above 2^26 points.
    pub fn check(&self, results: usize) -> Result<()> {
        let [h, w] = self.points;
        if h.saturating_mul(w).saturating_mul(results) > 1 << 26 {
            bail!(unsupported, "a region sampled at {h} by {w} points");
        }
        Ok(())
    }

    /// Row and column of point `i` of a bin.
    pub fn point(&self, bin: [usize; 2], i: usize) -> (f64, f64) {
        let [gh, gw] = self.points;
        let at = |d: usize, k: usize, n: usize| {
            self.start[d] + bin[d] as f64 * self.bin[d] + (k as f64 + 0.5) * self.bin[d] / n as f64
        };
        (at(0, i / gw, gh), at(1, i % gw, gw))
    }
}

/// The four pixels around a point and their weights; `None` far outside.
pub fn around(y: f64, x: f64, height: usize, width: usize) -> Option<[(usize, f64); 4]> {
    let (h, w) = (height as f64, width as f64);
    if y < -1.0 || y > h || x < -1.0 || x > w {
        return None;
    }
    let place = |v: f64, n: usize| -> (usize, usize, f64) {
        let v = v.max(0.0);
        let low = (v as usize).min(n - 1);
        if low >= n - 1 { (n - 1, n - 1, 0.0) } else { (low, low + 1, v - low as f64) }
    };
    let ((y0, y1, fy), (x0, x1, fx)) = (place(y, height), place(x, width));
    Some([
        (y0 * width + x0, (1.0 - fy) * (1.0 - fx)),
        (y0 * width + x1, (1.0 - fy) * fx),
        (y1 * width + x0, fy * (1.0 - fx)),
        (y1 * width + x1, fy * fx),
    ])
}
