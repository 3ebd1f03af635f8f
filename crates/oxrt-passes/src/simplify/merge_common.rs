//! Two nodes that compute the same are one.

use crate::driver::{Rewrite, Rule};
use oxrt_ir::{Graph, NodeId, ValueId};
use oxrt_tensor::Result;

pub(crate) const RULE: Rule = Rule { name: "merge-common", ops: &[], apply };

fn apply(rw: &mut Rewrite, id: NodeId) -> Result<bool> {
    let g = &rw.model.graph;
    let node = &g[id];
    if node.subgraphs().next().is_some() || oxrt_ops::registry::find(&node.op).is_none_or(|op| op.random) {
        return Ok(false);
    }
    // The twin reads the same first computed input; it is among that input's users.
    let Some(anchor) = node.inputs().iter().flatten().copied().find(|&v| !g[v].is_constant()) else { return Ok(false) };
    let twin = g[anchor].users().iter().copied().find(|&other| other != id && equal(g, id, other));
    let Some(twin) = twin else { return Ok(false) };
    // Keep whichever makes a graph output; if both do, both names are needed.
    let makes_output = |n: NodeId| g[n].outputs().iter().flatten().any(|&v| g.is_output(v));
    let (keep, drop) = match (makes_output(id), makes_output(twin)) {
        (true, true) => return Ok(false),
        (true, false) => (id, twin),
        _ => (twin, id),
    };
    let (kept, dropped) = (g[keep].outputs().to_vec(), g[drop].outputs().to_vec());
    let g = &mut rw.model.graph;
    g.remove_node(drop);
    for (old, new) in dropped.into_iter().zip(kept) {
        if let (Some(old), Some(new)) = (old, new) {
            g.replace_uses(old, new);
        }
    }
    Ok(true)
}

fn equal(g: &Graph, a: NodeId, b: NodeId) -> bool {
    let (x, y) = (&g[a], &g[b]);
    x.op == y.op
        && x.inputs().len() == y.inputs().len()
        && x.outputs().len() == y.outputs().len()
        && x.outputs().iter().zip(y.outputs()).all(|(p, q)| p.is_some() == q.is_some())
        && x.inputs().iter().zip(y.inputs()).all(|(p, q)| same_input(g, *p, *q))
        && x.attrs == y.attrs
}

fn same_input(g: &Graph, a: Option<ValueId>, b: Option<ValueId>) -> bool {
    match (a, b) {
        (None, None) => true,
        (Some(a), Some(b)) if a == b => true,
        (Some(a), Some(b)) => match (g.constant(a), g.constant(b)) {
            // Different weights differ within their first bytes, so that comparing large ones costs nothing.
            (Some(x), Some(y)) => x.shape() == y.shape() && x.dtype() == y.dtype() && (x.same_storage(y) || x == y),
            _ => false,
        },
        _ => false,
    }
}
