//! <https://onnx.ai/onnx/operators/onnx__Transpose.html>

use crate::copy::permute;
use crate::def::OpDef;
use crate::eval::{Datum, Eval};
use crate::infer::Infer;
use crate::shape::axes;
use oxrt_ir::Attrs;
use oxrt_tensor::{Result, bail};

pub const OP: OpDef = OpDef::new("Transpose", &[1, 13, 21, 23, 24, 25], 1..=1, infer, eval).examples(&[
    ("(f32[2, 3] x) { y = Transpose(x) } => y", &["x = 1 2 3 4 5 6"], "1 4 2 5 3 6"),
    ("(string[1, 2] x) { y = Transpose<perm=[1, 0]>(x) } => y", &["x = a b"], "a b"),
]);

/// The order of the axes; by default reversed.
fn order(attrs: &Attrs, rank: usize) -> Result<Vec<usize>> {
    let Some(perm) = attrs.ints("perm")? else { return Ok((0..rank).rev().collect()) };
    if perm.len() != rank || axes(perm, rank).is_err() {
        bail!(invalid, "perm {perm:?} does not order {rank} axes");
    }
    perm.iter().map(|&p| crate::shape::axis(p, rank)).collect()
}

fn infer(ctx: &mut Infer) -> Result<()> {
    let dims = match ctx.dims(0) {
        Some(d) => Some(order(ctx.attrs(), d.len())?.into_iter().map(|p| d[p].clone()).collect()),
        None => None,
    };
    ctx.set(0, ctx.dtype(0)?, dims);
    if let Some(c) = ctx.contents(0) {
        ctx.set_contents(0, c.clone());
    }
    Ok(())
}

fn eval(ctx: &Eval) -> Result<Vec<Datum>> {
    let x = ctx.tensor(0)?;
    Ok(vec![permute(x, &order(ctx.attrs(), x.rank())?)?.into()])
}
