//! <https://onnx.ai/onnx/operators/onnx__GatherND.html>

use crate::copy::{index, select_runs};
use crate::def::OpDef;
use crate::eval::{Datum, Eval};
use crate::infer::Infer;
use oxrt_tensor::{Result, bail, strides_of};

/// The last axis of the indices addresses the leading axes of the data after `batch_dims`.
pub const OP: OpDef = OpDef::new("GatherND", &[11, 12, 13], 2..=2, infer, eval).examples(&[
    ("(f32[2, 2] x, i64[2, 2] i) { y = GatherND(x, i) } => y", &["x = 1 2 3 4", "i = 0 0 1 -1"], "1 4"),
    (
        "(f32[2, 2] x, i64[2, 1] i) { y = GatherND<batch_dims=1>(x, i) } => y",
        &["x = 1 2 3 4", "i = 1 0"],
        "2 3",
    ),
]);

fn infer(ctx: &mut Infer) -> Result<()> {
    let batch = usize::try_from(ctx.attrs().int_or("batch_dims", 0)?).unwrap_or(usize::MAX);
    let dtype = ctx.dtype(0)?;
    let (Some(x), Some(i)) = (ctx.dims(0), ctx.dims(1)) else {
        ctx.set(0, dtype, None);
        return Ok(());
    };
    let Some(depth) = i.last().and_then(|d| d.as_size()) else {
        ctx.set(0, dtype, None);
        return Ok(());
    };
    if batch >= i.len() || batch.saturating_add(depth) > x.len() {
        bail!(invalid, "indices {i:?} with batch_dims {batch} reach beyond {x:?}");
    }
    ctx.set(0, dtype, Some([&i[..i.len() - 1], &x[batch + depth..]].concat()));
    Ok(())
}

fn eval(ctx: &Eval) -> Result<Vec<Datum>> {
    let (x, indices) = (ctx.tensor(0)?, ctx.tensor(1)?);
    let batch = usize::try_from(ctx.attrs().int_or("batch_dims", 0)?).unwrap_or(usize::MAX);
    let (starts, inner) = slice_offsets(x.shape(), indices.shape(), &indices.to_i64_vec()?, batch)?;
    let depth = indices.shape()[indices.rank() - 1];
    let shape = [&indices.shape()[..indices.rank() - 1], &x.shape()[batch + depth..]].concat();
    Ok(vec![select_runs(x, &shape, starts, inner)?.into()])
}

/// Where each addressed slice starts, and how many elements it has.
pub(super) fn slice_offsets(
    shape: &[usize],
    of: &[usize],
    indices: &[i64],
    batch: usize,
) -> Result<(Vec<usize>, usize)> {
    let Some(&depth) = of.last() else { bail!(invalid, "the indices need at least one axis") };
    if batch >= of.len() || batch.saturating_add(depth) > shape.len() || of[..batch] != shape[..batch] {
        bail!(invalid, "indices of shape {of:?} with batch_dims {batch} do not address {shape:?}");
    }
    let strides = strides_of(shape);
    let inner: usize = shape[batch + depth..].iter().product();
    let rows: usize = of[..of.len() - 1].iter().product();
    let batches: usize = of[..batch].iter().product();
    let per_batch = rows / batches.max(1);
    let batch_size: usize = shape[batch..].iter().product();
    let mut starts = Vec::with_capacity(rows);
    for row in 0..rows {
        let mut at = row / per_batch.max(1) * batch_size;
        for k in 0..depth {
            at += index(indices[row * depth + k], shape[batch + k])? * strides[batch + k];
        }
        starts.push(at);
    }
    Ok((starts, inner))
}
