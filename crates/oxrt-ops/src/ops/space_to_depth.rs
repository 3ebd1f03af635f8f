//! <https://onnx.ai/onnx/operators/onnx__SpaceToDepth.html>

use super::depth_to_space::block;
use crate::copy::permute;
use crate::def::OpDef;
use crate::eval::{Datum, Eval};
use crate::infer::Infer;
use oxrt_ir::Dim;
use oxrt_tensor::{Result, bail};

/// Moves blocks of the plane [N, C, H, W] into channels: [N, C·b², H/b, W/b].
pub const OP: OpDef = OpDef::new("SpaceToDepth", &[1, 13, 28], 1..=1, infer, eval).examples(&[(
    "(f32[1, 1, 2, 4] x) { y = SpaceToDepth<blocksize=2>(x) } => y",
    &["x = 1 2 3 4 5 6 7 8"],
    "1 3 2 4 5 7 6 8",
)]);

fn infer(ctx: &mut Infer) -> Result<()> {
    let b = Dim::from(block(ctx.attrs())?);
    let dims = match ctx.dims(0) {
        Some([n, c, h, w]) => {
            Some(vec![n.clone(), c.clone() * b.clone() * b.clone(), h.floor_div(&b), w.floor_div(&b)])
        }
        Some(other) => bail!(invalid, "the input should be [N, C, H, W], found {other:?}"),
        None => Some(ctx.fresh_dims(4)),
    };
    ctx.set(0, ctx.dtype(0)?, dims);
    Ok(())
}

fn eval(ctx: &Eval) -> Result<Vec<Datum>> {
    let (x, s) = (ctx.tensor(0)?, block(ctx.attrs())?);
    let [n, c, h, w] = *x.shape() else { bail!(invalid, "the input should be [N, C, H, W], found {:?}", x.shape()) };
    if h % s != 0 || w % s != 0 {
        bail!(invalid, "a plane of {h} by {w} does not make blocks of {s}");
    }
    let split = x.reshaped(&[n, c, h / s, s, w / s, s])?;
    let order = match ctx.attrs().string_or("mode", "DCR")? {
        "DCR" => [0, 3, 5, 1, 2, 4],
        "CRD" => [0, 1, 3, 5, 2, 4],
        other => bail!(invalid, "the mode is DCR or CRD, not `{other}`"),
    };
    Ok(vec![permute(&split, &order)?.reshaped(&[n, c * s * s, h / s, w / s])?.into()])
}
