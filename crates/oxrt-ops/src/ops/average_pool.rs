//! <https://onnx.ai/onnx/operators/onnx__AveragePool.html>

use crate::def::OpDef;
use crate::pool;

pub const OP: OpDef = OpDef::new(
    "AveragePool",
    &[1, 7, 10, 11, 19, 22],
    1..=1,
    |ctx| pool::infer(ctx, false),
    |ctx| Ok(vec![pool::average(ctx.tensor(0)?, ctx.attrs())?.into()]),
)
.examples(&[
    ("(f32[1, 1, 3] x) { y = AveragePool<kernel_shape=[2], pads=[1, 0]>(x) } => y", &["x = 1 2 3"], "1 1.5 2.5"),
    (
        "(f32[1, 1, 3] x) { y = AveragePool<kernel_shape=[2], pads=[1, 0], count_include_pad=1>(x) } => y",
        &["x = 1 2 3"],
        "0.5 1.5 2.5",
    ),
]);
