//! Shapes the graph for execution: what follows from sizes alone is taken out of it.

use oxrt_ir::{Graph, Model, NodeId, Symbol, ValueId};
use std::collections::BTreeSet;

/// Cuts values with known contents (shapes, indices computed from sizes) from the nodes that compute
/// them: the runtime evaluates their expressions when sizes are bound. What follows from sizes that depend on
/// data (`item`, `nonzero`, `floor(h * 1.3)`) is computed by its nodes.
pub(crate) fn detach_sizes(model: &mut Model) {
    let g = &mut model.graph;
    let mut known = BTreeSet::new();
    for &v in &g.inputs {
        g[v].ty.for_each_symbol(&mut |s| {
            known.insert(s.clone());
        });
    }
    for v in g.value_ids() {
        let value = &g[v];
        let computed = value.producer().is_some() && !value.is_constant() && !g.outputs.contains(&v);
        let Some(contents) = value.contents.clone().filter(|_| computed) else { continue };
        let mut evaluable = !value.users().is_empty();
        contents.elements.iter().for_each(|d| d.for_each_symbol(&mut |s| evaluable &= known.contains(s)));
        if !evaluable {
            continue;
        }
        let name = g.unused_value_name(&format!("{}_sizes", value.name));
        let ty = value.ty.clone();
        let detached = g.add_value(&name, ty);
        match contents.to_tensor(g[v].ty.dtype().unwrap_or(oxrt_ir::DType::I64)) {
            Some(t) => g.set_constant(detached, t),
            None => g[detached].contents = Some(contents),
        }
        g.replace_uses(v, detached);
    }
}

/// Symbols that a run learns from the shapes of these values, or from their elements.
pub(crate) fn symbols_of(g: &Graph, values: &[ValueId]) -> BTreeSet<Symbol> {
    let mut out = BTreeSet::new();
    for &v in values {
        g[v].ty.for_each_symbol(&mut |s| {
            out.insert(s.clone());
        });
        let elements = g[v].contents.iter().flat_map(|c| &c.elements);
        out.extend(elements.filter_map(|d| d.as_symbol().cloned()));
    }
    out
}

/// Whether output 0 of the node is input 0 under another shape, so that nothing needs to run.
pub(crate) fn is_alias(g: &Graph, id: NodeId) -> bool {
    let node = &g[id];
    let (Some(x), Some(y)) = (node.input(0), node.output(0)) else { return false };
    let only_output = node.outputs().iter().flatten().count() == 1;
    // Memory of constants is shared too, but strings have none.
    let plain = g[x].ty.dtype().is_some_and(|d| d != oxrt_ir::DType::String) && g[x].ty.dtype() == g[y].ty.dtype();
    let moves_nothing = match &*node.op {
        "Reshape" | "Squeeze" | "Unsqueeze" | "Flatten" | "Identity" => true,
        // Inference: dropout passes its input through.
        "Dropout" => node.input(2).is_none(),
        "Cast" => true,
        "Transpose" => transposes_only_ones(g, id),
        _ => false,
    };
    plain && only_output && moves_nothing
}

/// A transposition that keeps the order of all axes longer than 1 leaves memory as it is.
fn transposes_only_ones(g: &Graph, id: NodeId) -> bool {
    let Some(dims) = g[id].input(0).and_then(|x| g.dims(x)) else { return false };
    let Ok(Some(perm)) = g[id].attrs.ints("perm") else { return false };
    let long: Vec<i64> = perm.iter().copied().filter(|&p| dims.get(p as usize).is_some_and(|d| !d.is(1))).collect();
    long.is_sorted()
}
