//! <https://onnx.ai/onnx/operators/onnx__Expand.html>

use crate::copy::select;
use crate::def::OpDef;
use crate::eval::{Datum, Eval};
use crate::infer::Infer;
use crate::scalar::broadcast_each;
use crate::shape::{broadcast_dims, broadcast_shapes, sizes};
use oxrt_ir::Contents;
use oxrt_tensor::{Error, Result, bail};

/// Broadcasts to the shape in input 1 and the input's own.
pub const OP: OpDef = OpDef::new("Expand", &[8, 13], 2..=2, infer, eval).examples(&[(
    "(f32[2, 1] x, i64[2] s) { y = Expand(x, s) } => y",
    &["x = 1 2", "s = 1 3"],
    "1 1 1 2 2 2",
)]);

fn infer(ctx: &mut Infer) -> Result<()> {
    let dtype = ctx.dtype(0)?;
    let (Some(x), Some(target)) = (ctx.dims(0), ctx.contents(1)) else {
        let rank = ctx.rank(0).zip(ctx.length_of(1)).map(|(a, b)| a.max(b));
        let dims = rank.map(|r| ctx.fresh_dims(r));
        ctx.set(0, dtype, dims);
        return Ok(());
    };
    let dims = broadcast_dims(&[x, &target.elements])?;
    let count = match &dims[..] {
        [] => Some((true, 1)),
        [n] => n.as_size().filter(|&n| n <= 64).map(|n| (false, n)),
        _ => None,
    };
    ctx.set(0, dtype, Some(dims));
    if let (Some((scalar, n)), Some(c)) = (count, ctx.contents(0)) {
        let elements = if c.elements.len() == 1 { vec![c.elements[0].clone(); n] } else { c.elements.clone() };
        ctx.set_contents(0, Contents { scalar, elements });
    }
    Ok(())
}

fn eval(ctx: &Eval) -> Result<Vec<Datum>> {
    let x = ctx.tensor(0)?;
    let target = ctx.ints(1)?.ok_or_else(|| Error::invalid("the shape is missing"))?;
    let rank = ctx.tensor(1)?.rank();
    if rank > 1 {
        bail!(invalid, "the shape is a vector, found one of {rank} axes");
    }
    let shape = broadcast_shapes(&[x.shape(), &sizes(&target)?])?;
    crate::copy::checked_len(&shape)?;
    let mut offsets = Vec::new();
    broadcast_each(&shape, &[x.shape()], |at| {
        offsets.push(at[0]);
        Ok(())
    })?;
    Ok(vec![select(x, &shape, offsets)?.into()])
}
