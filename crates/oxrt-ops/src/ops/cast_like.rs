//! <https://onnx.ai/onnx/operators/onnx__CastLike.html>

use crate::cast;
use crate::def::OpDef;

pub const OP: OpDef = OpDef::new(
    "CastLike",
    &[15, 19, 21, 23, 24, 25],
    2..=2,
    |ctx| cast::infer(ctx, ctx.dtype(1)?),
    |ctx| Ok(vec![cast::cast(ctx.tensor(0)?, ctx.dtype(1)?, ctx.attrs())?.into()]),
)
.examples(&[("(f32[2] x) { y = CastLike(x, i64[1]{0}) } => y", &["x = -1.5 2.5"], "-1 2")]);
