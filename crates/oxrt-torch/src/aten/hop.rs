//! Higher-order operators: wrappers are inlined, control flow becomes `If`, `Loop` and `Scan`.

use crate::args::{Arg, Args};
use crate::argument::Argument;
use crate::cx::{Cx, Scope, Val, real_dtype};
use crate::lower::{collect_names, inline, run_nodes, value_of};
use crate::schema::{Graph, Node};
use crate::subgraph::{Start, Subgraph, finish};
use oxrt_ir::{Attr, Attrs, DType, Dim, Graph as IrGraph, ValueId, ValueType};
use oxrt_tensor::{Error, Result, bail};
use rustc_hash::FxHashSet;

fn operand<'a>(arg: &Arg<'a>) -> Val<'a> {
    match arg {
        Arg::Tensor(id, _) => Val::Tensor(*id),
        Arg::List(items) => Val::List(items.iter().map(operand).collect()),
        Arg::Other(v) => v.clone(),
    }
}

fn list<'a>(a: &Args<'a>, i: usize) -> Result<Vec<Val<'a>>> {
    match a.named.get(i).map(|(_, arg)| operand(arg)) {
        Some(Val::List(items)) => Ok(items),
        None | Some(Val::None) => Ok(Vec::new()),
        Some(one) => Ok(vec![one]),
    }
}

fn graph<'a>(a: &Args<'a>, i: usize) -> Result<&'a Graph> {
    match a.at(i)? {
        Arg::Other(Val::Graph(g)) => Ok(g),
        _ => bail!(invalid, "argument {i} should be a graph"),
    }
}

/// The body (the first graph among the arguments) and its operands, which follow it: one by one or in lists. Arguments by
/// name, and texts, say how torch should run the body.
fn body<'a>(a: &Args<'a>) -> Result<(&'a Graph, Vec<Val<'a>>)> {
    let at = a.named.iter().position(|(_, arg)| matches!(arg, Arg::Other(Val::Graph(_))));
    let Some(at) = at else { bail!(invalid, "a wrapper without a body") };
    fn collect<'a>(val: Val<'a>, out: &mut Vec<Val<'a>>) {
        match val {
            Val::List(items) => items.into_iter().for_each(|v| collect(v, out)),
            Val::Text(_) => {}
            other => out.push(other),
        }
    }
    let (graph, mut operands) = (graph(a, at)?, Vec::new());
    for (name, arg) in &a.named[at + 1..] {
        // An empty dictionary is written as a list or as something that has no kind.
        if name.is_empty() && !matches!(arg, Arg::Other(Val::Unusable(_))) {
            collect(operand(arg), &mut operands);
        }
    }
    Ok((graph, operands))
}

/// `wrap_with_set_grad_enabled(enabled, body, *operands)`, `invoke_subgraph(body, identifier, *operands)`,
/// `tag_activation_checkpoint(body, *operands, …)`, `strict_mode(body, operands)`, `hints_wrapper(body, operands, {}, hints)`,
/// `wrap(body, *operands)`: neither gradients nor hints concern inference
pub fn inlined<'a>(cx: &mut Cx<'a, '_>, a: &Args<'a>) -> Result<Vec<Val<'a>>> {
    let (graph, operands) = body(a)?;
    inline(cx, graph, operands)
}

/// `with_effects(token, operator, *args) -> (token, results…)`: orders checks such as `_linalg_check_errors`, which have no
/// results and are dropped
pub fn with_effects<'a>(_: &mut Cx<'a, '_>, a: &Args<'a>) -> Result<Vec<Val<'a>>> {
    if a.outputs.iter().filter(|n| !n.is_empty()).count() > 1 {
        bail!(unsupported, "an operator with effects and results");
    }
    Ok(vec![Val::None; a.outputs.len()])
}

