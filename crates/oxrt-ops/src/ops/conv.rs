//! <https://onnx.ai/onnx/operators/onnx__Conv.html>

use crate::conv;
use crate::def::OpDef;
use oxrt_tensor::Tensor;

pub const OP: OpDef = OpDef::new(
    "Conv",
    &[1, 11, 22],
    2..=3,
    |ctx| conv::infer(ctx, false, false),
    |ctx| {
        let y = conv::eval(ctx, false, false)?;
        Ok(vec![Tensor::from_f64(ctx.dtype(0)?, &y.shape, &y.data)?.into()])
    },
)
.examples(&[
    (
        "(f32[1, 1, 3, 3] x) { y = Conv(x, f32[1, 1, 2, 2]{1}, f32[1]{10}) } => y",
        &["x = 0 1 2 3 4 5 6 7 8"],
        "18 22 30 34",
    ),
    (
        "(f32[1, 2, 4] x) { y = Conv<group=2, strides=[2], auto_pad=\"SAME_UPPER\">(x, f32[2, 1, 3]{1}) } => y",
        &["x = 0 1 2 3 4 5 6 7"],
        "3 5 15 13",
    ),
]);
