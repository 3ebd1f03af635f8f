//! <https://onnx.ai/onnx/operators/onnx__RoiAlign.html>

use crate::def::OpDef;
use crate::eval::{Datum, Eval};
use crate::infer::Infer;
use crate::shape::sizes;
use oxrt_ir::{Attrs, Dim};
use oxrt_tensor::{Error, Result, Tensor, bail};

/// Pools regions [x1, y1, x2, y2] of x [N, C, H, W] at points between the pixels (Mask R-CNN).
pub const OP: OpDef = OpDef::new("RoiAlign", &[10, 16, 22], 3..=3, infer, eval).examples(&[(
    "(f32[1, 1, 2, 2] x, f32[1, 4] r, i64[1] b) { y = RoiAlign<output_height=1, output_width=2>(x, r, b) } => y",
    &["x = 1 2 3 4", "r = 0 0 2 2", "b = 0"],
    "2 3",
)]);

fn window(attrs: &Attrs) -> Result<Vec<usize>> {
    let window = sizes(&[attrs.int_or("output_height", 1)?, attrs.int_or("output_width", 1)?])?;
    crate::copy::checked_len(&[window[0].max(1), window[1].max(1)])?;
    Ok(window)
}

fn infer(ctx: &mut Infer) -> Result<()> {
    let out = window(ctx.attrs())?;
    let count = match (ctx.dims(1), ctx.dims(2)) {
        (Some([n, _]), _) | (_, Some([n])) => n.clone(),
        _ => ctx.fresh(),
    };
    let channels = match ctx.dims(0) {
        Some([_, c, _, _]) => c.clone(),
        Some(other) => bail!(invalid, "the input should be [N, C, H, W], found {other:?}"),
        None => ctx.fresh(),
    };
    ctx.set(0, ctx.dtype(0)?, Some(vec![count, channels, Dim::from(out[0]), Dim::from(out[1])]));
    Ok(())
}

/// The four pixels around a point and their weights; `None` far outside.
fn around(y: f64, x: f64, height: usize, width: usize) -> Option<[(usize, f64); 4]> {
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

fn eval(ctx: &Eval) -> Result<Vec<Datum>> {
    let (x, rois, attrs) = (ctx.tensor(0)?, ctx.tensor(1)?, ctx.attrs());
    let batches = ctx.ints(2)?.ok_or_else(|| Error::invalid("the batch indices are missing"))?;
    let ([n, c, height, width], [count, 4]) = (x.shape(), rois.shape()) else {
        bail!(invalid, "an input of {:?} and regions of {:?}", x.shape(), rois.shape());
    };
    let (n, c, height, width, count) = (*n, *c, *height, *width, *count);
    if batches.len() != count || height * width == 0 {
        bail!(invalid, "{} batch indices for {count} regions of {:?}", batches.len(), x.shape());
    }
    let out = window(attrs)?;
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
    let samples = attrs.int_or("sampling_ratio", 0)?;
    let shape = [count, c, out[0], out[1]];
    let mut y = Vec::with_capacity(crate::copy::checked_len(&shape)?);
    let (data, rois) = (x.to_f64_vec()?, rois.to_f64_vec()?);
    for r in 0..count {
        let batch = crate::copy::index(batches[r], n)?;
        let at: Vec<f64> = rois[r * 4..r * 4 + 4].iter().map(|v| v * scale - half).collect();
        let (mut w, mut h) = (at[2] - at[0], at[3] - at[1]);
        if half == 0.0 {
            (w, h) = (w.max(1.0), h.max(1.0));
        }
        let (bin_h, bin_w) = (h / out[0] as f64, w / out[1] as f64);
        let grid = |bin: f64| if samples > 0 { samples as usize } else { bin.ceil().clamp(0.0, 1e9) as usize };
        let (gh, gw) = (grid(bin_h), grid(bin_w));
        if gh.saturating_mul(gw).saturating_mul(c * out[0] * out[1]) > 1 << 26 {
            bail!(unsupported, "a region sampled at {gh} by {gw} points");
        }
        for channel in 0..c {
            let plane = &data[(batch * c + channel) * height * width..(batch * c + channel + 1) * height * width];
            for (py, px) in (0..out[0]).flat_map(|py| (0..out[1]).map(move |px| (py, px))) {
                let mut values = Vec::with_capacity(gh * gw);
                for (iy, ix) in (0..gh).flat_map(|iy| (0..gw).map(move |ix| (iy, ix))) {
                    let v = at[1] + py as f64 * bin_h + (iy as f64 + 0.5) * bin_h / gh as f64;
                    let u = at[0] + px as f64 * bin_w + (ix as f64 + 0.5) * bin_w / gw as f64;
                    let parts = around(v, u, height, width).map(|p| p.map(|(o, w)| plane[o] * w));
                    // The greatest of the weighted pixels, as the operator was first implemented.
                    let one = |p: [f64; 4]| if average { p.iter().sum() } else { p.into_iter().fold(f64::MIN, f64::max) };
                    values.push(parts.map_or(0.0, one));
                }
                y.push(if average {
                    values.iter().sum::<f64>() / values.len().max(1) as f64
                } else {
                    values.into_iter().reduce(f64::max).unwrap_or(0.0)
                });
            }
        }
    }
    Ok(vec![Tensor::from_f64(x.dtype(), &shape, &y)?.into()])
}
