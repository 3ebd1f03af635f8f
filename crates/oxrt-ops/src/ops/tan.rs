//! <https://onnx.ai/onnx/operators/onnx__Tan.html>

use crate::def::OpDef;
use crate::scalar::Unary;

pub const OP: OpDef = OpDef::elementwise("Tan", &[7, 22], 1..=1, |e, _, x| Ok(e.un(Unary::Tan, x[0])))
    .examples(&[("(f32[3] x) { y = Tan(x) } => y", &["x = 0 1 -1"], "0 1.5574077 -1.5574077")]);
