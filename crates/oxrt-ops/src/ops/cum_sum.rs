//! <https://onnx.ai/onnx/operators/onnx__CumSum.html>

use crate::def::OpDef;
use crate::reduce::eval_running;
use crate::shape::same_as_input;

/// Running sum along the axis in input 1.
pub const OP: OpDef =
    OpDef::new("CumSum", &[11, 14], 2..=2, same_as_input, |ctx| eval_running(ctx, (0.0, |a, b| a + b), (0, i64::wrapping_add)))
        .examples(&[
            ("(f32[3] x) { y = CumSum(x, i64{0}) } => y", &["x = 1 2 3"], "1 3 6"),
            ("(i64[3] x) { y = CumSum<exclusive=1, reverse=1>(x, i64{0}) } => y", &["x = 1 2 3"], "5 3 0"),
        ]);
