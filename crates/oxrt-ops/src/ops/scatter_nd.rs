//! <https://onnx.ai/onnx/operators/onnx__ScatterND.html>

use super::gather_nd::slice_offsets;
use crate::copy::scatter;
use crate::def::OpDef;
use crate::eval::{Datum, Eval};
use crate::shape::same_as_input;
use oxrt_tensor::{Result, bail};

pub const OP: OpDef = OpDef::new("ScatterND", &[11, 13, 16, 18], 3..=3, same_as_input, eval).examples(&[(
    "(f32[3] x, i64[2, 1] i, f32[2] u) { y = ScatterND(x, i, u) } => y",
    &["x = 1 2 3", "i = 2 0", "u = 8 9"],
    "9 2 8",
)]);

fn eval(ctx: &Eval) -> Result<Vec<Datum>> {
    let (x, indices, updates) = (ctx.tensor(0)?, ctx.tensor(1)?, ctx.tensor(2)?);
    let (starts, inner) = slice_offsets(x.shape(), indices.shape(), &indices.to_i64_vec()?, 0)?;
    let targets: Vec<usize> = starts.into_iter().flat_map(|s| s..s + inner).collect();
    if targets.len() != updates.len() {
        bail!(invalid, "{} places for updates of shape {:?}", targets.len(), updates.shape());
    }
    Ok(vec![scatter(x, updates, &targets, ctx.attrs().string_or("reduction", "none")?)?.into()])
}
