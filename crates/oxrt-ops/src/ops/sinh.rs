//! <https://onnx.ai/onnx/operators/onnx__Sinh.html>

use crate::def::OpDef;
use crate::scalar::Unary;

pub const OP: OpDef = OpDef::elementwise("Sinh", &[9, 22], 1..=1, |e, _, x| Ok(e.un(Unary::Sinh, x[0])))
    .examples(&[("(f32[3] x) { y = Sinh(x) } => y", &["x = 0 1 -1"], "0 1.1752012 -1.1752012")]);
