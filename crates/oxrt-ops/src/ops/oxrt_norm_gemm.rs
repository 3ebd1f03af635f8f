//! Matrix product whose rows are normalised on the way. Only builds for a device create it.
//!
//! x [..., K], w [K, N] (or [N, K] with `trans_b`), bias [N] or none, residual of the shape of the result or none, factors [..., 2] of
//! the rows of x ([`oxrt.NormFactors`](super::oxrt_norm_factors)). y = activation((x · factor + shift) · w + bias + residual), [..., N].

use crate::activation::epilogue;
use crate::copy::permute;
use crate::def::OpDef;
use crate::eval::{Datum, Eval};
use crate::matmul::matmul_f64;
use crate::norm::affine;
use oxrt_tensor::{Result, Tensor, bail};

pub const OP: OpDef = OpDef::new("oxrt.NormGemm", &[1], 5..=5, super::oxrt_gemm::infer, eval).examples(&[(
    "(f32[2, 2] x, f32[2, 2] f) { y = oxrt.NormGemm(x, f32[2, 1]{1, 3}, f32[1]{5}, _, f) } => y",
    &["x = 1 2 1 2", "f = 1 0 2 -3"],
    "12 7",
)]);

fn eval(ctx: &Eval) -> Result<Vec<Datum>> {
    let (x, mut w, factors) = (ctx.tensor(0)?, ctx.tensor(1)?.clone(), ctx.tensor(4)?);
    let [lead @ .., k] = x.shape() else { bail!(invalid, "a scalar has no rows") };
    if w.rank() != 2 || factors.shape() != [lead, &[2]].concat() {
        bail!(invalid, "weights {:?} and factors {:?} for rows {:?}", w.shape(), factors.shape(), x.shape());
    }
    if ctx.attrs().bool_or("trans_b", false)? {
        w = permute(&w, &[1, 0])?;
    }
    let mut rows = x.to_f64_vec()?;
    for (row, of) in rows.chunks_mut((*k).max(1)).zip(factors.to_f64_vec()?.chunks_exact(2)) {
        row.iter_mut().for_each(|v| *v = *v * of[0] + of[1]);
    }
    let (shape, mut y) = matmul_f64(&rows, x.shape(), &w.to_f64_vec()?, w.shape())?;
    affine(&mut y, &shape, None, ctx.opt(2)?)?;
    epilogue(&mut y, ctx.opt(3)?, &shape, ctx.attrs())?;
    Ok(vec![Tensor::from_f64(x.dtype(), &shape, &y)?.into()])
}
