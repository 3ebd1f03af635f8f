//! Reshape, Squeeze, Unsqueeze and Flatten in a row are one Reshape; a computed target shape is stated.

use crate::driver::{Rewrite, Rule};
use crate::query::perm_of;
use oxrt_ir::{Attrs, Dim, Graph, NodeId, ValueId};
use oxrt_tensor::{Result, Tensor};

const OPS: &[&str] = &["Reshape", "Squeeze", "Unsqueeze", "Flatten"];

pub(crate) const RULE: Rule =
    Rule { name: "merge-reshapes", ops: &["Reshape", "Squeeze", "Unsqueeze", "Flatten", "Transpose"], apply: merge };

/// `Reshape(x, Concat(Shape…))` to known dimensions with at most one unknown becomes a constant shape.
pub(crate) const STATE_SHAPE: Rule = Rule { name: "state-reshape", ops: &["Reshape", "Expand"], apply: state };

fn merge(rw: &mut Rewrite, id: NodeId) -> Result<bool> {
    let g = &mut rw.model.graph;
    let (Some(mid), Some(y)) = (g[id].input(0), g[id].output(0)) else { return Ok(false) };
    let Some((first, 0)) = g[mid].producer() else { return Ok(false) };
    if !keeps_order(g, id) || !keeps_order(g, first) {
        return Ok(false);
    }
    // Two Transposes become one by a rule of their own; what turns a matrix of weights is looked for by others.
    if &*g[id].op == "Transpose" && (&*g[first].op == "Transpose" || g.dims(y).is_some_and(|d| d.len() == 2)) {
        return Ok(false);
    }
    let Some(x) = g[first].input(0) else { return Ok(false) };
    // Several readers merge all or none: the first one then goes.
    let merges = |&n: &NodeId| {
        keeps_order(g, n)
            && g[n].input(0) == Some(mid)
            && g[n].output(0).is_some_and(|y| constant_target(g, x, y).is_some())
    };
    if g.is_output(mid) || !g[mid].users().iter().all(merges) {
        return Ok(false);
    }
    let Some(target) = constant_target(g, x, y) else { return Ok(false) };
    become_reshape(g, id, x, &target);
    Ok(true)
}

/// Whether a node gives its elements back in the same order: a Transpose does when it moves axes of size 1 alone.
fn keeps_order(g: &Graph, id: NodeId) -> bool {
    let moves = || -> Option<bool> {
        let (perm, dims) = (perm_of(g, id)?, g.dims(g[id].input(0)?)?);
        let long: Vec<usize> = perm.into_iter().filter(|&p| !dims[p].is(1)).collect();
        Some(!long.is_sorted())
    };
    OPS.contains(&&*g[id].op) || &*g[id].op == "Transpose" && moves() == Some(false)
}

fn state(rw: &mut Rewrite, id: NodeId) -> Result<bool> {
    let g = &mut rw.model.graph;
    let (Some(x), Some(shape), Some(y)) = (g[id].input(0), g[id].input(1), g[id].output(0)) else { return Ok(false) };
    if g[shape].is_constant() {
        return Ok(false);
    }
    if &*g[id].op == "Expand" {
        // A size that the result takes from the input itself may be stated as 1.
        let (Some(dx), Some(dy)) = (g.dims(x), g.dims(y)) else { return Ok(false) };
        let lead = dy.len().saturating_sub(dx.len());
        let target: Option<Vec<i64>> = dy
            .iter()
            .enumerate()
            .map(|(i, d)| d.as_const().or_else(|| (i >= lead && dx[i - lead] == *d).then_some(1)))
            .collect();
        let Some(target) = target else { return Ok(false) };
        let v = g.add_constant(&format!("{}_shape", g[id].name), Tensor::from_slice(&[target.len()], &target));
        g.set_input(id, 1, Some(v));
        return Ok(true);
    }
    let Some(target) = constant_target(g, x, y) else { return Ok(false) };
    become_reshape(g, id, x, &target);
    Ok(true)
}

fn become_reshape(g: &mut Graph, id: NodeId, x: ValueId, target: &[i64]) {
    let name = format!("{}_shape", g[id].name);
    let shape = g.add_constant(&name, Tensor::from_slice(&[target.len()], target));
    g[id].op = "Reshape".into();
    g[id].attrs = Attrs::new();
    g.set_inputs(id, &[Some(x), Some(shape)]);
}

/// The shape of `y` for a Reshape of `x`: constants, 0 where an axis is kept, at most one -1.
fn constant_target(g: &Graph, x: ValueId, y: ValueId) -> Option<Vec<i64>> {
    target_between(g.dims(x)?, g.dims(y)?)
}

/// The same for dimensions.
pub(crate) fn target_between(dx: &[Dim], dy: &[Dim]) -> Option<Vec<i64>> {
    // 0 in a shape means "copy"; a real zero needs `allowzero`, which then forbids -1.
    if dy.iter().any(|d| d.is(0)) || dx.iter().any(|d| d.is(0)) {
        return None;
    }
    let mut unknown = 0;
    let mut target = Vec::with_capacity(dy.len());
    for (i, d) in dy.iter().enumerate() {
        target.push(match d {
            Dim::Const(c) => *c,
            d if dx.get(i) == Some(d) => 0,
            _ => {
                unknown += 1;
                -1
            }
        });
    }
    // Everything kept but one: prefer -1 to 0 where there is room for it, as exporters do.
    if unknown == 0 && target.iter().filter(|&&t| t == 0).count() == 1 {
        target.iter_mut().filter(|t| **t == 0).for_each(|t| *t = -1);
    }
    (unknown <= 1).then_some(target)
}
