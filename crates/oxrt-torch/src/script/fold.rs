//! Numbers that follow from constants alone are computed while the script is read: Python decides by them.

use crate::cx::Cx;
use oxrt_ir::ValueId;
use oxrt_ops::eval::{Datum, eval_node};
use oxrt_tensor::Tensor;

/// Largest tensor that is computed on the way to a number.
const MAX_ELEMENTS: usize = 1 << 16;
/// Longest chain of operators that is followed.
const MAX_DEPTH: usize = 400;

/// The value, if it depends on constants and known sizes alone. What is found becomes a constant of the graph.
pub(crate) fn known_value(cx: &mut Cx, v: ValueId) -> Option<Tensor> {
    compute(cx, v, 0)
}

fn compute(cx: &mut Cx, v: ValueId, depth: usize) -> Option<Tensor> {
    let value = &cx.b.graph[v];
    if let Some(t) = &value.constant {
        return Some(t.clone());
    }
    if let (Some(c), Some(dtype)) = (value.contents.as_ref(), value.ty.dtype()) {
        if let Some(ints) = c.as_consts() {
            let shape: &[usize] = if c.scalar { &[] } else { &[ints.len()] };
            return Tensor::from_i64(dtype, shape, &ints).ok();
        }
    }
    let elements: usize = value.ty.as_tensor()?.static_shape()?.iter().product();
    let (id, _) = value.producer()?;
    if depth > MAX_DEPTH || elements > MAX_ELEMENTS {
        return None;
    }
    let node = &cx.b.graph[id];
    if oxrt_ops::registry::find(&node.op).is_none_or(|op| op.random) || node.subgraphs().next().is_some() {
        return None;
    }
    let mut inputs = Vec::new();
    for input in node.inputs().to_vec() {
        inputs.push(match input {
            Some(i) => Some(Datum::Tensor(compute(cx, i, depth + 1)?)),
            None => None,
        });
    }
    let results = eval_node(&cx.b.graph[id], &inputs, &|_| None).ok()?;
    if !results.iter().all(|d| matches!(d, Datum::Tensor(_))) {
        return None;
    }
    let outputs = cx.b.graph[id].outputs().to_vec();
    cx.b.graph.remove_node(id);
    for (out, datum) in outputs.into_iter().zip(results) {
        if let (Some(out), Datum::Tensor(t)) = (out, datum) {
            cx.b.graph.set_constant(out, t);
        }
    }
    cx.b.graph.constant(v).cloned()
}
