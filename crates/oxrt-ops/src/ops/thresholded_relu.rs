//! <https://onnx.ai/onnx/operators/onnx__ThresholdedRelu.html>

use crate::activation::emit;
use crate::def::OpDef;

pub const OP: OpDef =
    OpDef::elementwise("ThresholdedRelu", &[10, 22], 1..=1, |e, attrs, x| emit(e, "thresholded_relu", attrs.float_or("alpha", 1.0)? as f64, 0.0, x[0]))
        .examples(&[("(f32[3] x) { y = ThresholdedRelu(x) } => y", &["x = 0.5 1 2"], "0 0 2")]);
