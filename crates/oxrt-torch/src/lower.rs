//! Walks a program's graph and lowers it node by node.

use crate::alias::{Shown, View};
use crate::args::{Arg, Args};
use crate::argument::{Argument, ScalarArg};
use crate::aten::foreach;
use crate::aten::table::{Rule, find, find_complex};
use crate::cx::{Cx, Scope, Val, real_dtype};
use crate::schema::{Graph, Metadata, Node, dtype_of};
use oxrt_ir::{DType, Dim, Source, ValueId, ValueType};
use oxrt_tensor::{Context, Error, Result, bail};
use rustc_hash::{FxHashMap, FxHashSet};
use std::sync::Arc;

/// Deepest nesting of subgraphs that is followed.
const MAX_SCOPES: usize = 32;

/// `torch.ops.aten.add.Tensor` → `aten.add.Tensor`.
pub(crate) fn short_target(target: &str) -> &str {
    target.strip_prefix("torch.ops.").unwrap_or(target)
}

/// `aten.add_.Tensor` → `aten.add.Tensor`: the operator that an in-place one is made of.
pub(crate) fn functional_of(target: &str) -> Option<String> {
    let (name, overload) = target.rsplit_once('.')?;
    let base = name.strip_suffix('_').filter(|b| !b.ends_with('_') && !b.ends_with('.'))?;
    Some(format!("{base}.{overload}"))
}

/// The rule for a target, and whether its first argument is written in place.
pub(crate) fn rule_of(target: &str) -> Option<(Rule, bool)> {
    if let Some(rule) = find(target) {
        return Some((rule, false));
    }
    if let Some(rule) = functional_of(target).and_then(|t| find(&t)) {
        return Some((rule, true));
    }
    // `view_copy` and its like copy what `view` shows.
    if let Some((name, overload)) = target.split_once("_copy.") {
        let found = find(&format!("{name}.{overload}"));
        return found.filter(|r| matches!(r, Rule::View(_) | Rule::Views(_))).map(|rule| (rule, false));
    }
    crate::aten::custom::is_custom(target).then_some((Rule::Many(crate::aten::custom::lower), false))
}

/// Whether there is a lowering for a node.
pub(crate) fn is_lowered(node: &Node, target: &str) -> bool {
    rule_of(target).is_some() || foreach::find(target).is_some() || functional_of_out(node, target).is_some()
}

/// `aten.maximum.out` → `aten.maximum.default`: the overload that takes the same arguments and makes its result itself.
fn functional_of_out(node: &Node, target: &str) -> Option<&'static str> {
    let (name, overload) = target.rsplit_once('.')?;
    if !overload.contains("out") || !node.inputs.iter().any(|i| i.name == "out") {
        return None;
    }
    let schemas = crate::args::SCHEMAS.lines().filter_map(|l| l.split_once('\t'));
    let mut same = schemas.filter(|(key, schema)| {
        let declared = |wanted: &str| {
            let inside = schema.find('(').zip(schema.rfind(") ->")).and_then(|(a, b)| schema.get(a + 1..b));
            crate::args::split_top(inside.unwrap_or_default()).iter().any(|part| {
                let declaration = part.split('=').next().unwrap_or_default().trim();
                declaration.rsplit(' ').next() == Some(wanted)
            })
        };
        key.rsplit_once('.').is_some_and(|(n, _)| n == name)
            && find(key).is_some()
            && node.inputs.iter().all(|i| i.name == "out" || declared(&i.name))
    });
    same.next().map(|(key, _)| key)
}

/// `op.out(…, out=x)`: what the functional overload gives replaces `x` wherever it is seen.
fn write_out<'a>(cx: &mut Cx<'a, '_>, node: &'a Node, functional: &'static str) -> Result<()> {
    let mut args = build_args(cx, node)?;
    args.target = functional;
    let Some(at) = args.named.iter().position(|(n, _)| *n == "out") else { bail!(bug, "no `out`") };
    let Arg::Tensor(id, old) = args.named.remove(at).1 else { bail!(invalid, "`out` should be a tensor") };
    let complex = cx.is_complex(old) || args.tensors().iter().any(|&v| cx.is_complex(v));
    let v = match find(functional) {
        Some(Rule::One(f)) if !complex => f(cx, &args)?,
        Some(Rule::Many(f)) if !complex => *f(cx, &args)?.first().ok_or_else(|| Error::bug("no result"))?,
        _ => bail!(unsupported, "this operator with `out`"),
    };
    if cx.dims(v)? != cx.dims(old)? {
        return Err(
            Error::unsupported("a result that changes the shape of `out`").help("give `out` the result's shape")
        );
    }
    let v = cx.cast(v, cx.dtype(old)?)?;
    cx.write(id, v)?;
    for name in args.outputs.iter().copied().filter(|n| !n.is_empty()) {
        let same = cx.new_view(id, View::Same, v)?;
        cx.define(name, Val::Tensor(same))?;
    }
    Ok(())
}

