//! <https://onnx.ai/onnx/operators/onnx__Abs.html>

use crate::def::OpDef;
use crate::scalar::Unary;

pub const OP: OpDef = OpDef::elementwise("Abs", &[1, 6, 13], 1..=1, |e, _, x| Ok(e.un(Unary::Abs, x[0])))
    .examples(&[("(f32[3] x) { y = Abs(x) } => y", &["x = -1.5 0 2"], "1.5 0 2")]);
