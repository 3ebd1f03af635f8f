//! <https://onnx.ai/onnx/operators/onnx__RoiAlign.html>

use crate::def::OpDef;
use crate::eval::{Datum, Eval};
use crate::infer::Infer;
use crate::roi::{Regions, around, window};
use oxrt_ir::Dim;
use oxrt_tensor::{Error, Result, Tensor, bail};

/// Pools regions [x1, y1, x2, y2] of x [N, C, H, W] at points between the pixels (Mask R-CNN).
pub const OP: OpDef = OpDef::new("RoiAlign", &[10, 16, 22], 3..=3, infer, eval).examples(&[(
    "(f32[1, 1, 2, 2] x, f32[1, 4] r, i64[1] b) { y = RoiAlign<output_height=1, output_width=2>(x, r, b) } => y",
    &["x = 1 2 3 4", "r = 0 0 2 2", "b = 0"],
    "2 3",
)]);

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
    let regions = Regions::new(attrs)?;
    let out = regions.out;
    let shape = [count, c, out[0], out[1]];
    let mut y = Vec::with_capacity(crate::copy::checked_len(&shape)?);
    let (data, rois) = (x.to_f64_vec()?, rois.to_f64_vec()?);
    for r in 0..count {
        let batch = crate::copy::index(batches[r], n)?;
        let region = regions.place(&[0, 1, 2, 3].map(|i| rois[r * 4 + i]));
        region.check(c * out[0] * out[1])?;
        for channel in 0..c {
            let plane = &data[(batch * c + channel) * height * width..(batch * c + channel + 1) * height * width];
            for (py, px) in (0..out[0]).flat_map(|py| (0..out[1]).map(move |px| (py, px))) {
                let points = region.points[0] * region.points[1];
                let mut values = Vec::with_capacity(points);
                for i in 0..points {
                    let (v, u) = region.point([py, px], i);
                    let parts = around(v, u, height, width).map(|p| p.map(|(o, w)| plane[o] * w));
                    // The greatest of the weighted pixels, as the operator was first implemented.
                    let one = |p: [f64; 4]| if regions.average { p.iter().sum() } else { p.into_iter().fold(f64::MIN, f64::max) };
                    values.push(parts.map_or(0.0, one));
                }
                y.push(if regions.average {
                    values.iter().sum::<f64>() / values.len().max(1) as f64
                } else {
                    values.into_iter().reduce(f64::max).unwrap_or(0.0)
                });
            }
        }
    }
    Ok(vec![Tensor::from_f64(x.dtype(), &shape, &y)?.into()])
}