pub(crate) fn collect_names<'a>(arg: &'a Argument, out: &mut FxHashSet<&'a str>) {
    match arg {
        Argument::Tensor(n) | Argument::Symbolic(n) => {
            out.insert(n);
        }
        Argument::List(items) => items.iter().for_each(|a| collect_names(a, out)),
        _ => {}
    }
}

/// Every name that a node or an output of the graph reads.
pub(crate) fn used_names(graph: &Graph) -> FxHashSet<&str> {
    let mut out = FxHashSet::default();
    graph.nodes.iter().flat_map(|n| &n.inputs).for_each(|a| collect_names(&a.arg, &mut out));
    graph.outputs.iter().for_each(|a| collect_names(a, &mut out));
    out
}

/// Runs `graph` with `inputs` bound in order and returns its outputs: a higher-order operator inlined.
pub(crate) fn inline<'a>(cx: &mut Cx<'a, '_>, graph: &'a Graph, inputs: Vec<Val<'a>>) -> Result<Vec<Val<'a>>> {
    if cx.scopes.len() >= MAX_SCOPES {
        bail!(invalid, "subgraphs nested deeper than {MAX_SCOPES}");
    }
    if inputs.len() != graph.inputs.len() {
        bail!(invalid, "a subgraph takes {} inputs, given {}", graph.inputs.len(), inputs.len());
    }
    let mut env = FxHashMap::default();
    for (arg, val) in graph.inputs.iter().zip(inputs) {
        if let Argument::Tensor(n) | Argument::Symbolic(n) = arg {
            env.insert(n.as_str(), val);
        }
    }
    cx.scopes.push(Scope { graph, env, used: used_names(graph) });
    let result =
        run_graph(cx, graph).and_then(|()| graph.outputs.iter().map(|a| value_of(cx, a)).collect::<Result<Vec<_>>>());
    cx.scopes.pop();
    result
}

pub(crate) fn run_graph<'a>(cx: &mut Cx<'a, '_>, graph: &'a Graph) -> Result<()> {
    run_nodes(cx, &graph.nodes)
}

/// Where the bracket that opens at `nodes[0]` closes.
fn closing_bracket(nodes: &[Node]) -> Option<usize> {
    let mut depth = 0;
    nodes.iter().position(|n| {
        depth +=
            n.target.ends_with("_vmap_increment_nesting") as i32 - n.target.ends_with("_vmap_decrement_nesting") as i32;
        depth == 0
    })
}

pub(crate) fn run_nodes<'a>(cx: &mut Cx<'a, '_>, nodes: &'a [Node]) -> Result<()> {
    let mut at = 0;
    while let Some(node) = nodes.get(at) {
        if !node.target.ends_with("predispatch._vmap_increment_nesting") {
            run_node(cx, node)?;
            at += 1;
            continue;
        }
        let Some(end) = closing_bracket(&nodes[at..]) else { bail!(invalid, "a torch.vmap that does not end") };
        let source = source_of(cx, &node.metadata);
        cx.b.prefix = source.module.clone();
        cx.b.source = Some(source.clone());
        crate::aten::hop::vmap(cx, &nodes[at + 1..at + end]).at(|| format!("torch.vmap{}", describe(&source)))?;
        at += end + 1;
    }
    Ok(())
}

