//! Steps that only move whole rows about become one that fetches them.
//!
//! Windows of an image that are cut out, shifted and put back are chains of Transpose, Split, Slice and Concat around
//! Reshapes. Where the innermost axis stays whole, each row of the result is a row of the source, found here by moving
//! numbers instead of rows: `Reshape(Gather(Reshape(x, [rows, length]), which))`.

use crate::driver::{Rewrite, Rule};
use oxrt_ir::{Graph, Node, NodeId, Tensor, ValueId};
use oxrt_ops::eval::{Datum, eval_node};
use oxrt_tensor::Result;
use std::collections::{BTreeMap, BTreeSet};

pub(crate) const RULE: Rule = Rule { name: "fuse-row-moves", ops: &["Transpose", "Concat", "Gather"], apply: fuse };

/// Shorter rows are not worth a look-up each.
const SHORTEST_BYTES: usize = 64;
/// Most rows.
const MOST: usize = 1 << 20;
/// Most nodes of a chain.
const MOST_NODES: usize = 64;

fn fuse(rw: &mut Rewrite, id: NodeId) -> Result<bool> {
    let g = &rw.model.graph;
    let Some(y) = g[id].output(0) else { return Ok(false) };
    let Some((source, length, rows)) = find(g, id, y) else { return Ok(false) };
    let (Some(from), Some(to)) = (shape(g, source), g.dims(y)) else { return Ok(false) };
    let (to, all) = (to.to_vec(), from.iter().product::<usize>() / length);
    let mut b = rw.builder(id);
    let flat = b.reshape_const(source, &[all as i64, length as i64])?;
    let which = b.ints(&rows);
    let picked = b.call("Gather", &[flat, which])?;
    let out = b.reshape(picked, &to)?;
    rw.model.graph.remove_node(id);
    rw.model.graph.replace_value(y, out);
    Ok(true)
}

fn shape(g: &Graph, v: ValueId) -> Option<Vec<usize>> {
    g[v].ty.as_tensor()?.static_shape()
}

/// Source, length of a row, and for each row of `y` the source's row that it is.
fn find(g: &Graph, id: NodeId, y: ValueId) -> Option<(ValueId, usize, Vec<i64>)> {
    let (chain, sources) = collect(g, id)?;
    let &source = sources.first().filter(|_| sources.len() == 1)?;
    if g[source].is_constant() {
        return None;
    }
    if chain.iter().filter(|&&n| &*g[n].op != "Reshape").count() < 2 {
        return None;
    }
    let ty = g[source].ty.as_tensor()?;
    let from = ty.static_shape()?;
    let length = *from.last()?;
    let rows = from.iter().product::<usize>().checked_div(length)?;
    if ty.dtype.bytes_for(length) < SHORTEST_BYTES || rows > MOST {
        return None;
    }
    let numbers: Vec<i64> = (0..rows as i64).collect();
    let mut known = BTreeMap::from([(source, Tensor::from_slice(&narrowed(from, length)?, &numbers))]);
    // Ids of a chain need not be in order of use.
    while !known.contains_key(&y) {
        let before = known.len();
        for &node in &chain {
            move_numbers(g, node, length, &mut known)?;
        }
        if known.len() == before {
            return None;
        }
    }
    let rows = known.remove(&y)?.to_i64_vec().ok()?;
    (rows.len() <= MOST).then_some((source, length, rows))
}

/// The shape whose last axis counts rows and not elements.
fn narrowed(mut shape: Vec<usize>, length: usize) -> Option<Vec<usize>> {
    let last = shape.last_mut()?;
    if !last.is_multiple_of(length) {
        return None;
    }
    *last /= length;
    Some(shape)
}

/// The nodes that move the rows of `id`'s result, and the values where the moving begins.
fn collect(g: &Graph, id: NodeId) -> Option<(BTreeSet<NodeId>, BTreeSet<ValueId>)> {
    let before = |n: NodeId| moved(g, &g[n]).into_iter().flatten().flatten();
    let mover = |v: ValueId| g[v].producer().map(|(n, _)| n).filter(|&n| moved(g, &g[n]).is_some());
    let mut all = BTreeSet::from([id]);
    let mut open = vec![id];
    while let Some(n) = open.pop() {
        moved(g, &g[n])?;
        open.extend(before(n).filter_map(|&v| mover(v)).filter(|&n| all.insert(n)));
        if all.len() > MOST_NODES {
            return None;
        }
    }
    // What others read too is made anyway: the chain begins behind it.
    loop {
        let outside = |v: &ValueId| g.is_output(*v) || g[*v].users().iter().any(|u| !all.contains(u));
        let shared = |&&n: &&NodeId| n != id && g[n].outputs().iter().flatten().any(outside);
        let Some(&n) = all.iter().find(shared) else { break };
        all.remove(&n);
    }
    let mut sources = BTreeSet::new();
    for &n in &all {
        sources.extend(before(n).filter(|&&v| mover(v).is_none_or(|n| !all.contains(&n))));
    }
    Some((all, sources))
}

/// The inputs whose rows a node moves; `None` for every other node.
fn moved<'g>(g: &'g Graph, node: &'g Node) -> Option<&'g [Option<ValueId>]> {
    let first = node.inputs().first()?.as_ref()?;
    let rank = shape(g, *first)?.len() as i64;
    let axis = |default: i64| node.attrs.int_or("axis", default).ok().map(|a| if a < 0 { a + rank } else { a });
    let fits = match &*node.op {
        "Reshape" => rank > 0,
        "Concat" => return node.inputs().iter().flatten().all(|&v| shape(g, v).is_some()).then_some(node.inputs()),
        "Transpose" => node.attrs.ints("perm").ok()??.last() == Some(&(rank - 1)),
        "Split" => axis(0)? != rank - 1,
        "Gather" => axis(0)? == 0 && rank > 1 && g[node.input(1)?].is_constant(),
        "Slice" => {
            let axes = g.constant(node.input(3)?)?.to_i64_vec().ok()?;
            axes.iter().all(|&a| a != rank - 1 && a != -1)
        }
        _ => false,
    };
    (fits && node.subgraphs().next().is_none()).then(|| &node.inputs()[..1])
}

/// The numbers of the rows that a node's outputs hold, once those of its inputs are known.
fn move_numbers(g: &Graph, id: NodeId, length: usize, known: &mut BTreeMap<ValueId, Tensor>) -> Option<()> {
    let node = &g[id];
    let sources = moved(g, node)?;
    let outputs: Vec<ValueId> = node.outputs().iter().flatten().copied().collect();
    if outputs.iter().all(|v| known.contains_key(v)) || !sources.iter().flatten().all(|v| known.contains_key(v)) {
        return Some(());
    }
    if &*node.op == "Reshape" {
        let numbers = known.get(&node.input(0)?)?.to_i64_vec().ok()?;
        let to = narrowed(shape(g, outputs[0])?, length)?;
        known.insert(outputs[0], Tensor::from_slice(&to, &numbers));
        return Some(());
    }
    let inputs = node.inputs().iter().map(|v| match v {
        None => Some(None),
        Some(v) => known.get(v).or_else(|| g.constant(*v)).map(|t| Some(Datum::Tensor(t.clone()))),
    });
    let results = eval_node(node, &inputs.collect::<Option<Vec<_>>>()?, &|_| None).ok()?;
    for (v, datum) in node.outputs().iter().zip(results) {
        if let (Some(v), Datum::Tensor(t)) = (v, datum) {
            (t.shape() == narrowed(shape(g, *v)?, length)?).then_some(())?;
            known.insert(*v, t);
        }
    }
    Some(())
}
