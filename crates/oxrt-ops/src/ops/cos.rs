//! <https://onnx.ai/onnx/operators/onnx__Cos.html>

use crate::def::OpDef;
use crate::scalar::Unary;

pub const OP: OpDef = OpDef::elementwise("Cos", &[7, 22], 1..=1, |e, _, x| Ok(e.un(Unary::Cos, x[0])))
    .examples(&[("(f32[3] x) { y = Cos(x) } => y", &["x = 0 1 2"], "1 0.5403023 -0.41614684")]);
