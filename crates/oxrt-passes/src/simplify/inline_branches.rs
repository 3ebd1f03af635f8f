//! A branch that is always taken stands in the place of its `If`.

use crate::driver::{Rewrite, Rule};
use crate::query::scalar;
use oxrt_ir::{Attr, Graph, NodeId};
use oxrt_tensor::Result;

pub(crate) const RULE: Rule = Rule { name: "inline-branches", ops: &["If"], apply };

fn apply(rw: &mut Rewrite, id: NodeId) -> Result<bool> {
    let g = &mut rw.model.graph;
    let Some(condition) = g[id].input(0) else { return Ok(false) };
    let Some(body) = taken(g, id, scalar(g, condition)) else { return Ok(false) };
    // A result that has the type of its branch alone may say more than the `If` did.
    g.splice(id, &body)?;
    Ok(true)
}

/// The branch that runs; of two that give the same values of the enclosing graph, either.
fn taken(g: &Graph, id: NodeId, condition: Option<f64>) -> Option<Graph> {
    let branch = |name: &str| match g[id].attrs.0.get(name) {
        Some(Attr::Graph(body)) => Some(body),
        _ => None,
    };
    let (then, other) = (branch("then_branch")?, branch("else_branch")?);
    if let Some(c) = condition {
        return Some((**(if c != 0.0 { then } else { other })).clone());
    }
    let captured = |body: &Graph| -> Option<Vec<_>> {
        let outer = |v| body.captures.iter().find(|c| c.1 == v).map(|c| c.0);
        (body.num_nodes() == 0).then(|| body.outputs.iter().map(|&v| outer(v)).collect())?
    };
    (captured(then)? == captured(other)?).then(|| (**then).clone())
}
