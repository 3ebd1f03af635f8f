//! <https://onnx.ai/onnx/operators/onnx__Cosh.html>

use crate::def::OpDef;
use crate::scalar::Unary;

pub const OP: OpDef = OpDef::elementwise("Cosh", &[9, 22], 1..=1, |e, _, x| Ok(e.un(Unary::Cosh, x[0])))
    .examples(&[("(f32[3] x) { y = Cosh(x) } => y", &["x = 0 1 2"], "1 1.5430807 3.7621956")]);
