//! <https://onnx.ai/onnx/operators/onnx__Scan.html>

use crate::control::{element, empty_scan, stack_datums};
use crate::copy::take;
use crate::def::OpDef;
use crate::eval::{Datum, Eval};
use crate::infer::{Infer, join};
use crate::shape::axis;
use oxrt_ir::{Attrs, Graph, Symbols, ValueType};
use oxrt_tensor::{Error, Result, Tensor, bail};

/// Runs `body` (state, elements) → (state, elements) over the slices of its scan inputs.
pub const OP: OpDef = OpDef::new("Scan", &[8, 9, 11, 16, 19, 21, 23, 24, 25], 1..=usize::MAX, infer, eval).subgraphs(body_inputs).examples(&[(
    "(f32[1] s, f32[3, 1] x) { a, y = Scan<num_scan_inputs=1, body={(f32[1] s, f32[1] x) { b = Add(s, x); d = Identity(b) } => b, d}>(s, x) } => y",
    &["s = 1", "x = 1 2 3"],
    "2 4 7",
)]);

fn body(attrs: &Attrs) -> Result<&Graph> {
    attrs.get_graph("body")?.ok_or_else(|| Error::invalid("the attribute `body` is missing"))
}

/// How many of `inputs` are states; the rest is scanned.
fn states(attrs: &Attrs, inputs: usize) -> Result<usize> {
    let scans = attrs.get_int("num_scan_inputs")?.copied().unwrap_or(0);
    match usize::try_from(scans) {
        Ok(n) if (1..=inputs).contains(&n) => Ok(inputs - n),
        _ => bail!(invalid, "{scans} of {inputs} inputs are scanned"),
    }
}

/// Element `k` of a list attribute, 0 when absent.
fn listed(attrs: &Attrs, name: &str, k: usize) -> Result<i64> {
    Ok(attrs.ints(name)?.and_then(|l| l.get(k).copied()).unwrap_or(0))
}

fn body_inputs(body: &Graph, attrs: &Attrs, inputs: &[ValueType], symbols: &mut Symbols) -> Result<Vec<ValueType>> {
    let n = states(attrs, inputs.len())?;
    let mut types = Vec::new();
    for (k, ty) in inputs.iter().enumerate() {
        types.push(match ty {
            _ if k < n => {
                let next = body.outputs.get(k).map_or(&ValueType::Unknown, |&v| &body[v].ty);
                let before = body.inputs.get(k).map_or(&ValueType::Unknown, |&v| &body[v].ty);
                // Sizes may be written down by the body itself.
                if before == next && *before != ValueType::Unknown { before.clone() } else { join(ty, next, symbols) }
            }
            ValueType::Tensor(t) => {
                let mut t = t.clone();
                if let Some(dims) = &mut t.dims {
                    let at = axis(listed(attrs, "scan_input_axes", k - n)?, dims.len())?;
                    dims.remove(at);
                }
                t.into()
            }
            other => bail!(invalid, "input {k} should be a tensor, found {other}"),
        });
    }
    Ok(types)
}

fn infer(ctx: &mut Infer) -> Result<()> {
    let body = body(ctx.attrs())?;
    let n = states(ctx.attrs(), ctx.num_inputs())?;
    let length = match ctx.dims(n) {
        Some(d) => d[axis(listed(ctx.attrs(), "scan_input_axes", 0)?, d.len())?].clone(),
        None => ctx.fresh(),
    };
    for i in 0..ctx.num_outputs() {
        let Some(&v) = body.outputs.get(i) else { bail!(invalid, "the body has {} outputs", body.outputs.len()) };
        if i < n {
            let start = ctx.value_type(i).cloned().unwrap_or_default();
            let ty = ctx.join(&start, &body[v].ty);
            ctx.set_type(i, ty);
        } else if let ValueType::Tensor(t) = &body[v].ty {
            let mut dims = t.dims.clone();
            if let Some(d) = &mut dims {
                let at = axis(listed(ctx.attrs(), "scan_output_axes", i - n)?, d.len() + 1)?;
                d.insert(at, length.clone());
            }
            ctx.set(i, t.dtype, dims);
        }
    }
    Ok(())
}

fn eval(ctx: &Eval) -> Result<Vec<Datum>> {
    let (attrs, body) = (ctx.attrs(), body(ctx.attrs())?);
    let n = states(attrs, ctx.inputs.len())?;
    let mut state: Vec<Datum> = (0..n).map(|i| element(ctx, i)).collect::<Result<_>>()?;
    let scans: Vec<(&Tensor, usize, bool)> = (n..ctx.inputs.len())
        .map(|i| {
            let x = ctx.tensor(i)?;
            let at = axis(listed(attrs, "scan_input_axes", i - n)?, x.rank())?;
            Ok((x, at, listed(attrs, "scan_input_directions", i - n)? != 0))
        })
        .collect::<Result<_>>()?;
    let length = scans.first().map_or(0, |(x, at, _)| x.shape()[*at]);
    if scans.iter().any(|(x, at, _)| x.shape()[*at] != length) {
        bail!(invalid, "the scanned inputs differ in length");
    }
    let mut scanned: Vec<Vec<Tensor>> = vec![Vec::new(); body.outputs.len().saturating_sub(n)];
    for t in 0..length {
        let mut inputs = std::mem::take(&mut state);
        for (x, at, reversed) in &scans {
            inputs.push(take(x, *at, if *reversed { length - 1 - t } else { t })?.into());
        }
        let mut outputs = ctx.run_subgraph(body, inputs)?.into_iter();
        state = outputs.by_ref().take(n).collect();
        for (list, datum) in scanned.iter_mut().zip(outputs) {
            list.push(datum.into_tensor()?);
        }
    }
    for (k, list) in scanned.iter().enumerate() {
        let at = listed(attrs, "scan_output_axes", k)?;
        let reversed = listed(attrs, "scan_output_directions", k)? != 0;
        state.push(if list.is_empty() { empty_scan(body, n + k, at)? } else { stack_datums(list, at, reversed)? });
    }
    Ok(state)
}
