//! Computes what does not depend on inputs.

use crate::driver::{Rewrite, Rule};
use oxrt_ir::{Graph, Node, NodeId, ValueId, ValueType};
use oxrt_ops::eval::{Datum, eval_node};
use oxrt_tensor::Result;
use serde::Serialize;

/// A node whose inputs are all constants becomes constants, unless the result is larger than the inputs
/// by more than the budget (`Expand` of one zero to a million).
pub(crate) const CONSTANTS: Rule = Rule { name: "fold-constants", ops: &[], apply: constants };

/// A shape computation whose result is known becomes that constant.
pub(crate) const SIZES: Rule = Rule { name: "fold-sizes", ops: &[], apply: sizes };

/// Largest output of a graph, in bytes, that is written down: a weight that is an output too is not written twice.
const MAX_OUTPUT: usize = 1 << 16;

fn constants(rw: &mut Rewrite, id: NodeId) -> Result<bool> {
    let g = &rw.model.graph;
    let node = &g[id];
    // What quantised weights mean is kept; engines have kernels for them.
    let keep = matches!(&*node.op, "DequantizeLinear") || oxrt_ops::registry::find(&node.op).is_none_or(|op| op.random);
    if keep || !bodies_are_settled(g, node) {
        return Ok(false);
    }
    let inputs: Option<Vec<Option<Datum>>> = node
        .inputs()
        .iter()
        .map(|v| v.map_or(Some(None), |v| g.constant(v).map(|t| Some(Datum::Tensor(t.clone())))))
        .collect();
    let Some(inputs) = inputs else { return Ok(false) };
    let input_bytes: usize = inputs.iter().flatten().filter_map(Datum::as_tensor).map(|t| t.bytes().len()).sum();
    let stated: usize = (node.outputs().iter().flatten())
        .map(|&v| {
            g[v].ty.as_tensor().and_then(|t| Some(t.dtype.bytes_for(t.static_shape()?.iter().product()))).unwrap_or(0)
        })
        .sum();
    if stated > input_bytes.saturating_add(rw.fold_limit) {
        return Ok(false);
    }
    // A node that cannot be evaluated (bad values) is left for the run to report.
    let captured = |v: ValueId| g.constant(v).map(|t| Datum::Tensor(t.clone()));
    let Ok(results) = eval_node(node, &inputs, &captured) else { return Ok(false) };
    if !results.iter().all(|d| matches!(d, Datum::Tensor(_))) {
        return Ok(false);
    }
    let outputs = node.outputs().to_vec();
    let bytes: usize = results.iter().filter_map(Datum::as_tensor).map(|t| t.bytes().len()).sum();
    let limit = match outputs.iter().flatten().any(|&v| g.is_output(v)) {
        true => MAX_OUTPUT,
        false => input_bytes.saturating_add(rw.fold_limit),
    };
    if bytes > limit {
        return Ok(false);
    }
    let g = &mut rw.model.graph;
    g.remove_node(id);
    for (v, datum) in outputs.into_iter().zip(results) {
        if let (Some(v), Datum::Tensor(t)) = (v, datum) {
            g.set_constant(v, t);
        }
    }
    Ok(true)
}

/// Most turns of a loop that are run here.
const MAX_TURNS: i64 = 1024;

/// Whether the graphs inside of a node, if there are any, read constants alone and give the same whenever they run, soon.
fn bodies_are_settled(g: &Graph, node: &Node) -> bool {
    fn settled(body: &Graph) -> bool {
        body.nodes().all(|(_, n)| {
            oxrt_ops::registry::find(&n.op).is_some_and(|op| !op.random)
                && bodies_are_settled(body, n)
                && &*n.op != "Loop"
        })
    }
    let known = |(v, _): &(ValueId, ValueId)| g.constant(*v).is_some();
    let turns = || {
        let count = node.input(0).and_then(|v| g.constant(v)).and_then(|t| t.to_i64_vec().ok());
        count.is_some_and(|c| c.first().is_some_and(|&n| n <= MAX_TURNS))
    };
    node.subgraphs().all(|(_, body)| {
        let soon = matches!(&*node.op, "If" | "Scan") || &*node.op == "Loop" && turns();
        soon && body.captures.iter().all(known) && settled(body)
    })
}

fn sizes(rw: &mut Rewrite, id: NodeId) -> Result<bool> {
    let g = &mut rw.model.graph;
    let outputs: Vec<_> = g[id].outputs().iter().flatten().copied().collect();
    let [v] = outputs[..] else { return Ok(false) };
    if !g.is_output(v) && g[v].users().is_empty() {
        return Ok(false);
    }
    let ValueType::Tensor(ty) = &g[v].ty else { return Ok(false) };
    let Some(t) = g[v].contents.as_ref().and_then(|c| c.to_tensor(ty.dtype)) else { return Ok(false) };
    let name = g[v].name.clone();
    g.remove_node(id);
    g.set_constant(v, t);
    debug_assert_eq!(g[v].name, name);
    Ok(true)
}

/// A node of constants that stays, because its result is too large.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Unfolded {
    pub node: String,
    pub bytes: usize,
}

/// Nodes whose inputs are constants and whose results are larger than those by more than `fold_limit`.
pub fn unfolded(g: &Graph, fold_limit: usize) -> Vec<Unfolded> {
    let bytes = |v: oxrt_ir::ValueId| {
        let size = g[v].ty.as_tensor().and_then(|t| Some(t.dtype.bytes_for(t.static_shape()?.iter().product())));
        size.unwrap_or(0)
    };
    let mut found = Vec::new();
    for (_, node) in g.nodes() {
        let read: Vec<_> = node.inputs().iter().flatten().copied().collect();
        let result: usize = node.outputs().iter().flatten().map(|&v| bytes(v)).sum();
        let given: usize = read.iter().map(|&v| bytes(v)).sum();
        if !read.is_empty() && read.iter().all(|&v| g[v].is_constant()) && result > given.saturating_add(fold_limit) {
            found.push(Unfolded { node: node.describe(), bytes: result });
        }
    }
    found
}