/// The value that an argument names or states.
pub(crate) fn value_of<'a>(cx: &Cx<'a, '_>, arg: &'a Argument) -> Result<Val<'a>> {
    Ok(match arg {
        Argument::Scalar(s) => match s {
            ScalarArg::None => Val::None,
            ScalarArg::Int(x) => Val::Int(Dim::Const(*x)),
            ScalarArg::Float(x) => Val::Float(*x),
            ScalarArg::Bool(b) => Val::Bool(*b),
            ScalarArg::String(s) => Val::Text(s.clone()),
            ScalarArg::Complex(r, i) => Val::Complex(*r, *i),
        },
        Argument::Tensor(n) | Argument::Symbolic(n) => cx.lookup(n)?,
        Argument::List(items) => Val::List(items.iter().map(|a| value_of(cx, a)).collect::<Result<_>>()?),
        Argument::DType(n) => match dtype_of(*n) {
            Some(d) => Val::DType(d),
            None => Val::Unusable(format!("element type number {n}")),
        },
        Argument::Placement => Val::None,
        Argument::Graph(g) => Val::Graph(g),
        Argument::Unknown(tag) => Val::Unusable(format!("the argument kind `{tag}`")),
    })
}

fn to_arg<'a>(cx: &mut Cx<'a, '_>, val: Val<'a>) -> Result<Arg<'a>> {
    Ok(match val {
        Val::Tensor(id) => Arg::Tensor(id, cx.read(id)?),
        Val::List(items) => Arg::List(items.into_iter().map(|v| to_arg(cx, v)).collect::<Result<_>>()?),
        other => Arg::Other(other),
    })
}

fn output_names(node: &Node) -> Vec<&str> {
    let mut out = Vec::new();
    fn walk<'a>(arg: &'a Argument, out: &mut Vec<&'a str>) {
        match arg {
            Argument::Tensor(n) | Argument::Symbolic(n) => out.push(n),
            Argument::List(items) => items.iter().for_each(|a| walk(a, out)),
            // A result that is not there still takes its place.
            _ => out.push(""),
        }
    }
    node.outputs.iter().for_each(|a| walk(a, &mut out));
    out
}

fn build_args<'a>(cx: &mut Cx<'a, '_>, node: &'a Node) -> Result<Args<'a>> {
    let mut named = Vec::with_capacity(node.inputs.len());
    for input in &node.inputs {
        let val = value_of(cx, &input.arg)?;
        named.push((input.name.as_str(), to_arg(cx, val)?));
    }
    let outputs = output_names(node);
    let meta = match outputs.first() {
        Some(name) => cx.meta(name)?,
        None => None,
    };
    let (out_dtype, out_dims) = meta.unzip();
    let first_name = node.inputs.first().and_then(|i| match &i.arg {
        Argument::Tensor(n) | Argument::Symbolic(n) => Some(n.as_str()),
        _ => None,
    });
    Ok(Args { target: short_target(&node.target), first_name, named, outputs, out_dtype, out_dims })
}

pub(crate) fn run_node<'a>(cx: &mut Cx<'a, '_>, node: &'a Node) -> Result<()> {
    let source = source_of(cx, &node.metadata);
    cx.b.prefix = source.module.clone();
    cx.b.source = Some(source.clone());
    let target = short_target(&node.target);
    let outputs = output_names(node);
    let place = || {
        let name = outputs.first().copied().unwrap_or_default();
        format!("{target} \"{name}\"{}", describe(&source))
    };
    match lower_node(cx, node, target) {
        Ok(()) => Ok(()),
        Err(e) => {
            cx.note_problem(e, target, describe(&source).trim()).at(place)?;
            // Carry on with values of the stated types, to find every problem in one go.
            for name in outputs {
                stand_in(cx, name)?;
            }
            Ok(())
        }
    }
}

fn describe(s: &Source) -> String {
    match (s.module.is_empty(), s.location.is_empty()) {
        (false, false) => format!(" in {} ({})", s.module, s.location),
        (false, true) => format!(" in {}", s.module),
        (true, false) => format!(" ({})", s.location),
        (true, true) => String::new(),
    }
}

fn stand_in<'a>(cx: &mut Cx<'a, '_>, name: &'a str) -> Result<()> {
    let val = match cx.meta(name) {
        Ok(Some((dtype, mut dims))) => {
            if dtype.is_complex() {
                dims.push(Dim::Const(2));
            }
            let v = cx.b.graph.add_value(name, ValueType::tensor(real_dtype(dtype), dims));
            if dtype.is_complex() {
                cx.complex.insert(v);
            }
            Val::Tensor(cx.new_tensor(v))
        }
        _ => match cx.scopes.last().and_then(|s| s.graph.sym_int_values.get(name)) {
            Some(size) => Val::Int(cx.symbols.dim(size)?),
            None => Val::Unusable("a value that could not be made".to_string()),
        },
    };
    cx.define(name, val)
}

