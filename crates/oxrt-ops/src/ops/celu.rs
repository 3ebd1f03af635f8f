//! <https://onnx.ai/onnx/operators/onnx__Celu.html>

use crate::activation::exp_minus_one;
use crate::def::OpDef;
use crate::scalar::Binary;

/// max(0, x) + min(0, alpha · (exp(x / alpha) - 1))
pub const OP: OpDef = OpDef::elementwise("Celu", &[12, 28], 1..=1, |e, attrs, x| {
    let alpha = attrs.float_or("alpha", 1.0)? as f64;
    let scaled = e.bin_c(Binary::Div, x[0], alpha);
    let rest = exp_minus_one(e, scaled);
    let curve = e.bin_c(Binary::Mul, rest, alpha);
    let below = e.bin_c(Binary::Min, curve, 0.0);
    let above = e.bin_c(Binary::Max, x[0], 0.0);
    Ok(e.bin(Binary::Add, above, below))
})
.examples(&[("(f32[3] x) { y = Celu<alpha=2.0>(x) } => y", &["x = -1 0 1"], "-0.7869387 0 1")]);
