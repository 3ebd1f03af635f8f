//! <https://onnx.ai/onnx/operators/onnx__Sigmoid.html>

use crate::def::OpDef;
use crate::scalar::Unary;

pub const OP: OpDef = OpDef::elementwise("Sigmoid", &[1, 6, 13], 1..=1, |e, _, x| Ok(e.un(Unary::Sigmoid, x[0])))
    .examples(&[("(f32[3] x) { y = Sigmoid(x) } => y", &["x = 0 1 -1"], "0.5 0.7310586 0.26894143")]);
