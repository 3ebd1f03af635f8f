//! <https://onnx.ai/onnx/operators/onnx__ReduceProd.html>

use crate::def::OpDef;
use crate::reduce;

pub const OP: OpDef = OpDef::new(
    "ReduceProd",
    &[1, 11, 13, 18],
    1..=2,
    |ctx| reduce::infer_with(ctx, |a, b| a * b),
    |ctx| reduce::eval(ctx, |x| x.iter().product(), |x| x.iter().fold(1, |a, &b| a.wrapping_mul(b))),
)
.examples(&[("(f32[2, 4] x) { y = ReduceProd<keepdims=0>(x, i64[1]{1}) } => y", &["x = 1 2 3 4 5 6 7 8"], "24 1680")]);
