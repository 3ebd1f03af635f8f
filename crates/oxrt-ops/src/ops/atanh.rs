//! <https://onnx.ai/onnx/operators/onnx__Atanh.html>

use crate::def::OpDef;
use crate::scalar::Unary;

pub const OP: OpDef = OpDef::elementwise("Atanh", &[9, 22], 1..=1, |e, _, x| Ok(e.un(Unary::Atanh, x[0])))
    .examples(&[("(f32[3] x) { y = Atanh(x) } => y", &["x = 0 0.5 -0.5"], "0 0.54930615 -0.54930615")]);
