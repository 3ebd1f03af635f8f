//! <https://onnx.ai/onnx/operators/onnx__Div.html>

use crate::def::OpDef;
use crate::scalar::Binary;

pub const OP: OpDef = OpDef::elementwise("Div", &[1, 6, 7, 13, 14], 2..=2, |e, _, x| Ok(e.bin(Binary::Div, x[0], x[1])))
    .examples(&[("(f32[3] a) { y = Div(a, 10.0) } => y", &["a = 1 2 3"], "0.1 0.2 0.3")]);
