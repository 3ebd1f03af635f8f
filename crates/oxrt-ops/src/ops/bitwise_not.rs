//! <https://onnx.ai/onnx/operators/onnx__BitwiseNot.html>

use crate::def::OpDef;
use crate::scalar::Unary;

pub const OP: OpDef = OpDef::elementwise("BitwiseNot", &[18], 1..=1, |e, _, x| Ok(e.un(Unary::BitNot, x[0])))
    .examples(&[("(u8[2] x) { y = BitwiseNot(x) } => y", &["x = 0 5"], "255 250")]);
