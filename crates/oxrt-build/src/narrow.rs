//! Tensors between steps in half the bytes, where the build allows it and no step has to convert for it.

use oxrt_backend::{Backend, NodeView, WIDE};
use oxrt_ir::{Attrs, DType, Graph, NodeId, Tensor, ValueId, ValueType};
use oxrt_plan::choose::Chosen;
use oxrt_tensor::Result;
use std::collections::{BTreeSet, HashMap};

/// Gives every value the type `narrow` (bfloat16, half precision) whose maker and readers, by the kernels `chosen` or else
/// preferred, take it as it comes ([`Backend::mixes_floats`]). Inputs, outputs and constants keep their types.
///
/// All values are narrow to begin with; around a node that does not take its operands so they are widened again, until
/// every node takes what it gets. Operands that must have one type (of attention) so stay narrow together. Values of `wide` are
/// not narrow. A constant that is joined with narrow values is narrow too: the result would round it as well.
///
/// # Errors
/// A constant that cannot be converted.
pub fn narrow(
    g: &mut Graph,
    narrow: DType,
    backend: &dyn Backend,
    chosen: &HashMap<NodeId, Chosen>,
    wide: &BTreeSet<ValueId>,
) -> Result<()> {
    let mut narrowed: Vec<ValueId> = Vec::new();
    for v in g.value_ids() {
        let between = g[v].producer().is_some() && !g[v].users().is_empty() && !g.outputs.contains(&v);
        if between && g[v].ty.dtype() == Some(DType::F32) && !g[v].is_constant() && !wide.contains(&v) {
            set(g, v, narrow);
            narrowed.push(v);
        }
    }
    let joined = join_narrow(g, narrow)?;
    let takes = |g: &Graph, id: NodeId| {
        let candidates = backend.candidates(NodeView::new(g, id));
        let name = chosen.get(&id).map(|c| &c.usual).or(candidates.first());
        name.is_some_and(|name| backend.mixes_floats(name) && candidates.contains(name))
    };
    let mut pending: BTreeSet<NodeId> = narrowed.iter().flat_map(|&v| around(g, v)).collect();
    let narrowed: BTreeSet<ValueId> = narrowed.into_iter().collect();
    while let Some(id) = pending.pop_first() {
        if takes(g, id) {
            continue;
        }
        // What bodies of control flow read counts as well.
        let values: Vec<ValueId> = g.reads(id).into_iter().chain(g[id].outputs().iter().flatten().copied()).collect();
        for v in values {
            if narrowed.contains(&v) && g[v].ty.dtype() == Some(narrow) {
                set(g, v, DType::F32);
                pending.extend(around(g, v).filter(|&other| other != id));
            }
        }
    }
    for (id, i, constant) in joined {
        if g[id].output(0).is_some_and(|y| g[y].ty.dtype() != Some(narrow)) {
            g.set_input(id, i, Some(constant));
        }
    }
    Ok(())
}

/// Gives each `Concat` of a narrow result narrow constants; node, place and the constant that stood there.
fn join_narrow(g: &mut Graph, narrow: DType) -> Result<Vec<(NodeId, usize, ValueId)>> {
    let mut changed = Vec::new();
    for id in g.node_ids() {
        let result = g[id].output(0).and_then(|y| g[y].ty.dtype());
        if &*g[id].op != "Concat" || result != Some(narrow) {
            continue;
        }
        for (i, v) in g[id].inputs().to_vec().into_iter().enumerate() {
            let Some((v, t)) = v.and_then(|v| Some((v, g.constant(v)?))) else { continue };
            let t = oxrt_ops::cast::cast(t, narrow, &Attrs::new())?;
            let name = g.unused_value_name(&format!("{}/narrow", g[v].name));
            let to = g.add_constant(&name, t);
            g.set_input(id, i, Some(to));
            changed.push((id, i, v));
        }
    }
    Ok(changed)
}

/// The largest number of half precision.
pub const LARGEST_F16: f32 = 65504.0;

/// Products of values that half precision does not hold (`names`), or of weights of that kind, are marked: their kernels
/// multiply in single precision ([`WIDE`]). Returns the values.
pub fn widen(g: &mut Graph, names: &BTreeSet<String>) -> BTreeSet<ValueId> {
    let wide: BTreeSet<ValueId> = g.value_ids().filter(|&v| names.contains(&g[v].name)).collect();
    let too_large = |t: &Tensor| t.dtype() == DType::F32 && t.as_slice::<f32>().iter().any(|x| x.abs() > LARGEST_F16);
    for id in g.node_ids() {
        let product = matches!(&*g[id].op, "oxrt.Gemm" | "oxrt.Conv" | "MatMul" | "Gemm" | "Conv" | "ConvTranspose");
        // A bias and a residual are added in single precision anyway.
        let operands = || g[id].inputs().iter().take(2).flatten();
        if product && operands().any(|v| wide.contains(v) || g.constant(*v).is_some_and(too_large)) {
            g[id].attrs.set(WIDE, true);
        }
    }
    wide
}

/// The maker of a value and its readers.
fn around(g: &Graph, v: ValueId) -> impl Iterator<Item = NodeId> + use<> {
    let users: Vec<NodeId> = g[v].users().to_vec();
    g[v].producer().map(|(node, _)| node).into_iter().chain(users)
}

fn set(g: &mut Graph, v: ValueId, dtype: DType) {
    if let ValueType::Tensor(ty) = &mut g[v].ty {
        ty.dtype = dtype;
    }
}
