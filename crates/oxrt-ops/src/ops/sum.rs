//! <https://onnx.ai/onnx/operators/onnx__Sum.html>

use crate::def::OpDef;
use crate::scalar::Binary;

pub const OP: OpDef = OpDef::elementwise("Sum", &[1, 6, 8, 13], 1..=usize::MAX, |e, _, x| {
    Ok(x[1..].iter().fold(x[0], |a, &b| e.bin(Binary::Add, a, b)))
})
.examples(&[("(f32[3] a, f32[3] b) { y = Sum(a, b, 1.0) } => y", &["a = 1 2 3", "b = 2 2 1"], "4 5 5")]);
