//! Moves Reshape down past what does not care, so that it meets another Reshape or the end of a chain.

use crate::driver::{Rewrite, Rule};
use crate::query::{made_by, only_user, perm_of};
use oxrt_ir::{Dim, NodeId};
use oxrt_ops::registry;
use oxrt_tensor::Result;

/// `Transpose(Reshape(x))` → `Reshape(Transpose(x))` when the Reshape merges neighbouring axes or inserts ones.
pub(crate) const TRANSPOSE: Rule = Rule { name: "push-reshape", ops: &["Transpose"], apply: past_transpose };

/// `f(Reshape(x))` → `Reshape(f(x))` for elementwise f of one input (or with scalars beside it).
pub(crate) const UNARY: Rule = Rule { name: "push-reshape-unary", ops: &[], apply: past_unary };

fn past_transpose(rw: &mut Rewrite, id: NodeId) -> Result<bool> {
    let g = &rw.model.graph;
    let (Some(mid), Some(y)) = (g[id].input(0), g[id].output(0)) else { return Ok(false) };
    let Some(reshape) = made_by(g, mid, "Reshape") else { return Ok(false) };
    let (Some(x), Some(perm)) = (g[reshape].input(0), perm_of(g, id)) else { return Ok(false) };
    let (Some(dx), Some(dm), Some(dy)) = (g.dims(x), g.dims(mid), g.dims(y)) else { return Ok(false) };
    let Some(groups) = groups(dx, dm) else { return Ok(false) };
    let new_perm: Vec<usize> = perm.iter().flat_map(|&p| groups[p].iter().copied()).collect();
    let dy = dy.to_vec();
    if dy.iter().filter(|d| d.as_const().is_none()).count() > 1 {
        return Ok(false);
    }
    let mut b = rw.builder(id);
    let turned = b.transpose(x, &new_perm)?;
    let out = b.reshape(turned, &dy)?;
    rw.model.graph.remove_node(id);
    rw.model.graph.replace_value(y, out);
    Ok(true)
}

/// For each axis after the Reshape, the axes before it that it merges; `None` when it splits one.
fn groups(before: &[Dim], after: &[Dim]) -> Option<Vec<Vec<usize>>> {
    let mut next = 0;
    let mut groups = Vec::with_capacity(after.len());
    for d in after {
        let mut group = Vec::new();
        let mut product = Dim::Const(1);
        while product != *d {
            product = product * before.get(next)?.clone();
            group.push(next);
            next += 1;
            if product.as_const().zip(d.as_const()).is_some_and(|(p, d)| p > d) {
                return None;
            }
        }
        groups.push(group);
    }
    // Ones left at the end go with the last axis.
    let last = groups.last_mut()?;
    for (i, d) in before.iter().enumerate().skip(next) {
        if !d.is(1) {
            return None;
        }
        last.push(i);
    }
    Some(groups)
}

fn past_unary(rw: &mut Rewrite, id: NodeId) -> Result<bool> {
    let g = &rw.model.graph;
    let node = &g[id];
    let elementwise = registry::find(&node.op).is_some_and(|op| op.scalar.is_some());
    let (Some(mid), Some(y)) = (node.input(0), node.output(0)) else { return Ok(false) };
    let scalars = node.inputs().iter().skip(1).flatten().all(|&v| g.constant(v).is_some_and(|t| t.rank() == 0));
    if !elementwise || !scalars || g.dims(y) != g.dims(mid) {
        return Ok(false);
    }
    let Some(reshape) = made_by(g, mid, "Reshape").filter(|_| only_user(g, mid) == Some(id)) else { return Ok(false) };
    let (Some(x), Some(shape)) = (g[reshape].input(0), g[reshape].input(1)) else { return Ok(false) };
    // Only behind a fused operator is there something to gain.
    let useful =
        g.producer(x).is_some_and(|n| n.op.starts_with("oxrt.") || matches!(&*n.op, "Gemm" | "MatMul" | "Add"));
    if !useful {
        return Ok(false);
    }
    let (op, attrs) = (node.op.to_string(), node.attrs.clone());
    let mut inputs = node.inputs().to_vec();
    inputs[0] = Some(x);
    let reshape_attrs = g[reshape].attrs.clone();
    let mut b = rw.builder(id);
    let inner = b.op_multi(&op, &inputs, attrs, 1)?[0];
    let out = b.op("Reshape", &[inner, shape], reshape_attrs)?;
    rw.model.graph.remove_node(id);
    rw.model.graph.replace_value(y, out);
    Ok(true)
}
