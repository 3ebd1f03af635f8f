//! Transpose after Transpose is one Transpose, also where a Reshape puts axes together before it and another takes them apart.

use crate::driver::{Rewrite, Rule};
use crate::query::{made_by, only_user, perm_of};
use oxrt_ir::{Attrs, Dim, Graph, NodeId, ValueId};
use oxrt_tensor::Result;

pub(crate) const RULE: Rule = Rule { name: "merge-transposes", ops: &["Transpose"], apply };

/// `Reshape(Transpose(Reshape(x)))` that turns axes of x.
pub(crate) const THROUGH: Rule = Rule { name: "merge-reshaped-transpose", ops: &["Reshape"], apply: through };

fn through(rw: &mut Rewrite, id: NodeId) -> Result<bool> {
    let Some((x, perm)) = turned_axes(&rw.model.graph, id) else { return Ok(false) };
    let g = &mut rw.model.graph;
    g[id].op = "Transpose".into();
    g[id].attrs = Attrs::new().with("perm", perm.iter().map(|&p| p as i64).collect::<Vec<_>>());
    g.set_inputs(id, &[Some(x)]);
    Ok(true)
}

/// The value before the first Reshape, and which of its axes become which of the last one's.
fn turned_axes(g: &Graph, last: NodeId) -> Option<(ValueId, Vec<usize>)> {
    let (turned, y) = (g[last].input(0)?, g[last].output(0)?);
    let turn = made_by(g, turned, "Transpose").filter(|_| only_user(g, turned) == Some(last))?;
    let joined = g[turn].input(0)?;
    let first = made_by(g, joined, "Reshape").filter(|_| only_user(g, joined) == Some(turn))?;
    let x = g[first].input(0)?;
    let groups = joined_axes(g.dims(x)?, g.dims(joined)?)?;
    let perm: Vec<usize> = perm_of(g, turn)?.into_iter().flat_map(|p| groups[p].clone()).collect();
    let dims: Vec<&Dim> = perm.iter().map(|&p| &g.dims(x).unwrap_or_default()[p]).collect();
    g.dims(y)?.iter().eq(dims).then_some((x, perm))
}

/// Which axes of `from` make each of `to`, where those only put neighbours together.
fn joined_axes(from: &[Dim], to: &[Dim]) -> Option<Vec<Vec<usize>>> {
    let mut next = 0;
    let mut groups = Vec::new();
    for d in to {
        let (mut size, mut axes) = (Dim::Const(1), Vec::new());
        while axes.is_empty() || size != *d {
            size = size * from.get(next)?.clone();
            axes.push(next);
            next += 1;
        }
        groups.push(axes);
    }
    (next == from.len()).then_some(groups)
}

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