fn lower_node<'a>(cx: &mut Cx<'a, '_>, node: &'a Node, target: &'a str) -> Result<()> {
    let Some((rule, in_place)) = rule_of(target) else {
        if let Some((each, in_place)) = foreach::find(target) {
            return lower_each(cx, node, &each, in_place);
        }
        if let Some(functional) = functional_of_out(node, target) {
            return write_out(cx, node, functional);
        }
        return Err(Error::unsupported("this operator has no lowering"));
    };
    if matches!(rule, Rule::Skip) {
        return Ok(());
    }
    let first_new = cx.b.graph.num_nodes();
    let args = build_args(cx, node)?;
    lower_call(cx, args, rule, in_place, first_new)
}

/// `_foreach_op`: `op` on the elements of its lists, one after the other.
fn lower_each<'a>(cx: &mut Cx<'a, '_>, node: &'a Node, each: &foreach::Each, in_place: bool) -> Result<()> {
    let all = build_args(cx, node)?;
    for i in 0..foreach::count(&all)? {
        let first_new = cx.b.graph.num_nodes();
        let args = each.element(cx, &all, i)?;
        lower_call(cx, args, each.rule, in_place, first_new)?;
    }
    Ok(())
}

fn lower_call<'a>(
    cx: &mut Cx<'a, '_>,
    mut args: Args<'a>,
    mut rule: Rule,
    in_place: bool,
    first_new: usize,
) -> Result<()> {
    let target = args.target;
    if !cx.complex.is_empty() && !matches!(rule, Rule::Vals(_)) && args.tensors().iter().any(|&v| cx.is_complex(v)) {
        let functional = if in_place { functional_of(target) } else { None };
        let found = find_complex(functional.as_deref().unwrap_or(target));
        rule = found.ok_or_else(|| Error::unsupported("this operator on complex tensors"))?;
    }
    if cx.autocast.is_some() && !matches!(rule, Rule::View(_) | Rule::Views(_) | Rule::Vals(_)) {
        autocast(cx, &mut args)?;
    }
    if in_place {
        return write_in_place(cx, args, rule);
    }
    if target.contains("_copy.") && matches!(rule, Rule::View(_) | Rule::Views(_)) {
        return bind_copies(cx, &args, rule, first_new);
    }
    match rule {
        Rule::Skip => Ok(()),
        Rule::One(f) => {
            let v = f(cx, &args)?;
            bind_tensors(cx, &args, vec![v], first_new)
        }
        Rule::Many(f) => {
            let vs = f(cx, &args)?;
            bind_tensors(cx, &args, vs, first_new)
        }
        Rule::View(f) => match f(cx, &args)? {
            Shown::View(view) => bind_views(cx, &args, vec![view], first_new),
            Shown::Copy(v) => bind_tensors(cx, &args, vec![v], first_new),
        },
        Rule::Views(f) => {
            let views = f(cx, &args)?;
            bind_views(cx, &args, views, first_new)
        }
        Rule::Vals(f) => {
            let vals = f(cx, &args)?;
            for (name, val) in args.outputs.iter().copied().zip(vals) {
                if let Val::Tensor(id) = val {
                    let v = cx.read(id)?;
                    cx.settle(v, name, first_new)?;
                }
                cx.define(name, val)?;
            }
            Ok(())
        }
    }
}

fn bind_tensors<'a>(cx: &mut Cx<'a, '_>, args: &Args<'a>, values: Vec<ValueId>, first_new: usize) -> Result<()> {
    for (i, name) in args.outputs.iter().copied().enumerate() {
        if name.is_empty() {
            continue;
        }
        let val = match values.get(i) {
            // What the file states of results that nobody asked for (an empty tensor, mostly) does not matter.
            Some(&v) if args.outputs.len() > 1 && !args.used(cx, i) => Val::Tensor(cx.new_tensor(v)),
            Some(&v) => {
                cx.settle(v, name, first_new)?;
                Val::Tensor(cx.new_tensor(v))
            }
            None if args.used(cx, i) => bail!(unsupported, "its result {i} is read"),
            None => Val::Unusable(format!("result {i} of {}", args.target)),
        };
        cx.define(name, val)?;
    }
    Ok(())
}

/// The tensor that views are taken of: the first argument.
fn base_of(args: &Args) -> Result<(crate::alias::TensorId, ValueId)> {
    match args.named.first() {
        Some((_, Arg::Tensor(id, v))) => Ok((*id, *v)),
        _ => bail!(invalid, "the first argument should be a tensor"),
    }
}

