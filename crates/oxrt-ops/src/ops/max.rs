//! <https://onnx.ai/onnx/operators/onnx__Max.html>

use crate::def::OpDef;
use crate::scalar::Binary;

pub const OP: OpDef = OpDef::elementwise("Max", &[1, 6, 8, 12, 13], 1..=usize::MAX, |e, _, x| {
    Ok(x[1..].iter().fold(x[0], |a, &b| e.bin(Binary::Max, a, b)))
})
.examples(&[("(f32[3] a, f32[3] b) { y = Max(a, b, 1.0) } => y", &["a = 1 2 3", "b = 2 2 1"], "2 2 3")]);
