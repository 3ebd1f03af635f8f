//! <https://onnx.ai/onnx/operators/onnx__LessOrEqual.html>

use crate::def::OpDef;
use crate::scalar::Binary;

pub const OP: OpDef = OpDef::predicate("LessOrEqual", &[12, 16], 2..=2, |e, _, x| Ok(e.bin(Binary::Le, x[0], x[1])))
    .examples(&[("(f32[3] a) { y = LessOrEqual(a, 2.0) } => y", &["a = 1 2 3"], "1 1 0")]);