/// `wrap_with_autocast(device, dtype, enabled, cache_enabled, body, *operands)`
pub fn autocast<'a>(cx: &mut Cx<'a, '_>, a: &Args<'a>) -> Result<Vec<Val<'a>>> {
    let (graph, operands) = body(a)?;
    let enabled = matches!(a.at(2)?, Arg::Other(Val::Bool(true)));
    let dtype = match a.at(1)? {
        Arg::Other(Val::DType(d)) => *d,
        // CPU autocast without a type means bfloat16.
        _ => DType::BF16,
    };
    let outer = std::mem::replace(&mut cx.autocast, enabled.then_some(dtype));
    let result = inline(cx, graph, operands);
    cx.autocast = outer;
    result
}

// ---- subgraphs ----

/// Builds a subgraph. `inputs` become its inputs, `captured` values of the enclosing graph are read from
/// outside, and so are values that carry sizes.
fn subgraph<'a>(
    cx: &mut Cx<'a, '_>,
    label: &str,
    inputs: &[ValueType],
    captured: &[Val<'a>],
    build: impl for<'h> FnOnce(&mut Cx<'a, 'h>, Vec<Val<'a>>, Vec<Val<'a>>) -> Result<Vec<ValueId>>,
) -> Result<IrGraph> {
    let mut outer_values = Vec::new();
    for val in captured {
        outer_values.push(match val {
            Val::Tensor(id) => Some(cx.read(*id)?),
            Val::Runtime(v) => Some(*v),
            _ => None,
        });
    }
    let mut sub = Subgraph::new(cx, label, inputs, outer_values.iter().flatten().copied());
    let (input_values, inside) = (sub.inputs.clone(), sub.inside.clone());
    let start = Start { slots: Vec::new(), scopes: Vec::new(), complex: Default::default() };
    let outputs = sub.build(cx, start, |cx| {
        let inputs = input_values.into_iter().map(|v| Val::Tensor(cx.new_tensor(v))).collect();
        let captured = (captured.iter().zip(&outer_values))
            .map(|(val, outer)| match (val, outer) {
                (Val::Tensor(_), Some(v)) => Val::Tensor(cx.new_tensor(inside[v])),
                (Val::Runtime(_), Some(v)) => Val::Runtime(inside[v]),
                (other, _) => other.clone(),
            })
            .collect();
        build(cx, inputs, captured)
    })?;
    finish(sub.graph, cx.b.symbols, label, outputs)
}

/// Runs a graph of the program inside a subgraph and reads its outputs.
fn run_body<'a>(cx: &mut Cx<'a, '_>, graph: &'a Graph, operands: Vec<Val<'a>>) -> Result<Vec<ValueId>> {
    let outputs = inline(cx, graph, operands)?;
    outputs.into_iter().map(|v| tensor_of(cx, v)).collect()
}

fn tensor_of<'a>(cx: &mut Cx<'a, '_>, val: Val<'a>) -> Result<ValueId> {
    match val {
        Val::Tensor(id) => cx.read(id),
        Val::Runtime(v) => Ok(v),
        Val::Int(d) => cx.dim_scalar(&d),
        Val::Bool(b) => Ok(cx.b.constant(oxrt_ir::Tensor::scalar(b))),
        Val::Float(x) => cx.b.scalar(DType::F32, x),
        other => bail!(unsupported, "a subgraph result of the kind {other:?}"),
    }
}

/// A name for the subgraphs of this call.
fn label(a: &Args, part: &str) -> String {
    format!("{}.{part}", a.outputs.first().copied().unwrap_or("body"))
}

fn results<'a>(cx: &mut Cx<'a, '_>, values: &[ValueId]) -> Vec<Val<'a>> {
    values.iter().map(|&v| Val::Tensor(cx.new_tensor(v))).collect()
}

