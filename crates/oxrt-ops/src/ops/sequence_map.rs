//! <https://onnx.ai/onnx/operators/onnx__SequenceMap.html>

use crate::control::element;
use crate::def::OpDef;
use crate::eval::{Datum, Eval};
use crate::infer::Infer;
use oxrt_ir::{Attrs, Graph, Symbols, ValueType};
use oxrt_tensor::{Error, Result, bail};

/// Runs `body` on every element of a sequence; further sequences go along, tensors are the same each time.
pub const OP: OpDef = OpDef::new("SequenceMap", &[17], 1..=usize::MAX, infer, eval).subgraphs(body_inputs).examples(&[(
    "(f32[2] a) { s = SequenceConstruct(a, a); t = SequenceMap<body={(f32[2] x) { y = Add(x, x) } => y}>(s); y = SequenceAt(t, i64{1}) } => y",
    &["a = 1 2"],
    "2 4",
)]);

fn body(attrs: &Attrs) -> Result<&Graph> {
    attrs.get_graph("body")?.ok_or_else(|| Error::invalid("the attribute `body` is missing"))
}

fn body_inputs(_: &Graph, _: &Attrs, inputs: &[ValueType], _: &mut Symbols) -> Result<Vec<ValueType>> {
    let one = |t: &ValueType| match t {
        ValueType::Sequence(e) => (**e).clone(),
        other => other.clone(),
    };
    Ok(inputs.iter().map(one).collect())
}

fn infer(ctx: &mut Infer) -> Result<()> {
    let body = body(ctx.attrs())?;
    for i in 0..ctx.num_outputs() {
        let Some(&v) = body.outputs.get(i) else { bail!(invalid, "the body has {} outputs", body.outputs.len()) };
        ctx.set_type(i, ValueType::Sequence(Box::new(body[v].ty.clone())));
    }
    Ok(())
}

fn eval(ctx: &Eval) -> Result<Vec<Datum>> {
    let body = body(ctx.attrs())?;
    let inputs: Vec<Datum> = (0..ctx.inputs.len()).map(|i| element(ctx, i)).collect::<Result<_>>()?;
    let Some(Datum::Sequence(first)) = inputs.first() else { bail!(invalid, "input 0 should be a sequence") };
    let mut results = vec![Vec::with_capacity(first.len()); body.outputs.len()];
    for i in 0..first.len() {
        let one = |d: &Datum| match d {
            Datum::Sequence(s) => {
                s.get(i).cloned().ok_or_else(|| Error::invalid(format!("a sequence has no element {i}")))
            }
            other => Ok(other.clone()),
        };
        let outputs = ctx.run_subgraph(body, inputs.iter().map(one).collect::<Result<_>>()?)?;
        results.iter_mut().zip(outputs).for_each(|(list, d)| list.push(d));
    }
    Ok(results.into_iter().map(Datum::Sequence).collect())
}
