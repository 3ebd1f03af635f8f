//! Convolution of quantised tensors fused with all that follows it up to the next quantised tensor, channels last. Only
//! passes create it.
//!
//! x `u8` or `i8` [N, spatial…, C], weights `i8` [M, C/group, k…], scale `f32` [M] (those of x and weights multiplied),
//! bias `f32` [M], residual `u8` or `i8` (of the result's shape, or [M]), table [256], table [256] before
//! the residual. Or x, weights and residual `f8e4m3fn`, without zero points and tables. Attributes of `Conv`; `x_zero`,
//! `w_zero`; `activation`, `act_alpha`, `act_beta` (see [`crate::activation`]); the parameters `mid`, `t`, `r` and `y` of
//! [`crate::quantised::Linear`].
//!
//! y = table\[quantise(activation(conv(x - x_zero, w - w_zero) · scale + bias))\]; with a residual that sum is rounded as
//! `mid` says, taken through the other table, and the residual added before the last rounding. `mid_dtype` and `y_dtype` may be `f32`: no
//! rounding then.

use crate::conv::{self, Operand};
use crate::copy::{permute, to_channels_first, to_channels_last};
use crate::def::OpDef;
use crate::eval::{Datum, Eval};
use crate::quantised::{finish, finished_dtype, scale_columns};
use oxrt_tensor::{DType, Result, Tensor};

pub const OP: OpDef = OpDef::new(
    "oxrt.QConv",
    &[1],
    3..=7,
    |ctx| {
        let table = if ctx.has(5) { Some(ctx.dtype(5)?) } else { None };
        let dtype = finished_dtype(ctx.attrs(), table)?;
        conv::infer_as(ctx, dtype, 0, 1, false, true)
    },
    eval,
)
.examples(&[(
    "(u8[1, 2, 1] x) {
        y = oxrt.QConv<x_zero=1, y_scale=0.5, y_zero=3, y_low=4>(x, i8[2, 1, 1]{2, -1}, f32[2]{0.5, 1}, f32[2]{1, 0}) } => y",
    &["x = 1 3"],
    "5 4 9 4",
), (
    "(f8e4m3fn[1, 2, 1] x, f8e4m3fn[1, 2, 2] r) {
        q = oxrt.QConv<mid_dtype=1, r_scale=0.5, r_dtype=17, y_scale=0.5, y_dtype=17, y_low=0>(x, f8e4m3fn[2, 1, 1]{2, -1}, f32[2]{0.5, 1}, f32[2]{1, 0}, r);
        y = Cast<to=1>(q) } => y",
    &["x = 1 3", "r = 1 2 30 4"],
    "5 0 40 0",
)]);

fn eval(ctx: &Eval) -> Result<Vec<Datum>> {
    let zeros = [ctx.attrs().int_or("x_zero", 0)?, ctx.attrs().int_or("w_zero", 0)?].map(|z| z as f64);
    let centred = |t: &Tensor, zero: f64| -> Result<Operand> {
        let mut o = Operand::of(t)?;
        o.data.iter_mut().for_each(|v| *v -= zero);
        Ok(o)
    };
    let x = ctx.tensor(0)?;
    let x = centred(&permute(x, &to_channels_first(x.rank()))?, zeros[0])?;
    let y = conv::conv(&x, &centred(ctx.tensor(1)?, zeros[1])?, None, ctx.attrs())?;
    let y = Tensor::from_f64(DType::F64, &y.shape, &y.data)?;
    let y = permute(&y, &to_channels_last(y.rank()))?;
    let (shape, mut data) = (y.shape().to_vec(), y.to_f64_vec()?);
    scale_columns(&mut data, shape[shape.len() - 1], ctx.tensor(2)?, ctx.opt(3)?)?;
    Ok(vec![finish(ctx, data, &shape, 4, 5)?.into()])
}
