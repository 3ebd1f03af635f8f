//! Two masks that are added one after the other, the second per window of a batch of windows, become one.
//!
//! ```text
//! Add(Reshape(Add(scores, per head)), per window)  →  Reshape(Add(scores, per window and head))
//! ```
//!
//! Shifted windows (Swin) write it so; attention takes one mask.

use crate::driver::{Rewrite, Rule};
use crate::query::{made_by, only_user, pair};
use oxrt_ir::{DType, Graph, NodeId, Tensor, ValueId};
use oxrt_tensor::Result;

pub(crate) const RULE: Rule = Rule { name: "fuse-window-mask", ops: &["Add"], apply: fuse };

/// Most elements of the mask that is made.
const MOST: usize = 1 << 22;

fn fuse(rw: &mut Rewrite, id: NodeId) -> Result<bool> {
    let g = &rw.model.graph;
    let Some((scores, mask, mid)) = find(g, id) else { return Ok(false) };
    let Some(y) = g[id].output(0) else { return Ok(false) };
    let dims = g.dims(mid).unwrap_or_default().to_vec();
    let mut b = rw.builder(id);
    let mask = b.constant(mask);
    let sum = b.call("Add", &[scores, mask])?;
    let out = b.reshape(sum, &dims)?;
    rw.model.graph.remove_node(id);
    rw.model.graph.replace_value(y, out);
    Ok(true)
}

/// Scores, the joined mask in their shape, and the reshaped sum of the first addition.
fn find(g: &Graph, id: NodeId) -> Option<(ValueId, Tensor, ValueId)> {
    let (mid, second) = with_constant(g, id)?;
    let reshape = made_by(g, mid, "Reshape").filter(|_| only_user(g, mid).is_some())?;
    let inner = g[reshape].input(0)?;
    let first_add = made_by(g, inner, "Add").filter(|_| only_user(g, inner).is_some())?;
    let (scores, first) = with_constant(g, first_add)?;
    made_by(g, scores, "MatMul")?;
    let shape = |v: ValueId| g[v].ty.as_tensor()?.static_shape();
    let (before, after) = (shape(scores)?, shape(mid)?);
    let fits = shape(inner)? == before && shape(g[id].output(0)?)? == after;
    let count: usize = before.iter().product();
    if !fits || before.len() != 4 || count > MOST {
        return None;
    }
    let (first, second) = (expanded(g.constant(first)?, &before)?, expanded(g.constant(second)?, &after)?);
    let sum: Vec<f32> = first.iter().zip(&second).map(|(a, b)| a + b).collect();
    Some((scores, Tensor::from_slice(&before, &sum), mid))
}

/// The operand that is computed and the one that is constant and more than one number.
fn with_constant(g: &Graph, id: NodeId) -> Option<(ValueId, ValueId)> {
    let (a, b) = pair(g, id)?;
    let mask = |v: ValueId| g.constant(v).is_some_and(|t| t.len() > 1);
    match (mask(a), mask(b)) {
        (false, true) => Some((a, b)),
        (true, false) => Some((b, a)),
        _ => None,
    }
}

/// The elements of a tensor of floats broadcast to `shape`.
fn expanded(t: &Tensor, shape: &[usize]) -> Option<Vec<f32>> {
    let values = (t.dtype() == DType::F32).then(|| t.to_f32_cow().ok())??;
    let lead = shape.len().checked_sub(t.rank())?;
    let mut steps = vec![0; shape.len()];
    let mut step = 1;
    for (d, &n) in t.shape().iter().enumerate().rev() {
        if n != 1 {
            if n != shape[lead + d] {
                return None;
            }
            steps[lead + d] = step;
        }
        step *= n;
    }
    let place = |mut i: usize| -> usize {
        let mut at = 0;
        for d in (0..shape.len()).rev() {
            at += i % shape[d] * steps[d];
            i /= shape[d];
        }
        at
    };
    (0..shape.iter().product()).map(|i| values.get(place(i)).copied()).collect()
}
