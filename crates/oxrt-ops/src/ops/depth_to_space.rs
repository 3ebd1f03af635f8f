//! <https://onnx.ai/onnx/operators/onnx__DepthToSpace.html>

use crate::copy::permute;
use crate::def::OpDef;
use crate::eval::{Datum, Eval};
use crate::infer::Infer;
use oxrt_ir::{Attrs, Dim};
use oxrt_tensor::{Result, bail};

/// Moves blocks of channels [N, C, H, W] into the plane: [N, C/b², H·b, W·b].
pub const OP: OpDef = OpDef::new("DepthToSpace", &[1, 11, 13, 28], 1..=1, infer, eval).examples(&[
    ("(f32[1, 4, 1, 1] x) { y = DepthToSpace<blocksize=2>(x) } => y", &["x = 1 2 3 4"], "1 2 3 4"),
    (
        "(f32[1, 8, 1, 1] x) { y = DepthToSpace<blocksize=2, mode=\"CRD\">(x) } => y",
        &["x = 1 2 3 4 5 6 7 8"],
        "1 2 3 4 5 6 7 8",
    ),
    (
        "(f32[1, 8, 1, 1] x) { y = DepthToSpace<blocksize=2>(x) } => y",
        &["x = 1 2 3 4 5 6 7 8"],
        "1 3 5 7 2 4 6 8",
    ),
]);

pub(super) fn block(attrs: &Attrs) -> Result<usize> {
    match attrs.get_int("blocksize")? {
        Some(&b) if (1..=1 << 15).contains(&b) => Ok(b as usize),
        other => bail!(invalid, "a blocksize of {other:?}"),
    }
}

fn infer(ctx: &mut Infer) -> Result<()> {
    let b = Dim::from(block(ctx.attrs())?);
    let dims = match ctx.dims(0) {
        Some([n, c, h, w]) => {
            let area = b.clone() * b.clone();
            Some(vec![n.clone(), c.floor_div(&area), h.clone() * b.clone(), w.clone() * b])
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
    if c % (s * s) != 0 {
        bail!(invalid, "{c} channels do not make blocks of {s}²");
    }
    let d = c / (s * s);
    let moved = match ctx.attrs().string_or("mode", "DCR")? {
        "DCR" => permute(&x.reshaped(&[n, s, s, d, h, w])?, &[0, 3, 4, 1, 5, 2])?,
        "CRD" => permute(&x.reshaped(&[n, d, s, s, h, w])?, &[0, 1, 4, 2, 5, 3])?,
        other => bail!(invalid, "the mode is DCR or CRD, not `{other}`"),
    };
    Ok(vec![moved.reshaped(&[n, d, h * s, w * s])?.into()])
}
