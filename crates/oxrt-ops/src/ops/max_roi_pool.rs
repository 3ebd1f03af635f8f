//! <https://onnx.ai/onnx/operators/onnx__MaxRoiPool.html>

use crate::def::OpDef;
use crate::eval::{Datum, Eval};
use crate::infer::Infer;
use crate::shape::sizes;
use oxrt_ir::{Attrs, Dim};
use oxrt_tensor::{Error, Result, Tensor, bail};

/// Greatest values of a grid over regions [batch, x1, y1, x2, y2] of x [N, C, H, W] (Fast R-CNN).
pub const OP: OpDef = OpDef::new("MaxRoiPool", &[1, 22], 2..=2, infer, eval).examples(&[(
    "(f32[1, 1, 2, 2] x, f32[1, 5] r) { y = MaxRoiPool<pooled_shape=[1, 2]>(x, r) } => y",
    &["x = 1 2 3 4", "r = 0 0 0 1 1"],
    "3 4",
)]);

fn grid(attrs: &Attrs) -> Result<Vec<usize>> {
    let shape = attrs.ints("pooled_shape")?.ok_or_else(|| Error::invalid("`pooled_shape` is missing"))?;
    match sizes(shape)? {
        s if s.len() == 2 && crate::copy::checked_len(&[s[0].max(1), s[1].max(1)]).is_ok() => Ok(s),
        s => bail!(invalid, "pooled_shape {s:?}"),
    }
}

fn infer(ctx: &mut Infer) -> Result<()> {
    let out = grid(ctx.attrs())?;
    let count = ctx.dims(1).and_then(|d| d.first().cloned()).unwrap_or_else(|| ctx.fresh());
    let channels = ctx.dims(0).and_then(|d| d.get(1).cloned()).unwrap_or_else(|| ctx.fresh());
    ctx.set(0, ctx.dtype(0)?, Some(vec![count, channels, Dim::from(out[0]), Dim::from(out[1])]));
    Ok(())
}

fn eval(ctx: &Eval) -> Result<Vec<Datum>> {
    let (x, rois) = (ctx.tensor(0)?, ctx.tensor(1)?);
    let ([n, c, height, width], [count, 5]) = (x.shape(), rois.shape()) else {
        bail!(invalid, "an input of {:?} and regions of {:?}", x.shape(), rois.shape());
    };
    let (n, c, height, width, count) = (*n, *c, *height, *width, *count);
    let out = grid(ctx.attrs())?;
    let scale = ctx.attrs().float_or("spatial_scale", 1.0)? as f64;
    let shape = [count, c, out[0], out[1]];
    let mut y = Vec::with_capacity(crate::copy::checked_len(&shape)?);
    let (data, rois) = (x.to_f64_vec()?, rois.to_f64_vec()?);
    for r in 0..count {
        let batch = crate::copy::index(rois[r * 5] as i64, n)?;
        let at: Vec<f64> = rois[r * 5 + 1..r * 5 + 5].iter().map(|v| (v * scale).round()).collect();
        // Pixels of bin k along one axis.
        let bin = |low: f64, high: f64, bins: usize, k: usize, size: usize| {
            let step = (high - low + 1.0).max(1.0) / bins as f64;
            let limit = |v: f64| (v + low).clamp(0.0, size as f64) as usize;
            limit((k as f64 * step).floor())..limit(((k + 1) as f64 * step).ceil())
        };
        for channel in 0..c {
            let plane = &data[(batch * c + channel) * height * width..][..height * width];
            for (py, px) in (0..out[0]).flat_map(|py| (0..out[1]).map(move |px| (py, px))) {
                let (ys, xs) = (bin(at[1], at[3], out[0], py, height), bin(at[0], at[2], out[1], px, width));
                let pixels = ys.flat_map(|v| xs.clone().map(move |u| plane[v * width + u]));
                y.push(pixels.reduce(f64::max).unwrap_or(0.0));
            }
        }
    }
    Ok(vec![Tensor::from_f64(x.dtype(), &shape, &y)?.into()])
}
