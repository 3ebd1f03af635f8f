//! What loops, sequences and optionals share.

use crate::copy::{index, stack};
use crate::eval::{Datum, Eval};
use crate::infer::Infer;
use crate::shape::axis;
use oxrt_ir::{Graph, ValueType};
use oxrt_tensor::{Error, Result, Tensor, bail};

/// Input `i`, whatever its kind.
pub fn element(ctx: &Eval, i: usize) -> Result<Datum> {
    ctx.datum(i).cloned().ok_or_else(|| Error::invalid(format!("input {i} is missing")))
}

/// Input `i` as a sequence.
pub fn sequence<'a>(ctx: &Eval<'a>, i: usize) -> Result<&'a [Datum]> {
    match ctx.datum(i) {
        Some(Datum::Sequence(s)) => Ok(s),
        _ => bail!(invalid, "input {i} should be a sequence"),
    }
}

/// Keys and values of the map in input `i`.
pub fn map<'a>(ctx: &Eval<'a>, i: usize) -> Result<(&'a Tensor, &'a Tensor)> {
    match ctx.datum(i) {
        Some(Datum::Map { keys, values }) => Ok((keys, values)),
        _ => bail!(invalid, "input {i} should be a map"),
    }
}

/// Element type of the sequence in input `i`.
pub fn sequence_type<'a>(ctx: &Infer<'a>, i: usize) -> Result<&'a ValueType> {
    match ctx.value_type(i) {
        Some(ValueType::Sequence(t)) => Ok(t),
        Some(other) => bail!(invalid, "input {i} should be a sequence, found {other}"),
        None => bail!(invalid, "input {i} is missing"),
    }
}

/// The position in input `i`, in a sequence of `len`.
pub fn place(ctx: &Eval, i: usize, len: usize) -> Result<Option<usize>> {
    ctx.ints(i)?.and_then(|p| p.first().copied()).map(|p| index(p, len)).transpose()
}

/// The results of all turns along a new axis.
pub fn stack_datums(parts: &[Tensor], at: i64, reversed: bool) -> Result<Datum> {
    let at = axis(at, parts.first().map_or(0, Tensor::rank) + 1)?;
    if reversed {
        let turned: Vec<Tensor> = parts.iter().rev().cloned().collect();
        return Ok(stack(&turned, at)?.into());
    }
    Ok(stack(parts, at)?.into())
}

/// The result of no turn at all, for output `i` of a body.
pub fn empty_scan(body: &Graph, i: usize, at: i64) -> Result<Datum> {
    let Some(t) = body.outputs.get(i).and_then(|&v| body[v].ty.as_tensor()) else {
        bail!(unsupported, "a loop without turns whose scanned result has no known type");
    };
    let mut shape: Vec<usize> = t.dims.iter().flatten().map(|d| d.as_size().unwrap_or(0)).collect();
    let at = axis(at, shape.len() + 1)?;
    shape.insert(at, 0);
    Ok(Tensor::zeros(t.dtype, &shape).into())
}

/// Whether the condition that a turn of a `Loop` ends with is the one that it began with, or true.
pub fn stays(body: &Graph) -> bool {
    let Some(&again) = body.outputs.first() else { return false };
    let passed = |v| Some(&v) == body.inputs.get(1);
    passed(again)
        || body.constant(again).and_then(|t| t.to_i64_vec().ok()).is_some_and(|c| c == [1])
        || body.producer(again).is_some_and(|n| &*n.op == "Identity" && n.input(0).is_some_and(passed))
}
