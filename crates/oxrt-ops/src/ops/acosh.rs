//! <https://onnx.ai/onnx/operators/onnx__Acosh.html>

use crate::def::OpDef;
use crate::scalar::Unary;

pub const OP: OpDef = OpDef::elementwise("Acosh", &[9, 22], 1..=1, |e, _, x| Ok(e.un(Unary::Acosh, x[0])))
    .examples(&[("(f32[3] x) { y = Acosh(x) } => y", &["x = 1 2 3"], "0 1.316958 1.7627472")]);
