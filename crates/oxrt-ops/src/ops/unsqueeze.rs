//! <https://onnx.ai/onnx/operators/onnx__Unsqueeze.html>. Before version 13 the axes were an attribute;
//! importers turn it into input 1.

use crate::def::OpDef;
use crate::eval::{Datum, Eval};
use crate::infer::Infer;
use crate::shape::axes;
use oxrt_ir::{Contents, Dim};
use oxrt_tensor::{Error, Result};

pub const OP: OpDef = OpDef::new("Unsqueeze", &[1, 11, 13, 21, 23, 24, 25], 2..=2, infer, eval)
    .examples(&[("(f32[2] x) { y = Unsqueeze(x, i64[2]{0, -1}) } => y", &["x = 1 2"], "1 2")]);

/// Inserts a 1 at each of `list`, which counts axes of the result.
fn insert<T>(dims: impl IntoIterator<Item = T>, rank: usize, list: &[i64], one: impl Fn() -> T) -> Result<Vec<T>> {
    let rank = rank + list.len();
    let at = axes(list, rank)?;
    let mut rest = dims.into_iter();
    Ok((0..rank).map(|i| if at.contains(&i) { one() } else { rest.next().expect("ranks add up") }).collect())
}

fn infer(ctx: &mut Infer) -> Result<()> {
    let dtype = ctx.dtype(0)?;
    let (Some(dims), Some(list)) = (ctx.dims(0), ctx.const_ints(1)) else {
        ctx.set(0, dtype, None);
        return Ok(());
    };
    let out = insert(dims.iter().cloned(), dims.len(), &list, || Dim::Const(1))?;
    let rank = out.len();
    ctx.set(0, dtype, Some(out));
    if let Some(c) = ctx.contents(0).filter(|c| c.scalar && rank == 1) {
        ctx.set_contents(0, Contents::vector(c.elements.clone()));
    }
    Ok(())
}

fn eval(ctx: &Eval) -> Result<Vec<Datum>> {
    let x = ctx.tensor(0)?;
    let list = ctx.ints(1)?.ok_or_else(|| Error::invalid("the axes are missing"))?;
    let shape = insert(x.shape().iter().copied(), x.rank(), &list, || 1)?;
    Ok(vec![x.reshaped(&shape)?.into()])
}
