//! <https://onnx.ai/onnx/operators/onnx__DynamicQuantizeLinear.html>

use crate::def::OpDef;
use crate::eval::{Datum, Eval};
use crate::infer::Infer;
use crate::quant::to_int;
use oxrt_tensor::{DType, Result, Tensor};

/// Quantises to u8 by the range of the data; outputs 1 and 2 are scale and zero point.
pub const OP: OpDef = OpDef::new("DynamicQuantizeLinear", &[11], 1..=1, infer, eval).examples(&[(
    "(f32[3] x) { y, s, z = DynamicQuantizeLinear(x) } => y",
    &["x = -1 0 1.55"],
    "0 100 255",
)]);

fn infer(ctx: &mut Infer) -> Result<()> {
    ctx.set(0, DType::U8, ctx.ty(0)?.dims.clone());
    ctx.set(1, DType::F32, Some(vec![]));
    ctx.set(2, DType::U8, Some(vec![]));
    Ok(())
}

fn eval(ctx: &Eval) -> Result<Vec<Datum>> {
    let x = ctx.tensor(0)?;
    let data = x.to_f32_cow()?;
    // In f32 throughout, as the formula is specified.
    let high = data.iter().copied().fold(0f32, f32::max);
    let low = data.iter().copied().fold(0f32, f32::min);
    let scale = if high == low { 1.0 } else { high - low } / 255.0;
    let zero = (-low / scale).clamp(0.0, 255.0).round_ties_even();
    let y: Vec<i64> = data.iter().map(|v| to_int(DType::U8, (v / scale) as f64, zero as i64)).collect();
    Ok(vec![
        Tensor::from_i64(DType::U8, x.shape(), &y)?.into(),
        Tensor::scalar(scale).into(),
        Tensor::scalar(zero as u8).into(),
    ])
}
