//! <https://onnx.ai/onnx/operators/onnx__Xor.html>

use crate::def::OpDef;
use crate::scalar::Binary;

pub const OP: OpDef = OpDef::predicate("Xor", &[1, 7], 2..=2, |e, _, x| Ok(e.bin(Binary::Xor, x[0], x[1])))
    .examples(&[("(bool[4] a, bool[4] b) { y = Xor(a, b) } => y", &["a = 1 1 0 0", "b = 1 0 1 0"], "0 1 1 0")]);
