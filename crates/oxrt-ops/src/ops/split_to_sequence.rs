//! <https://onnx.ai/onnx/operators/onnx__SplitToSequence.html>

use crate::copy::{around, select, take};
use crate::def::OpDef;
use crate::eval::{Datum, Eval};
use crate::infer::Infer;
use crate::shape::{axis, sizes};
use oxrt_ir::{Dim, TensorType, ValueType};
use oxrt_tensor::{Result, bail};

/// Parts along `axis`: of the sizes in input 1 (a scalar: all of that size), else single slices, which lose the
/// axis without `keepdims`.
pub const OP: OpDef = OpDef::new("SplitToSequence", &[11, 24], 1..=2, infer, eval).examples(&[
    ("(f32[5] x) { s = SplitToSequence(x, i64{2}); y = SequenceAt(s, i64{2}) } => y", &["x = 1 2 3 4 5"], "5"),
    (
        "(f32[2, 2] x) { s = SplitToSequence<keepdims=0>(x); y = SequenceAt(s, i64{1}) } => y",
        &["x = 1 2 3 4"],
        "3 4",
    ),
]);

fn infer(ctx: &mut Infer) -> Result<()> {
    let dtype = ctx.dtype(0)?;
    let dims = match ctx.dims(0) {
        Some(d) => {
            let at = axis(ctx.attrs().int_or("axis", 0)?, d.len())?;
            let mut dims = d.to_vec();
            if ctx.has(1) {
                dims[at] = ctx.fresh();
            } else if ctx.attrs().bool_or("keepdims", true)? {
                dims[at] = Dim::Const(1);
            } else {
                dims.remove(at);
            }
            Some(dims)
        }
        None => None,
    };
    ctx.set_type(0, ValueType::Sequence(Box::new(TensorType { dtype, dims }.into())));
    Ok(())
}

fn eval(ctx: &Eval) -> Result<Vec<Datum>> {
    let x = ctx.tensor(0)?;
    let at = axis(ctx.attrs().int_or("axis", 0)?, x.rank())?;
    let (outer, n, inner) = around(x.shape(), at);
    let list = match ctx.opt(1)? {
        Some(t) if t.rank() == 0 => match t.to_i64_vec()?[..] {
            [s] if s > 0 => (0..n.div_ceil(s as usize)).map(|i| (s as usize).min(n - i * s as usize)).collect(),
            _ => bail!(invalid, "parts of a size that is not positive"),
        },
        Some(t) => sizes(&t.to_i64_vec()?)?,
        None if !ctx.attrs().bool_or("keepdims", true)? => {
            let parts = (0..n).map(|i| Ok(take(x, at, i)?.into())).collect::<Result<_>>()?;
            return Ok(vec![Datum::Sequence(parts)]);
        }
        None => vec![1; n],
    };
    if list.iter().try_fold(0usize, |a, &b| a.checked_add(b)) != Some(n) {
        bail!(invalid, "the sizes {list:?} do not split an axis of size {n}");
    }
    let mut first = 0;
    let parts = list.into_iter().map(|size| {
        let mut shape = x.shape().to_vec();
        shape[at] = size;
        let start = first;
        first += size;
        let offsets = (0..outer).flat_map(|o| (o * n + start) * inner..(o * n + start + size) * inner);
        Ok(select(x, &shape, offsets)?.into())
    });
    Ok(vec![Datum::Sequence(parts.collect::<Result<_>>()?)])
}