/// Types of the inputs of a subgraph, as the file states them.
fn input_types(cx: &mut Cx, graph: &Graph, n: usize) -> Result<Vec<ValueType>> {
    let mut types = Vec::new();
    for arg in graph.inputs.iter().take(n) {
        let crate::argument::Argument::Tensor(name) = arg else {
            bail!(unsupported, "a subgraph that carries something other than tensors")
        };
        let meta = graph.tensor_values.get(name);
        let meta = meta.ok_or_else(|| Error::invalid(format!("the subgraph does not state the type of `{name}`")))?;
        let Some(dtype) = crate::schema::dtype_of(meta.dtype) else {
            bail!(unsupported, "element type number {}", meta.dtype)
        };
        let dims = meta.sizes.iter().map(|s| cx.symbols.dim(s)).collect::<Result<Vec<Dim>>>()?;
        types.push(ValueType::tensor(real_dtype(dtype), dims));
    }
    if types.len() != n {
        bail!(invalid, "a subgraph with {} inputs where {n} are needed", types.len());
    }
    Ok(types)
}

fn with_graph(mut attrs: Attrs, name: &str, g: IrGraph) -> Attrs {
    attrs.0.insert(name.to_string(), Attr::Graph(Box::new(g)));
    attrs
}

/// `cond(pred, true_graph, false_graph, operands)`
pub fn cond<'a>(cx: &mut Cx<'a, '_>, a: &Args<'a>) -> Result<Vec<Val<'a>>> {
    let (yes, no, operands) = (graph(a, 1)?, graph(a, 2)?, list(a, 3)?);
    let pred = match operand(a.at(0)?) {
        // Decided by the ranges of the sizes.
        Val::Bool(b) => return inline(cx, if b { yes } else { no }, operands),
        other => tensor_of(cx, other)?,
    };
    let pred = cx.cast(pred, DType::Bool)?;
    let pred = cx.reshape(pred, &[])?;
    let then = subgraph(cx, &label(a, "then"), &[], &operands, |cx, _, captured| run_body(cx, yes, captured))?;
    let or = subgraph(cx, &label(a, "else"), &[], &operands, |cx, _, captured| run_body(cx, no, captured))?;
    let n = then.outputs.len();
    let attrs = with_graph(with_graph(Attrs::new(), "then_branch", then), "else_branch", or);
    let out = cx.b.op_multi("If", &[Some(pred)], attrs, n)?;
    Ok(results(cx, &out))
}

/// `while_loop(cond_graph, body_graph, carried, captured)`
pub fn while_loop<'a>(cx: &mut Cx<'a, '_>, a: &Args<'a>) -> Result<Vec<Val<'a>>> {
    let (test, step, carried, captured) = (graph(a, 0)?, graph(a, 1)?, list(a, 2)?, list(a, 3)?);
    let n = carried.len();
    let first = inline(cx, test, carried.iter().chain(&captured).cloned().collect())?;
    let first = first.into_iter().next().ok_or_else(|| Error::invalid("a loop without condition"))?;
    let first = tensor_of(cx, first)?;
    let first = cx.reshape(first, &[])?;
    let mut types = vec![ValueType::tensor(DType::I64, Vec::new()), ValueType::tensor(DType::Bool, Vec::new())];
    types.extend(input_types(cx, step, n)?);
    let body = subgraph(cx, &label(a, "body"), &types, &captured, |cx, inputs, captured| {
        let operands = inputs[2..].iter().chain(&captured).cloned().collect();
        let next = inline(cx, step, operands)?;
        let again = inline(cx, test, next.iter().chain(&captured).cloned().collect())?;
        let again = again.into_iter().next().ok_or_else(|| Error::invalid("a loop without condition"))?;
        let again = tensor_of(cx, again)?;
        let mut out = vec![cx.reshape(again, &[])?];
        for v in next {
            out.push(tensor_of(cx, v)?);
        }
        Ok(out)
    })?;
    let mut inputs = vec![None, Some(first)];
    for v in carried {
        inputs.push(Some(tensor_of(cx, v)?));
    }
    let out = cx.b.op_multi("Loop", &inputs, with_graph(Attrs::new(), "body", body), n)?;
    Ok(results(cx, &out))
}

