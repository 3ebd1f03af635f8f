//! <https://onnx.ai/onnx/operators/onnx__IsNaN.html>

use crate::def::OpDef;
use crate::scalar::Unary;

pub const OP: OpDef = OpDef::predicate("IsNaN", &[9, 13, 20], 1..=1, |e, _, x| Ok(e.un(Unary::IsNan, x[0])))
    .examples(&[("(f32[3] x) { y = IsNaN(x) } => y", &["x = NaN 1 inf"], "1 0 0")]);
