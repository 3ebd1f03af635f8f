//! <https://onnx.ai/onnx/operators/onnx__QLinearMatMul.html>

use crate::def::OpDef;
use crate::eval::{Datum, Eval};
use crate::infer::Infer;
use crate::matmul::{matmul, matmul_dims};
use crate::quant::{centred, round_to, spread, to_int};
use oxrt_tensor::{DType, Result, Tensor};

/// Inputs: a, its scale and zero point, b likewise, scale and zero point of the result.
pub const OP: OpDef = OpDef::new("QLinearMatMul", &[10, 21], 8..=8, infer, eval).examples(&[(
    "(u8[1, 2] a, u8[2, 1] b) { y = QLinearMatMul(a, 0.5, u8{1}, b, 2.0, u8{0}, 2.0, u8{3}) } => y",
    &["a = 1 3", "b = 4 5"],
    "8",
)]);

fn infer(ctx: &mut Infer) -> Result<()> {
    let dims = match (ctx.dims(0), ctx.dims(3)) {
        (Some(a), Some(b)) => Some(matmul_dims(a, b)?),
        _ => None,
    };
    ctx.set(0, ctx.dtype(7)?, dims);
    Ok(())
}

fn eval(ctx: &Eval) -> Result<Vec<Datum>> {
    let a = centred(ctx.tensor(0)?, ctx.opt(2)?, true)?;
    let b = centred(ctx.tensor(3)?, ctx.opt(5)?, false)?;
    let product = matmul(&a, &b, DType::I64)?;
    let (shape, dtype) = (product.shape(), ctx.dtype(7)?);
    let scales = [spread(ctx.tensor(1)?, shape, true)?, spread(ctx.tensor(4)?, shape, false)?];
    let y_scale = spread(ctx.tensor(6)?, shape, true)?;
    let zero = spread(ctx.tensor(7)?, shape, true)?;
    let precision = ctx.dtype(1)?;
    let y: Vec<i64> = product
        .to_f64_vec()?
        .iter()
        .enumerate()
        .map(|(i, v)| {
            let scale = round_to(precision, round_to(precision, scales[0][i] * scales[1][i]) / y_scale[i]);
            to_int(dtype, v * scale, zero[i] as i64)
        })
        .collect();
    Ok(vec![Tensor::from_i64(dtype, shape, &y)?.into()])
}
