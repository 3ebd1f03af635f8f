//! `ai.onnx.preview.training.Gradient`: written out as ordinary operators, in reverse mode.
//!
//! <https://onnx.ai/onnx/operators/onnx_aionnxpreviewtraining_Gradient.html>

mod rules;
#[cfg(test)]
mod tests;

use oxrt_ir::{Attr, Graph, NodeId, ValueId};
use oxrt_ops::Builder;
use oxrt_tensor::{Error, Result, bail};
use std::collections::{HashMap, HashSet};

/// What a `Gradient` node asks for.
pub(crate) struct Wanted {
    /// The independent variables that are differentiated by, then those that are not.
    pub xs: Vec<ValueId>,
    pub zs: Vec<ValueId>,
    pub y: ValueId,
    /// Where the gradient is taken: values for `xs`, then `zs`.
    pub at: Vec<ValueId>,
}

/// Adds the nodes of the gradients of `y` by each of `xs`.
///
/// # Errors
/// Names an operator between `xs` and `y` that has no gradient here.
pub(crate) fn expand(b: &mut Builder, wanted: &Wanted) -> Result<Vec<ValueId>> {
    let vars: Vec<ValueId> = wanted.xs.iter().chain(&wanted.zs).copied().collect();
    if vars.len() != wanted.at.len() {
        bail!(invalid, "{} inputs for {} variables", wanted.at.len(), vars.len());
    }
    let nodes = between(b.graph, &vars, wanted.y);
    // Values of the forward pass at the place asked for: those of the graph when the place is the graph's own.
    let mut value: HashMap<ValueId, ValueId> = vars.iter().copied().zip(wanted.at.iter().copied()).collect();
    let changed = |v: &ValueId, value: &HashMap<ValueId, ValueId>| value.get(v).is_some_and(|new| new != v);
    for &id in &nodes {
        let node = b.graph[id].clone();
        if !node.inputs().iter().flatten().any(|v| changed(v, &value)) {
            continue;
        }
        if node.subgraphs().next().is_some() {
            bail!(unsupported, "the gradient of {} at another place than the graph's", node.describe());
        }
        let inputs: Vec<_> = node.inputs().iter().map(|v| v.map(|v| value.get(&v).copied().unwrap_or(v))).collect();
        let outputs = b.op_multi(&node.op, &inputs, node.attrs.clone(), node.outputs().len())?;
        value.extend(node.outputs().iter().zip(outputs).filter_map(|(old, new)| Some(((*old)?, new))));
    }
    let now = |v: ValueId| value.get(&v).copied().unwrap_or(v);

    let depends = dependents(b.graph, &nodes, &wanted.xs);
    let mut adjoint: HashMap<ValueId, ValueId> = HashMap::new();
    let y = now(wanted.y);
    let one = b.scalar_like(y, 1.0)?;
    let start = like(b, one, y)?;
    adjoint.insert(wanted.y, start);
    for &id in nodes.iter().rev() {
        let node = b.graph[id].clone();
        let reached: Vec<usize> =
            (0..node.outputs().len()).filter(|&i| node.output(i).is_some_and(|v| adjoint.contains_key(&v))).collect();
        if reached.is_empty() || !node.inputs().iter().flatten().any(|v| depends.contains(v)) {
            continue;
        }
        if reached != [0] {
            bail!(unsupported, "the gradient through output {} of {}", reached[reached.len() - 1], node.describe());
        }
        let out = node.output(0).ok_or_else(|| Error::bug("a reached output is absent"))?;
        let rule = rules::find(&node.op).ok_or_else(|| {
            Error::unsupported(format!("{} has no gradient", node.op))
                .at(node.describe())
                .help("Gradient goes through arithmetic, activations, MatMul, Gemm, Conv, Softmax, reductions and shape changes")
        })?;
        let step = rules::Step {
            node: &node,
            inputs: node.inputs().iter().map(|v| v.map(now)).collect(),
            y: now(out),
            dy: adjoint[&out],
        };
        let found = rule(b, &step).map_err(|e| e.at(node.describe()))?;
        for (input, gradient) in node.inputs().iter().zip(found) {
            let (Some(input), Some(gradient)) = (*input, gradient) else { continue };
            if !depends.contains(&input) {
                continue;
            }
            let sum = match adjoint.get(&input) {
                Some(&before) => b.call("Add", &[before, gradient])?,
                None => gradient,
            };
            adjoint.insert(input, sum);
        }
    }
    let mut out = Vec::new();
    for &x in &wanted.xs {
        out.push(match adjoint.get(&x) {
            Some(&g) => g,
            None => {
                let zero = b.scalar_like(now(x), 0.0)?;
                like(b, zero, now(x))?
            }
        });
    }
    Ok(out)
}

/// The scalar `v` in the shape of `x`.
fn like(b: &mut Builder, v: ValueId, x: ValueId) -> Result<ValueId> {
    if b.rank(x)? == 0 {
        return Ok(v);
    }
    let shape = b.call("Shape", &[x])?;
    b.call("Expand", &[v, shape])
}

/// Nodes that `y` is made of, up to `stops`, in order.
fn between(graph: &Graph, stops: &[ValueId], y: ValueId) -> Vec<NodeId> {
    let stops: HashSet<ValueId> = stops.iter().copied().collect();
    let (mut found, mut todo) = (HashSet::new(), vec![y]);
    while let Some(v) = todo.pop() {
        if stops.contains(&v) {
            continue;
        }
        if let Some((id, _)) = graph[v].producer()
            && found.insert(id)
        {
            todo.extend(graph.reads(id));
        }
    }
    graph.node_ids().into_iter().filter(|id| found.contains(id)).collect()
}

/// Values that change with one of `xs`.
fn dependents(graph: &Graph, nodes: &[NodeId], xs: &[ValueId]) -> HashSet<ValueId> {
    let mut found: HashSet<ValueId> = xs.iter().copied().collect();
    for &id in nodes {
        if graph.reads(id).iter().any(|v| found.contains(v)) {
            found.extend(graph[id].outputs().iter().flatten().filter(|v| !xs.contains(v)));
        }
    }
    found
}

/// The names in attribute `name` of a `Gradient` node.
pub(crate) fn names(attrs: &oxrt_ir::Attrs, name: &str) -> Result<Vec<String>> {
    match attrs.get(name) {
        None => Ok(Vec::new()),
        Some(Attr::Strings(list)) => Ok(list.clone()),
        Some(other) => bail!(invalid, "attribute `{name}` should be a list of strings, found {}", other.kind()),
    }
}
