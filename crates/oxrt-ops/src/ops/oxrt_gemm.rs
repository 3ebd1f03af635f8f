//! Matrix product fused with bias, residual and activation. Only passes create it.
//!
//! x […, K], w [K, N] (or [N, K] with `trans_b`), bias [N], residual of the shape of the result.
//! y = activation(x · w + bias + residual), […, N]

use crate::activation::epilogue;
use crate::copy::permute;
use crate::def::OpDef;
use crate::eval::{Datum, Eval};
use crate::infer::Infer;
use crate::matmul::{matmul_dims, matmul_f64};
use crate::norm::affine;
use oxrt_tensor::{Result, Tensor, bail};

pub const OP: OpDef = OpDef::new("oxrt.Gemm", &[1], 2..=4, infer, eval).examples(&[(
    "(f32[1, 2] x) { y = oxrt.Gemm<trans_b=1, activation=\"relu\">(x, f32[2, 2]{1, 2, 3, 4}, f32[2]{0, -20}) } => y",
    &["x = 1 2"],
    "5 0",
)]);

pub(super) fn infer(ctx: &mut Infer) -> Result<()> {
    let dims = match (ctx.dims(0), ctx.dims(1)) {
        (Some(x), Some([a, b])) => {
            let turned = ctx.attrs().bool_or("trans_b", false)?;
            let w = if turned { [b.clone(), a.clone()] } else { [a.clone(), b.clone()] };
            Some(matmul_dims(x, &w)?)
        }
        (_, Some(w)) if w.len() != 2 => bail!(invalid, "the weights should be a matrix, found {w:?}"),
        _ => None,
    };
    ctx.set(0, ctx.dtype(0)?, dims);
    Ok(())
}

fn eval(ctx: &Eval) -> Result<Vec<Datum>> {
    product(ctx, &ctx.tensor(0)?.to_f64_vec()?)
}

/// The product of `rows`, of the shape of input 0, with its end.
pub(super) fn product(ctx: &Eval, rows: &[f64]) -> Result<Vec<Datum>> {
    let (x, mut w) = (ctx.tensor(0)?, ctx.tensor(1)?.clone());
    if w.rank() != 2 {
        bail!(invalid, "the weights should be a matrix, found {:?}", w.shape());
    }
    if ctx.attrs().bool_or("trans_b", false)? {
        w = permute(&w, &[1, 0])?;
    }
    let (shape, mut y) = matmul_f64(rows, x.shape(), &w.to_f64_vec()?, w.shape())?;
    affine(&mut y, &shape, None, ctx.opt(2)?)?;
    epilogue(&mut y, ctx.opt(3)?, &shape, ctx.attrs())?;
    Ok(vec![Tensor::from_f64(x.dtype(), &shape, &y)?.into()])
}
