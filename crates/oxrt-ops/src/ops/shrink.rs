//! <https://onnx.ai/onnx/operators/onnx__Shrink.html>

use crate::def::OpDef;
use crate::scalar::Binary;

/// x + bias below -lambd, x - bias above lambd, 0 between.
pub const OP: OpDef = OpDef::elementwise("Shrink", &[9], 1..=1, |e, attrs, x| {
    let (bias, lambd) = (attrs.float_or("bias", 0.0)? as f64, attrs.float_or("lambd", 0.5)? as f64);
    let (zero, raised, lowered) = (e.c(0.0), e.bin_c(Binary::Add, x[0], bias), e.bin_c(Binary::Sub, x[0], bias));
    // Constants are truncated where x is an integer, and no unsigned number is below 0: each comparison holds there as well.
    let (mut low, high);
    if lambd < 0.0 {
        (low, high) = (e.bin_c(Binary::Lt, x[0], -lambd), e.bin_c(Binary::Ge, x[0], -lambd));
        if lambd.fract() != 0.0 {
            let whole = e.bin_c(Binary::Le, x[0], (-lambd).floor());
            low = e.bin(Binary::Or, low, whole);
        }
    } else {
        let negative = e.bin_c(Binary::Lt, x[0], 0.0);
        low = e.bin_c(Binary::Lt, x[0], -lambd);
        low = e.bin(Binary::And, low, negative);
        high = e.bin_c(Binary::Gt, x[0], lambd);
    }
    let upper = e.select(high, lowered, zero);
    Ok(e.select(low, raised, upper))
})
.examples(&[
    ("(f32[3] x) { y = Shrink<bias=1.0, lambd=1.5>(x) } => y", &["x = -2 1 2"], "-1 0 1"),
    ("(u64[3] x) { y = Shrink<lambd=1.25>(x) } => y", &["x = 0 1 2"], "0 0 2"),
    ("(i64[4] x) { y = Shrink<bias=1.0, lambd=-1.25>(x) } => y", &["x = -2 0 1 2"], "-1 1 2 1"),
]);
