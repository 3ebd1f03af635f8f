//! <https://onnx.ai/onnx/operators/onnx__PRelu.html>

use crate::def::OpDef;
use crate::scalar::Binary;

/// x, or slope · x where x is negative.
pub const OP: OpDef = OpDef::elementwise("PRelu", &[1, 6, 7, 9, 16], 2..=2, |e, _, x| {
    let scaled = e.bin(Binary::Mul, x[0], x[1]);
    let negative = e.bin_c(Binary::Lt, x[0], 0.0);
    Ok(e.select(negative, scaled, x[0]))
})
.examples(&[("(f32[2, 2] x, f32[2] s) { y = PRelu(x, s) } => y", &["x = -1 -2 3 4", "s = 0.5 2"], "-0.5 -4 3 4")]);
