//! `GlobalAveragePool` over [N, spatial…, C]. Only passes create it.

use crate::def::OpDef;
use crate::pool;

pub const OP: OpDef = OpDef::new(
    "oxrt.GlobalAveragePool",
    &[1],
    1..=1,
    |ctx| pool::infer_global(ctx, true),
    |ctx| Ok(vec![pool::channels_last(ctx.tensor(0)?, |x| pool::global(x, pool::mean))?.into()]),
)
.examples(&[("(f32[1, 2, 2] x) { y = oxrt.GlobalAveragePool(x) } => y", &["x = 1 2 3 4"], "2 3")]);
