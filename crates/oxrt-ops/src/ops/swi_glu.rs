//! <https://onnx.ai/onnx/operators/onnx__SwiGLU.html>

use crate::activation::emit;
use crate::def::OpDef;
use crate::scalar::Binary;

/// swish(a) · b
pub const OP: OpDef = OpDef::elementwise("SwiGLU", &[28], 2..=2, |e, attrs, x| {
    let gate = emit(e, "swish", attrs.float_or("alpha", 1.0)? as f64, 0.0, x[0])?;
    Ok(e.bin(Binary::Mul, gate, x[1]))
})
.examples(&[("(f32[2] a, f32[2] b) { y = SwiGLU(a, b) } => y", &["a = 1 0", "b = 2 3"], "1.4621172 0")]);
