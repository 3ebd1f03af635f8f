//! <https://onnx.ai/onnx/operators/onnx__Not.html>

use crate::def::OpDef;
use crate::scalar::Unary;

pub const OP: OpDef = OpDef::predicate("Not", &[1], 1..=1, |e, _, x| Ok(e.un(Unary::Not, x[0])))
    .examples(&[("(bool[2] x) { y = Not(x) } => y", &["x = 0 1"], "1 0")]);
