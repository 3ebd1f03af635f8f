//! <https://onnx.ai/onnx/operators/onnx__Swish.html>

use crate::activation::emit;
use crate::def::OpDef;

pub const OP: OpDef =
    OpDef::elementwise("Swish", &[24], 1..=1, |e, attrs, x| emit(e, "swish", attrs.float_or("alpha", 1.0)? as f64, 0.0, x[0]))
        .examples(&[("(f32[3] x) { y = Swish(x) } => y", &["x = -1 0 1"], "-0.26894143 0 0.7310586")]);
