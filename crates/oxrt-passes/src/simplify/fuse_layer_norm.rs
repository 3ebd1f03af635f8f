//! (x - mean(x)) / √(mean((x - mean(x))²) + ε) · γ + β over the last axes is LayerNormalization
//! (Ba, Kiros & Hinton, 2016).

use crate::driver::{Rewrite, Rule};
use crate::query::{made_by, only_user, pair, scalar, with_scalar};
use oxrt_ir::{Attrs, Graph, NodeId, ValueId};
use oxrt_tensor::{DType, Result};

pub(crate) const RULE: Rule = Rule { name: "fuse-layer-norm", ops: &["Add"], apply };

fn apply(rw: &mut Rewrite, id: NodeId) -> Result<bool> {
    let Some(found) = find(&rw.model.graph, id) else { return Ok(false) };
    let Some(y) = rw.model.graph[id].output(0) else { return Ok(false) };
    let attrs = Attrs::new().with("axis", found.axis).with("epsilon", found.epsilon as f32);
    let new = rw.builder(id).op("LayerNormalization", &[found.x, found.gamma, found.beta], attrs)?;
    rw.model.graph.remove_node(id);
    rw.model.graph.replace_value(y, new);
    Ok(true)
}

struct Found {
    x: ValueId,
    gamma: ValueId,
    beta: ValueId,
    axis: i64,
    epsilon: f64,
}

fn find(g: &Graph, id: NodeId) -> Option<Found> {
    let (a, b) = pair(g, id)?;
    [(a, b), (b, a)].into_iter().find_map(|(scaled, beta)| {
        let (p, q) = pair(g, made_by(g, scaled, "Mul")?)?;
        [(p, q), (q, p)].into_iter().find_map(|(normal, gamma)| {
            let (x, axis, epsilon) = normalised(g, normal)?;
            let rank = g.dims(x)?.len();
            let fits = |v: ValueId| {
                let t = g.constant(v)?;
                let want = &g.dims(x)?[(rank as i64 + axis) as usize..];
                let same = t.rank() == want.len() && t.shape().iter().zip(want).all(|(&s, d)| d.as_size() == Some(s));
                (same && t.dtype() == DType::F32).then_some(())
            };
            fits(gamma)?;
            fits(beta)?;
            only_user(g, normal)?;
            Some(Found { x, gamma, beta, axis, epsilon })
        })
    })
}

/// (x, first normalised axis counted from the back, ε) of a normalised value.
fn normalised(g: &Graph, v: ValueId) -> Option<(ValueId, i64, f64)> {
    let (centred, root) = pair(g, made_by(g, v, "Div")?)?;
    let (x, mean) = pair(g, made_by(g, centred, "Sub")?)?;
    let (mean_of, axes) = reduce_mean(g, mean)?;
    if mean_of != x {
        return None;
    }
    let (eps, var) = with_scalar(g, made_by(g, g[made_by(g, root, "Sqrt")?].input(0)?, "Add")?)?;
    let (square, var_axes) = reduce_mean(g, var)?;
    let squares_centred = |v: ValueId| -> Option<bool> {
        if let Some(p) = made_by(g, v, "Pow") {
            let (base, e) = pair(g, p)?;
            return Some(scalar(g, e) == Some(2.0) && same_centred(g, base, centred));
        }
        let (a, b) = pair(g, made_by(g, v, "Mul")?)?;
        Some(a == b && same_centred(g, a, centred))
    };
    let rank = g.dims(x)?.len() as i64;
    let mut list: Vec<i64> = axes.iter().map(|&a| if a < 0 { a } else { a - rank }).collect();
    list.sort_unstable();
    let trailing = list.iter().rev().enumerate().all(|(i, &a)| a == -1 - i as i64);
    (axes == var_axes && trailing && squares_centred(square)?).then_some((x, *list.first()?, eps))
}

/// The same subtraction, or a copy of it.
fn same_centred(g: &Graph, a: ValueId, b: ValueId) -> bool {
    let of = |v: ValueId| made_by(g, v, "Sub").and_then(|n| pair(g, n));
    a == b || of(a).is_some() && of(a) == of(b)
}

fn reduce_mean(g: &Graph, v: ValueId) -> Option<(ValueId, Vec<i64>)> {
    let node = &g[made_by(g, v, "ReduceMean")?];
    if !node.attrs.bool_or("keepdims", true).ok()? {
        return None;
    }
    Some((node.input(0)?, g.constant(node.input(1)?)?.to_i64_vec().ok()?))
}
