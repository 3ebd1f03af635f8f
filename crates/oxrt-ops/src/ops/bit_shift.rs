//! <https://onnx.ai/onnx/operators/onnx__BitShift.html>

use crate::def::OpDef;
use crate::scalar::Binary;
use oxrt_tensor::bail;

pub const OP: OpDef = OpDef::elementwise("BitShift", &[11, 28], 2..=2, |e, attrs, x| {
    let op = match attrs.string_or("direction", "")? {
        "LEFT" => Binary::Shl,
        "RIGHT" => Binary::Shr,
        other => bail!(invalid, "the direction is LEFT or RIGHT, not `{other}`"),
    };
    Ok(e.bin(op, x[0], x[1]))
})
.examples(&[(
    "(u8[3] x, u8[3] y) { z = BitShift<direction=\"LEFT\">(x, y) } => z",
    &["x = 16 4 255", "y = 1 2 4"],
    "32 16 240",
)]);
