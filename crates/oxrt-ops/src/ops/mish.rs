//! <https://onnx.ai/onnx/operators/onnx__Mish.html>

use crate::activation::emit;
use crate::def::OpDef;

pub const OP: OpDef =
    OpDef::elementwise("Mish", &[18, 22], 1..=1, |e, _, x| emit(e, "mish", 0.0, 0.0, x[0]))
        .examples(&[("(f32[3] x) { y = Mish(x) } => y", &["x = -1 0 1"], "-0.30340147 0 0.86509836")]);
