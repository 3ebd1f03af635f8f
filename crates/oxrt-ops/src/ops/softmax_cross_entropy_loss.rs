//! <https://onnx.ai/onnx/operators/onnx__SoftmaxCrossEntropyLoss.html>

use crate::def::OpDef;
use crate::eval::{Datum, Eval};
use crate::infer::Infer;
use crate::loss;
use crate::reduce::change_lanes;
use oxrt_tensor::{Result, Tensor, bail};

/// The negative log-likelihood of the softmax over axis 1; output 1 is the log-softmax.
pub const OP: OpDef = OpDef::new("SoftmaxCrossEntropyLoss", &[12, 13], 2..=3, infer, eval).examples(&[(
    "(f32[1, 2] x, i64[1] t) { y, p = SoftmaxCrossEntropyLoss(x, t) } => y",
    &["x = 0 1", "t = 0"],
    "1.3132617",
)]);

fn infer(ctx: &mut Infer) -> Result<()> {
    loss::infer(ctx)?;
    let scores = ctx.ty(0)?.clone();
    ctx.set_type(1, scores.into());
    Ok(())
}

fn eval(ctx: &Eval) -> Result<Vec<Datum>> {
    let x = ctx.tensor(0)?;
    if x.rank() < 2 {
        bail!(invalid, "scores of shape {:?} have no classes", x.shape());
    }
    let mut data = x.to_f64_vec()?;
    change_lanes(&mut data, x.shape(), 1, super::log_softmax::log_softmax)?;
    let log = Tensor::from_f64(x.dtype(), x.shape(), &data)?;
    Ok(vec![loss::nll(ctx, &log)?.into(), log.into()])
}
