//! <https://onnx.ai/onnx/operators/onnx__Round.html>

use crate::def::OpDef;
use crate::scalar::Unary;

pub const OP: OpDef = OpDef::elementwise("Round", &[11, 22], 1..=1, |e, _, x| Ok(e.un(Unary::Round, x[0])))
    .examples(&[("(f32[3] x) { y = Round(x) } => y", &["x = 0.5 1.5 -2.5"], "0 2 -2")]);
