//! Removes nodes that give their first input back.

use crate::driver::{Rewrite, Rule};
use crate::query::{is_filled, is_scalar, perm_of, same_dims};
use oxrt_ir::{Graph, NodeId};
use oxrt_tensor::Result;

pub(crate) const RULE: Rule = Rule {
    name: "remove-identities",
    ops: &[
        "Identity",
        "Dropout",
        "Cast",
        "CastLike",
        "Transpose",
        "Reshape",
        "Flatten",
        "Expand",
        "Concat",
        "Add",
        "Sub",
        "Mul",
        "Div",
        "Pow",
        "Pad",
        "Slice",
        "Squeeze",
        "Unsqueeze",
        "Tile",
        "Resize",
        "Sum",
        "Max",
        "Min",
        "Mean",
        "Where",
    ],
    apply,
};

fn apply(rw: &mut Rewrite, id: NodeId) -> Result<bool> {
    let g = &mut rw.model.graph;
    let Some(x) = gives_back(g, id) else { return Ok(false) };
    let node = &g[id];
    let Some(y) = node.output(0) else { return Ok(false) };
    if node.outputs().iter().skip(1).flatten().any(|&v| !g[v].users().is_empty() || g.is_output(v)) {
        return Ok(false);
    }
    // Between an input and an output of the graph something must stand, and two outputs stay two values.
    let x_is_fixed = g[x].producer().is_none() || g.is_output(x);
    if g.is_output(y) && x_is_fixed {
        return Ok(false);
    }
    g.remove_node(id);
    // Both are the same value: the name that the source gave it stays.
    match g[y].made_up && !g.is_output(y) {
        true => g.replace_uses(y, x),
        false => g.replace_value(y, x),
    }
    Ok(true)
}

/// The input that the node's first output equals.
fn gives_back(g: &Graph, id: NodeId) -> Option<oxrt_ir::ValueId> {
    let node = &g[id];
    let (x, y) = (node.input(0)?, node.output(0)?);
    let same = same_dims(g, x, y) && g[x].ty == g[y].ty;
    let constant = |i: usize, c: f64| node.input(i).is_some_and(|v| is_scalar(g, v, c) || is_filled(g, v, c));
    let known = match &*node.op {
        "Identity" => true,
        // Training mode is asked for by input 2.
        "Dropout" => node.input(2).is_none_or(|v| is_scalar(g, v, 0.0)),
        "Cast" | "CastLike" => g[x].ty.dtype().is_some() && g[x].ty.dtype() == g[y].ty.dtype(),
        "Transpose" => perm_of(g, id)?.iter().enumerate().all(|(i, &p)| i == p),
        "Reshape" | "Flatten" | "Expand" | "Squeeze" | "Unsqueeze" => same,
        "Concat" | "Sum" | "Max" | "Min" | "Mean" => node.inputs().len() == 1,
        "Add" | "Sub" if same && constant(1, 0.0) => true,
        "Mul" | "Div" | "Pow" if same && constant(1, 1.0) => true,
        "Add" if constant(0, 0.0) => return node.input(1).filter(|&b| same_dims(g, b, y)),
        "Mul" if constant(0, 1.0) => return node.input(1).filter(|&b| same_dims(g, b, y)),
        // A condition that is the same everywhere.
        "Where" => {
            let test = g.constant(x)?.to_i64_vec().ok()?;
            let first = *test.first()?;
            let taken = node.input(if first != 0 { 1 } else { 2 })?;
            return (test.iter().all(|&t| t == first) && g[taken].ty == g[y].ty && same_dims(g, taken, y))
                .then_some(taken);
        }
        "Pad" => {
            same && node
                .input(1)
                .and_then(|v| g.constant(v))
                .is_some_and(|t| t.to_i64_vec().is_ok_and(|p| p.iter().all(|&x| x == 0)))
        }
        // With steps of 1 equal sizes mean that everything was taken.
        "Slice" => {
            same && node
                .input(4)
                .is_none_or(|v| g.constant(v).is_some_and(|t| t.to_i64_vec().is_ok_and(|s| s.iter().all(|&x| x == 1))))
        }
        "Tile" => node
            .input(1)
            .and_then(|v| g.constant(v))
            .is_some_and(|t| t.to_i64_vec().is_ok_and(|r| r.iter().all(|&x| x == 1))),
        "Resize" => {
            same && node
                .input(2)
                .and_then(|v| g.constant(v))
                .is_some_and(|t| t.to_f64_vec().is_ok_and(|s| !s.is_empty() && s.iter().all(|&x| x == 1.0)))
        }
        _ => false,
    };
    known.then_some(x)
}
