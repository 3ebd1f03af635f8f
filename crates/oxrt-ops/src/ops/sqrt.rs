//! <https://onnx.ai/onnx/operators/onnx__Sqrt.html>

use crate::def::OpDef;
use crate::scalar::Unary;

pub const OP: OpDef = OpDef::elementwise("Sqrt", &[1, 6, 13], 1..=1, |e, _, x| Ok(e.un(Unary::Sqrt, x[0])))
    .examples(&[("(f32[3] x) { y = Sqrt(x) } => y", &["x = 0 4 2"], "0 2 1.4142135")]);
