//! <https://onnx.ai/onnx/operators/onnx__Softsign.html>

use crate::activation::emit;
use crate::def::OpDef;

pub const OP: OpDef =
    OpDef::elementwise("Softsign", &[1, 22], 1..=1, |e, _, x| emit(e, "softsign", 0.0, 0.0, x[0]))
        .examples(&[("(f32[3] x) { y = Softsign(x) } => y", &["x = -1 0 3"], "-0.5 0 0.75")]);
