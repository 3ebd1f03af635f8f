//! <https://onnx.ai/onnx/operators/onnx__GatherElements.html>

use crate::copy::{index, select};
use crate::def::OpDef;
use crate::eval::{Datum, Eval};
use crate::shape::axis;
use oxrt_tensor::Result;

/// The result has the shape of the indices; along `axis` the position comes from the index.
pub const OP: OpDef = OpDef::new(
    "GatherElements",
    &[11, 13],
    2..=2,
    |ctx| {
        ctx.set(0, ctx.dtype(0)?, ctx.ty(1)?.dims.clone());
        Ok(())
    },
    eval,
)
.examples(&[(
    "(f32[2, 2] x, i64[2, 2] i) { y = GatherElements<axis=1>(x, i) } => y",
    &["x = 1 2 3 4", "i = 0 0 1 -2"],
    "1 1 4 3",
)]);

fn eval(ctx: &Eval) -> Result<Vec<Datum>> {
    let (x, picks) = (ctx.tensor(0)?, ctx.tensor(1)?);
    let at = axis(ctx.attrs().int_or("axis", 0)?, x.rank())?;
    let offsets = element_offsets(x.shape(), picks.shape(), at, &picks.to_i64_vec()?)?;
    Ok(vec![select(x, picks.shape(), offsets)?.into()])
}

/// Offset into a tensor of `shape` for every element of the indices.
pub(super) fn element_offsets(shape: &[usize], of: &[usize], axis: usize, indices: &[i64]) -> Result<Vec<usize>> {
    let fits = of.len() == shape.len() && (0..of.len()).all(|i| i == axis || of[i] <= shape[i]);
    if !fits {
        oxrt_tensor::bail!(invalid, "indices of shape {of:?} do not fit into {shape:?} along axis {axis}");
    }
    let mut strides = crate::copy::signed_strides(shape);
    let step = strides[axis] as usize;
    strides[axis] = 0;
    let starts = crate::copy::walk(of, &strides, 0)?;
    starts.into_iter().zip(indices).map(|(s, &i)| Ok(s + index(i, shape[axis])? * step)).collect()
}
