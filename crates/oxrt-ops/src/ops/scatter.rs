//! <https://onnx.ai/onnx/operators/onnx__Scatter.html>, the deprecated name of `ScatterElements`.

use crate::def::OpDef;
use crate::shape::same_as_input;

pub const OP: OpDef = OpDef::new("Scatter", &[9, 11], 3..=3, same_as_input, super::scatter_elements::eval).examples(&[(
    "(f32[1, 3] x, i64[1, 2] i, f32[1, 2] u) { y = Scatter<axis=1>(x, i, u) } => y",
    &["x = 1 2 3", "i = 2 0", "u = 8 9"],
    "9 2 8",
)]);
