//! <https://onnx.ai/onnx/operators/onnx__Selu.html>

use crate::activation::exp_minus_one;
use crate::def::OpDef;
use crate::scalar::Binary;

/// gamma · x above zero, gamma · alpha · (exp(x) - 1) below.
pub const OP: OpDef = OpDef::elementwise("Selu", &[1, 6, 22], 1..=1, |e, attrs, x| {
    let alpha = attrs.float_or("alpha", 1.673_263_2)? as f64;
    let gamma = attrs.float_or("gamma", 1.050_701)? as f64;
    let above = e.bin_c(Binary::Mul, x[0], gamma);
    let rest = exp_minus_one(e, x[0]);
    let below = e.bin_c(Binary::Mul, rest, alpha * gamma);
    let positive = e.bin_c(Binary::Gt, x[0], 0.0);
    Ok(e.select(positive, above, below))
})
.examples(&[("(f32[3] x) { y = Selu<alpha=2.0, gamma=3.0>(x) } => y", &["x = -1 0 1"], "-3.7927232 0 3")]);
