//! `GroupNormalization` over [N, spatial…, C] fused with an activation. Only passes create it.
//!
//! x, scale [C], bias [C]; attributes `num_groups`, `epsilon`, `activation`, `act_alpha`, `act_beta`.

use crate::activation::epilogue;
use crate::def::OpDef;
use crate::norm::group_norm;
use crate::pool::channels_last;
use crate::shape::same_as_input;
use oxrt_tensor::Tensor;

pub const OP: OpDef = OpDef::new("oxrt.GroupNorm", &[1], 3..=3, same_as_input, |ctx| {
    let groups = usize::try_from(ctx.attrs().int_or("num_groups", 1)?).unwrap_or(0);
    let epsilon = ctx.attrs().float_or("epsilon", 1e-5)? as f64;
    let y = channels_last(ctx.tensor(0)?, |x| {
        let mut y = group_norm(x, groups, ctx.tensor(1)?, ctx.tensor(2)?, epsilon)?;
        epilogue(&mut y, None, x.shape(), ctx.attrs())?;
        Tensor::from_f64(x.dtype(), x.shape(), &y)
    })?;
    Ok(vec![y.into()])
})
.examples(&[(
    "(f32[1, 2, 2] x) { y = oxrt.GroupNorm<num_groups=2, epsilon=0.0, activation=\"relu\">(x, f32[2]{1, 2}, f32[2]{0, 1}) } => y",
    &["x = 1 5 3 9"],
    "0 0 1 3",
)]);
