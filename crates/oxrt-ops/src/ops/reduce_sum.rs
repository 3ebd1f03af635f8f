//! <https://onnx.ai/onnx/operators/onnx__ReduceSum.html>

use crate::def::OpDef;
use crate::reduce;

pub const OP: OpDef = OpDef::new(
    "ReduceSum",
    &[1, 11, 13],
    1..=2,
    |ctx| reduce::infer_with(ctx, |a, b| a + b),
    |ctx| reduce::eval(ctx, |x| x.iter().sum(), |x| x.iter().fold(0, |a, &b| a.wrapping_add(b))),
)
.examples(&[("(f32[2, 4] x) { y = ReduceSum<keepdims=0>(x, i64[1]{1}) } => y", &["x = 1 2 3 4 5 6 7 8"], "10 26")]);
