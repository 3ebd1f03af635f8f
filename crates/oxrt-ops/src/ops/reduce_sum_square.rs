//! <https://onnx.ai/onnx/operators/onnx__ReduceSumSquare.html>

use crate::def::OpDef;
use crate::reduce;

pub const OP: OpDef = OpDef::new("ReduceSumSquare", &[1, 11, 13, 18], 1..=2, reduce::infer, |ctx| {
    reduce::eval_f64(ctx, |x| x.iter().map(|v| v * v).sum())
})
.examples(&[
    ("(f32[0] x) { s = ReduceSumSquare<keepdims=0>(x); y = Reciprocal(s) } => y", &["x ="], "inf"),
    ("(f32[2, 4] x) { y = ReduceSumSquare<keepdims=0>(x, i64[1]{-1}) } => y", &["x = 1 2 3 4 5 6 7 8"], "30 174"),
]);
