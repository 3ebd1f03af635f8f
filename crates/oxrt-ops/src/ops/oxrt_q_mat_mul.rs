//! Matrix product of two quantised tensors, as `MatMul` of what they stand for. Only passes create it.
//!
//! a, b `u8` or `i8`, with batches that broadcast; table [256] (optional). Attributes: `a_zero`, `b_zero`, `scale` (of a and
//! b multiplied), `trans_b` when b is […, N, K], and the parameters `y` of [`crate::quantised::Linear`].

use crate::copy::permute;
use crate::def::OpDef;
use crate::eval::{Datum, Eval};
use crate::infer::Infer;
use crate::matmul::{matmul_dims, matmul_f64};
use crate::quantised::{finish, finished_dtype};
use oxrt_tensor::{Result, Tensor};

pub const OP: OpDef = OpDef::new("oxrt.QMatMul", &[1], 2..=3, infer, eval).examples(&[(
    "(u8[1, 2] a, u8[2, 1] b) { y = oxrt.QMatMul<a_zero=1, b_zero=2, scale=0.5, y_scale=0.25, y_zero=10>(a, b) } => y",
    &["a = 1 3", "b = 4 5"],
    "22",
)]);

fn infer(ctx: &mut Infer) -> Result<()> {
    let dims = match (ctx.dims(0), ctx.dims(1)) {
        (Some(a), Some(b)) => {
            let mut b = b.to_vec();
            if ctx.attrs().bool_or("trans_b", false)? && b.len() >= 2 {
                let n = b.len();
                b.swap(n - 1, n - 2);
            }
            Some(matmul_dims(a, &b)?)
        }
        _ => None,
    };
    let table = if ctx.has(2) { Some(ctx.dtype(2)?) } else { None };
    let dtype = finished_dtype(ctx.attrs(), table)?;
    ctx.set(0, dtype, dims);
    Ok(())
}

fn eval(ctx: &Eval) -> Result<Vec<Datum>> {
    let attrs = ctx.attrs();
    let (a, mut b) = (ctx.tensor(0)?, ctx.tensor(1)?.clone());
    if attrs.bool_or("trans_b", false)? && b.rank() >= 2 {
        let mut perm: Vec<usize> = (0..b.rank()).collect();
        perm.swap(b.rank() - 1, b.rank() - 2);
        b = permute(&b, &perm)?;
    }
    let less = |t: &Tensor, name: &str| -> Result<Vec<f64>> {
        let zero = attrs.int_or(name, 0)? as f64;
        Ok(t.to_f64_vec()?.iter().map(|v| v - zero).collect())
    };
    let (shape, mut data) = matmul_f64(&less(a, "a_zero")?, a.shape(), &less(&b, "b_zero")?, b.shape())?;
    let scale = f64::from(attrs.float_or("scale", 1.0)?);
    data.iter_mut().for_each(|v| *v *= scale);
    Ok(vec![finish(ctx, data, &shape, 8, 2)?.into()])
}
