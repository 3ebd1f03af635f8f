//! <https://onnx.ai/onnx/operators/onnx__Add.html>

use crate::def::OpDef;
use crate::scalar::Binary;

pub const OP: OpDef = OpDef::elementwise("Add", &[1, 6, 7, 13, 14], 2..=2, |e, _, x| Ok(e.bin(Binary::Add, x[0], x[1])))
    .examples(&[("(f32[2, 2] a, f32[2] b) { y = Add(a, b) } => y", &["a = 1 2 3 4", "b = 10 20"], "11 22 13 24")]);
