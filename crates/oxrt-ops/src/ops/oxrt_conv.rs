//! Convolution fused with bias, residual and activation, channels last. Only passes create it.
//!
//! x [N, spatial…, C], weights [M, C/group, k…], bias [M], residual of the shape of the result.
//! Attributes of `Conv`, and `activation`, `act_alpha`, `act_beta` (see [`crate::activation`]).
//! y = activation(conv(x) + bias + residual)

use crate::activation::epilogue;
use crate::conv;
use crate::copy::{permute, to_channels_last};
use crate::def::OpDef;
use crate::eval::{Datum, Eval};
use oxrt_tensor::{DType, Result, Tensor};

pub const OP: OpDef = OpDef::new("oxrt.Conv", &[1], 2..=4, |ctx| conv::infer(ctx, false, true), |ctx| eval(ctx, false))
    .examples(&[(
        "(f32[1, 2, 2, 1] x, f32[1, 1, 1, 2] r) {
            y = oxrt.Conv<activation=\"relu\">(x, f32[2, 1, 2, 2]{1}, f32[2]{10, -20}, r) } => y",
        &["x = 0 1 2 3", "r = 1 1"],
        "17 0",
    )]);

pub(super) fn eval(ctx: &Eval, transposed: bool) -> Result<Vec<Datum>> {
    let y = conv::eval(ctx, transposed, true)?;
    let y = Tensor::from_f64(DType::F64, &y.shape, &y.data)?;
    let mut y = permute(&y, &to_channels_last(y.rank()))?;
    let shape = y.shape().to_vec();
    epilogue(y.as_mut_slice(), ctx.opt(3)?, &shape, ctx.attrs())?;
    Ok(vec![Tensor::from_f64(ctx.dtype(0)?, &shape, y.as_slice())?.into()])
}
