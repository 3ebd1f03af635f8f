//! Moves "channels first again" transposes down past operators that work in any layout, until they meet
//! the next convolution's transpose and cancel.

use super::{name_after, to_first, to_last};
use crate::driver::{Rewrite, Rule};
use crate::query::{made_by, perm_of};
use oxrt_ir::{Graph, NodeId, ValueId};
use oxrt_ops::registry;
use oxrt_ops::shape::axis as front_axis;
use oxrt_tensor::{DType, Result, Tensor};

pub(crate) const RULE: Rule = Rule { name: "sink-transpose", ops: &[], apply };

/// The channels-last value behind a `Transpose` to channels first.
fn turned(g: &Graph, v: ValueId, rank: usize) -> Option<ValueId> {
    let t = made_by(g, v, "Transpose")?;
    (perm_of(g, t)? == to_first(rank)).then(|| g[t].input(0)).flatten()
}

/// How the operator is said in channels-last form.
enum Plan {
    /// All inputs of full rank turn; attributes stay.
    Elementwise,
    /// As elementwise, with this attribute mapped.
    Axis(&'static str, i64),
    /// A reduction over these axes (an input), kept or not.
    Reduce(Vec<i64>),
    /// The first input turns, the others (scales, tables) are no data.
    First,
    /// Other integer inputs, one entry per axis (twice for pads), turn too.
    PerAxis,
}

fn apply(rw: &mut Rewrite, id: NodeId) -> Result<bool> {
    let g = &rw.model.graph;
    let node = &g[id];
    let Some(y) = node.output(0) else { return Ok(false) };
    let Some(rank) = node
        .inputs()
        .iter()
        .flatten()
        .filter_map(|&v| made_by(g, v, "Transpose").map(|_| g.dims(v)))
        .flatten()
        .map(<[_]>::len)
        .next()
    else {
        return Ok(false);
    };
    if rank < 3 || !node.inputs().iter().flatten().any(|&v| turned(g, v, rank).is_some()) {
        return Ok(false);
    }
    let Some(plan) = plan(g, id, rank)? else { return Ok(false) };
    let outputs = node.outputs().to_vec();
    let (op, mut attrs, inputs) = (node.op.to_string(), node.attrs.clone(), node.inputs().to_vec());
    let forward = to_last(rank);
    // Where a channels-first axis is in channels-last order.
    let place = |a: usize| forward.iter().position(|&p| p == a).unwrap_or(a) as i64;
    let mut turn_back = true;
    let mut new_inputs = inputs.clone();
    let mut b = rw.builder(id);
    match &plan {
        Plan::Reduce(axes) => {
            let mapped: Vec<i64> = axes.iter().map(|&a| front_axis(a, rank).map(place)).collect::<Result<_>>()?;
            turn_back = attrs.bool_or("keepdims", true)?;
            new_inputs[1] = Some(b.ints(&mapped));
            new_inputs[0] = inputs[0].and_then(|v| turned(b.graph, v, rank));
        }
        Plan::PerAxis => {
            new_inputs[0] = inputs[0].and_then(|v| turned(b.graph, v, rank));
            let Some(t) = inputs.get(1).copied().flatten().and_then(|v| b.graph.constant(v)).map(Tensor::to_i64_vec)
            else {
                return Ok(false);
            };
            let values = t?;
            let order: Vec<i64> = values.chunks(rank).flat_map(|c| forward.iter().map(|&p| c[p])).collect();
            new_inputs[1] = Some(b.ints(&order));
        }
        Plan::First => new_inputs[0] = inputs[0].and_then(|v| turned(b.graph, v, rank)),
        Plan::Elementwise | Plan::Axis(..) => {
            // The sizes input of a Split is not data.
            let data = if &*op == "Split" { 1 } else { new_inputs.len() };
            for slot in &mut new_inputs[..data] {
                if let Some(v) = *slot {
                    *slot = Some(turned_operand(&mut b, v, rank)?);
                }
            }
            if let Plan::Axis(name, a) = plan {
                attrs.set(name, place(front_axis(a, rank)?));
            }
        }
    }
    let outs = b.op_multi(&op, &new_inputs, attrs, outputs.len())?;
    let mut results = Vec::new();
    for &out in &outs {
        results.push(if turn_back { b.transpose(out, &to_first(rank))? } else { out });
    }
    let g = &mut rw.model.graph;
    g.remove_node(id);
    for ((old, new), out) in outputs.into_iter().zip(results).zip(outs) {
        if let Some(old) = old {
            if turn_back {
                name_after(g, out, old);
            }
            g.replace_value(old, new);
        }
    }
    debug_assert!(!g.is_alive(id) && g[y].users().is_empty());
    Ok(true)
}

fn plan(g: &Graph, id: NodeId, rank: usize) -> Result<Option<Plan>> {
    let node = &g[id];
    let all_outputs = node.outputs().iter().all(Option::is_some);
    if !all_outputs {
        return Ok(None);
    }
    let axis_attr = |name: &'static str, default: i64| -> Result<Option<Plan>> {
        Ok(Some(Plan::Axis(name, node.attrs.int_or(name, default)?)))
    };
    Ok(match &*node.op {
        "Concat" if node.inputs().iter().flatten().all(|&v| g.dims(v).is_some_and(|d| d.len() == rank)) => {
            // Worth it when most of the data is turned already.
            let inputs: Vec<ValueId> = node.inputs().iter().flatten().copied().collect();
            let ready = inputs.iter().filter(|&&v| turned(g, v, rank).is_some()).count();
            if ready * 2 < inputs.len() { None } else { axis_attr("axis", 0)? }
        }
        "Split" => axis_attr("axis", 0)?,
        "Softmax" | "LogSoftmax" => axis_attr("axis", -1)?,
        "ReduceMean" | "ReduceSum" | "ReduceMax" | "ReduceMin" => {
            let Some(axes) = node.input(1).and_then(|v| g.constant(v)).map(Tensor::to_i64_vec).transpose()? else {
                return Ok(None);
            };
            let keep = node.attrs.bool_or("keepdims", true)?;
            let front: Vec<usize> = axes.iter().map(|&a| front_axis(a, rank)).collect::<Result<_>>()?;
            // Without kept axes the rest must stand in the same order in both layouts.
            let rest: Vec<usize> = to_last(rank).into_iter().filter(|a| !front.contains(a)).collect();
            (keep || rest.is_sorted()).then_some(Plan::Reduce(axes))
        }
        "Pad" => {
            let plain = node.input(3).is_none() && node.input(1).is_some_and(|v| g[v].is_constant());
            plain.then_some(Plan::PerAxis)
        }
        "Cast" | "oxrt.QBinary" => elementwise(g, node.inputs(), rank),
        "oxrt.Lookup" => Some(Plan::First),
        "QuantizeLinear" | "DequantizeLinear" => {
            node.input(1).is_some_and(|s| g.constant(s).is_some_and(|t| t.len() == 1)).then_some(Plan::First)
        }
        op => {
            let scalar = registry::find(op).is_some_and(|d| d.scalar.is_some()) && node.outputs().len() == 1;
            if scalar { elementwise(g, node.inputs(), rank) } else { None }
        }
    })
}

