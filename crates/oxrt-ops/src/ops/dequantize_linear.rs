//! <https://onnx.ai/onnx/operators/onnx__DequantizeLinear.html>

use super::quantize_linear::listed;
use crate::def::OpDef;
use crate::eval::{Datum, Eval};
use crate::infer::Infer;
use crate::quant::scale_offsets;
use oxrt_tensor::{Result, Tensor, bail};

/// (x - zero point) · scale
pub const OP: OpDef = OpDef::new("DequantizeLinear", &[10, 13, 19, 21, 23, 24, 25, 28], 2..=3, infer, eval).examples(&[
    ("(u8[3] x) { y = DequantizeLinear(x, 2.0, u8{128}) } => y", &["x = 0 128 255"], "-256 0 254"),
    (
        "(i8[1, 4] x) { y = DequantizeLinear<block_size=2>(x, f32[1, 2]{1, 10}) } => y",
        &["x = 1 2 3 4"],
        "1 2 30 40",
    ),
]);

fn infer(ctx: &mut Infer) -> Result<()> {
    let dtype = listed(ctx.attrs(), "output_dtype")?.unwrap_or(ctx.dtype(1)?);
    ctx.set(0, dtype, ctx.ty(0)?.dims.clone());
    Ok(())
}

fn eval(ctx: &Eval) -> Result<Vec<Datum>> {
    let (x, scale, zero) = (ctx.tensor(0)?, ctx.tensor(1)?, ctx.opt(2)?);
    let dtype = listed(ctx.attrs(), "output_dtype")?.unwrap_or(scale.dtype());
    if zero.is_some_and(|z| z.len() != scale.len()) {
        bail!(invalid, "the zero points should have the shape of the scales {:?}", scale.shape());
    }
    let offsets = scale_offsets(x.shape(), scale, ctx.attrs())?;
    let (scales, zeros) = (scale.to_f64_vec()?, zero.map(Tensor::to_f64_vec).transpose()?);
    let zero_at = |o: usize| zeros.as_ref().map_or(0.0, |z| z[o]);
    let out: Vec<f64> =
        x.to_f64_vec()?.iter().zip(&offsets).map(|(v, &o)| (v - zero_at(o)) * scales[o]).collect();
    Ok(vec![Tensor::from_f64(dtype, x.shape(), &out)?.into()])
}
