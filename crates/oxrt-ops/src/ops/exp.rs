//! <https://onnx.ai/onnx/operators/onnx__Exp.html>

use crate::def::OpDef;
use crate::scalar::Unary;

pub const OP: OpDef = OpDef::elementwise("Exp", &[1, 6, 13], 1..=1, |e, _, x| Ok(e.un(Unary::Exp, x[0])))
    .examples(&[("(f32[3] x) { y = Exp(x) } => y", &["x = 0 1 -1"], "1 2.7182817 0.36787945")]);
