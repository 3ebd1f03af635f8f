//! <https://onnx.ai/onnx/operators/onnx__LeakyRelu.html>

use crate::activation::emit;
use crate::def::OpDef;

pub const OP: OpDef =
    OpDef::elementwise("LeakyRelu", &[1, 6, 16], 1..=1, |e, attrs, x| emit(e, "leaky_relu", attrs.float_or("alpha", 0.01)? as f64, 0.0, x[0]))
        .examples(&[("(f32[3] x) { y = LeakyRelu<alpha=0.5>(x) } => y", &["x = -1 0 2"], "-0.5 0 2")]);
