//! <https://onnx.ai/onnx/operators/onnx__Erf.html>

use crate::def::OpDef;
use crate::scalar::Unary;

pub const OP: OpDef = OpDef::elementwise("Erf", &[9, 13], 1..=1, |e, _, x| Ok(e.un(Unary::Erf, x[0])))
    .examples(&[("(f32[3] x) { y = Erf(x) } => y", &["x = 0 1 -1"], "0 0.8427008 -0.8427008")]);
