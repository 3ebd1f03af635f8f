//! <https://onnx.ai/onnx/operators/onnx__ReduceMean.html>

use crate::def::OpDef;
use crate::reduce;

pub const OP: OpDef = OpDef::new("ReduceMean", &[1, 11, 13, 18], 1..=2, reduce::infer, |ctx| {
    reduce::eval_f64(ctx, |x| x.iter().sum::<f64>() / x.len() as f64)
})
.examples(&[("(f32[2, 4] x) { y = ReduceMean<keepdims=0>(x, i64[1]{-1}) } => y", &["x = 1 2 3 4 5 6 7 8"], "2.5 6.5")]);
