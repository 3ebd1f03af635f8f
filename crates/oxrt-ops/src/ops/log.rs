//! <https://onnx.ai/onnx/operators/onnx__Log.html>

use crate::def::OpDef;
use crate::scalar::Unary;

pub const OP: OpDef = OpDef::elementwise("Log", &[1, 6, 13], 1..=1, |e, _, x| Ok(e.un(Unary::Log, x[0])))
    .examples(&[("(f32[3] x) { y = Log(x) } => y", &["x = 1 2 10"], "0 0.6931472 2.3025851")]);
