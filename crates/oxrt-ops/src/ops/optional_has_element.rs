//! <https://onnx.ai/onnx/operators/onnx__OptionalHasElement.html>

use crate::def::OpDef;
use crate::eval::Datum;
use oxrt_tensor::{DType, Tensor};

/// Anything but an empty optional, or no input at all.
pub const OP: OpDef = OpDef::new(
    "OptionalHasElement",
    &[15, 18, 28],
    0..=1,
    |ctx| {
        ctx.set(0, DType::Bool, Some(vec![]));
        Ok(())
    },
    |ctx| {
        let full = ctx.datum(0).is_some_and(|d| !matches!(d, Datum::Optional(None)));
        Ok(vec![Tensor::scalar(full).into()])
    },
)
.examples(&[("(f32[1] x) { o = Optional(x); y = OptionalHasElement(o) } => y", &["x = 1"], "1")]);
