//! Transpose after Transpose is one Transpose.

use crate::driver::{Rewrite, Rule};
use crate::query::{made_by, perm_of};
use oxrt_ir::NodeId;
use oxrt_tensor::Result;

pub(crate) const RULE: Rule = Rule { name: "merge-transposes", ops: &["Transpose"], apply };

pub(crate) fn apply(rw: &mut Rewrite, id: NodeId) -> Result<bool> {
    let g = &mut rw.model.graph;
    let Some(mid) = g[id].input(0) else { return Ok(false) };
    let Some(first) = made_by(g, mid, "Transpose") else { return Ok(false) };
    let (Some(p), Some(q), Some(x)) = (perm_of(g, first), perm_of(g, id), g[first].input(0)) else { return Ok(false) };
    if p.len() != q.len() {
        return Ok(false);
    }
    let perm: Vec<i64> = q.iter().map(|&i| p[i] as i64).collect();
    g.set_input(id, 0, Some(x));
    g[id].attrs.set("perm", perm);
    Ok(true)
}
