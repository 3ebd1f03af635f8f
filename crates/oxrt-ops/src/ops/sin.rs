//! <https://onnx.ai/onnx/operators/onnx__Sin.html>

use crate::def::OpDef;
use crate::scalar::Unary;

pub const OP: OpDef = OpDef::elementwise("Sin", &[7, 22], 1..=1, |e, _, x| Ok(e.un(Unary::Sin, x[0])))
    .examples(&[("(f32[3] x) { y = Sin(x) } => y", &["x = 0 1 -1"], "0 0.841471 -0.841471")]);
