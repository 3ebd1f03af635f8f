//! x · Sigmoid(x) is Swish (Ramachandran et al., 2017), also called SiLU.

use crate::driver::{Rewrite, Rule};
use crate::query::{made_by, pair};
use oxrt_ir::{Attrs, NodeId};
use oxrt_tensor::Result;

pub(crate) const RULE: Rule = Rule { name: "fuse-silu", ops: &["Mul"], apply };

fn apply(rw: &mut Rewrite, id: NodeId) -> Result<bool> {
    let g = &rw.model.graph;
    let (Some((a, b)), Some(y)) = (pair(g, id), g[id].output(0)) else { return Ok(false) };
    let gate_of = |x, gate| made_by(g, gate, "Sigmoid").is_some_and(|s| g[s].input(0) == Some(x));
    let Some(x) = [(a, b), (b, a)].into_iter().find(|&(x, gate)| gate_of(x, gate)).map(|p| p.0) else {
        return Ok(false);
    };
    let new = rw.builder(id).op("Swish", &[x], Attrs::new())?;
    rw.model.graph.remove_node(id);
    rw.model.graph.replace_value(y, new);
    Ok(true)
}
