//! <https://onnx.ai/onnx/operators/onnx__Loop.html>

use crate::control::{element, empty_scan, stack_datums, stays};
use crate::def::OpDef;
use crate::eval::{Datum, Eval};
use crate::infer::{Infer, join};
use oxrt_ir::{Attrs, Dim, Graph, Symbols, ValueType};
use oxrt_tensor::{DType, Error, Result, Tensor, bail};

/// Runs `body` (iteration, condition, carried values) → (condition, carried values, scanned values) until the
/// trip count or the condition ends it. Scanned values of all turns are stacked.
pub const OP: OpDef = OpDef::new("Loop", &[1, 11, 13, 16, 19, 21, 23, 24, 25], 2..=usize::MAX, infer, eval).subgraphs(body_inputs).examples(&[(
    "(i64 n, f32[1] s) { y, z = Loop<body={(i64 i, bool c, f32[1] a) { b = Add(a, a); d = Identity(b) } => c, b, d}>(n, bool{1}, s) } => z",
    &["n = 3", "s = 1"],
    "2 4 8",
)]);

fn body(attrs: &Attrs) -> Result<&Graph> {
    attrs.get_graph("body")?.ok_or_else(|| Error::invalid("the attribute `body` is missing"))
}

fn body_inputs(body: &Graph, _: &Attrs, inputs: &[ValueType], symbols: &mut Symbols) -> Result<Vec<ValueType>> {
    let mut types = vec![ValueType::tensor(DType::I64, vec![]), ValueType::tensor(DType::Bool, vec![])];
    for (k, start) in inputs.iter().enumerate().skip(2) {
        let next = body.outputs.get(k - 1).map_or(&ValueType::Unknown, |&v| &body[v].ty);
        // What an earlier turn made general stays so.
        let before = body.inputs.get(k).map_or(&ValueType::Unknown, |&v| &body[v].ty);
        types.push(if before == next && *next != ValueType::Unknown && more_general(before, start) {
            before.clone()
        } else {
            join(start, next, symbols)
        });
    }
    Ok(types)
}

/// Whether every value of type `b` is one of type `a`, where `a` names its own sizes.
fn more_general(a: &ValueType, b: &ValueType) -> bool {
    match (a.dims(), b.dims()) {
        (None, _) => true,
        (Some(a), Some(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a == b || a.as_symbol().is_some()),
        _ => false,
    }
}

/// Number of turns, when only the trip count ends the loop.
fn trips(ctx: &Infer, body: &Graph) -> Option<Dim> {
    let count = ctx.contents(0)?.elements.first()?.clone();
    let started = !ctx.has(1) || ctx.const_ints(1)? == [1];
    (started && stays(body)).then_some(count)
}

/// Trip count and condition (inputs 0 and 1): one element each, if there.
fn bound(ctx: &Eval, i: usize, what: &str) -> Result<Option<i64>> {
    match ctx.ints(i)? {
        None => Ok(None),
        Some(one) if one.len() == 1 => Ok(Some(one[0])),
        Some(more) => bail!(invalid, "the {what} is one element, found {}", more.len()),
    }
}

fn infer(ctx: &mut Infer) -> Result<()> {
    let body = body(ctx.attrs())?;
    let carried = ctx.num_inputs().saturating_sub(2);
    if body.outputs.len() < 1 + carried || ctx.num_outputs() > body.outputs.len() - 1 {
        bail!(
            invalid,
            "a body of {} outputs carries {carried} values for {} outputs",
            body.outputs.len(),
            ctx.num_outputs()
        );
    }
    let turns = trips(ctx, body).unwrap_or_else(|| ctx.fresh());
    for i in 0..ctx.num_outputs() {
        let inner = &body[body.outputs[i + 1]].ty;
        if i < carried {
            let start = ctx.value_type(i + 2).cloned().unwrap_or_default();
            // An optional may be carried in only: what comes out is what the body makes.
            let made = matches!(start, ValueType::Optional(_)) && !matches!(inner, ValueType::Optional(_));
            let ty = if made && *inner != ValueType::Unknown { inner.clone() } else { ctx.join(&start, inner) };
            ctx.set_type(i, ty);
        } else if let ValueType::Tensor(t) = inner {
            // A size of one turn need not be that of all.
            let dims = t.dims.as_ref().map(|d| [std::slice::from_ref(&turns), &d[..]].concat());
            ctx.set(i, t.dtype, dims);
        }
    }
    Ok(())
}

fn eval(ctx: &Eval) -> Result<Vec<Datum>> {
    let body = body(ctx.attrs())?;
    let trips = bound(ctx, 0, "trip count")?;
    let mut going = bound(ctx, 1, "condition")?.unwrap_or(1) != 0;
    if trips.is_none() && going && stays(body) {
        bail!(invalid, "the loop never ends: it has no trip count, and its body hands the condition on as it is");
    }
    let limit = trips.unwrap_or(i64::MAX);
    let mut carried: Vec<Datum> = (2..ctx.inputs.len()).map(|i| element(ctx, i)).collect::<Result<_>>()?;
    let scans = body.outputs.len().saturating_sub(1 + carried.len());
    let mut scanned: Vec<Vec<Tensor>> = vec![Vec::new(); scans];
    let mut turn = 0;
    while turn < limit && going {
        let mut inputs = vec![Tensor::scalar(turn).into(), Tensor::scalar(going).into()];
        inputs.extend(std::mem::take(&mut carried));
        let mut outputs = ctx.run_subgraph(body, inputs)?.into_iter();
        let again = outputs.next().ok_or_else(|| Error::invalid("the body gives no condition"))?;
        going = again.into_tensor()?.to_i64_vec()?.first().is_some_and(|&c| c != 0);
        carried = outputs.by_ref().take(ctx.inputs.len() - 2).collect();
        for (list, datum) in scanned.iter_mut().zip(outputs) {
            list.push(datum.into_tensor()?);
        }
        turn += 1;
    }
    let first = body.outputs.len() - scans;
    for (k, list) in scanned.iter().enumerate() {
        carried.push(if list.is_empty() { empty_scan(body, first + k, 0)? } else { stack_datums(list, 0, false)? });
    }
    Ok(carried)
}
