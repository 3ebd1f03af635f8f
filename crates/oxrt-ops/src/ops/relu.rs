//! <https://onnx.ai/onnx/operators/onnx__Relu.html>

use crate::activation::emit;
use crate::def::OpDef;

pub const OP: OpDef =
    OpDef::elementwise("Relu", &[1, 6, 13, 14], 1..=1, |e, _, x| emit(e, "relu", 0.0, 0.0, x[0]))
        .examples(&[("(f32[3] x) { y = Relu(x) } => y", &["x = -1 0 2"], "0 0 2")]);