/// A `Scan` that an operator is made of: `body(state, elements, captured)` gives the next state, then what is stacked.
/// `xs` are read along axis 0, backwards when asked, and the stacked results lie in the order of what was read.
pub(crate) fn scan_values(
    cx: &mut Cx,
    name: &str,
    state: &[ValueId],
    xs: &[ValueId],
    captured: &[ValueId],
    backwards: bool,
    body: impl FnOnce(&mut Cx, &[ValueId], &[ValueId], &[ValueId]) -> Result<Vec<ValueId>>,
) -> Result<Vec<ValueId>> {
    let mut types: Vec<ValueType> = state.iter().map(|&v| cx.b.graph[v].ty.clone()).collect();
    for &v in xs {
        types.push(ValueType::tensor(cx.dtype(v)?, cx.dims(v)?.split_off(1)));
    }
    let held: Vec<Val> = captured.iter().map(|&v| Val::Runtime(v)).collect();
    let label = cx.b.name(name);
    let count = state.len();
    let inner = subgraph(cx, &label, &types, &held, |cx, inputs, held| {
        let n = inputs.len();
        let mut inside = Vec::new();
        for v in inputs.into_iter().chain(held) {
            inside.push(tensor_of(cx, v)?);
        }
        let (inputs, held) = inside.split_at(n);
        let (state, elements) = inputs.split_at(count);
        body(cx, state, elements, held)
    })?;
    let outputs = inner.outputs.len();
    let mut attrs = with_graph(Attrs::new(), "body", inner).with("num_scan_inputs", xs.len() as i64);
    if backwards {
        attrs.set("scan_input_directions", vec![1i64; xs.len()]);
        attrs.set("scan_output_directions", vec![1i64; outputs - count]);
    }
    let inputs: Vec<Option<ValueId>> = state.iter().chain(xs).map(|&v| Some(v)).collect();
    cx.b.op_multi("Scan", &inputs, attrs, outputs)
}

/// Deepest nesting of `torch.vmap` that is followed.
const MAX_VMAPS: usize = 16;

