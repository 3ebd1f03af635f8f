//! Whatever is computed element by element from one quantised tensor and rounded again is a table of 256 bytes.

use super::end::is_table;
use super::params::linear_of;
use crate::driver::{Rewrite, Rule};
use oxrt_ir::{Attrs, DType, Graph, NodeId, ValueId};
use oxrt_ops::eval::{Datum, eval_node};
use oxrt_ops::registry;
use oxrt_tensor::{Result, Tensor};
use std::collections::BTreeMap;

pub(crate) const RULE: Rule = Rule { name: "fuse-lookup", ops: &["QuantizeLinear", "oxrt.QBinary"], apply };

/// Nodes that are looked at for one table.
const MAX_NODES: usize = 24;

fn apply(rw: &mut Rewrite, id: NodeId) -> Result<bool> {
    let g = &rw.model.graph;
    let Some(y) = g[id].output(0) else { return Ok(false) };
    if &*g[id].op == "QuantizeLinear" && linear_of(g, id).is_none() {
        return Ok(false);
    }
    let Some(root) = root(g, id) else { return Ok(false) };
    let Some(table) = tabulate(g, id, root).filter(|t| t.shape() == [256] && t.dtype().size() == Some(1)) else {
        return Ok(false);
    };
    let mut b = rw.builder(id);
    let table = b.constant(table);
    let new = b.op("oxrt.Lookup", &[root, table], Attrs::new())?;
    let g = &mut rw.model.graph;
    g.remove_node(id);
    g.replace_value(y, new);
    Ok(true)
}

/// Whether a node computes every element from the elements at the same place.
fn is_elementwise(g: &Graph, id: NodeId) -> bool {
    let node = &g[id];
    match &*node.op {
        "QuantizeLinear" | "DequantizeLinear" => linear_of(g, id).is_some(),
        "oxrt.Lookup" | "oxrt.QBinary" => true,
        op => node.outputs().len() == 1 && registry::find(op).is_some_and(|d| d.scalar.is_some() && !d.random),
    }
}

/// The one tensor of bytes that the result depends on element by element; `None` when there are more, or shapes change.
fn root(g: &Graph, id: NodeId) -> Option<ValueId> {
    let mut open = vec![id];
    let mut seen = Vec::new();
    let mut found: Option<ValueId> = None;
    let dims = g.dims(g[id].output(0)?)?;
    while let Some(n) = open.pop() {
        if seen.contains(&n) {
            continue;
        }
        seen.push(n);
        if seen.len() > MAX_NODES {
            return None;
        }
        for &v in g[n].inputs().iter().flatten() {
            if let Some(t) = g.constant(v) {
                // Of the parameters only tables are longer than one element.
                if t.len() != 1 && !(&*g[n].op == "oxrt.Lookup" && g[n].input(1) == Some(v)) {
                    return None;
                }
                continue;
            }
            let inner = g[v].producer().map(|p| p.0).filter(|&p| is_elementwise(g, p));
            let byte = matches!(g[v].ty.dtype(), Some(DType::U8 | DType::I8));
            match inner {
                // A constant's real form.
                Some(p) if g[p].inputs().iter().flatten().all(|&i| g.constant(i).is_some_and(|t| t.len() == 1)) => {}
                // Bytes that others read as well are there anyway; going on behind them is for what hangs together by them.
                Some(p) if !byte || is_table(g, v).is_some() => open.push(p),
                _ if byte && found.is_none_or(|f| f == v) && g.dims(v)? == dims => found = Some(v),
                _ => return None,
            }
        }
    }
    found
}

/// The results for all bytes.
fn tabulate(g: &Graph, id: NodeId, root: ValueId) -> Option<Tensor> {
    let bytes: Vec<u8> = (0..=255).collect();
    let all = Tensor::from_bytes(g[root].ty.dtype()?, &[256], &bytes).ok()?;
    let mut known: BTreeMap<ValueId, Datum> = BTreeMap::from([(root, all.into())]);
    value(g, g[id].output(0)?, &mut known)
}

fn value(g: &Graph, v: ValueId, known: &mut BTreeMap<ValueId, Datum>) -> Option<Tensor> {
    if let Some(d) = known.get(&v) {
        return d.as_tensor().cloned();
    }
    if let Some(t) = g.constant(v) {
        // One element has no axes of its own here, but tables have.
        return if t.len() == 1 { t.reshaped(&[]).ok() } else { Some(t.clone()) };
    }
    let (id, _) = g[v].producer()?;
    let inputs: Option<Vec<Option<Datum>>> =
        (g[id].inputs().iter()).map(|i| i.map_or(Some(None), |i| value(g, i, known).map(|t| Some(t.into())))).collect();
    let made = eval_node(&g[id], &inputs?, &|_| None).ok()?;
    let t = made.into_iter().next()?.into_tensor().ok()?;
    known.insert(v, t.clone().into());
    Some(t)
}
