//! Removes nodes that give their first input back, or something that it was made of.

use crate::driver::{Rewrite, Rule};
use crate::query::{is_filled, is_scalar, made_by, perm_of, same_dims};
use oxrt_ir::{Dim, Graph, Node, NodeId, ValueId};
use oxrt_tensor::{Result, Tensor};

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
        "Gather",
        "And",
        "Or",
    ],
    apply,
};

/// Parts of a Concat that are empty whatever the sizes.
pub(crate) const EMPTY: Rule = Rule { name: "remove-empty-parts", ops: &["Concat"], apply: empty_parts };

fn empty_parts(rw: &mut Rewrite, id: NodeId) -> Result<bool> {
    let g = &mut rw.model.graph;
    let axis = g[id].attrs.int_or("axis", 0)?;
    let is_empty = |v: &Option<ValueId>| {
        let Some(dims) = v.and_then(|v| g.dims(v)) else { return false };
        let axis = if axis < 0 { axis + dims.len() as i64 } else { axis };
        usize::try_from(axis).ok().and_then(|axis| dims.get(axis)).is_some_and(|d| d.is(0))
    };
    let parts = g[id].inputs();
    let mut kept: Vec<Option<ValueId>> = parts.iter().copied().filter(|v| !is_empty(v)).collect();
    if kept.len() == parts.len() {
        return Ok(false);
    }
    if kept.is_empty() {
        if parts.len() == 1 {
            return Ok(false);
        }
        kept.push(parts[0]);
    }
    g.set_inputs(id, &kept);
    Ok(true)
}

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
fn gives_back(g: &Graph, id: NodeId) -> Option<ValueId> {
    let node = &g[id];
    let (x, y) = (node.input(0)?, node.output(0)?);
    let same = same_dims(g, x, y) && g[x].ty == g[y].ty;
    let constant = |i: usize, c: f64| node.input(i).is_some_and(|v| is_scalar(g, v, c) || uniform(g, v, 0) == Some(c));
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
        // One side decides nothing.
        "And" | "Or" => {
            let (a, b) = (x, node.input(1)?);
            let idle = |v: ValueId| if &*node.op == "And" { is_true(g, v, 0) } else { is_filled(g, v, 0.0) };
            let fits = |&(one, other): &(ValueId, ValueId)| idle(one) && same_dims(g, other, y);
            return [(a, b), (b, a)].iter().find(|pair| fits(pair)).map(|pair| pair.1);
        }
        // A condition that is the same everywhere.
        "Where" if is_true(g, x, 0) => {
            return node.input(1).filter(|&v| g[v].ty == g[y].ty && same_dims(g, v, y));
        }
        "Where" => {
            let test = g.constant(x)?.to_i64_vec().ok()?;
            let first = *test.first()?;
            let taken = node.input(if first != 0 { 1 } else { 2 })?;
            return (test.iter().all(|&t| t == first) && g[taken].ty == g[y].ty && same_dims(g, taken, y))
                .then_some(taken);
        }
        // Real and imaginary part, joined to a complex number and taken apart again.
        "Gather" => {
            let part = picked_part(g, id)?;
            return (same_dims(g, part, y) && g[part].ty == g[y].ty).then_some(part);
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

/// `Gather(Concat(Unsqueeze(a), Unsqueeze(b)), 1)` on the joined axis is `b`.
fn picked_part(g: &Graph, id: NodeId) -> Option<ValueId> {
    let (joined, index) = (g[id].input(0)?, g.constant(g[id].input(1)?)?);
    let join = made_by(g, joined, "Concat")?;
    let rank = g.dims(joined)?.len() as i64;
    let axis_of = |n: NodeId| Some(g[n].attrs.int_or("axis", 0).ok()?.rem_euclid(rank) as usize);
    let (axis, parts) = (axis_of(join)?, g[join].inputs());
    let single =
        |v: &Option<ValueId>| v.is_some_and(|v| g.dims(v).is_some_and(|d| d.get(axis).is_some_and(|d| d.is(1))));
    if axis_of(id)? != axis || !index.shape().is_empty() || !parts.iter().all(single) {
        return None;
    }
    let place = *index.to_i64_vec().ok()?.first()?;
    let place = if place < 0 { place + parts.len() as i64 } else { place };
    let part = (*parts.get(usize::try_from(place).ok()?)?)?;
    g[made_by(g, part, "Unsqueeze")?].input(0)
}

/// How far conditions are followed.
const MAX_STEPS: usize = 8;

/// Whether every element of a condition is true, whatever the inputs are: positions are not negative.
fn is_true(g: &Graph, v: ValueId, steps: usize) -> bool {
    if let Some(t) = g.constant(v) {
        return is_filled(g, v, 1.0) && t.dtype() == oxrt_ir::DType::Bool;
    }
    let Some(node) = g.producer(v).filter(|_| steps < MAX_STEPS) else { return false };
    let input = |i: usize| node.input(i);
    match &*node.op {
        "Reshape" | "Squeeze" | "Unsqueeze" | "Flatten" | "Expand" | "Identity" | "Transpose" => {
            input(0).is_some_and(|x| is_true(g, x, steps + 1))
        }
        "GreaterOrEqual" | "LessOrEqual" => {
            let (a, b) = (input(0), input(1));
            let (large, small) = if &*node.op == "GreaterOrEqual" { (a, b) } else { (b, a) };
            let at_most_zero =
                |v: ValueId| g.constant(v).is_some_and(|t| t.to_i64_vec().is_ok_and(|x| x.iter().all(|&x| x <= 0)));
            large.zip(small).is_some_and(|(l, s)| {
                g[l].ty.dtype().is_some_and(|d| d.is_int()) && is_count(g, l, steps + 1) && at_most_zero(s)
            })
        }
        "Greater" | "Less" => {
            let (a, b) =
                (input(0).and_then(|v| uniform(g, v, steps + 1)), input(1).and_then(|v| uniform(g, v, steps + 1)));
            a.zip(b).is_some_and(|(a, b)| if &*node.op == "Greater" { a > b } else { a < b })
        }
        _ => false,
    }
}

/// The number that every element is, whatever the inputs are: a mask of a batch that masks nothing.
fn uniform(g: &Graph, v: ValueId, steps: usize) -> Option<f64> {
    if let Some(t) = g.constant(v) {
        let first = || Tensor::from_bytes(t.dtype(), &[1], t.bytes().get(..t.dtype().bytes_for(1))?).ok();
        let first = *first().filter(|_| t.strings().is_none())?.to_f64_vec().ok()?.first()?;
        return is_filled(g, v, first).then_some(first);
    }
    let node = g.producer(v).filter(|_| steps < MAX_STEPS)?;
    let x = node.input(0)?;
    match &*node.op {
        "Reshape" | "Squeeze" | "Unsqueeze" | "Flatten" | "Expand" | "Identity" | "Transpose" => {
            uniform(g, x, steps + 1)
        }
        // Of no elements they are something else.
        "ReduceMax" | "ReduceMin" | "ReduceMean" => {
            let some = |d: &Dim| d.as_const().is_some_and(|n| n > 0);
            let never_empty = g.dims(x)?.iter().zip(kept_axes(g, node)?).all(|(d, kept)| kept || some(d));
            never_empty.then(|| uniform(g, x, steps + 1)).flatten()
        }
        "Where" if is_true(g, x, steps + 1) => uniform(g, node.input(1)?, steps + 1),
        _ => None,
    }
}

/// For each axis of a reduction's operand whether it is left as it is.
fn kept_axes(g: &Graph, node: &Node) -> Option<Vec<bool>> {
    let rank = g.dims(node.input(0)?)?.len();
    let axes = match node.input(1) {
        Some(v) => g.constant(v)?.to_i64_vec().ok()?,
        None => Vec::new(),
    };
    // None named is all of them, or none at all: taken for all.
    let reduced = |i: usize| axes.is_empty() || axes.iter().any(|a| a.rem_euclid(rank.max(1) as i64) as usize == i);
    Some((0..rank).map(|i| !reduced(i)).collect())
}

/// Whether no element of an integer tensor is negative.
fn is_count(g: &Graph, v: ValueId, steps: usize) -> bool {
    if let Some(t) = g.constant(v) {
        return t.to_i64_vec().is_ok_and(|x| x.iter().all(|&x| x >= 0));
    }
    let Some(node) = g.producer(v).filter(|_| steps < MAX_STEPS) else { return false };
    let counts = |i: usize| node.input(i).is_some_and(|x| is_count(g, x, steps + 1));
    match &*node.op {
        "Shape" | "Size" => true,
        // Rising from a start that is none.
        "Range" => counts(0) && counts(2),
        "Reshape" | "Squeeze" | "Unsqueeze" | "Flatten" | "Expand" | "Identity" | "Transpose" | "Slice" | "Gather" => {
            counts(0)
        }
        _ => false,
    }
}
