//! <https://onnx.ai/onnx/operators/onnx__Tile.html>

use crate::copy::{checked_len, select};
use crate::def::OpDef;
use crate::eval::{Datum, Eval};
use crate::infer::Infer;
use crate::shape::sizes;
use oxrt_ir::Contents;
use oxrt_tensor::{Error, Result, bail, strides_of};

pub const OP: OpDef = OpDef::new("Tile", &[1, 6, 13], 2..=2, infer, eval).examples(&[(
    "(f32[2, 1] x, i64[2] r) { y = Tile(x, r) } => y",
    &["x = 1 2", "r = 2 2"],
    "1 1 2 2 1 1 2 2",
)]);

fn infer(ctx: &mut Infer) -> Result<()> {
    let dtype = ctx.dtype(0)?;
    let dims = match (ctx.dims(0), ctx.contents(1)) {
        (Some(x), Some(r)) if r.elements.len() == x.len() => {
            Some(x.iter().zip(&r.elements).map(|(d, r)| d.clone() * r.clone()).collect())
        }
        (Some(x), Some(r)) => bail!(invalid, "{} repeats for rank {}", r.elements.len(), x.len()),
        (Some(x), None) => Some(ctx.fresh_dims(x.len())),
        _ => None,
    };
    ctx.set(0, dtype, dims);
    if let (Some(c), Some([n])) = (ctx.contents(0), ctx.const_ints(1).as_deref())
        && let Some(n) = usize::try_from(*n).ok().filter(|n| n.saturating_mul(c.elements.len()) <= 64) {
            ctx.set_contents(0, Contents::vector(vec![&c.elements[..]; n].concat()));
        }
    Ok(())
}

fn eval(ctx: &Eval) -> Result<Vec<Datum>> {
    let x = ctx.tensor(0)?;
    let repeats = sizes(&ctx.ints(1)?.ok_or_else(|| Error::invalid("the repeats are missing"))?)?;
    if repeats.len() != x.rank() {
        bail!(invalid, "{} repeats for rank {}", repeats.len(), x.rank());
    }
    let shape: Vec<usize> = x.shape().iter().zip(&repeats).map(|(d, r)| d.saturating_mul(*r)).collect();
    let n = checked_len(&shape)?;
    let (own, strides) = (strides_of(x.shape()), strides_of(&shape));
    let offset = |i: usize| (0..shape.len()).map(|d| i / strides[d] % shape[d] % x.shape()[d] * own[d]).sum();
    Ok(vec![select(x, &shape, (0..n).map(offset))?.into()])
}
