//! Transposed convolution fused with bias, residual and activation, channels last: the twin of `oxrt.Conv`
//! with weights [C, M/group, k…] and the attributes of `ConvTranspose`. Only passes create it.

use crate::conv;
use crate::def::OpDef;

pub const OP: OpDef = OpDef::new(
    "oxrt.ConvTranspose",
    &[1],
    2..=4,
    |ctx| conv::infer(ctx, true, true),
    |ctx| super::oxrt_conv::eval(ctx, true),
)
.examples(&[(
    "(f32[1, 2, 1] x) { y = oxrt.ConvTranspose<activation=\"clip\", act_beta=3.0>(x, f32[1, 1, 3]{..}) } => y",
    &["x = 1 2"],
    "0 1 3 3",
)]);
