//! softmax(scale · Q Kᵀ + mask) V becomes one operator, which never holds the score matrix.

use crate::driver::{Rewrite, Rule};
use crate::query::{is_scalar, made_by, only_user, pair, scalar, with_scalar};
use oxrt_ir::{Attrs, DType, Graph, NodeId, ValueId};
use oxrt_tensor::Result;

pub(crate) const RULE: Rule = Rule { name: "fuse-attention", ops: &["MatMul"], apply: fuse };

struct Found {
    q: ValueId,
    k_turned: ValueId,
    mask: Option<ValueId>,
    scale: f64,
}

fn fuse(rw: &mut Rewrite, id: NodeId) -> Result<bool> {
    let g = &rw.model.graph;
    let (Some((probabilities, v)), Some(y)) = (pair(g, id), g[id].output(0)) else { return Ok(false) };
    if oxrt_ops::registry::find("oxrt.Attention").is_none() {
        return Ok(false);
    }
    let Some(found) = find(g, probabilities, v) else { return Ok(false) };
    let mut b = rw.builder(id);
    let k = b.transpose(found.k_turned, &[0, 1, 3, 2])?;
    let attrs = Attrs::new().with("layout", "bhsd").with("scale", found.scale as f32);
    let inputs: Vec<Option<ValueId>> =
        [Some(found.q), Some(k), Some(v)].into_iter().chain(found.mask.map(Some)).collect();
    let new = b.op_multi("oxrt.Attention", &inputs, attrs, 1)?[0];
    rw.model.graph.remove_node(id);
    rw.model.graph.replace_value(y, new);
    Ok(true)
}

fn find(g: &Graph, probabilities: ValueId, v: ValueId) -> Option<Found> {
    let dtype = g[v].ty.dtype().filter(|d| matches!(d, DType::F32 | DType::F16 | DType::BF16))?;
    let rank4 = |x: ValueId| g.dims(x).is_some_and(|d| d.len() == 4) && g[x].ty.dtype() == Some(dtype);
    let (softmax, guarded) = softmax_behind_guard(g, probabilities)?;
    let axis = g[softmax].attrs.int_or("axis", -1).ok()?;
    if axis != -1 && axis != 3 {
        return None;
    }
    let mut scores = g[softmax].input(0)?;
    only_user(g, scores)?;
    let mut mask = None;
    if let Some(add) = made_by(g, scores, "Add") {
        let (a, b) = pair(g, add)?;
        let is_product = |x: ValueId| scaled_product(g, x).is_some();
        let (s, m) = if is_product(a) { (a, b) } else { (b, a) };
        let rank = g.dims(m)?.len();
        // The mask is read per (query, key): it must not have more axes than the scores.
        if g[m].ty.dtype() != Some(dtype) || rank > 4 {
            return None;
        }
        (scores, mask) = (s, Some(m));
        only_user(g, scores)?;
    }
    if guarded.is_some() && guarded != mask {
        return None;
    }
    let (product, mut scale) = scaled_product(g, scores)?;
    let (q, k_turned) = pair(g, product)?;
    let (q, cq) = unscaled(g, q);
    let (k_turned, ck) = unscaled(g, k_turned);
    scale *= cq * ck;
    let shapes_fit = rank4(q) && rank4(k_turned) && rank4(v) && {
        let (dq, dk, dv) = (g.dims(q)?, g.dims(k_turned)?, g.dims(v)?);
        // Broadcasting of batches or heads inside MatMul is left alone.
        dq[..2] == dk[..2] && dq[..2] == dv[..2] && dk[3] == dv[2] && !g[v].is_constant()
    };
    shapes_fit.then_some(Found { q, k_turned, mask, scale })
}

/// The Softmax behind `v`, through what exporters guard rows with that are masked whole:
/// `Where(IsNaN(s), 0, s)`, or `Where(ReduceMax(mask) > -inf, s, 0)`, of which the mask is given too.
fn softmax_behind_guard(g: &Graph, v: ValueId) -> Option<(NodeId, Option<ValueId>)> {
    if let Some(s) = made_by(g, v, "Softmax") {
        return only_user(g, v).map(|_| (s, None));
    }
    let guard = made_by(g, v, "Where")?;
    let [Some(test), Some(a), Some(b)] = *g[guard].inputs() else { return None };
    if let Some(nan) = made_by(g, test, "IsNaN") {
        let fits = g[nan].input(0) == Some(b) && is_scalar(g, a, 0.0) && g[b].users().len() == 2;
        return fits.then(|| made_by(g, b, "Softmax")).flatten().map(|s| (s, None));
    }
    // `Where(ReduceMax(mask) == -inf, 0, s)` says the same the other way round.
    let (compare, a, b) = match made_by(g, test, "Greater") {
        Some(c) => (c, a, b),
        None => (made_by(g, test, "Equal")?, b, a),
    };
    let (top, lowest) = pair(g, compare)?;
    let reduce = made_by(g, top, "ReduceMax")?;
    let mask = g[reduce].input(0)?;
    let last_axis = g.constant(g[reduce].input(1)?)?.to_i64_vec().ok()?;
    let rank = g.dims(mask)?.len() as i64;
    let fits = scalar(g, lowest) == Some(f64::NEG_INFINITY)
        && is_scalar(g, b, 0.0)
        && (last_axis == [-1] || last_axis == [rank - 1])
        && g[reduce].attrs.int_or("keepdims", 1).ok()? == 1
        && only_user(g, a).is_some();
    fits.then(|| made_by(g, a, "Softmax")).flatten().map(|s| (s, Some(mask)))
}

/// (MatMul, factor) of a product that is multiplied or divided by a scalar, or not.
fn scaled_product(g: &Graph, v: ValueId) -> Option<(NodeId, f64)> {
    if let Some(m) = made_by(g, v, "MatMul") {
        return Some((m, 1.0));
    }
    let (x, c) = unscaled(g, v);
    (x != v && only_user(g, x).is_some()).then(|| made_by(g, x, "MatMul").map(|m| (m, c))).flatten()
}

/// The value before a multiplication or division by a scalar, and the factor.
fn unscaled(g: &Graph, v: ValueId) -> (ValueId, f64) {
    if let Some((c, x)) = made_by(g, v, "Mul").and_then(|m| with_scalar(g, m)) {
        return (x, c);
    }
    if let Some((x, c)) = made_by(g, v, "Div").and_then(|d| pair(g, d))
        && let Some(c) = scalar(g, c).filter(|&c| c != 0.0)
    {
        return (x, 1.0 / c);
    }
    (v, 1.0)
}
