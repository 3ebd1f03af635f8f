//! <https://onnx.ai/onnx/operators/onnx__RMSNormalization.html>

use crate::def::OpDef;
use crate::eval::{Datum, Eval};
use crate::norm::{affine, normalise_rms};
use crate::shape::{axis, same_as_input};
use oxrt_tensor::{Result, Tensor};

/// x / √(mean of squares + epsilon) · scale over the axes from `axis` on.
pub const OP: OpDef = OpDef::new("RMSNormalization", &[23], 2..=2, same_as_input, eval).examples(&[(
    "(f32[1, 2] x) { y = RMSNormalization<epsilon=0.0>(x, f32[2]{1, 2}) } => y",
    &["x = 1 7"],
    "0.2 2.8",
)]);

fn eval(ctx: &Eval) -> Result<Vec<Datum>> {
    let x = ctx.tensor(0)?;
    let at = axis(ctx.attrs().int_or("axis", -1)?, x.rank())?;
    let mut data = x.to_f64_vec()?;
    normalise_rms(&mut data, x.shape()[at..].iter().product(), ctx.attrs().float_or("epsilon", 1e-5)? as f64);
    affine(&mut data, x.shape(), Some(ctx.tensor(1)?), None)?;
    Ok(vec![Tensor::from_f64(x.dtype(), x.shape(), &data)?.into()])
}
