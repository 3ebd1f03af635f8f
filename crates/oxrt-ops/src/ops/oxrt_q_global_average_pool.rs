//! `GlobalAveragePool` of a quantised tensor [N, spatial…, C]. Only passes create it.
//!
//! Attributes: the parameters `x` and `y` of [`crate::quantised::Linear`]; `y_dtype` may be `f32`.

use crate::def::OpDef;
use crate::eval::{Datum, Eval};
use crate::pool;
use crate::quantised::{Linear, dtype_of, finish};
use oxrt_tensor::{DType, Result, Tensor};

pub const OP: OpDef = OpDef::new(
    "oxrt.QGlobalAveragePool",
    &[1],
    1..=1,
    |ctx| {
        let dtype = dtype_of(ctx.attrs(), "y")?;
        pool::infer_global_as(ctx, dtype, true)
    },
    eval,
)
.examples(&[(
    "(u8[1, 2, 2] x) { y = oxrt.QGlobalAveragePool<x_scale=0.5, x_zero=1, y_scale=0.25, y_zero=3>(x) } => y",
    &["x = 1 2 3 4"],
    "5 7",
)]);

fn eval(ctx: &Eval) -> Result<Vec<Datum>> {
    let (x, from) = (ctx.tensor(0)?, Linear::from_attrs(ctx.attrs(), "x")?);
    let real: Vec<f64> = x.to_f64_vec()?.iter().map(|&q| from.real(q)).collect();
    let real = Tensor::from_f64(DType::F64, x.shape(), &real)?;
    let y = pool::channels_last(&real, |x| pool::global(x, pool::mean))?;
    let (shape, data) = (y.shape().to_vec(), y.to_f64_vec()?);
    Ok(vec![finish(ctx, data, &shape, 8, 8)?.into()])
}
