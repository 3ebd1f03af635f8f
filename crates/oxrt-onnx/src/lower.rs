//! Says the graph in an older opset: operators that came later are expanded, inputs become attributes again.

mod expand;
mod forms;
mod oldest;
mod types;

use expand::EXPANSIONS;
use oxrt_ir::{Attr, DType, Graph, Model, NodeId, Symbols, ValueId};
use oxrt_ops::{Builder, registry};
use oxrt_tensor::{Error, Result};

/// Oldest opset that is written.
pub(crate) const OLDEST_OPSET: i64 = 1;

/// Lowest opset that has every operator of the graph in the form that the graph uses.
pub(crate) fn needed_opset(graph: &Graph) -> i64 {
    let of_node = |id: NodeId| {
        let node = &graph[id];
        let own = match &*node.op {
            // Per-channel scale and bias came with 21.
            "GroupNormalization" => 21,
            // The newest words for the modes, and volumes.
            "GridSample" => 20,
            "Pad" if node.attrs.string_or("mode", "constant").is_ok_and(|m| m == "wrap") => 19,
            op if op.contains('.') => 1,
            op => registry::find(op).and_then(|o| o.versions.first().copied()).unwrap_or(1),
        };
        let narrow = node_dtypes(graph, id).map(dtype_opset).max();
        own.max(narrow.unwrap_or(1)).max(node.subgraphs().map(|(_, g)| needed_opset(g)).max().unwrap_or(1))
    };
    graph.node_ids().into_iter().map(of_node).max().unwrap_or(1)
}

fn node_dtypes(graph: &Graph, id: NodeId) -> impl Iterator<Item = DType> + '_ {
    let node = &graph[id];
    node.inputs().iter().chain(node.outputs()).flatten().filter_map(|&v| graph[v].ty.dtype())
}

/// Opset in which an element type appeared.
fn dtype_opset(d: DType) -> i64 {
    match d {
        DType::F8E4M3FN | DType::F8E4M3FNUZ | DType::F8E5M2 | DType::F8E5M2FNUZ => 19,
        DType::I4 | DType::U4 => 21,
        DType::F4E2M1 => 23,
        DType::F8E8M0 => 24,
        DType::I2 | DType::U2 => 25,
        DType::BF16 => 13,
        _ => 1,
    }
}

/// Rewrites the model for `opset`.
///
/// # Errors
/// Names the first node that cannot be said, with its Python line where known.
pub(crate) fn lower(model: &mut Model, opset: i64) -> Result<()> {
    lower_graph(&mut model.graph, &mut model.symbols, opset)?;
    model.graph.sort()
}

fn lower_graph(graph: &mut Graph, symbols: &mut Symbols, opset: i64) -> Result<()> {
    // What an expansion adds may need one itself.
    let mut todo = graph.node_ids();
    while let Some(id) = todo.pop() {
        let op = graph[id].op.clone();
        if let Some((_, _, expand)) = EXPANSIONS.iter().find(|(name, since, _)| *name == &*op && opset < *since)
            && forms::needs_expansion(graph, id)
        {
            let first_new = graph.num_nodes();
            expand_node(graph, symbols, id, *expand, opset)?;
            // The node that was replaced is gone from the order.
            let new: Vec<NodeId> = graph.node_ids().split_off(first_new - 1);
            todo.extend(new.into_iter().filter(|n| graph[*n].op != op));
            let same: Vec<NodeId> =
                graph.node_ids().split_off(first_new - 1).into_iter().filter(|n| graph[*n].op == op).collect();
            same.into_iter().try_for_each(|n| forms::adjust(graph, n, opset))?;
            continue;
        }
        let exists = registry::find(&op).and_then(|o| o.versions.first().copied()).unwrap_or(1);
        // They had other names.
        let renamed = &*op == "ScatterElements" && opset >= 9 || &*op == "Resize";
        if !op.contains('.') && exists > opset && !renamed {
            return Err(in_the_way(graph, id, exists, format!("{op} does not exist in opset {opset}")));
        }
        if let Some((d, since)) = node_dtypes(graph, id).map(|d| (d, dtype_opset(d))).find(|(_, since)| *since > opset)
        {
            return Err(in_the_way(graph, id, since, format!("{d} elements do not exist in opset {opset}")));
        }
        forms::adjust(graph, id, opset).map_err(|e| e.at(graph_place(graph, id)))?;
        if !graph.is_alive(id) {
            continue;
        }
        if opset < 8 {
            let first_new = graph.next_node();
            let again = oldest::adjust(graph, symbols, id, opset).map_err(|e| e.at(graph_place(graph, id)))?;
            todo.extend(graph.node_ids().into_iter().filter(|n| *n >= first_new));
            if again {
                todo.push(id);
                continue;
            }
        }
        let late = graph[id].inputs().iter().enumerate().find_map(|(i, v)| {
            let d = graph[(*v)?].ty.dtype()?;
            types::since(&op, i, d).filter(|since| *since > opset).map(|since| (d, since))
        });
        if let Some((d, since)) = late {
            return Err(in_the_way(graph, id, since, format!("{op} takes no {d} elements in opset {opset}")));
        }
        let mut attrs = graph[id].attrs.clone();
        let mut changed = false;
        for attr in attrs.0.values_mut() {
            let graphs: &mut [Graph] = match attr {
                Attr::Graph(g) => std::slice::from_mut(&mut **g),
                Attr::Graphs(gs) => gs,
                _ => continue,
            };
            for g in graphs {
                lower_graph(g, symbols, opset)?;
                g.sort()?;
                changed = true;
            }
        }
        if changed {
            graph.edit_attrs(id, |a| *a = attrs);
        }
    }
    Ok(())
}

fn graph_place(graph: &Graph, id: NodeId) -> String {
    if graph.is_alive(id) { graph[id].describe() } else { "a node that was rewritten".into() }
}

fn in_the_way(graph: &Graph, id: NodeId, since: i64, what: String) -> Error {
    Error::unsupported(what).at(graph[id].describe()).help(format!("write with `--opset {since}` or higher"))
}

/// Puts older operators in the place of a node with one output.
fn expand_node(graph: &mut Graph, symbols: &mut Symbols, id: NodeId, expand: expand::Expand, opset: i64) -> Result<()> {
    let node = graph[id].clone();
    let place = || format!("expanding {} for opset {opset}", node.describe());
    let more =
        node.outputs().iter().skip(1).flatten().any(|&v: &ValueId| !graph[v].users().is_empty() || graph.is_output(v));
    if more {
        return Err(Error::unsupported("an output besides the first is used").at(place()));
    }
    let mut b = Builder::new(graph, symbols);
    (b.prefix, b.source) = (node.name.clone(), node.source.clone());
    let new = expand(&mut b, &node.attrs, node.inputs()).map_err(|e| e.at(place()))?;
    let ours = graph[new].producer().is_some() && !node.inputs().contains(&Some(new));
    if let Some(old) = node.output(0) {
        let new = if ours { new } else { Builder::new(graph, symbols).call("Identity", &[new])? };
        // What the file declared may be more than inference can know.
        if graph.dims(new).is_none() && graph.dims(old).is_some() {
            graph[new].ty = graph[old].ty.clone();
        }
        graph.remove_node(id);
        graph.replace_value(old, new);
    } else {
        graph.remove_node(id);
    }
    Ok(())
}
