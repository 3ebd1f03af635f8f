//! Sums and products of two quantised tensors.

use super::params::{dequantised, linear_of, reals};
use crate::driver::{Rewrite, Rule};
use crate::query::{only_user, pair};
use oxrt_ir::{Attrs, DType, NodeId, ValueId};
use oxrt_ops::quantised::Linear;
use oxrt_tensor::{Result, Tensor};

pub(crate) const RULE: Rule = Rule { name: "fuse-q-binary", ops: &["QuantizeLinear"], apply };

fn apply(rw: &mut Rewrite, id: NodeId) -> Result<bool> {
    let g = &rw.model.graph;
    let (Some(x), Some(out), Some(mut y)) = (g[id].input(0), g[id].output(0), linear_of(g, id)) else {
        return Ok(false);
    };
    if only_user(g, x) != Some(id) {
        return Ok(false);
    }
    let Some((mut op, 0)) = g[x].producer() else { return Ok(false) };
    let mut gone = vec![id, op];
    if &*g[op].op == "Relu" {
        let Some(inner) = g[op].input(0).filter(|&v| only_user(g, v) == Some(op)) else { return Ok(false) };
        let Some((before, 0)) = g[inner].producer() else { return Ok(false) };
        y.low = y.zero.clamp(y.low, y.high);
        op = before;
        gone.push(op);
    }
    let name = match &*g[op].op {
        "Add" => "add",
        "Sub" => "sub",
        "Mul" => "mul",
        _ => return Ok(false),
    };
    let Some((a, b)) = pair(g, op) else { return Ok(false) };
    let known = |v: ValueId| g.dims(v).is_some();
    if !known(a) || !known(b) {
        return Ok(false);
    }
    let (qa, qb) = (dequantised(g, a), dequantised(g, b));
    // One of them may be a constant of a few reals that bytes hold exactly enough: its own greatest value is the quantum's
    // measure. Only zero and one value qualify.
    let constant = |v: ValueId| reals(g, v).filter(|t| t.len() == 1).and_then(|t| single(t.as_slice::<f32>()[0]));
    let (made_a, made_b) =
        (if qa.is_none() { constant(a) } else { None }, if qb.is_none() { constant(b) } else { None });
    if qa.is_none() && qb.is_none() {
        return Ok(false);
    }
    let mut builder = rw.builder(id);
    let mut operand = |q: Option<(ValueId, Linear)>, made: Option<(Tensor, Linear)>| match (q, made) {
        (Some(q), _) => Some(q),
        (None, Some((t, l))) => Some((builder.constant(t), l)),
        (None, None) => None,
    };
    let (Some((a, pa)), Some((b, pb))) = (operand(qa, made_a), operand(qb, made_b)) else { return Ok(false) };
    let mut attrs = Attrs::new().with("op", name);
    pa.to_attrs(&mut attrs, "a");
    pb.to_attrs(&mut attrs, "b");
    y.to_attrs(&mut attrs, "y");
    let new = rw.builder(id).op("oxrt.QBinary", &[a, b], attrs)?;
    let g = &mut rw.model.graph;
    gone.iter().for_each(|&n| g.remove_node(n));
    g.replace_value(out, new);
    Ok(true)
}

/// One real as a byte and its parameters, exactly.
fn single(v: f32) -> Option<(Tensor, Linear)> {
    let byte = |q: i8| Tensor::from_slice(&[], &[q]);
    if v == 0.0 {
        return Some((byte(0), Linear::new(1.0, 0, DType::I8)));
    }
    v.is_finite().then(|| (byte(if v < 0.0 { -1 } else { 1 }), Linear::new(v.abs(), 0, DType::I8)))
}
