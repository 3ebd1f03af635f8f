//! <https://onnx.ai/onnx/operators/onnx__ReduceLogSum.html>

use crate::def::OpDef;
use crate::reduce;

pub const OP: OpDef = OpDef::new("ReduceLogSum", &[1, 11, 13, 18, 28], 1..=2, reduce::infer, |ctx| {
    reduce::eval_f64(ctx, |x| x.iter().sum::<f64>().ln())
})
.examples(&[("(f32[2, 4] x) { y = ReduceLogSum<keepdims=0>(x, i64[1]{-1}) } => y", &["x = 1 2 3 4 5 6 7 8"], "2.3025851 3.2580965")]);
