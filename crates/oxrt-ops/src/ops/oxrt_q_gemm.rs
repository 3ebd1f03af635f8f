//! Matrix product of a quantised tensor and quantised weights, fused with what follows it. Only passes create it.
//!
//! x `u8` or `i8` […, K], w `i8` [K, N], and otherwise the inputs and attributes of `oxrt.QConv`: scale [N], bias [N],
//! residual (of the result's shape, or [N]), table.

use crate::def::OpDef;
use crate::eval::{Datum, Eval};
use crate::infer::Infer;
use crate::matmul::{matmul_dims, matmul_f64};
use crate::quantised::{finish, finished_dtype, scale_columns};
use oxrt_tensor::Result;

pub const OP: OpDef = OpDef::new("oxrt.QGemm", &[1], 3..=7, infer, eval).examples(&[
    (
        "(u8[1, 2] x) { y = oxrt.QGemm<x_zero=1, y_dtype=3, y_scale=2>(x, i8[2, 2]{1, 2, 3, -4}, f32[2]{1, 0.5}) } => y",
        &["x = 2 3"],
        "4 -2",
    ),
    (
        "(u8[1, 1] x, u8[1, 2] r) { y = oxrt.QGemm<mid_scale=1, r_scale=0.5, y_scale=0.5>(x, i8[1, 2]{1, -1}, f32[2]{1, 1}, f32[2]{0.25, 0}, r) } => y",
        &["x = 2", "r = 3 5"],
        "7 5",
    ),
]);

fn infer(ctx: &mut Infer) -> Result<()> {
    let dims = match (ctx.dims(0), ctx.dims(1)) {
        (Some(x), Some(w)) => Some(matmul_dims(x, w)?),
        _ => None,
    };
    let table = if ctx.has(5) { Some(ctx.dtype(5)?) } else { None };
    let dtype = finished_dtype(ctx.attrs(), table)?;
    ctx.set(0, dtype, dims);
    Ok(())
}

fn eval(ctx: &Eval) -> Result<Vec<Datum>> {
    let (x, w) = (ctx.tensor(0)?, ctx.tensor(1)?);
    let less = |t: &oxrt_tensor::Tensor, name: &str| -> Result<Vec<f64>> {
        let zero = ctx.attrs().int_or(name, 0)? as f64;
        Ok(t.to_f64_vec()?.iter().map(|v| v - zero).collect())
    };
    let (shape, mut data) = matmul_f64(&less(x, "x_zero")?, x.shape(), &less(w, "w_zero")?, w.shape())?;
    scale_columns(&mut data, shape.last().copied().unwrap_or(1), ctx.tensor(2)?, ctx.opt(3)?)?;
    Ok(vec![finish(ctx, data, &shape, 4, 5)?.into()])
}
