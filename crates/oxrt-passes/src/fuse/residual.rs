//! Adding another tensor of the same shape to a fused product or convolution happens in its registers.

use super::bias::fused_producer;
use crate::driver::{Rewrite, Rule};
use crate::query::{made_by, only_user, pair, same_dims};
use oxrt_ir::{DType, NodeId};
use oxrt_tensor::Result;

pub(crate) const RULE: Rule = Rule { name: "fuse-residual", ops: &["Add"], apply };

fn apply(rw: &mut Rewrite, id: NodeId) -> Result<bool> {
    let g = &rw.model.graph;
    let (Some((a, b)), Some(y)) = (pair(g, id), g[id].output(0)) else { return Ok(false) };
    let small = matches!(g[a].ty.dtype(), Some(DType::F32 | DType::F16 | DType::BF16));
    if !same_dims(g, a, b) || !small || a == b {
        return Ok(false);
    }
    // The product may stand behind a Reshape, which costs nothing: the other operand is reshaped instead.
    let found = [(b, a), (a, b)].into_iter().find_map(|(x, other)| {
        if g[other].is_constant() {
            return None;
        }
        if let Some(t) = fused_producer(g, x, id).filter(|&t| g[t].input(3).is_none()) {
            return Some((t, x, other, None));
        }
        let reshape = made_by(g, x, "Reshape").filter(|_| only_user(g, x) == Some(id))?;
        let inner = g[reshape].input(0)?;
        let t = fused_producer(g, inner, reshape).filter(|&t| g[t].input(3).is_none())?;
        Some((t, x, other, Some(inner)))
    });
    let Some((target, x, other, behind)) = found else { return Ok(false) };
    let residual = match behind {
        None => other,
        Some(inner) => {
            let Some(dims) = g.dims(inner).map(<[_]>::to_vec) else { return Ok(false) };
            // Only shapes that a Reshape can state without arithmetic.
            if dims.iter().filter(|d| d.as_const().is_none()).count() > 1 {
                return Ok(false);
            }
            rw.builder(id).reshape(other, &dims)?
        }
    };
    let g = &mut rw.model.graph;
    g.set_input(target, 3, Some(residual));
    g.remove_node(id);
    g.replace_value(y, x);
    Ok(true)
}
