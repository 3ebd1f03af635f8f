//! <https://onnx.ai/onnx/operators/onnx__Asin.html>

use crate::def::OpDef;
use crate::scalar::Unary;

pub const OP: OpDef = OpDef::elementwise("Asin", &[7, 22], 1..=1, |e, _, x| Ok(e.un(Unary::Asin, x[0])))
    .examples(&[("(f32[3] x) { y = Asin(x) } => y", &["x = 0 1 -0.5"], "0 1.5707964 -0.5235988")]);
