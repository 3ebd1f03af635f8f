//! <https://onnx.ai/onnx/operators/onnx__Reciprocal.html>

use crate::def::OpDef;
use crate::scalar::Unary;

pub const OP: OpDef = OpDef::elementwise("Reciprocal", &[1, 6, 13], 1..=1, |e, _, x| Ok(e.un(Unary::Recip, x[0])))
    .examples(&[("(f32[3] x) { y = Reciprocal(x) } => y", &["x = 1 2 -4"], "1 0.5 -0.25")]);
