//! <https://onnx.ai/onnx/operators/onnx__Asinh.html>

use crate::def::OpDef;
use crate::scalar::Unary;

pub const OP: OpDef = OpDef::elementwise("Asinh", &[9, 22], 1..=1, |e, _, x| Ok(e.un(Unary::Asinh, x[0])))
    .examples(&[("(f32[3] x) { y = Asinh(x) } => y", &["x = 0 1 -1"], "0 0.8813736 -0.8813736")]);
