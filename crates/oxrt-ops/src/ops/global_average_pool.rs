//! <https://onnx.ai/onnx/operators/onnx__GlobalAveragePool.html>

use crate::def::OpDef;
use crate::pool;

pub const OP: OpDef = OpDef::new(
    "GlobalAveragePool",
    &[1, 22],
    1..=1,
    |ctx| pool::infer_global(ctx, false),
    |ctx| Ok(vec![pool::global(ctx.tensor(0)?, pool::mean)?.into()]),
)
.examples(&[("(f32[1, 2, 2] x) { y = GlobalAveragePool(x) } => y", &["x = 1 2 3 4"], "1.5 3.5")]);
