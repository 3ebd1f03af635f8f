//! <https://onnx.ai/onnx/operators/onnx__Softplus.html>

use crate::activation::emit;
use crate::def::OpDef;

pub const OP: OpDef =
    OpDef::elementwise("Softplus", &[1, 22], 1..=1, |e, _, x| emit(e, "softplus", 0.0, 0.0, x[0]))
        .examples(&[("(f32[3] x) { y = Softplus(x) } => y", &["x = -1 0 100"], "0.3132617 0.6931472 100")]);
