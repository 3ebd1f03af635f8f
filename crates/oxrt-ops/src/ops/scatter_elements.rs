//! <https://onnx.ai/onnx/operators/onnx__ScatterElements.html>

use super::gather_elements::element_offsets;
use crate::copy::scatter;
use crate::def::OpDef;
use crate::eval::{Datum, Eval};
use crate::shape::{axis, same_as_input};
use oxrt_tensor::{Result, bail};

pub const OP: OpDef = OpDef::new("ScatterElements", &[11, 13, 16, 18], 3..=3, same_as_input, eval).examples(&[
    (
        "(f32[1, 3] x, i64[1, 2] i, f32[1, 2] u) { y = ScatterElements<axis=1>(x, i, u) } => y",
        &["x = 1 2 3", "i = 2 0", "u = 8 9"],
        "9 2 8",
    ),
    (
        "(f32[3] x, i64[2] i, f32[2] u) { y = ScatterElements<reduction=\"add\">(x, i, u) } => y",
        &["x = 1 2 3", "i = 1 1", "u = 8 9"],
        "1 19 3",
    ),
]);

pub(super) fn eval(ctx: &Eval) -> Result<Vec<Datum>> {
    let (x, indices, updates) = (ctx.tensor(0)?, ctx.tensor(1)?, ctx.tensor(2)?);
    if indices.shape() != updates.shape() {
        bail!(invalid, "indices of shape {:?} for updates of shape {:?}", indices.shape(), updates.shape());
    }
    let at = axis(ctx.attrs().int_or("axis", 0)?, x.rank())?;
    let targets = element_offsets(x.shape(), indices.shape(), at, &indices.to_i64_vec()?)?;
    Ok(vec![scatter(x, updates, &targets, ctx.attrs().string_or("reduction", "none")?)?.into()])
}
