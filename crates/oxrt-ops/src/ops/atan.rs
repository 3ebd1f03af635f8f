//! <https://onnx.ai/onnx/operators/onnx__Atan.html>

use crate::def::OpDef;
use crate::scalar::Unary;

pub const OP: OpDef = OpDef::elementwise("Atan", &[7, 22], 1..=1, |e, _, x| Ok(e.un(Unary::Atan, x[0])))
    .examples(&[("(f32[3] x) { y = Atan(x) } => y", &["x = 0 1 -1"], "0 0.7853982 -0.7853982")]);
