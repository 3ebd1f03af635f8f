//! Matrix product whose rows are normalised on the way. Only builds for a device create it.
//!
//! x [..., K], w [K, N] (or [N, K] with `trans_b`), bias [N] or none, residual of the shape of the result or none, factors [..., 2] of
//! the rows of x ([`oxrt.NormFactors`](super::oxrt_norm_factors)). y = activation((x · factor + shift) · w + bias + residual), [..., N].

use super::oxrt_gemm::{infer, product};
use crate::def::OpDef;
use crate::eval::{Datum, Eval};
use oxrt_tensor::{Result, bail};

pub const OP: OpDef = OpDef::new("oxrt.NormGemm", &[1], 5..=5, infer, eval).examples(&[(
    "(f32[2, 2] x, f32[2, 2] f) { y = oxrt.NormGemm(x, f32[2, 1]{1, 3}, f32[1]{5}, _, f) } => y",
    &["x = 1 2 1 2", "f = 1 0 2 -3"],
    "12 7",
)]);

fn eval(ctx: &Eval) -> Result<Vec<Datum>> {
    let (x, factors) = (ctx.tensor(0)?, ctx.tensor(4)?);
    let [lead @ .., k] = x.shape() else { bail!(invalid, "a scalar has no rows") };
    if factors.shape() != [lead, &[2]].concat() {
        bail!(invalid, "factors {:?} for rows {:?}", factors.shape(), x.shape());
    }
    let mut rows = x.to_f64_vec()?;
    for (row, of) in rows.chunks_mut((*k).max(1)).zip(factors.to_f64_vec()?.chunks_exact(2)) {
        row.iter_mut().for_each(|v| *v = *v * of[0] + of[1]);
    }
    product(ctx, &rows)
}
