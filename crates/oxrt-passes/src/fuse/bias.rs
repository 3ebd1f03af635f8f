//! Adding a constant row to a fused product or convolution is its bias.

use crate::driver::{Rewrite, Rule};
use crate::query::{only_user, pair, varies_along};
use oxrt_ir::{Graph, NodeId, ValueId};
use oxrt_tensor::{DType, Result, Tensor};

pub(crate) const RULE: Rule = Rule { name: "fuse-bias", ops: &["Add"], apply };

fn apply(rw: &mut Rewrite, id: NodeId) -> Result<bool> {
    let g = &mut rw.model.graph;
    let (Some((a, b)), Some(y)) = (pair(g, id), g[id].output(0)) else { return Ok(false) };
    let (x, c) = if g[b].is_constant() { (a, b) } else { (b, a) };
    let Some(target) = fused_producer(g, x, id) else { return Ok(false) };
    let Some(dims) = g.dims(x) else { return Ok(false) };
    let (rank, Some(n)) = (dims.len(), dims.last().and_then(|d| d.as_size())) else { return Ok(false) };
    let small = |t: &&Tensor| matches!(t.dtype(), DType::F32 | DType::F16 | DType::BF16);
    let Some(t) = g.constant(c).filter(small) else { return Ok(false) };
    let t = oxrt_ops::cast::cast(t, DType::F32, &Default::default())?;
    let t = &t;
    if !varies_along(t, rank - 1, rank) || t.len() != n && t.len() != 1 || g.dims(y) != g.dims(x) {
        return Ok(false);
    }
    let added = t.as_slice::<f32>();
    let old = match g[target].input(2) {
        None => vec![0.0; n],
        Some(old) => match g.constant(old) {
            Some(t) => t.as_slice::<f32>().to_vec(),
            None => return Ok(false),
        },
    };
    let sum: Vec<f32> = (0..n).map(|i| old[i] + added[if added.len() == 1 { 0 } else { i }]).collect();
    let name = g.unused_value_name(&format!("{}_bias", g[target].name));
    let bias = g.add_constant(&name, Tensor::from_slice(&[n], &sum));
    g.set_input(target, 2, Some(bias));
    g.remove_node(id);
    g.replace_value(y, x);
    Ok(true)
}

/// The fused convolution or product that makes `v` for `reader` alone, without an activation yet.
pub(super) fn fused_producer(g: &Graph, v: ValueId, reader: NodeId) -> Option<NodeId> {
    let (id, 0) = g[v].producer()? else { return None };
    let node = &g[id];
    let fused = matches!(&*node.op, "oxrt.Conv" | "oxrt.ConvTranspose" | "oxrt.Gemm");
    let free = node.attrs.string_or("activation", "none").ok()? == "none";
    (fused && free && only_user(g, v) == Some(reader)).then_some(id)
}