/// The nodes between the brackets that `torch.vmap` leaves in a program: `Scan` over the batch. Inside, the program
/// states the types of one element.
pub(crate) fn vmap<'a>(cx: &mut Cx<'a, '_>, nodes: &'a [Node]) -> Result<()> {
    // Brackets of inner calls enclose their own batch axes.
    let mut depth = 0usize;
    let mut own = Vec::new();
    for node in nodes {
        let name = node.target.rsplit('.').next().unwrap_or_default();
        match name {
            "_vmap_increment_nesting" => {
                depth += 1;
                if depth > MAX_VMAPS {
                    bail!(invalid, "torch.vmap nested deeper than {MAX_VMAPS}");
                }
            }
            "_vmap_decrement_nesting" => depth = depth.saturating_sub(1),
            "_add_batch_dim" | "_remove_batch_dim" if depth == 0 => own.push((name, node)),
            _ => {}
        }
    }
    let (mut xs, mut element_names, mut results) = (Vec::new(), Vec::new(), Vec::new());
    let number = |cx: &Cx<'a, '_>, node: &'a Node, i: usize| -> Result<i64> {
        match node.inputs.get(i).map(|a| value_of(cx, &a.arg)).transpose()? {
            Some(Val::Int(d)) if d.as_const().is_some() => Ok(d.as_const().unwrap_or_default()),
            _ => bail!(unsupported, "torch.vmap over a dynamic axis"),
        }
    };
    let bad = || Error::invalid("a batch axis without a tensor");
    for (name, node) in own {
        let (arg, out) = (node.inputs.first().ok_or_else(bad)?, node.outputs.first().ok_or_else(bad)?);
        let (Argument::Tensor(source), Argument::Tensor(out)) = (&arg.arg, out) else { return Err(bad()) };
        if name == "_add_batch_dim" {
            let v = tensor_of(cx, value_of(cx, &arg.arg)?)?;
            if cx.is_complex(v) {
                bail!(unsupported, "torch.vmap over complex tensors");
            }
            let (axis, rank) = (cx.axis(v, number(cx, node, 1)?)?, cx.rank(v)?);
            let perm: Vec<usize> = std::iter::once(axis).chain((0..rank).filter(|&i| i != axis)).collect();
            xs.push(cx.b.transpose(v, &perm)?);
            element_names.push(out.as_str());
        } else {
            results.push((source.as_str(), out.as_str(), number(cx, node, 3)?));
        }
    }
    if xs.is_empty() {
        return Err(bad());
    }
    let scope = cx.scopes.last().ok_or_else(|| Error::bug("no scope"))?;
    let (graph, used) = (scope.graph, scope.used.clone());
    let mut read = FxHashSet::default();
    nodes.iter().flat_map(|n| &n.inputs).for_each(|a| collect_names(&a.arg, &mut read));
    let mut names: Vec<&'a str> = read.into_iter().filter(|n| scope.env.contains_key(n)).collect();
    names.sort_unstable();
    let captured: Vec<Val<'a>> = names.iter().map(|n| scope.env[n].clone()).collect();
    let mut types = Vec::new();
    for &v in &xs {
        types.push(ValueType::tensor(cx.dtype(v)?, cx.dims(v)?.split_off(1)));
    }
    let label = cx.b.name("vmap");
    let body = subgraph(cx, &label, &types, &captured, |cx, inputs, captured| {
        let env = names.iter().copied().zip(captured).chain(element_names.iter().copied().zip(inputs)).collect();
        cx.scopes.push(Scope { graph, env, used });
        let run = run_nodes(cx, nodes).and_then(|()| {
            let read = results.iter().map(|(source, ..)| cx.lookup(source)).collect::<Result<Vec<_>>>()?;
            read.into_iter().map(|v| tensor_of(cx, v)).collect()
        });
        cx.scopes.pop();
        run
    })?;
    let attrs = with_graph(Attrs::new(), "body", body).with("num_scan_inputs", xs.len() as i64);
    let inputs: Vec<Option<ValueId>> = xs.into_iter().map(Some).collect();
    let out = cx.b.op_multi("Scan", &inputs, attrs, results.len())?;
    for ((_, name, axis), v) in results.into_iter().zip(out) {
        let (axis, rank) = (cx.axis(v, axis)?, cx.rank(v)?);
        let mut perm: Vec<usize> = (1..rank).collect();
        perm.insert(axis, 0);
        let first_new = cx.b.graph.num_nodes();
        let v = cx.b.transpose(v, &perm)?;
        cx.settle(v, name, first_new)?;
        let id = cx.new_tensor(v);
        cx.define(name, Val::Tensor(id))?;
    }
    Ok(())
}

/// A `Loop` that an operator is made of: `steps` (a scalar) times `body(step, state, captured)`, whose results
/// are the next state. Every state keeps its type.
pub(crate) fn repeat(
    cx: &mut Cx,
    name: &str,
    steps: ValueId,
    state: &[ValueId],
    captured: &[ValueId],
    body: impl FnOnce(&mut Cx, ValueId, &[ValueId], &[ValueId]) -> Result<Vec<ValueId>>,
) -> Result<Vec<ValueId>> {
    let mut types = vec![ValueType::tensor(DType::I64, Vec::new()), ValueType::tensor(DType::Bool, Vec::new())];
    types.extend(state.iter().map(|&v| cx.b.graph[v].ty.clone()));
    let held: Vec<Val> = captured.iter().map(|&v| Val::Runtime(v)).collect();
    let label = cx.b.name(name);
    let inner = subgraph(cx, &label, &types, &held, |cx, inputs, held| {
        let mut inside = Vec::new();
        for v in inputs.into_iter().chain(held) {
            inside.push(tensor_of(cx, v)?);
        }
        let (state, held) = inside[2..].split_at(types.len() - 2);
        let next = body(cx, inside[0], state, held)?;
        let again = cx.call("Identity", &[inside[1]])?;
        let mut out = vec![again];
        for (v, ty) in next.into_iter().zip(&types[2..]) {
            // Dimensions that inference says in another way are those of the state.
            if cx.b.graph[v].ty != *ty && cx.b.graph[v].producer().is_some() {
                cx.b.graph[v].ty = ty.clone();
            }
            out.push(v);
        }
        Ok(out)
    })?;
    let yes = cx.b.constant(oxrt_ir::Tensor::scalar(true));
    let inputs: Vec<Option<ValueId>> = [steps, yes].iter().chain(state).map(|&v| Some(v)).collect();
    let out = cx.b.op_multi("Loop", &inputs, with_graph(Attrs::new(), "body", inner), state.len())?;
    for (&v, ty) in out.iter().zip(&types[2..]) {
        cx.b.graph[v].ty = ty.clone();
    }
    Ok(out)
}

