//! <https://onnx.ai/onnx/operators/onnx__MatMul.html>

use crate::def::OpDef;
use crate::infer::Infer;
use crate::matmul::{matmul, matmul_dims};
use oxrt_tensor::Result;

pub const OP: OpDef = OpDef::new("MatMul", &[1, 9, 13], 2..=2, infer, |ctx| {
    let (a, b) = (ctx.tensor(0)?, ctx.tensor(1)?);
    Ok(vec![matmul(a, b, a.dtype())?.into()])
})
.examples(&[
    ("(f32[2, 2] a, f32[2, 1] b) { y = MatMul(a, b) } => y", &["a = 1 2 3 4", "b = 5 6"], "17 39"),
    ("(f32[2] a, f32[3, 2, 1] b) { y = MatMul(a, b) } => y", &["a = 1 2", "b = 1 2 3 4 5 6"], "5 11 17"),
    ("(i32[1, 2] a, i32[2] b) { y = MatMul(a, b) } => y", &["a = 1 2", "b = 5 6"], "17"),
]);

fn infer(ctx: &mut Infer) -> Result<()> {
    let dims = match (ctx.dims(0), ctx.dims(1)) {
        (Some(a), Some(b)) => Some(matmul_dims(a, b)?),
        _ => None,
    };
    ctx.set(0, ctx.dtype(0)?, dims);
    Ok(())
}
