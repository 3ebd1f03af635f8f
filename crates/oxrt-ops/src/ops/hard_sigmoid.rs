//! <https://onnx.ai/onnx/operators/onnx__HardSigmoid.html>

use crate::activation::emit;
use crate::def::OpDef;

pub const OP: OpDef =
    OpDef::elementwise("HardSigmoid", &[1, 6, 22], 1..=1, |e, attrs, x| emit(e, "hard_sigmoid", attrs.float_or("alpha", 0.2)? as f64, attrs.float_or("beta", 0.5)? as f64, x[0]))
        .examples(&[("(f32[3] x) { y = HardSigmoid(x) } => y", &["x = -4 0 1"], "0 0.5 0.7")]);
