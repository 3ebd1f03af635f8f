//! <https://onnx.ai/onnx/operators/onnx__Elu.html>

use crate::activation::emit;
use crate::def::OpDef;

pub const OP: OpDef =
    OpDef::elementwise("Elu", &[1, 6, 22], 1..=1, |e, attrs, x| emit(e, "elu", attrs.float_or("alpha", 1.0)? as f64, 0.0, x[0]))
        .examples(&[("(f32[3] x) { y = Elu<alpha=2.0>(x) } => y", &["x = -1 0 2"], "-1.2642411 0 2")]);
