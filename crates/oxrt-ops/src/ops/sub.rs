//! <https://onnx.ai/onnx/operators/onnx__Sub.html>

use crate::def::OpDef;
use crate::scalar::Binary;

pub const OP: OpDef = OpDef::elementwise("Sub", &[1, 6, 7, 13, 14], 2..=2, |e, _, x| Ok(e.bin(Binary::Sub, x[0], x[1])))
    .examples(&[("(f32[3] a) { y = Sub(a, 10.0) } => y", &["a = 1 2 3"], "-9 -8 -7")]);