fn scan_op<'a>(
    cx: &mut Cx<'a, '_>,
    a: &Args<'a>,
    step: &'a Graph,
    init: Vec<Val<'a>>,
    xs: Vec<Val<'a>>,
    captured: Vec<Val<'a>>,
) -> Result<Vec<Val<'a>>> {
    let n = init.len() + xs.len();
    let types = input_types(cx, step, n)?;
    let body = subgraph(cx, &label(a, "body"), &types, &captured, |cx, inputs, captured| {
        run_body(cx, step, inputs.into_iter().chain(captured).collect())
    })?;
    let outputs = body.outputs.len();
    let attrs = with_graph(Attrs::new(), "body", body).with("num_scan_inputs", xs.len() as i64);
    let mut inputs = Vec::new();
    for v in init.into_iter().chain(xs) {
        inputs.push(Some(tensor_of(cx, v)?));
    }
    let out = cx.b.op_multi("Scan", &inputs, attrs, outputs)?;
    Ok(results(cx, &out))
}

/// `scan(combine_graph, init, xs, captured)`: over axis 0
pub fn scan<'a>(cx: &mut Cx<'a, '_>, a: &Args<'a>) -> Result<Vec<Val<'a>>> {
    scan_op(cx, a, graph(a, 0)?, list(a, 1)?, list(a, 2)?, list(a, 3)?)
}

/// `map_impl(body_graph, xs, captured)`
pub fn map<'a>(cx: &mut Cx<'a, '_>, a: &Args<'a>) -> Result<Vec<Val<'a>>> {
    scan_op(cx, a, graph(a, 0)?, Vec::new(), list(a, 1)?, list(a, 2)?)
}

/// `associative_scan(combine_graph, xs, captured)`: every prefix of axis 0 combined, the first element kept. `Scan` with the
/// combination so far as its state
pub fn associative_scan<'a>(cx: &mut Cx<'a, '_>, a: &Args<'a>) -> Result<Vec<Val<'a>>> {
    let (combine, xs, captured) = (graph(a, 0)?, list(a, 1)?, list(a, 2)?);
    let mut whole = Vec::new();
    for v in xs {
        whole.push(tensor_of(cx, v)?);
    }
    let types = input_types(cx, combine, 2 * whole.len())?;
    let body = subgraph(cx, &label(a, "body"), &types, &captured, |cx, inputs, captured| {
        let next = run_body(cx, combine, inputs.into_iter().chain(captured).collect())?;
        Ok([next.clone(), next].concat())
    })?;
    let attrs = with_graph(Attrs::new(), "body", body).with("num_scan_inputs", whole.len() as i64);
    let (zero, one) = (Dim::Const(0), Dim::Const(1));
    let (mut state, mut rest, mut first) = (Vec::new(), Vec::new(), Vec::new());
    for &v in &whole {
        first.push(cx.slice(v, 0, &zero, &one, 1)?);
        state.push(Some(cx.b.squeeze(first[first.len() - 1], &[0])?));
        rest.push(Some(cx.slice(v, 0, &one, &Dim::Const(i64::MAX), 1)?));
    }
    let inputs = [state, rest].concat();
    let out = cx.b.op_multi("Scan", &inputs, attrs, 2 * whole.len())?;
    let mut joined = Vec::new();
    for (f, &later) in first.into_iter().zip(&out[whole.len()..]) {
        joined.push(cx.concat(&[f, later], 0)?);
    }
    Ok(results(cx, &joined))
}
