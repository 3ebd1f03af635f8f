//! Questions that rules ask of a graph.

use oxrt_ir::{Graph, NodeId, Tensor, ValueId};

/// The value of a constant with one element.
pub(crate) fn scalar(g: &Graph, v: ValueId) -> Option<f64> {
    let t = g.constant(v)?;
    (t.len() == 1).then(|| t.to_f64_vec().ok().map(|x| x[0])).flatten()
}

/// Whether input `i` of the node is a constant of one element close to `x`.
pub(crate) fn is_scalar(g: &Graph, v: ValueId, x: f64) -> bool {
    scalar(g, v).is_some_and(|c| (c - x).abs() <= 1e-6 * x.abs().max(1e-30))
}

/// Whether every element of a constant is exactly `x`: biases of zeros, scales of ones.
pub(crate) fn is_filled(g: &Graph, v: ValueId, x: f64) -> bool {
    let Some(t) = g.constant(v).filter(|t| !t.is_empty() && t.strings().is_none()) else { return false };
    let (size, bytes) = (t.dtype().bytes_for(1), t.bytes());
    if t.dtype().bytes_for(2) != 2 * size {
        return t.to_f64_vec().is_ok_and(|values| values.iter().all(|&value| value == x));
    }
    // Weights differ within their first elements, so that large ones cost nothing.
    let alike = bytes.chunks_exact(size).all(|element| element == &bytes[..size]);
    alike && Tensor::from_bytes(t.dtype(), &[1], &bytes[..size]).and_then(|t| t.to_f64_vec()).is_ok_and(|v| v == [x])
}

/// The node that makes `v`, when it is an `op`.
pub(crate) fn made_by(g: &Graph, v: ValueId, op: &str) -> Option<NodeId> {
    let (id, index) = g[v].producer()?;
    (index == 0 && &*g[id].op == op).then_some(id)
}

/// The one node that reads `v`; `None` when there are more, none, or `v` is a graph output.
pub(crate) fn only_user(g: &Graph, v: ValueId) -> Option<NodeId> {
    match g[v].users() {
        [one] if !g.is_output(v) => Some(*one),
        _ => None,
    }
}

/// Inputs 0 and 1 of a node with exactly these two.
pub(crate) fn pair(g: &Graph, id: NodeId) -> Option<(ValueId, ValueId)> {
    match g[id].inputs() {
        [Some(a), Some(b)] => Some((*a, *b)),
        _ => None,
    }
}

/// For a commutative node: (constant scalar, other operand).
pub(crate) fn with_scalar(g: &Graph, id: NodeId) -> Option<(f64, ValueId)> {
    let (a, b) = pair(g, id)?;
    match (scalar(g, a), scalar(g, b)) {
        (_, Some(c)) => Some((c, a)),
        (Some(c), None) => Some((c, b)),
        (None, None) => None,
    }
}

/// Permutation of a `Transpose`.
pub(crate) fn perm_of(g: &Graph, id: NodeId) -> Option<Vec<usize>> {
    let node = &g[id];
    if &*node.op != "Transpose" {
        return None;
    }
    let rank = g.dims(node.input(0)?)?.len();
    match node.attrs.ints("perm").ok()? {
        Some(p) => p.iter().map(|&x| usize::try_from(x).ok()).collect(),
        None => Some((0..rank).rev().collect()),
    }
}

/// Whether both values have the same known dimensions.
pub(crate) fn same_dims(g: &Graph, a: ValueId, b: ValueId) -> bool {
    matches!((g.dims(a), g.dims(b)), (Some(x), Some(y)) if x == y)
}

/// Whether a constant varies along axis `axis` of a result of rank `rank` alone (or not at all).
pub(crate) fn varies_along(t: &Tensor, axis: usize, rank: usize) -> bool {
    let lead = rank.checked_sub(t.rank());
    lead.is_some_and(|lead| t.shape().iter().enumerate().all(|(i, &d)| d == 1 || i + lead == axis))
}
