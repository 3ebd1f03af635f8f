//! Operators that move elements, or choose among them, work on bytes as well: the rounding goes before them.

use super::params::{dequantised, linear_of, small_linear_of};
use crate::driver::{Rewrite, Rule};
use crate::query::{made_by, only_user};
use oxrt_ir::{DType, Graph, NodeId, ValueId};
use oxrt_tensor::Result;

/// `Quantize(move(x))` → `move(Quantize(x))`.
pub(crate) const RAISE: Rule = Rule { name: "raise-quantize", ops: &["QuantizeLinear"], apply: raise };

/// The same for floats of 8 bits, where a product comes to end with the rounding so: then a pool reads bytes. For devices that multiply
/// such floats.
pub(crate) const SMALL_RAISE: Rule = Rule { name: "raise-f8-quantize", ops: &["QuantizeLinear"], apply: small_raise };

/// `Quantize(Dequantize(x))` with the same parameters is `x`.
pub(crate) const SAME: Rule = Rule { name: "remove-requantize", ops: &["QuantizeLinear"], apply: same };

/// How many of the inputs are data; `None` for operators that do more than move.
fn data_inputs(g: &Graph, id: NodeId) -> Option<usize> {
    let node = &g[id];
    let quantised = |i: usize| node.input(i).is_some_and(|v| dequantised(g, v).is_some());
    let fits = match &*node.op {
        "Reshape" | "Transpose" | "Squeeze" | "Unsqueeze" | "Flatten" | "Slice" | "Identity" | "Expand" | "Tile" => {
            return Some(1);
        }
        "Concat" => return Some(node.inputs().len()),
        // Rounding is monotone, so the largest stays the largest. (Only where the input lies in bytes: a real one is rounded
        // more cheaply after it became smaller.)
        "MaxPool" => quantised(0) && node.outputs().iter().flatten().count() == 1,
        // The table is constant: its rows are rounded once.
        "Gather" => node.input(0).is_some_and(|v| super::params::reals(g, v).is_some()),
        "Resize" => {
            let plain = node.attrs.string_or("mode", "nearest").ok()? == "nearest"
                && node.attrs.string_or("coordinate_transformation_mode", "half_pixel").ok()? != "tf_crop_and_resize";
            plain && quantised(0)
        }
        _ => false,
    };
    fits.then_some(1)
}

/// `Lookup(move(x))` → `move(Lookup(x))`, so that the table meets the product that makes x.
pub(crate) const RAISE_TABLE: Rule = Rule { name: "raise-lookup", ops: &["oxrt.Lookup"], apply: raise_table };

fn raise_table(rw: &mut Rewrite, id: NodeId) -> Result<bool> {
    let g = &rw.model.graph;
    let (Some(x), Some(t), Some(y)) = (g[id].input(0), g[id].input(1), g[id].output(0)) else { return Ok(false) };
    let bytes = g[t].ty.dtype().is_some_and(|d| d.size() == Some(1));
    let Some((mover, 0)) = g[x].producer() else { return Ok(false) };
    let moves = matches!(&*g[mover].op, "Reshape" | "Transpose" | "Squeeze" | "Unsqueeze" | "Flatten");
    if !bytes || !moves || only_user(g, x) != Some(id) {
        return Ok(false);
    }
    let (op, attrs, mut inputs) = (g[mover].op.to_string(), g[mover].attrs.clone(), g[mover].inputs().to_vec());
    let Some(inner) = inputs[0] else { return Ok(false) };
    let mut b = rw.builder(id);
    inputs[0] = Some(b.op("oxrt.Lookup", &[inner, t], oxrt_ir::Attrs::new())?);
    let out = b.op_multi(&op, &inputs, attrs, 1)?[0];
    let g = &mut rw.model.graph;
    g.remove_node(id);
    g.replace_value(y, out);
    Ok(true)
}

fn raise(rw: &mut Rewrite, id: NodeId) -> Result<bool> {
    if linear_of(&rw.model.graph, id).is_none() {
        return Ok(false);
    }
    raise_above(rw, id, data_inputs)
}

fn small_raise(rw: &mut Rewrite, id: NodeId) -> Result<bool> {
    if small_linear_of(&rw.model.graph, id).is_none() {
        return Ok(false);
    }
    raise_above(rw, id, |g, pool| {
        let conv =
            g[pool].input(0).filter(|_| &*g[pool].op == "oxrt.MaxPool").and_then(|x| made_by(g, x, "oxrt.QConv"))?;
        g[conv].input(0).and_then(|x| g[x].ty.dtype()).is_some_and(DType::is_float).then_some(1)
    })
}

/// `moves`: how many of the inputs of an operator that moves are data.
fn raise_above(rw: &mut Rewrite, id: NodeId, moves: impl Fn(&Graph, NodeId) -> Option<usize>) -> Result<bool> {
    let g = &rw.model.graph;
    let (Some(x), Some(y)) = (g[id].input(0), g[id].output(0)) else { return Ok(false) };
    if only_user(g, x) != Some(id) {
        return Ok(false);
    }
    let Some((mover, 0)) = g[x].producer() else { return Ok(false) };
    let Some(data) = moves(g, mover) else { return Ok(false) };
    let (op, attrs, mut inputs) = (g[mover].op.to_string(), g[mover].attrs.clone(), g[mover].inputs().to_vec());
    let (q_attrs, params) = (g[id].attrs.clone(), g[id].inputs()[1..].to_vec());
    let is_gather = op == "Gather";
    if inputs[..data].iter().any(Option::is_none) {
        return Ok(false);
    }
    let mut b = rw.builder(id);
    for input in &mut inputs[..data] {
        let Some(v) = *input else { continue };
        let operands: Vec<Option<ValueId>> = std::iter::once(Some(v)).chain(params.iter().copied()).collect();
        *input = Some(b.op_multi("QuantizeLinear", &operands, q_attrs.clone(), 1)?[0]);
    }
    if is_gather && let Some(t) = inputs[0].and_then(|q| constant_bytes(b.graph, q)) {
        inputs[0] = Some(b.constant(t));
    }
    let out = b.op_multi(&op, &inputs, attrs, 1)?[0];
    let g = &mut rw.model.graph;
    g.remove_node(id);
    g.replace_value(y, out);
    Ok(true)
}

/// The bytes of a QuantizeLinear of constant reals.
fn constant_bytes(g: &Graph, q: ValueId) -> Option<oxrt_tensor::Tensor> {
    let (id, _) = g[q].producer()?;
    let real = super::params::reals(g, g[id].input(0)?)?;
    let rest = g[id].inputs()[1..].iter().map(|v| v.map(|v| g.constant(v).cloned().map(Into::into)));
    let rest: Option<Vec<_>> = rest.map(|i| i.map_or(Some(None), |t| t.map(Some))).collect();
    let inputs: Vec<_> = std::iter::once(Some(real.into())).chain(rest?).collect();
    let made = oxrt_ops::eval::eval_node(&g[id], &inputs, &|_| None).ok()?;
    made.into_iter().next()?.into_tensor().ok()
}

fn same(rw: &mut Rewrite, id: NodeId) -> Result<bool> {
    let g = &mut rw.model.graph;
    let (Some(x), Some(y)) = (g[id].input(0), g[id].output(0)) else { return Ok(false) };
    let (Some(own), Some((bytes, from))) = (linear_of(g, id), dequantised(g, x)) else { return Ok(false) };
    if own != from || g.is_output(y) {
        return Ok(false);
    }
    g.remove_node(id);
    g.replace_uses(y, bytes);
    Ok(true)
}
