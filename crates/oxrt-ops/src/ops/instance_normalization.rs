//! <https://onnx.ai/onnx/operators/onnx__InstanceNormalization.html>

use crate::def::OpDef;
use crate::norm::group_norm;
use crate::shape::same_as_input;
use oxrt_tensor::Tensor;

/// Every channel of every image on its own.
pub const OP: OpDef = OpDef::new("InstanceNormalization", &[1, 6, 22], 3..=3, same_as_input, |ctx| {
    let x = ctx.tensor(0)?;
    let groups = *x.shape().get(1).unwrap_or(&0);
    let epsilon = ctx.attrs().float_or("epsilon", 1e-5)? as f64;
    let y = group_norm(x, groups, ctx.tensor(1)?, ctx.tensor(2)?, epsilon)?;
    Ok(vec![Tensor::from_f64(x.dtype(), x.shape(), &y)?.into()])
})
.examples(&[(
    "(f32[1, 2, 2] x) { y = InstanceNormalization<epsilon=0.0>(x, f32[2]{1, 2}, f32[2]{0, 10}) } => y",
    &["x = 1 3 5 9"],
    "-1 1 8 12",
)]);
