//! <https://onnx.ai/onnx/operators/onnx__Compress.html>

use crate::copy::{around, select_runs};
use crate::def::OpDef;
use crate::eval::{Datum, Eval};
use crate::infer::Infer;
use crate::shape::axis;
use oxrt_tensor::{Error, Result, bail};

/// The slices along `axis` (or the elements) where the condition holds.
pub const OP: OpDef = OpDef::new("Compress", &[9, 11, 28], 2..=2, infer, eval).examples(&[
    ("(f32[2, 3] x, bool[3] c) { y = Compress<axis=1>(x, c) } => y", &["x = 1 2 3 4 5 6", "c = 1 0 1"], "1 3 4 6"),
    ("(f32[2, 2] x, bool[3] c) { y = Compress(x, c) } => y", &["x = 1 2 3 4", "c = 0 1 1"], "2 3"),
]);

fn infer(ctx: &mut Infer) -> Result<()> {
    let count = ctx.fresh();
    let dims = match (ctx.attrs().get_int("axis")?, ctx.dims(0)) {
        (None, _) => Some(vec![count]),
        (Some(&a), Some(d)) => {
            let mut dims = d.to_vec();
            dims[axis(a, d.len())?] = count;
            Some(dims)
        }
        _ => None,
    };
    ctx.set(0, ctx.dtype(0)?, dims);
    Ok(())
}

fn eval(ctx: &Eval) -> Result<Vec<Datum>> {
    let x = ctx.tensor(0)?;
    let cond = ctx.ints(1)?.ok_or_else(|| Error::invalid("the condition is missing"))?;
    let (mut shape, at) = match ctx.attrs().get_int("axis")? {
        Some(&a) => (x.shape().to_vec(), axis(a, x.rank())?),
        None => (vec![x.len()], 0),
    };
    let (outer, n, inner) = around(&shape, at);
    let picks: Vec<usize> = (0..cond.len()).filter(|&i| cond[i] != 0).collect();
    if picks.last().is_some_and(|&i| i >= n) {
        bail!(invalid, "a condition of {} elements for an axis of size {n}", cond.len());
    }
    shape[at] = picks.len();
    let picks = &picks;
    let starts = (0..outer).flat_map(|o| picks.iter().map(move |&p| (o * n + p) * inner));
    Ok(vec![select_runs(x, &shape, starts, inner)?.into()])
}
