//! <https://onnx.ai/onnx/operators/onnx__ReduceL1.html>

use crate::def::OpDef;
use crate::reduce;

pub const OP: OpDef = OpDef::new("ReduceL1", &[1, 11, 13, 18], 1..=2, reduce::infer, |ctx| {
    reduce::eval_f64(ctx, |x| x.iter().map(|v| v.abs()).sum())
})
.examples(&[("(f32[2, 4] x) { y = ReduceL1<keepdims=0>(x, i64[1]{-1}) } => y", &["x = 1 2 3 4 5 6 7 8"], "10 26")]);
