//! <https://onnx.ai/onnx/operators/onnx_aionnxml_LinearRegressor.html>

use crate::def::OpDef;
use crate::eval::{Datum, Eval};
use crate::infer::Infer;
use crate::ml::{Rows, linear, post_transform};
use oxrt_ir::Dim;
use oxrt_tensor::{DType, Error, Result, Tensor};

/// x · coefficients + intercepts, per target.
pub const OP: OpDef = OpDef::new("ai.onnx.ml.LinearRegressor", &[1], 1..=1, infer, eval).examples(&[(
    "(f32[1, 2] x) { y = ai.onnx.ml.LinearRegressor<coefficients=[1.0, 0.5], intercepts=[0.25]>(x) } => y",
    &["x = 3 4"],
    "5.25",
)]);

fn infer(ctx: &mut Infer) -> Result<()> {
    let rows = match ctx.dims(0) {
        Some([r, _]) => r.clone(),
        Some([_]) => Dim::Const(1),
        _ => ctx.fresh(),
    };
    let targets = Dim::Const(ctx.attrs().int_or("targets", 1)?);
    ctx.set(0, DType::F32, Some(vec![rows, targets]));
    Ok(())
}

fn eval(ctx: &Eval) -> Result<Vec<Datum>> {
    let x = Rows::of(ctx.tensor(0)?)?;
    let targets = ctx.attrs().int_or("targets", 1)?;
    let targets = usize::try_from(targets).map_err(|_| Error::invalid(format!("{targets} targets")))?;
    let mut scores = linear(&x, ctx.attrs(), targets)?;
    let transform = post_transform(ctx.attrs().string_or("post_transform", "NONE")?)?;
    scores.chunks_mut(targets.max(1)).for_each(transform);
    Ok(vec![Tensor::from_f64(DType::F32, &[x.rows, targets], &scores)?.into()])
}
