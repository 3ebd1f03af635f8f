//! <https://onnx.ai/onnx/operators/onnx__ConvTranspose.html>

use crate::conv;
use crate::def::OpDef;
use oxrt_tensor::Tensor;

pub const OP: OpDef = OpDef::new(
    "ConvTranspose",
    &[1, 11, 22],
    2..=3,
    |ctx| conv::infer(ctx, true, false),
    |ctx| {
        let y = conv::eval(ctx, true, false)?;
        Ok(vec![Tensor::from_f64(ctx.dtype(0)?, &y.shape, &y.data)?.into()])
    },
)
.examples(&[
    ("(f32[1, 1, 2] x) { y = ConvTranspose(x, f32[1, 1, 3]{..}, f32[1]{10}) } => y", &["x = 1 2"], "10 11 14 14"),
    (
        "(f32[1, 1, 2] x) { y = ConvTranspose<strides=[2], pads=[1, 0], output_padding=[1]>(x, f32[1, 1, 2]{1, 2}) } => y",
        &["x = 1 2"],
        "2 2 4 0",
    ),
]);
