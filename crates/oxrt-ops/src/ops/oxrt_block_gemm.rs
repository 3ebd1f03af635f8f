//! Matrix product with weights of few bits in blocks along the inner dimension. Only passes create it.
//!
//! x […, K], w `u2`, `u4` or `u8` [N, K], bias [N] (may be absent), scale [N, blocks], zero [N, blocks] (reals; absent: 0), with
//! `block_size` columns of w to a block, fewer in the last. y = x · ((w - zero) · scale)ᵀ + bias, […, N]

use crate::def::OpDef;
use crate::eval::{Datum, Eval};
use crate::infer::Infer;
use crate::matmul::{matmul_dims, matmul_f64};
use crate::norm::affine;
use crate::quant::block_reals;
use oxrt_tensor::{Result, Tensor, bail};

pub const OP: OpDef = OpDef::new("oxrt.BlockGemm", &[1], 4..=5, infer, eval).examples(&[(
    "(f32[1, 3] x) { b = Cast<to=21>(f32[2, 3]{1, 2, 3, 4, 5, 6})
        y = oxrt.BlockGemm<block_size=2>(x, b, f32[2]{0, 100}, f32[2, 2]{1, 10, 1, 2}, f32[2, 2]{0, 1, 4, 6}) } => y",
    &["x = 1 2 3"],
    "65 102",
)]);

fn infer(ctx: &mut Infer) -> Result<()> {
    let dims = match (ctx.dims(0), ctx.dims(1)) {
        (Some(x), Some([n, k])) => Some(matmul_dims(x, &[k.clone(), n.clone()])?),
        (_, Some(w)) if w.len() != 2 => bail!(invalid, "the weights should be a matrix, found {w:?}"),
        _ => None,
    };
    ctx.set(0, ctx.dtype(0)?, dims);
    Ok(())
}

fn eval(ctx: &Eval) -> Result<Vec<Datum>> {
    let (x, w, scale) = (ctx.tensor(0)?, ctx.tensor(1)?, ctx.tensor(3)?);
    let &[n, k] = w.shape() else { bail!(invalid, "the weights should be a matrix, found {:?}", w.shape()) };
    let codes = block_reals(w, scale, ctx.opt(4)?, ctx.attrs().int_or("block_size", 0)?)?;
    let real: Vec<f64> = (0..n * k).map(|i| codes[i % n * k + i / n]).collect();
    let (shape, mut y) = matmul_f64(&x.to_f64_vec()?, x.shape(), &real, &[k, n])?;
    affine(&mut y, &shape, None, ctx.opt(2)?)?;
    Ok(vec![Tensor::from_f64(x.dtype(), &shape, &y)?.into()])
}
