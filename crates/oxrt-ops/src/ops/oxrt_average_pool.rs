//! `AveragePool` over [N, spatial…, C]. Only passes create it.

use crate::def::OpDef;
use crate::pool;

pub const OP: OpDef = OpDef::new(
    "oxrt.AveragePool",
    &[1],
    1..=1,
    |ctx| pool::infer(ctx, true),
    |ctx| Ok(vec![pool::channels_last(ctx.tensor(0)?, |x| pool::average(x, ctx.attrs()))?.into()]),
)
.examples(&[(
    "(f32[1, 3, 2] x) { y = oxrt.AveragePool<kernel_shape=[2]>(x) } => y",
    &["x = 1 6 2 5 3 4"],
    "1.5 5.5 2.5 4.5",
)]);
