//! <https://onnx.ai/onnx/operators/onnx__GroupNormalization.html>

use crate::def::OpDef;
use crate::norm::group_norm;
use crate::shape::same_as_input;
use oxrt_tensor::{Error, Tensor};

/// Scale and bias are per channel; before version 21 they were per group, which importers raise.
pub const OP: OpDef = OpDef::new("GroupNormalization", &[18, 21], 3..=3, same_as_input, |ctx| {
    let x = ctx.tensor(0)?;
    let groups = ctx.attrs().get_int("num_groups")?.and_then(|&g| usize::try_from(g).ok());
    let groups = groups.ok_or_else(|| Error::invalid("`num_groups` is missing"))?;
    let epsilon = ctx.attrs().float_or("epsilon", 1e-5)? as f64;
    let y = group_norm(x, groups, ctx.tensor(1)?, ctx.tensor(2)?, epsilon)?;
    Ok(vec![Tensor::from_f64(x.dtype(), x.shape(), &y)?.into()])
})
.examples(&[(
    "(f32[1, 2, 2] x) { y = GroupNormalization<num_groups=2, epsilon=0.0>(x, f32[2]{1, 2}, f32[2]{0, 10}) } => y",
    &["x = 1 3 5 9"],
    "-1 1 8 12",
)]);
