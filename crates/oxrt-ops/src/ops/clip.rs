//! <https://onnx.ai/onnx/operators/onnx__Clip.html>

use crate::def::OpDef;
use crate::scalar::Binary;

/// min(max(x, low), high); either limit may be absent.
pub const OP: OpDef = OpDef::elementwise("Clip", &[1, 6, 11, 12, 13], 1..=3, |e, _, x| {
    let limits = [(Binary::Max, x.get(1)), (Binary::Min, x.get(2))];
    Ok(limits.into_iter().fold(x[0], |y, (op, limit)| match limit {
        Some(&l) if l.is_present() => e.bin(op, y, l),
        _ => y,
    }))
})
.examples(&[
    ("(f32[3] x) { y = Clip(x, -1.0, 1.0) } => y", &["x = -2 0.5 2"], "-1 0.5 1"),
    ("(f32[3] x) { y = Clip(x, _, 1.0) } => y", &["x = -2 0.5 2"], "-2 0.5 1"),
]);
