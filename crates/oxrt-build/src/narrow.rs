//! Tensors between steps in half the bytes, where the build allows it and no step has to convert for it.

use oxrt_backend::{Backend, NodeView};
use oxrt_ir::{DType, Graph, NodeId, ValueId, ValueType};
use std::collections::HashMap;

/// Gives every value the type `narrow` (bfloat16, half precision) whose maker and readers, by the kernels `chosen` or else preferred, take it as it comes
/// ([`Backend::mixes_floats`]). Inputs,
/// outputs and constants keep their types.
pub fn narrow(g: &mut Graph, narrow: DType, backend: &dyn Backend, chosen: &HashMap<NodeId, &'static str>) {
    let takes = |g: &Graph, id: NodeId| {
        let candidates = backend.candidates(NodeView::new(g, id));
        let name = chosen.get(&id).or(candidates.first());
        name.is_some_and(|name| backend.mixes_floats(name) && candidates.contains(name))
    };
    for v in g.value_ids() {
        let Some(maker) = g[v].producer().map(|(node, _)| node) else { continue };
        let is_f32 = g[v].ty.dtype() == Some(DType::F32);
        if !is_f32 || g.outputs.contains(&v) || g[v].is_constant() {
            continue;
        }
        let readers: Vec<NodeId> = g[v].users().to_vec();
        if readers.is_empty() {
            continue;
        }
        set(g, v, narrow);
        if !takes(g, maker) || !readers.iter().all(|&id| takes(g, id)) {
            set(g, v, DType::F32);
        }
    }
}

fn set(g: &mut Graph, v: ValueId, dtype: DType) {
    if let ValueType::Tensor(ty) = &mut g[v].ty {
        ty.dtype = dtype;
    }
}
