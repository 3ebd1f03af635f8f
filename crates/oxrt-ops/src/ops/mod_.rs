//! <https://onnx.ai/onnx/operators/onnx__Mod.html>

use crate::def::OpDef;
use crate::scalar::Binary;

/// The sign of the divisor, or with `fmod` the sign of the dividend.
pub const OP: OpDef = OpDef::elementwise("Mod", &[10, 13, 28], 2..=2, |e, attrs, x| {
    let op = if attrs.bool_or("fmod", false)? { Binary::Fmod } else { Binary::Mod };
    Ok(e.bin(op, x[0], x[1]))
})
.examples(&[
    ("(i64[2] a, i64[2] b) { y = Mod(a, b) } => y", &["a = -7 7", "b = 3 -3"], "2 -2"),
    ("(f32[2] a, f32[2] b) { y = Mod<fmod=1>(a, b) } => y", &["a = -7 7", "b = 3 -3"], "-1 1"),
]);
