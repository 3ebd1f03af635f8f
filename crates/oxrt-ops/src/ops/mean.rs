//! <https://onnx.ai/onnx/operators/onnx__Mean.html>

use crate::def::OpDef;
use crate::scalar::Binary;

pub const OP: OpDef = OpDef::elementwise("Mean", &[1, 6, 8, 13], 1..=usize::MAX, |e, _, x| {
    let sum = x[1..].iter().fold(x[0], |a, &b| e.bin(Binary::Add, a, b));
    Ok(e.bin_c(Binary::Div, sum, x.len() as f64))
})
.examples(&[("(f32[2] a, f32[2] b) { y = Mean(a, b) } => y", &["a = 1 2", "b = 3 5"], "2 3.5")]);
