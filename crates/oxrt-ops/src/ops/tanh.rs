//! <https://onnx.ai/onnx/operators/onnx__Tanh.html>

use crate::def::OpDef;
use crate::scalar::Unary;

pub const OP: OpDef = OpDef::elementwise("Tanh", &[1, 6, 13], 1..=1, |e, _, x| Ok(e.un(Unary::Tanh, x[0])))
    .examples(&[("(f32[3] x) { y = Tanh(x) } => y", &["x = 0 1 -1"], "0 0.7615942 -0.7615942")]);
