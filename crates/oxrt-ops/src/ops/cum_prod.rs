//! <https://onnx.ai/onnx/operators/onnx__CumProd.html>

use crate::def::OpDef;
use crate::reduce::eval_running;
use crate::shape::same_as_input;

/// Running product along the axis in input 1.
pub const OP: OpDef =
    OpDef::new("CumProd", &[26], 2..=2, same_as_input, |ctx| eval_running(ctx, (1.0, |a, b| a * b), (1, i64::wrapping_mul)))
        .examples(&[("(f32[3] x) { y = CumProd(x, i64{0}) } => y", &["x = 2 3 4"], "2 6 24")]);
