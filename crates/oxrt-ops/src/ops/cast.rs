//! <https://onnx.ai/onnx/operators/onnx__Cast.html>

use crate::cast;
use crate::def::OpDef;
use oxrt_ir::Attrs;
use oxrt_tensor::{DType, Error, Result};

pub const OP: OpDef = OpDef::new(
    "Cast",
    &[1, 6, 9, 13, 19, 21, 23, 24, 25, 28],
    1..=1,
    |ctx| cast::infer(ctx, target(ctx.attrs())?),
    |ctx| Ok(vec![cast::cast(ctx.tensor(0)?, target(ctx.attrs())?, ctx.attrs())?.into()]),
)
.examples(&[
    ("(f32[3] x) { y = Cast<to=7>(x) } => y", &["x = -1.5 0.5 2"], "-1 0 2"),
    ("(i64[2] x) { y = Cast<to=8>(x) } => y", &["x = 3 -4"], "3 -4"),
    ("(f32[3] x) { y = Cast<to=17, saturate=0>(x) } => y", &["x = 0.4 450 1000"], "0.40625 448 NaN"),
]);

fn target(attrs: &Attrs) -> Result<DType> {
    let to = attrs.get_int("to")?.ok_or_else(|| Error::invalid("the attribute `to` is missing"))?;
    let dtype = i32::try_from(*to).ok().and_then(DType::from_onnx);
    dtype.ok_or_else(|| Error::invalid(format!("{to} is not an element type")))
}