fn bind_views<'a>(cx: &mut Cx<'a, '_>, args: &Args<'a>, views: Vec<View>, first_new: usize) -> Result<()> {
    let (base, base_value) = base_of(args)?;
    if views.len() != args.outputs.len() {
        bail!(invalid, "{} results where {} are stated", views.len(), args.outputs.len());
    }
    let values = match crate::aten::shape::split_at_once(cx, base_value, &views)? {
        Some(values) => values,
        None => views.iter().map(|v| v.apply(cx, base_value)).collect::<Result<Vec<_>>>()?,
    };
    for ((name, view), v) in args.outputs.iter().copied().zip(views).zip(values) {
        cx.settle(v, name, first_new)?;
        let id = cx.new_view(base, view, v)?;
        cx.define(name, Val::Tensor(id))?;
    }
    Ok(())
}

/// What a view would show, as new tensors.
fn bind_copies<'a>(cx: &mut Cx<'a, '_>, args: &Args<'a>, rule: Rule, first_new: usize) -> Result<()> {
    let (_, base) = base_of(args)?;
    let views = match rule {
        Rule::View(f) => match f(cx, args)? {
            Shown::View(view) => vec![view],
            Shown::Copy(v) => return bind_tensors(cx, args, vec![v], first_new),
        },
        Rule::Views(f) => f(cx, args)?,
        _ => bail!(bug, "a copy of something that is no view"),
    };
    let values = views.iter().map(|v| v.apply(cx, base)).collect::<Result<Vec<_>>>()?;
    bind_tensors(cx, args, values, first_new)
}

/// `x.op_(…)`: the result of `op`, with type and shape of `x`, replaces `x` wherever it is seen.
fn write_in_place<'a>(cx: &mut Cx<'a, '_>, args: Args<'a>, rule: Rule) -> Result<()> {
    let (id, old) = base_of(&args)?;
    let v = match rule {
        Rule::One(f) => f(cx, &args)?,
        Rule::Many(f) => *f(cx, &args)?.first().ok_or_else(|| Error::bug("no result"))?,
        Rule::View(f) => {
            // `squeeze_`, `t_`, `detach_`: the name now shows another view of the same memory.
            match f(cx, &args)? {
                Shown::View(view) => return bind_views(cx, &args, vec![view], cx.b.graph.num_nodes()),
                Shown::Copy(v) => v,
            }
        }
        _ => bail!(unsupported, "this operator in place"),
    };
    let (dtype, dims) = (cx.dtype(old)?, cx.dims(old)?);
    let v = cx.cast(v, dtype)?;
    let v = cx.expand(v, &dims)?;
    if cx.is_complex(old) {
        cx.complex.insert(v);
    }
    cx.write(id, v)?;
    for name in args.outputs.iter().copied().filter(|n| !n.is_empty()) {
        let same = cx.new_view(id, View::Same, v)?;
        cx.define(name, Val::Tensor(same))?;
    }
    Ok(())
}

/// Inside an autocast region the program states the result types, but the casts are implicit: operators
/// compute in the type of their result.
fn autocast<'a>(cx: &mut Cx<'a, '_>, args: &mut Args<'a>) -> Result<()> {
    let explicit = ["aten.to.", "aten._to_copy.", "aten.type_as.", "aten.copy", "aten.clone.", "aten.fill"];
    let Some(to) = args.out_dtype.filter(|d| d.is_float()) else { return Ok(()) };
    if explicit.iter().any(|p| args.target.starts_with(p)) {
        return Ok(());
    }
    fn convert(cx: &mut Cx, arg: &mut Arg, to: DType) -> Result<()> {
        match arg {
            Arg::Tensor(_, v) if cx.dtype(*v)?.is_float() => *v = cx.cast(*v, to)?,
            Arg::List(items) => items.iter_mut().try_for_each(|a| convert(cx, a, to))?,
            _ => {}
        }
        Ok(())
    }
    args.named.iter_mut().try_for_each(|(_, a)| convert(cx, a, to))
}

// ---- sources ----

