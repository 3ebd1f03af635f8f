//! Sizes that depend on data, where nothing tells them before they are needed: a step whose results have such a size runs by the
//! evaluator.
//!
//! Numbers that the data decides and a node takes for sizes (`Range`, `Expand`, …) get names, which a run learns when they are computed. And exporters
//! name the size of each result anew, also where it is as long as what it was made from: such a name is replaced by what inference says from
//! the node's inputs.

use oxrt_ir::{Contents, DType, Dim, Graph, Model, NodeId, Symbol, ValueId, ValueType};
use oxrt_tensor::Result;
use std::collections::BTreeSet;

/// Names sizes that are computed from data, and replaces names that follow from sizes which are known when a node is reached.
///
/// # Errors
/// When inference refuses the model with the names that are left.
pub fn unify(model: &mut Model) -> Result<()> {
    let mut known = BTreeSet::new();
    for &v in &model.graph.inputs {
        model.graph[v].ty.for_each_symbol(&mut |s| {
            known.insert(s.clone());
        });
        learn(&model.graph, v, &mut known);
    }
    for id in model.graph.node_ids() {
        let outputs: Vec<ValueId> = model.graph[id].outputs().iter().flatten().copied().collect();
        let open = |v: &ValueId| model.graph[*v].ty.dims().unwrap_or_default().iter().any(|d| is_open(d, &known));
        if outputs.iter().any(open) {
            for v in sizes_taken(&model.graph, id) {
                name_elements(model, v, &mut known, 8);
            }
            let told = told(model, id, &outputs, &known);
            if !told.is_empty() {
                let size_of = |s: &Symbol| told.iter().find(|(name, _)| name == s).map(|(_, size)| size.clone());
                oxrt_passes::substitute_symbols(model, &size_of)?;
            }
        }
        outputs.iter().for_each(|&v| learn(&model.graph, v, &mut known));
    }
    Ok(())
}

/// Inputs of a node that are sizes of its results.
fn sizes_taken(g: &Graph, id: NodeId) -> Vec<ValueId> {
    let node = &g[id];
    let places: &[usize] = match &*node.op {
        "Range" => &[0, 1],
        "ConstantOfShape" => &[0],
        "Slice" => &[1, 2],
        "Expand" | "Reshape" | "Tile" | "Pad" | "TopK" => &[1],
        "Resize" | "oxrt.Resize" => &[3],
        _ => &[],
    };
    places.iter().filter_map(|&i| node.input(i)).collect()
}

/// Gives the elements of a small integer tensor names, as far back as they are computed one by one, so that known ones among them
/// stay known.
fn name_elements(model: &mut Model, v: ValueId, known: &mut BTreeSet<Symbol>, depth: usize) {
    let g = &model.graph;
    let count = g[v].ty.as_tensor().filter(|t| t.dtype == DType::I64 && t.dims.as_ref().is_some_and(|d| d.len() <= 1));
    let count = count.and_then(|t| t.dims.as_deref()?.iter().try_fold(1, |n, d| Some(n * d.as_size()?)));
    let Some(count) = count.filter(|&n| n <= 64) else { return };
    // What is given to the model is not computed, and a run learns only what is.
    let Some((maker, _)) = g[v].producer().filter(|_| g[v].contents.is_none() && !g[v].is_constant()) else { return };
    let passes_on = matches!(&*g[maker].op, "Concat" | "Unsqueeze" | "Squeeze" | "Reshape" | "Identity");
    let first = if &*g[maker].op == "Concat" { g[maker].inputs().len() } else { 1 };
    let parts: Vec<ValueId> = g[maker].inputs().iter().take(first).flatten().copied().collect();
    let whole = parts.iter().all(|&p| g[p].ty.dtype() == Some(DType::I64));
    if passes_on && whole && depth > 0 {
        parts.into_iter().for_each(|p| name_elements(model, p, known, depth - 1));
        // Inference puts them together; a node that it refuses says nothing.
        let _ = oxrt_ops::infer::infer_node(&mut model.graph, &mut model.symbols, maker);
        if model.graph[v].contents.is_some() {
            return;
        }
    }
    let names: Vec<Symbol> = (0..count).map(|_| model.symbols.fresh()).collect();
    known.extend(names.iter().cloned());
    let scalar = model.graph[v].ty.dims().is_some_and(<[Dim]>::is_empty);
    model.graph[v].contents = Some(Contents { scalar, elements: names.into_iter().map(Dim::from).collect() });
}

/// Whether a dimension is a name that nothing has told.
fn is_open(d: &Dim, known: &BTreeSet<Symbol>) -> bool {
    d.as_symbol().is_some_and(|s| !known.contains(s))
}

/// Open names of a node's results, and what inference says in their place from known sizes.
fn told(model: &mut Model, id: NodeId, outputs: &[ValueId], known: &BTreeSet<Symbol>) -> Vec<(Symbol, Dim)> {
    let stated: Vec<_> =
        outputs.iter().map(|&v| (model.graph[v].ty.clone(), model.graph[v].contents.clone())).collect();
    for &v in outputs {
        model.graph[v].ty = ValueType::Unknown;
    }
    let inferred = oxrt_ops::infer::infer_node(&mut model.graph, &mut model.symbols, id);
    let mut found: Vec<(Symbol, Dim)> = Vec::new();
    for (&v, (ty, contents)) in outputs.iter().zip(stated) {
        let new = std::mem::replace(&mut model.graph[v].ty, ty);
        model.graph[v].contents = contents;
        let pairs = model.graph[v].ty.dims().unwrap_or_default().iter().zip(new.dims().unwrap_or_default());
        for (old, new) in pairs.filter(|(old, _)| is_open(old, known)) {
            let mut follows = true;
            new.for_each_symbol(&mut |s| follows &= known.contains(s));
            if let Some(name) = old.as_symbol().filter(|s| follows && found.iter().all(|(f, _)| f != *s)) {
                found.push((name.clone(), new.clone()));
            }
        }
    }
    // What a node that inference refuses says is not to be trusted.
    inferred.map_or(Vec::new(), |()| found)
}

/// What a run learns from a value when it is there.
fn learn(g: &Graph, v: ValueId, known: &mut BTreeSet<Symbol>) {
    for d in g[v].ty.dims().unwrap_or_default() {
        if let Some((symbol, _)) = d.solve(None, &|s| known.contains(s).then_some(1)) {
            known.insert(symbol);
        }
    }
    known.extend(g[v].contents.iter().flat_map(|c| &c.elements).filter_map(|d| d.as_symbol().cloned()));
}
