//! <https://onnx.ai/onnx/operators/onnx__Sign.html>

use crate::def::OpDef;
use crate::scalar::Unary;

pub const OP: OpDef = OpDef::elementwise("Sign", &[9, 13], 1..=1, |e, _, x| Ok(e.un(Unary::Sign, x[0])))
    .examples(&[("(f32[3] x) { y = Sign(x) } => y", &["x = -3 0 2"], "-1 0 1")]);
