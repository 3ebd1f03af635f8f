//! <https://onnx.ai/onnx/operators/onnx__Mul.html>

use crate::def::OpDef;
use crate::scalar::Binary;

pub const OP: OpDef = OpDef::elementwise("Mul", &[1, 6, 7, 13, 14], 2..=2, |e, _, x| Ok(e.bin(Binary::Mul, x[0], x[1])))
    .examples(&[("(f32[3] a) { y = Mul(a, 10.0) } => y", &["a = 1 2 3"], "10 20 30")]);
