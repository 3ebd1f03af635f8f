//! <https://onnx.ai/onnx/operators/onnx__ConcatFromSequence.html>

use crate::control::{sequence, sequence_type};
use crate::copy::{concat, stack};
use crate::def::OpDef;
use crate::eval::{Datum, Eval};
use crate::infer::Infer;
use crate::shape::axis;
use oxrt_ir::ValueType;
use oxrt_tensor::{Error, Result, Tensor, bail};

/// Joins the tensors of a sequence along `axis`, with `new_axis` along one that they lack.
pub const OP: OpDef = OpDef::new("ConcatFromSequence", &[11], 1..=1, infer, eval).examples(&[
    ("(f32[1] a, f32[2] b) { s = SequenceConstruct(a, b); y = ConcatFromSequence<axis=0>(s) } => y", &["a = 1", "b = 2 3"], "1 2 3"),
    (
        "(f32[2] a, f32[2] b) { s = SequenceConstruct(a, b); y = ConcatFromSequence<axis=1, new_axis=1>(s) } => y",
        &["a = 1 2", "b = 3 4"],
        "1 3 2 4",
    ),
]);

fn infer(ctx: &mut Infer) -> Result<()> {
    let ValueType::Tensor(t) = sequence_type(ctx, 0)?.clone() else { return Ok(()) };
    let fresh = ctx.attrs().bool_or("new_axis", false)?;
    let mut dims = t.dims;
    if let Some(d) = &mut dims {
        let at = axis(ctx.attrs().int_or("axis", 0)?, d.len() + fresh as usize)?;
        let total = ctx.fresh();
        if fresh {
            d.insert(at, total);
        } else {
            d[at] = total;
        }
    }
    ctx.set(0, t.dtype, dims);
    Ok(())
}

fn eval(ctx: &Eval) -> Result<Vec<Datum>> {
    let parts: Vec<Tensor> = sequence(ctx, 0)?.iter().map(|d| d.clone().into_tensor()).collect::<Result<_>>()?;
    let first = parts.first().ok_or_else(|| Error::invalid("the sequence is empty"))?;
    let list = ctx.attrs().get_int("axis")?.copied();
    let Some(at) = list else { bail!(invalid, "the attribute `axis` is missing") };
    let joined = if ctx.attrs().bool_or("new_axis", false)? {
        stack(&parts, axis(at, first.rank() + 1)?)?
    } else {
        concat(&parts.iter().collect::<Vec<_>>(), axis(at, first.rank())?)?
    };
    Ok(vec![joined.into()])
}
