//! <https://onnx.ai/onnx/operators/onnx_aionnxml_ArrayFeatureExtractor.html>

use crate::copy::{index, select};
use crate::def::OpDef;
use crate::eval::{Datum, Eval};
use crate::infer::Infer;
use oxrt_ir::Dim;
use oxrt_tensor::{Error, Result, bail};

/// Columns of the last axis, picked by input 1.
pub const OP: OpDef = OpDef::new("ai.onnx.ml.ArrayFeatureExtractor", &[1], 2..=2, infer, eval).examples(&[(
    "(f32[2, 3] x, i64[2] i) { y = ai.onnx.ml.ArrayFeatureExtractor(x, i) } => y",
    &["x = 1 2 3 4 5 6", "i = 2 0"],
    "3 1 6 4",
)]);

fn infer(ctx: &mut Infer) -> Result<()> {
    let count = ctx.dims(1).map(|d| d.iter().cloned().product::<Dim>());
    let count = count.unwrap_or_else(|| ctx.fresh());
    let dims = match ctx.dims(0) {
        Some([_]) => Some(vec![Dim::Const(1), count]),
        Some([outer @ .., _]) => Some([outer, &[count]].concat()),
        Some([]) => bail!(invalid, "a scalar has no columns"),
        None => None,
    };
    ctx.set(0, ctx.dtype(0)?, dims);
    Ok(())
}

fn eval(ctx: &Eval) -> Result<Vec<Datum>> {
    let x = ctx.tensor(0)?;
    let picks = ctx.ints(1)?.ok_or_else(|| Error::invalid("the indices are missing"))?;
    let Some(&n) = x.shape().last() else { bail!(invalid, "a scalar has no columns") };
    let picks = picks.iter().map(|&i| index(i, n)).collect::<Result<Vec<_>>>()?;
    let outer = if x.rank() == 1 { &[1] } else { &x.shape()[..x.rank() - 1] };
    let shape = [outer, &[picks.len()]].concat();
    let rows: usize = outer.iter().product();
    let picks = &picks;
    Ok(vec![select(x, &shape, (0..rows).flat_map(|r| picks.iter().map(move |p| r * n + p)))?.into()])
}
