//! <https://onnx.ai/onnx/operators/onnx__Acos.html>

use crate::def::OpDef;
use crate::scalar::Unary;

pub const OP: OpDef = OpDef::elementwise("Acos", &[7, 22], 1..=1, |e, _, x| Ok(e.un(Unary::Acos, x[0])))
    .examples(&[("(f32[3] x) { y = Acos(x) } => y", &["x = 0 1 -0.5"], "1.5707964 0 2.0943952")]);
