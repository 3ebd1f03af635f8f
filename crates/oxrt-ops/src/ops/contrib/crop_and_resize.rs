//! <https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md#com.microsoft.CropAndResize>

use crate::copy::checked_len;
use crate::def::OpDef;
use crate::eval::{Datum, Eval};
use crate::infer::Infer;
use oxrt_ir::Dim;
use oxrt_tensor::{Result, Tensor, bail};

/// Regions [regions, (y1, x1, y2, x2)] in 0..1 of the pictures that input 2 names, each scaled to the size in input 3,
/// as TensorFlow's `crop_and_resize`.
pub const OP: OpDef = OpDef::new("com.microsoft.CropAndResize", &[1], 4..=4, infer, eval).examples(&[(
    "(f32[1, 1, 2, 2] x, f32[1, 4] r, i32[1] i) { y = com.microsoft.CropAndResize(x, r, i, i32[2]{1, 3}) } => y",
    &["x = 0 1 2 3", "r = 0 0 1 1", "i = 0"],
    "1 1.5 2",
)]);

fn infer(ctx: &mut Infer) -> Result<()> {
    let size = ctx.const_ints(3);
    let dims = match (ctx.dims(0), ctx.dims(1)) {
        (Some([_, c, _, _]), Some([n, _])) => {
            let (c, n) = (c.clone(), n.clone());
            let side = |ctx: &mut Infer, i: usize| match size.as_ref().and_then(|s| s.get(i)) {
                Some(&s) if s > 0 => Dim::Const(s),
                _ => ctx.fresh(),
            };
            Some(vec![n, c, side(ctx, 0), side(ctx, 1)])
        }
        _ => None,
    };
    ctx.set(0, ctx.dtype(0)?, dims);
    Ok(())
}

fn eval(ctx: &Eval) -> Result<Vec<Datum>> {
    let (x, rois) = (ctx.tensor(0)?, ctx.tensor(1)?);
    let ([batch, channels, height, width], [regions, 4]) = (x.shape(), rois.shape()) else {
        bail!(invalid, "pictures {:?} and regions {:?}", x.shape(), rois.shape())
    };
    let (batch, channels, height, width, regions) = (*batch, *channels, *height, *width, *regions);
    let (which, size) = (ctx.ints(2)?.unwrap_or_default(), ctx.ints(3)?.unwrap_or_default());
    let (rows, columns) = match size[..] {
        [h, w] if h > 0 && w > 0 => (h as usize, w as usize),
        _ => bail!(invalid, "a crop size of {size:?}"),
    };
    let nearest = match ctx.attrs().string_or("mode", "bilinear")? {
        "bilinear" => false,
        "nearest" => true,
        other => bail!(invalid, "the mode `{other}` is unknown"),
    };
    if which.len() != regions || height == 0 || width == 0 {
        bail!(invalid, "{} picture numbers for {regions} regions of {:?}", which.len(), x.shape());
    }
    let outside = ctx.attrs().float_or("extrapolation_value", 0.0)? as f64;
    let shape = [regions, channels, rows, columns];
    let mut out = Vec::with_capacity(checked_len(&shape)?);
    let (data, rois) = (x.to_f64_vec()?, rois.to_f64_vec()?);
    // The middle when one sample is taken, else from edge to edge.
    let position = |i: usize, n: usize, from: f64, to: f64, side: usize| {
        let last = (side - 1) as f64;
        if n > 1 { from * last + i as f64 * (to - from) * last / (n - 1) as f64 } else { 0.5 * (from + to) * last }
    };
    // Positions are in f32, where 3.49999994 is 3.5.
    let nearest_to = |v: f64| (v as f32).round() as usize;
    for (r, picture) in which.into_iter().enumerate() {
        let Some(picture) = usize::try_from(picture).ok().filter(|&p| p < batch) else {
            bail!(invalid, "region {r} is of picture {picture}, of which there are {batch}")
        };
        let [y1, x1, y2, x2] = [0, 1, 2, 3].map(|k| rois[r * 4 + k]);
        for c in 0..channels {
            let plane = &data[(picture * channels + c) * height * width..][..height * width];
            for i in 0..rows {
                for j in 0..columns {
                    let (y, x) = (position(i, rows, y1, y2, height), position(j, columns, x1, x2, width));
                    let inside = |v: f64, side: usize| v >= 0.0 && v <= (side - 1) as f64;
                    out.push(match () {
                        _ if !inside(y, height) || !inside(x, width) => outside,
                        _ if nearest => plane[nearest_to(y) * width + nearest_to(x)],
                        _ => {
                            let at = |y: f64, x: f64| plane[y as usize * width + x as usize];
                            let (top, left) = (y.floor(), x.floor());
                            let (fy, fx) = (y - top, x - left);
                            let mix = |y: f64| at(y, left) * (1.0 - fx) + at(y, x.ceil()) * fx;
                            mix(top) * (1.0 - fy) + mix(y.ceil()) * fy
                        }
                    });
                }
            }
        }
    }
    Ok(vec![Tensor::from_f64(x.dtype(), &shape, &out)?.into()])
}