/// The plan of an elementwise operator, where its operands can be turned at little cost.
fn elementwise(g: &Graph, inputs: &[Option<ValueId>], rank: usize) -> Option<Plan> {
    let turnable = inputs.iter().flatten().all(|&v| operand_turns(g, v, rank));
    // An operand that has to be turned first costs what is saved, unless it is small.
    let big: Vec<ValueId> = inputs
        .iter()
        .flatten()
        .copied()
        .filter(|&v| !g[v].is_constant() && g.dims(v).is_some_and(|d| d.len() == rank))
        .collect();
    let ready = big.iter().filter(|&&v| turned(g, v, rank).is_some()).count();
    (turnable && ready * 2 >= big.len()).then_some(Plan::Elementwise)
}

/// Whether an operand can be had in channels-last form: full rank, a scalar, or a constant of any rank.
fn operand_turns(g: &Graph, v: ValueId, rank: usize) -> bool {
    let r = g.dims(v).map(<[_]>::len);
    r == Some(rank) || r == Some(0) || g.constant(v).is_some_and(|t| t.rank() <= rank && t.dtype() != DType::String)
}

/// The operand in channels-last form.
fn turned_operand(b: &mut oxrt_ops::Builder, v: ValueId, rank: usize) -> Result<ValueId> {
    if let Some(x) = turned(b.graph, v, rank) {
        return Ok(x);
    }
    if let Some(t) = b.graph.constant(v) {
        if t.len() == 1 && t.rank() <= 1 {
            return Ok(v);
        }
        // Missing leading axes are ones.
        let shape: Vec<usize> = std::iter::repeat_n(1, rank - t.rank()).chain(t.shape().iter().copied()).collect();
        let t = t.reshaped(&shape)?;
        let full = b.constant(t);
        return turned_constant(b, full, rank);
    }
    if b.rank(v)? == 0 {
        return Ok(v);
    }
    b.transpose(v, &to_last(rank))
}

/// A constant is turned at once.
fn turned_constant(b: &mut oxrt_ops::Builder, v: ValueId, rank: usize) -> Result<ValueId> {
    let node = b.transpose(v, &to_last(rank))?;
    let Some((id, _)) = b.graph[node].producer() else { return Ok(node) };
    let Some(t) = b.graph.constant(v).cloned() else { return Ok(node) };
    let results = oxrt_ops::eval::eval_node(&b.graph[id], &[Some(t.into())], &|_| None)?;
    b.graph.remove_node(id);
    if let Some(t) = results.into_iter().next().and_then(|d| d.into_tensor().ok()) {
        b.graph.set_constant(node, t);
    }
    Ok(node)
}
