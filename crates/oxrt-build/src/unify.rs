//! Sizes that depend on data and have two names: exporters give each result a name of its own, also where it is as long as what it
//! was made from. A step whose results are sized by a name that nothing has told runs by the evaluator, so each such name is
//! replaced by what inference says from the node's inputs.

use oxrt_ir::{Dim, Graph, Model, NodeId, Symbol, ValueId, ValueType};
use oxrt_tensor::Result;
use std::collections::BTreeSet;

/// Replaces names of sizes that follow from sizes which are known when a node is reached.
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
