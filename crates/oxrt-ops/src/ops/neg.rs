//! <https://onnx.ai/onnx/operators/onnx__Neg.html>

use crate::def::OpDef;
use crate::scalar::Unary;

pub const OP: OpDef = OpDef::elementwise("Neg", &[1, 6, 13], 1..=1, |e, _, x| Ok(e.un(Unary::Neg, x[0])))
    .examples(&[("(f32[3] x) { y = Neg(x) } => y", &["x = -1.5 0 2"], "1.5 0 -2")]);
