//! <https://onnx.ai/onnx/operators/onnx__Greater.html>

use crate::def::OpDef;
use crate::scalar::Binary;

pub const OP: OpDef = OpDef::predicate("Greater", &[1, 7, 9, 13], 2..=2, |e, _, x| Ok(e.bin(Binary::Gt, x[0], x[1])))
    .examples(&[("(f32[3] a) { y = Greater(a, 2.0) } => y", &["a = 1 2 3"], "0 0 1")]);
