//! <https://onnx.ai/onnx/operators/onnx__GreaterOrEqual.html>

use crate::def::OpDef;
use crate::scalar::Binary;

pub const OP: OpDef = OpDef::predicate("GreaterOrEqual", &[12, 16], 2..=2, |e, _, x| Ok(e.bin(Binary::Ge, x[0], x[1])))
    .examples(&[("(f32[3] a) { y = GreaterOrEqual(a, 2.0) } => y", &["a = 1 2 3"], "0 1 1")]);