fn source_of<'a>(cx: &mut Cx<'a, '_>, meta: &'a Metadata) -> Arc<Source> {
    if let Some((last, source)) = &cx.last_source {
        if last.nn_module_stack == meta.nn_module_stack && last.stack_trace == meta.stack_trace {
            return source.clone();
        }
    }
    let (location, code) = user_frame(meta.stack_trace.as_deref().unwrap_or_default());
    let module = module_path(meta.nn_module_stack.as_deref().unwrap_or_default());
    let source = Arc::new(Source { module, location, code });
    cx.last_source = Some((meta, source.clone()));
    source
}

/// Path of the innermost module: `L__self__,,M;L__self__lin,lin,torch.nn.modules.linear.Linear` → `lin`.
pub(crate) fn module_path(stack: &str) -> String {
    let last = stack.rsplit(';').next().unwrap_or_default();
    let path = last.split_once(',').map_or("", |(_, rest)| rest.rsplit_once(',').map_or(rest, |(p, _)| p));
    let path = path.trim_start_matches("L['self']").trim_start_matches("L__self__").trim_start_matches('.');
    // Slices of module lists (`layers.slice(None, 12, None).0`) are the modules themselves.
    let mut out = String::new();
    let mut rest = path;
    while let Some(at) = rest.find("slice(") {
        out.push_str(&rest[..at]);
        rest = rest[at..].find(')').map_or("", |end| rest[at + end + 1..].trim_start_matches('.'));
    }
    out.push_str(rest);
    out.retain(|c| !c.is_whitespace());
    out
}

/// `dir/file.py:42` and the code of the innermost frame of a Python stack trace that is not torch's own: a line of
/// `torch/nn/modules/linear.py` tells nobody which layer it is. Only the last parts of the path are kept: the rest
/// belongs to the machine that exported.
pub(crate) fn user_frame(trace: &str) -> (String, String) {
    let mut found: Option<(&str, &str)> = None;
    for frame in trace.split("File \"").skip(1) {
        let Some((path, rest)) = frame.split_once('"') else { continue };
        if found.is_none_or(|(old, _)| is_torch(old)) || !is_torch(path) {
            found = Some((path, rest));
        }
    }
    let Some((path, rest)) = found else { return Default::default() };
    let line: String = rest.trim_start_matches(", line ").chars().take_while(char::is_ascii_digit).collect();
    let code = rest.lines().nth(1).unwrap_or_default().trim().to_string();
    (format!("{}:{line}", short_path(path)), code)
}

/// The last two parts of a path.
pub(crate) fn short_path(path: &str) -> String {
    let parts: Vec<&str> = path.split(['/', '\\']).filter(|p| !p.is_empty()).collect();
    parts[parts.len().saturating_sub(2)..].join("/")
}

/// Whether a path lies in the installed package `torch`.
fn is_torch(path: &str) -> bool {
    let mut parts = path.split(['/', '\\']).filter(|p| !p.is_empty());
    parts.any(|p| p == "site-packages" || p == "dist-packages") && parts.next() == Some("torch")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_short() {
        assert_eq!(module_path("L__self__,,__main__.M;L__self__lin,layer1.0.conv1,torch.nn.Linear"), "layer1.0.conv1");
        assert_eq!(module_path("L__self__,,M;x,L['self'].h.slice(None, 12, None).3.attn,a.B"), "h.3.attn");
        assert_eq!(module_path(""), "");
        let trace = "File \"/home/u/lib/models/resnet.py\", line 92, in forward\n    out = self.conv1(x)";
        assert_eq!(user_frame(trace), ("models/resnet.py:92".into(), "out = self.conv1(x)".into()));
        assert_eq!(user_frame("nothing"), Default::default());
        let inside =
            "File \"/v/lib/python3.11/site-packages/torch/nn/modules/linear.py\", line 5, in forward\n    F.linear()";
        assert_eq!(user_frame(&format!("{trace}\n  {inside}")).0, "models/resnet.py:92");
        assert_eq!(user_frame(inside).0, "modules/linear.py:5");
        let vision = "File \"/v/site-packages/torchvision/models/vgg.py\", line 7, in forward\n    x";
        assert_eq!(user_frame(&format!("{trace}\n  {vision}\n  {inside}")).0, "models/vgg.py:7");
    }

    #[test]
    fn in_place_names() {
        assert_eq!(functional_of("aten.add_.Tensor").as_deref(), Some("aten.add.Tensor"));
        assert_eq!(functional_of("aten.__and__.Tensor"), None);
        assert_eq!(functional_of("aten.relu.default"), None);
    }
}
