//! <https://onnx.ai/onnx/operators/onnx__BitwiseXor.html>

use crate::def::OpDef;
use crate::scalar::Binary;

pub const OP: OpDef = OpDef::elementwise("BitwiseXor", &[18], 2..=2, |e, _, x| Ok(e.bin(Binary::BitXor, x[0], x[1])))
    .examples(&[("(u8[2] a, u8[2] b) { y = BitwiseXor(a, b) } => y", &["a = 5 2", "b = 3 4"], "6 6")]);
