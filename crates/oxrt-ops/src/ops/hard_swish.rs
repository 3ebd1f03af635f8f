//! <https://onnx.ai/onnx/operators/onnx__HardSwish.html>

use crate::activation::emit;
use crate::def::OpDef;

pub const OP: OpDef =
    OpDef::elementwise("HardSwish", &[14, 22], 1..=1, |e, _, x| emit(e, "hard_swish", 0.0, 0.0, x[0]))
        .examples(&[("(f32[3] x) { y = HardSwish(x) } => y", &["x = -4 1 4"], "0 0.6666667 4")]);
