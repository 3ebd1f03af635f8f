//! <https://onnx.ai/onnx/operators/onnx__AffineGrid.html>

use crate::copy::checked_len;
use crate::def::OpDef;
use crate::eval::{Datum, Eval};
use crate::infer::Infer;
use crate::shape::sizes;
use oxrt_ir::Dim;
use oxrt_tensor::{Error, Result, Tensor, bail};

/// The grid for `GridSample` under affine maps theta [N, r, r + 1]; input 1 is the output size [N, C, spatial…].
pub const OP: OpDef = OpDef::new("AffineGrid", &[20], 2..=2, infer, eval).examples(&[(
    "(f32[1, 2, 3] t) { y = AffineGrid(t, i64[4]{1, 1, 1, 2}) } => y",
    &["t = 1 0 0.5 0 1 0"],
    "0 0 1 0",
)]);

fn infer(ctx: &mut Infer) -> Result<()> {
    let dims = match ctx.contents(1) {
        Some(c) if c.elements.len() > 2 => {
            let mut dims = vec![c.elements[0].clone()];
            dims.extend_from_slice(&c.elements[2..]);
            dims.push(Dim::from(c.elements.len() - 2));
            Some(dims)
        }
        Some(c) => bail!(invalid, "an output of size {:?}", c.elements),
        None => ctx.length_of(1).map(|n| ctx.fresh_dims(n)),
    };
    ctx.set(0, ctx.dtype(0)?, dims);
    Ok(())
}

fn eval(ctx: &Eval) -> Result<Vec<Datum>> {
    let theta = ctx.tensor(0)?;
    let size = sizes(&ctx.ints(1)?.ok_or_else(|| Error::invalid("the size is missing"))?)?;
    let r = size.len().saturating_sub(2);
    if r == 0 || theta.shape() != [size[0], r, r + 1] {
        bail!(invalid, "maps of shape {:?} for an output of size {size:?}", theta.shape());
    }
    let corners = ctx.attrs().bool_or("align_corners", false)?;
    let spatial = &size[2..];
    let shape = [&[size[0]], spatial, &[r]].concat();
    let maps = theta.to_f64_vec()?;
    let strides = oxrt_tensor::strides_of(spatial);
    let points = checked_len(spatial)?;
    let mut out = Vec::with_capacity(checked_len(&shape)?);
    for n in 0..size[0] {
        for p in 0..points {
            // Coordinates of the innermost axis come first.
            let at = (0..r).rev().map(|d| {
                let (i, len) = ((p / strides[d] % spatial[d]) as f64, spatial[d] as f64);
                match corners {
                    true if len > 1.0 => 2.0 * i / (len - 1.0) - 1.0,
                    true => 0.0,
                    false => (2.0 * i + 1.0) / len - 1.0,
                }
            });
            let at: Vec<f64> = at.chain([1.0]).collect();
            let row = |k: usize| &maps[(n * r + k) * (r + 1)..(n * r + k + 1) * (r + 1)];
            out.extend((0..r).map(|k| row(k).iter().zip(&at).map(|(a, b)| a * b).sum::<f64>()));
        }
    }
    Ok(vec![Tensor::from_f64(theta.dtype(), &shape, &out)?.into()])
}
