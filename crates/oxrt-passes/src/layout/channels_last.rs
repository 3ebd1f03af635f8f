//! Convolutions become channels-last twins between two transposes; pools and norms follow where their
//! input is channels-last already.

use super::{name_after, to_first, to_last};
use crate::driver::{Rewrite, Rule};
use crate::query::{made_by, perm_of};
use oxrt_ir::{DType, Graph, NodeId};
use oxrt_ops::registry;
use oxrt_tensor::Result;

pub(crate) const CONV: Rule = Rule { name: "channels-last", ops: &["Conv", "ConvTranspose"], apply: conv };

pub(crate) const NEIGHBOURS: Rule = Rule {
    name: "channels-last-neighbour",
    ops: &["MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool", "GroupNormalization", "Resize"],
    apply: neighbour,
};

/// The same for tensors of 16 bits, whose constants become single. For devices whose twins take them.
pub(crate) const HALF_CONV: Rule =
    Rule { name: "channels-last-halves", ops: &["Conv", "ConvTranspose"], apply: half_conv };

pub(crate) const HALF_NEIGHBOURS: Rule =
    Rule { name: "channels-last-half-neighbour", ops: NEIGHBOURS.ops, apply: half_neighbour };

const HALVES: &[DType] = &[DType::F16, DType::BF16];

fn conv(rw: &mut Rewrite, id: NodeId) -> Result<bool> {
    conv_of(rw, id, &[DType::F32])
}

fn half_conv(rw: &mut Rewrite, id: NodeId) -> Result<bool> {
    conv_of(rw, id, HALVES)
}

fn conv_of(rw: &mut Rewrite, id: NodeId, types: &[DType]) -> Result<bool> {
    let g = &rw.model.graph;
    let node = &g[id];
    let constant = |i: usize| node.input(i).is_none_or(|v| g.constant(v).is_some_and(|t| types.contains(&t.dtype())));
    let Some(w) = node.input(1).and_then(|v| g.constant(v)) else { return Ok(false) };
    // `kernel_shape` may be left out in ONNX; the twin wants it said.
    let kernel: Vec<i64> = w.shape().iter().skip(2).map(|&k| k as i64).collect();
    if !constant(1) || !constant(2) || !turnable(g, id, types) {
        return Ok(false);
    }
    rw.model.graph[id].attrs.set("kernel_shape", kernel);
    turn(rw, id, &format!("oxrt.{}", rw.model.graph[id].op.clone()))?;
    Ok(true)
}

fn neighbour(rw: &mut Rewrite, id: NodeId) -> Result<bool> {
    neighbour_of(rw, id, &[DType::F32])
}

fn half_neighbour(rw: &mut Rewrite, id: NodeId) -> Result<bool> {
    neighbour_of(rw, id, HALVES)
}

fn neighbour_of(rw: &mut Rewrite, id: NodeId, types: &[DType]) -> Result<bool> {
    let g = &rw.model.graph;
    let Some(x) = g[id].input(0) else { return Ok(false) };
    let turned =
        made_by(g, x, "Transpose").and_then(|t| perm_of(g, t)).is_some_and(|p| p.len() >= 3 && p == to_first(p.len()));
    let twin = match &*g[id].op {
        "GroupNormalization" => "oxrt.GroupNorm".to_string(),
        op => format!("oxrt.{op}"),
    };
    // Indices of MaxPool count in the original order.
    let one_output = g[id].outputs().iter().flatten().count() == 1;
    if !turned || !one_output || !turnable(g, id, types) || registry::find(&twin).is_none() {
        return Ok(false);
    }
    turn(rw, id, &twin)?;
    Ok(true)
}

fn turnable(g: &Graph, id: NodeId, types: &[DType]) -> bool {
    let (Some(x), Some(y)) = (g[id].input(0), g[id].output(0)) else { return false };
    let rank = g.dims(x).map_or(0, <[_]>::len);
    let bytes = matches!(&*g[id].op, "MaxPool" | "Resize") && matches!(g[x].ty.dtype(), Some(DType::U8 | DType::I8));
    (3..=5).contains(&rank) && (g[x].ty.dtype().is_some_and(|d| types.contains(&d)) || bytes) && g.dims(y).is_some()
}

/// Transpose, the twin on the same other inputs, Transpose back.
fn turn(rw: &mut Rewrite, id: NodeId, twin: &str) -> Result<()> {
    let g = &rw.model.graph;
    let node = &g[id];
    let (Some(x), Some(y)) = (node.input(0), node.output(0)) else { return Ok(()) };
    let rank = g.dims(x).map_or(0, <[_]>::len);
    let (mut inputs, attrs) = (node.inputs().to_vec(), node.attrs.clone());
    // Twins have their parameters in single precision.
    let mut single = Vec::new();
    for (i, v) in node.inputs().iter().enumerate().skip(1) {
        if let Some(t) = v.and_then(|v| g.constant(v)).filter(|t| HALVES.contains(&t.dtype())) {
            single.push((i, oxrt_ops::cast::cast(t, DType::F32, &Default::default())?));
        }
    }
    let mut b = rw.builder(id);
    for (i, t) in single {
        inputs[i] = Some(b.constant(t));
    }
    inputs[0] = Some(b.transpose(x, &to_last(rank))?);
    let out = b.op_multi(twin, &inputs, attrs, 1)?[0];
    let back = b.transpose(out, &to_first(rank))?;
    let g = &mut rw.model.graph;
    g.remove_node(id);
    name_after(g, out, y);
    g.replace_value(y, back);
    Ok(())
}
