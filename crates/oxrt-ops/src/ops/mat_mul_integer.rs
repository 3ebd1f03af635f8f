//! <https://onnx.ai/onnx/operators/onnx__MatMulInteger.html>

use crate::def::OpDef;
use crate::matmul::{matmul, matmul_dims};
use crate::quant::centred;
use oxrt_tensor::DType;

/// (A - zero point) · (B - zero point) in i32; zero points per row of A and per column of B.
pub const OP: OpDef = OpDef::new(
    "MatMulInteger",
    &[10],
    2..=4,
    |ctx| {
        let dims = match (ctx.dims(0), ctx.dims(1)) {
            (Some(a), Some(b)) => Some(matmul_dims(a, b)?),
            _ => None,
        };
        ctx.set(0, DType::I32, dims);
        Ok(())
    },
    |ctx| {
        let a = centred(ctx.tensor(0)?, ctx.opt(2)?, true)?;
        let b = centred(ctx.tensor(1)?, ctx.opt(3)?, false)?;
        Ok(vec![matmul(&a, &b, DType::I32)?.into()])
    },
)
.examples(&[(
    "(u8[1, 2] a, u8[2, 1] b) { y = MatMulInteger(a, b, u8{1}) } => y",
    &["a = 1 3", "b = 4 5"],
    "10",
)]);
