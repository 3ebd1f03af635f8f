//! <https://onnx.ai/onnx/operators/onnx__HardSwish.html>

use crate::def::OpDef;
use crate::scalar::Binary;

/// x · max(0, min(1, x/6 + 1/2))
pub const OP: OpDef = OpDef::elementwise("HardSwish", &[14, 22], 1..=1, |e, _, x| {
    let sixth = e.bin_c(Binary::Mul, x[0], 1.0 / 6.0);
    let shifted = e.bin_c(Binary::Add, sixth, 0.5);
    let low = e.bin_c(Binary::Max, shifted, 0.0);
    let gate = e.bin_c(Binary::Min, low, 1.0);
    Ok(e.bin(Binary::Mul, x[0], gate))
})
.examples(&[("(f32[4] x) { y = HardSwish(x) } => y", &["x = -4 0 1 4"], "0 0 0.6666667 4")]);
