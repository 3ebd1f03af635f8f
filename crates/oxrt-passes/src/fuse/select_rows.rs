//! Rows that are picked are picked early: what works on each row by itself then works on fewer.
//!
//! ```text
//! Gather(LayerNormalization(oxrt.Gemm(x) + r))  →  LayerNormalization(oxrt.Gemm(Gather(x)) + Gather(r))
//! ```
//!
//! Classifiers read one token of the last layer (`x[:, 0]`), and most of that layer's work was for the others: of attention only
//! the queries are picked, keys and values stay whole.

use crate::driver::{Rewrite, Rule};
use crate::query::only_user;
use oxrt_ir::{Attrs, Dim, Graph, NodeId, ValueId};
use oxrt_ops::registry;
use oxrt_tensor::Result;

pub(crate) const RULE: Rule = Rule { name: "select-rows-early", ops: &["Gather"], apply };

/// A Gather of few rows of `x`, with indices that are known.
struct Pick {
    x: ValueId,
    axis: usize,
    which: Vec<i64>,
    /// Whether the axis goes.
    single: bool,
}

fn apply(rw: &mut Rewrite, id: NodeId) -> Result<bool> {
    let g = &rw.model.graph;
    let (Some(pick), Some(y)) = (pick(g, id), g[id].output(0)) else { return Ok(false) };
    let Some((maker, 0)) = g[pick.x].producer().filter(|_| only_user(g, pick.x) == Some(id)) else { return Ok(false) };
    let Some(places) = places(g, maker, &pick) else { return Ok(false) };
    // A Reshape says what comes of it: with fewer rows it says another thing.
    let to = (&*g[maker].op == "Reshape").then(|| {
        let mut dims = g.dims(pick.x).unwrap_or(&[]).to_vec();
        dims[pick.axis] = Dim::Const(pick.which.len() as i64);
        dims
    });
    let node = &g[maker];
    let (op, attrs, mut inputs) = (node.op.to_string(), node.attrs.clone(), node.inputs().to_vec());
    // It keeps its name, and the line that it comes from.
    let mut b = rw.builder(maker);
    let which = b.ints(&pick.which);
    for (input, place) in inputs.iter_mut().zip(places) {
        if let (Some(v), Some(axis)) = (*input, place) {
            *input = Some(b.op("Gather", &[v, which], Attrs::new().with("axis", axis as i64))?);
        }
    }
    let mut out = match to {
        Some(dims) => {
            let Some(x) = inputs[0] else { return Ok(false) };
            b.reshape(x, &dims)?
        }
        None => b.op_multi(&op, &inputs, attrs, 1)?[0],
    };
    if pick.single {
        out = b.squeeze(out, &[pick.axis as i64])?;
    }
    rw.model.graph.remove_node(id);
    rw.model.graph.remove_node(maker);
    rw.model.graph.replace_value(y, out);
    Ok(true)
}

fn pick(g: &Graph, id: NodeId) -> Option<Pick> {
    let node = &g[id];
    let (x, indices) = (node.input(0)?, g.constant(node.input(1)?)?);
    let dims = g.dims(x)?;
    let axis = node.attrs.int_or("axis", 0).ok()?;
    let axis = usize::try_from(if axis < 0 { axis + dims.len() as i64 } else { axis }).ok()?;
    let rows = dims.get(axis)?.as_const()?;
    let which = indices.to_i64_vec().ok()?;
    // Picking costs a copy: it should leave little.
    let few = !which.is_empty() && which.len() as i64 * 2 <= rows && indices.rank() <= 1;
    few.then_some(Pick { x, axis, which, single: indices.rank() == 0 })
}

/// For each input of a node that works on rows by themselves, the axis along which it is to be picked; `None` where it stays whole.
fn places(g: &Graph, id: NodeId, pick: &Pick) -> Option<Vec<Option<usize>>> {
    let node = &g[id];
    let rank = g.dims(pick.x)?.len();
    let axis = pick.axis;
    let others_unused = node.outputs().iter().skip(1).all(Option::is_none);
    let count = node.inputs().len();
    let first = |also: &[usize]| -> Option<Vec<Option<usize>>> {
        Some((0..count).map(|i| (i == 0 || also.contains(&i)).then_some(axis)).collect())
    };
    if !others_unused {
        return None;
    }
    match &*node.op {
        "LayerNormalization" | "RMSNormalization" | "SimplifiedLayerNormalization" | "Softmax" | "LogSoftmax" => {
            let from = node.attrs.int_or("axis", -1).ok()?;
            let from = usize::try_from(if from < 0 { from + rank as i64 } else { from }).ok()?;
            let whole = if node.op.ends_with("oftmax") { axis != from } else { axis < from };
            if whole { first(&[]) } else { None }
        }
        "oxrt.Gemm" if axis + 1 < rank => first(&[3]),
        "MatMul" if axis + 1 < rank && g.dims(node.input(0)?)?.len() == rank && g.dims(node.input(1)?)?.len() == 2 => {
            first(&[])
        }
        "oxrt.Attention" => {
            let queries = match node.attrs.string_or("layout", "bhsd").ok()? {
                "sbw" => 0,
                "bsw" | "bshd" => 1,
                _ => 2,
            };
            let mask_is_whole =
                node.input(3).is_none_or(|m| g.dims(m).is_some_and(|d| d.len() < 2 || d[d.len() - 2].is(1)));
            let causal = node.attrs.bool_or("is_causal", false).ok()?;
            if axis == queries && mask_is_whole && !causal { first(&[]) } else { None }
        }
        // One that only leaves out or puts in axes of length 1.
        "Reshape" => {
            let (before, after) = (g.dims(node.input(0)?)?, g.dims(pick.x)?);
            let long = |dims: &[Dim]| (0..dims.len()).filter(|&i| !dims[i].is(1)).collect::<Vec<_>>();
            let (from, to) = (long(before), long(after));
            let same = from.len() == to.len() && from.iter().zip(&to).all(|(&a, &b)| before[a] == after[b]);
            let unknown = after.iter().filter(|d| d.as_const().is_none()).count();
            let at = to.iter().position(|&i| i == axis).filter(|_| same && unknown <= 1)?;
            Some((0..count).map(|i| (i == 0).then_some(from[at])).collect())
        }
        op if registry::find(op).is_some_and(|op| op.scalar.is_some() && !op.random) => {
            let dims = g.dims(pick.x)?;
            let place = |v: ValueId| -> Option<Option<usize>> {
                let of = g.dims(v)?;
                let Some(own) = (axis + of.len()).checked_sub(rank) else { return Some(None) };
                if of[own].is(1) { Some(None) } else { (of[own] == dims[axis]).then_some(Some(own)) }
            };
            node.inputs().iter().map(|v| v.map_or(Some(None), place)).collect()
        }
        _ => None,
    }
}
