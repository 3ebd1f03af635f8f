//! What follows a product on quantised operands becomes its end: bias, activation, rounding, residual, table.

use super::params::{from_small_floats, linear_of, reals, small_linear_of};
use crate::driver::{Rewrite, Rule};
use crate::query::{made_by, only_user, pair, perm_of, same_dims, scalar};
use oxrt_ir::{DType, Graph, NodeId, ValueId};
use oxrt_ops::quantised::Linear;
use oxrt_tensor::{Result, Tensor};

/// Adding a constant row to a matrix product with a real result.
pub(crate) const BIAS: Rule = Rule { name: "fuse-q-bias", ops: &["Add"], apply: bias };
/// An activation that the kernels have in registers.
pub(crate) const ACTIVATION: Rule =
    Rule { name: "fuse-q-activation", ops: &["LeakyRelu", "HardSwish"], apply: activation };
/// Rounding, with the limits that a Relu or Clip before it gives.
pub(crate) const QUANTIZE: Rule = Rule { name: "fuse-quantize", ops: &["QuantizeLinear"], apply: quantize };
/// The same to floats of 8 bits, of products of such floats.
pub(crate) const SMALL_QUANTIZE: Rule =
    Rule { name: "fuse-f8-quantize", ops: &["QuantizeLinear"], apply: small_quantize };
/// The sum of the result of a product of floats of 8 bits, rounded to such or not, and a tensor of them.
pub(crate) const SMALL_RESIDUAL: Rule =
    Rule { name: "fuse-f8-residual", ops: &["QuantizeLinear"], apply: small_residual };
/// The sum of the rounded result and another quantised tensor.
pub(crate) const RESIDUAL: Rule = Rule { name: "fuse-q-residual", ops: &["oxrt.QBinary"], apply: residual };
/// A table over the rounded result.
pub(crate) const TABLE: Rule = Rule { name: "fuse-table", ops: &["oxrt.Lookup"], apply: table };

const PRODUCTS: [&str; 3] = ["oxrt.QConv", "oxrt.QGemm", "oxrt.QMatMul"];

/// Products of floats of 8 bits.
const SMALL_PRODUCTS: [&str; 2] = ["oxrt.QConv", "oxrt.QGemm"];

/// Whether a product is one of floats of 8 bits.
fn is_small(g: &Graph, id: NodeId) -> bool {
    g[id].input(0).and_then(|x| g[x].ty.dtype()).is_some_and(DType::is_float)
}

fn is_real(g: &Graph, id: NodeId) -> bool {
    g[id].attrs.int_or("y_dtype", 2).ok() == Some(DType::F32.to_onnx() as i64)
}

/// The fused operator that makes `v` for `reader` alone, perhaps behind a Transpose (which only changes the order).
fn maker(g: &Graph, v: ValueId, reader: NodeId, ops: &[&str]) -> Option<(NodeId, Option<NodeId>)> {
    if only_user(g, v) != Some(reader) {
        return None;
    }
    let (id, 0) = g[v].producer()? else { return None };
    if ops.contains(&&*g[id].op) {
        return Some((id, None));
    }
    if &*g[id].op != "Transpose" {
        return None;
    }
    let inner = g[id].input(0)?;
    let (product, 0) = g[inner].producer()? else { return None };
    (ops.contains(&&*g[product].op) && only_user(g, inner) == Some(id)).then_some((product, Some(id)))
}

fn bias(rw: &mut Rewrite, id: NodeId) -> Result<bool> {
    let g = &mut rw.model.graph;
    let (Some((a, b)), Some(y)) = (pair(g, id), g[id].output(0)) else { return Ok(false) };
    let found = [(a, b), (b, a)].into_iter().find_map(|(x, c)| {
        let (product, None) = maker(g, x, id, &["oxrt.QGemm"])? else { return None };
        let free = is_real(g, product) && !g[product].attrs.has("activation");
        Some((x, product, reals(g, c)?)).filter(|_| free)
    });
    let Some((x, product, added)) = found else { return Ok(false) };
    let n = g[product].input(1).and_then(|w| g.constant(w)).map_or(0, |w| w.shape()[1]);
    let rank = g.dims(x).map_or(0, <[_]>::len);
    let row = added.len() == n && added.shape().last() == Some(&n) && added.rank() <= rank;
    if !(row || added.len() == 1) || g.dims(y) != g.dims(x) {
        return Ok(false);
    }
    let old = g[product].input(3).and_then(|v| g.constant(v)).map_or(vec![0.0; n], |t| t.as_slice::<f32>().to_vec());
    let added = added.as_slice::<f32>();
    let sum: Vec<f32> = (0..n).map(|i| old[i] + added[if added.len() == 1 { 0 } else { i }]).collect();
    let name = g.unused_value_name(&format!("{}_bias", g[product].name));
    let bias = g.add_constant(&name, Tensor::from_slice(&[n], &sum));
    g.set_input(product, 3, Some(bias));
    g.remove_node(id);
    g.replace_value(y, x);
    Ok(true)
}

fn activation(rw: &mut Rewrite, id: NodeId) -> Result<bool> {
    let g = &mut rw.model.graph;
    let (Some(x), Some(y)) = (g[id].input(0), g[id].output(0)) else { return Ok(false) };
    let Some((product, _)) = maker(g, x, id, &PRODUCTS) else { return Ok(false) };
    if !is_real(g, product) || g[product].attrs.has("activation") {
        return Ok(false);
    }
    match &*g[id].op {
        "HardSwish" => g[product].attrs.set("activation", "hard_swish"),
        _ => {
            let alpha = g[id].attrs.float_or("alpha", 0.01)?;
            g[product].attrs.set("activation", "leaky_relu");
            g[product].attrs.set("act_alpha", alpha);
        }
    }
    g.remove_node(id);
    g.replace_value(y, x);
    Ok(true)
}

/// The limits that a Relu or Clip puts on the integers of `y`.
fn limits(g: &Graph, id: NodeId, y: &Linear) -> Option<(i64, i64)> {
    let bound = |i: usize, open: f64| match g[id].input(i) {
        None => Some(open),
        Some(v) => scalar(g, v),
    };
    let (low, high) = match &*g[id].op {
        "Relu" => (0.0, f64::INFINITY),
        "Clip" => (bound(1, f64::NEG_INFINITY)?, bound(2, f64::INFINITY)?),
        _ => return None,
    };
    // Of floats of 8 bits only those that are integers.
    let whole = |v: f64| {
        let q = y.round(&[v], &[]).and_then(|t| t.to_f64_vec()).ok()?[0];
        (q.fract() == 0.0).then_some(q as i64)
    };
    Some((whole(low)?, whole(high)?)).filter(|(low, high)| low <= high)
}

fn quantize(rw: &mut Rewrite, id: NodeId) -> Result<bool> {
    let Some(y) = linear_of(&rw.model.graph, id) else { return Ok(false) };
    quantize_to(rw, id, y, &["oxrt.QConv", "oxrt.QGemm", "oxrt.QMatMul", "oxrt.QGlobalAveragePool"])
}

fn small_quantize(rw: &mut Rewrite, id: NodeId) -> Result<bool> {
    let Some(y) = small_linear_of(&rw.model.graph, id) else { return Ok(false) };
    quantize_to(rw, id, y, &SMALL_PRODUCTS)
}

fn quantize_to(rw: &mut Rewrite, id: NodeId, mut y: Linear, ops: &[&str]) -> Result<bool> {
    let g = &mut rw.model.graph;
    let (Some(mut x), Some(out)) = (g[id].input(0), g[id].output(0)) else { return Ok(false) };
    let mut reader = id;
    let mut gone = vec![id];
    while let Some((before, 0)) = g[x].producer() {
        let Some((low, high)) = limits(g, before, &y).filter(|_| only_user(g, x) == Some(reader)) else { break };
        // The one nearer to the rounding has the last word.
        y.low = low.clamp(y.low, y.high);
        y.high = high.clamp(y.low, y.high);
        let Some(inner) = g[before].input(0) else { return Ok(false) };
        (reader, x) = (before, inner);
        gone.push(before);
    }
    let Some((product, turned)) = maker(g, x, reader, ops) else { return Ok(false) };
    if !is_real(g, product) || is_small(g, product) != y.dtype.is_float() {
        return Ok(false);
    }
    let Some(real) = g[product].output(0) else { return Ok(false) };
    g.edit_attrs(product, |attrs| y.to_attrs(attrs, "y"));
    for v in [Some(real), turned.and_then(|t| g[t].output(0))].into_iter().flatten() {
        if let Some(ty) = g[v].ty.as_tensor().cloned() {
            g[v].ty = oxrt_ir::TensorType { dtype: y.dtype, ..ty }.into();
        }
    }
    gone.iter().for_each(|&n| g.remove_node(n));
    g.replace_value(out, x);
    Ok(true)
}

fn residual(rw: &mut Rewrite, id: NodeId) -> Result<bool> {
    let g = &mut rw.model.graph;
    let (Some((a, b)), Some(y)) = (pair(g, id), g[id].output(0)) else { return Ok(false) };
    if g[id].attrs.string_or("op", "add")? != "add" || a == b {
        return Ok(false);
    }
    let (pa, pb) = (Linear::from_attrs(&g[id].attrs, "a")?, Linear::from_attrs(&g[id].attrs, "b")?);
    let to = Linear::from_attrs(&g[id].attrs, "y")?;
    // Of two products the later one takes the other's result.
    let order: Vec<NodeId> = g.node_ids();
    let place = |n: NodeId| order.iter().position(|&o| o == n).unwrap_or(0);
    let mut found: Vec<_> = [(a, b, pa, pb), (b, a, pb, pa)]
        .into_iter()
        .filter_map(|(x, r, px, pr)| {
            let (product, turned) = maker(g, x, id, &["oxrt.QConv", "oxrt.QGemm"])?;
            let attrs = &g[product].attrs;
            let free = !is_real(g, product) && g[product].input(4).is_none();
            // What the product rounds to is what the sum reads, unless a table stands between.
            let own = Linear::from_attrs(attrs, "y").ok()?;
            let tabled = g[product].input(5).is_some();
            let same = tabled || (own.scale, own.zero, own.dtype) == (px.scale, px.zero, px.dtype);
            let whole = same_dims(g, x, y) && same_dims(g, r, y);
            // A constant row of the last axis.
            let n = g.dims(x)?.last()?.as_size()?;
            let row = turned.is_none() && g.constant(r).is_some_and(|t| t.len() == n && t.shape().last() == Some(&n));
            (free && same && (whole || row && same_dims(g, x, y))).then_some((
                product,
                turned,
                x,
                r,
                (own, px),
                pr,
                row && !whole,
            ))
        })
        .collect();
    found.sort_by_key(|f| place(f.0));
    let Some((product, turned, x, r, (own, px), pr, row)) = found.pop() else { return Ok(false) };
    let mut operand = r;
    if let Some(t) = turned {
        let Some(before) = before_turn(rw, id, t, r)? else { return Ok(false) };
        operand = before;
    } else if row {
        let Some(t) = g.constant(r).cloned() else { return Ok(false) };
        let flat = t.reshaped(&[t.len()])?;
        operand = rw.builder(id).constant(flat);
    }
    let g = &mut rw.model.graph;
    let table = g[product].input(5);
    g.edit_attrs(product, |attrs| {
        own.to_attrs(attrs, "mid");
        if table.is_some() {
            px.to_attrs(attrs, "t");
        }
        pr.to_attrs(attrs, "r");
        for name in ["y_low", "y_high"] {
            attrs.remove(name);
        }
        to.to_attrs(attrs, "y");
    });
    set_slot(g, product, 4, operand);
    if let Some(t) = table {
        set_slot(g, product, 6, t);
        g.set_input(product, 5, None);
    }
    retype(g, product, turned, to.dtype);
    g.remove_node(id);
    g.replace_value(y, x);
    Ok(true)
}

/// `r` in the order that the operand of the Transpose `t` has.
fn before_turn(rw: &mut Rewrite, id: NodeId, t: NodeId, r: ValueId) -> Result<Option<ValueId>> {
    let Some(perm) = perm_of(&rw.model.graph, t) else { return Ok(None) };
    let mut inverse = vec![0; perm.len()];
    perm.iter().enumerate().for_each(|(i, &p)| inverse[p] = i);
    rw.builder(id).transpose(r, &inverse).map(Some)
}

fn small_residual(rw: &mut Rewrite, id: NodeId) -> Result<bool> {
    let g = &rw.model.graph;
    let (Some(mut x), Some(out)) = (g[id].input(0), g[id].output(0)) else { return Ok(false) };
    let Some(mut y) = small_linear_of(g, id) else { return Ok(false) };
    let (mut reader, mut gone) = (id, vec![id]);
    if let Some(relu) = made_by(g, x, "Relu").filter(|_| only_user(g, x) == Some(id)) {
        let Some(inner) = g[relu].input(0) else { return Ok(false) };
        (reader, x) = (relu, inner);
        y.low = 0;
        gone.push(relu);
    }
    let Some(add) = made_by(g, x, "Add").filter(|_| only_user(g, x) == Some(reader)) else { return Ok(false) };
    let Some((a, b)) = pair(g, add) else { return Ok(false) };
    gone.push(add);
    // A product with a real result, or one that is rounded and made real again.
    let own = |v: ValueId| {
        if let Some((product, turned)) = maker(g, v, add, &SMALL_PRODUCTS) {
            return is_real(g, product).then_some((product, turned, v, None));
        }
        let back = made_by(g, v, "DequantizeLinear").filter(|_| only_user(g, v) == Some(add))?;
        let (small, from) = from_small_floats(g, v)?;
        let (product, turned) = maker(g, small, back, &SMALL_PRODUCTS)?;
        let mid = Linear::from_attrs(&g[product].attrs, "y").ok()?;
        (!is_real(g, product) && mid.scale == from.scale).then_some((product, turned, small, Some((back, mid))))
    };
    let order: Vec<NodeId> = g.node_ids();
    let place = |n: NodeId| order.iter().position(|&o| o == n).unwrap_or(0);
    // Of two products the later one takes the other's result.
    let found = [(a, b), (b, a)].into_iter().filter_map(|(v, other)| {
        let (product, turned, result, rounded) = own(v)?;
        let (r, from) = from_small_floats(g, other)?;
        let free =
            is_small(g, product) && g[product].input(4).is_none() && same_dims(g, v, x) && same_dims(g, other, x);
        free.then_some((product, turned, result, rounded, r, from))
    });
    let Some((product, turned, result, rounded, r, from)) = found.max_by_key(|f| place(f.0)) else { return Ok(false) };
    let operand = match turned {
        Some(t) => before_turn(rw, id, t, r)?,
        None => Some(r),
    };
    let Some(operand) = operand else { return Ok(false) };
    let g = &mut rw.model.graph;
    g.edit_attrs(product, |attrs| {
        attrs.set("mid_dtype", DType::F32.to_onnx() as i64);
        if let Some((_, mid)) = rounded {
            mid.to_attrs(attrs, "mid");
            for name in ["y_low", "y_high"] {
                attrs.remove(name);
            }
        }
        from.to_attrs(attrs, "r");
        y.to_attrs(attrs, "y");
    });
    gone.extend(rounded.map(|(back, _)| back));
    set_slot(g, product, 4, operand);
    retype(g, product, turned, y.dtype);
    gone.iter().for_each(|&n| g.remove_node(n));
    g.replace_value(out, result);
    Ok(true)
}

/// The result of a product (and of the Transpose behind it) has another element type now.
fn retype(g: &mut Graph, product: NodeId, turned: Option<NodeId>, dtype: DType) {
    for v in [Some(product), turned].into_iter().flatten().filter_map(|n| g[n].output(0)).collect::<Vec<_>>() {
        if let Some(ty) = g[v].ty.as_tensor().cloned() {
            g[v].ty = oxrt_ir::TensorType { dtype, ..ty }.into();
        }
    }
}

fn table(rw: &mut Rewrite, id: NodeId) -> Result<bool> {
    let g = &mut rw.model.graph;
    let (Some((x, t)), Some(y)) = (pair(g, id), g[id].output(0)) else { return Ok(false) };
    let Some((product, turned)) = maker(g, x, id, &PRODUCTS) else { return Ok(false) };
    let slot = if &*g[product].op == "oxrt.QMatMul" { 2 } else { 5 };
    let Some(dtype) = g[t].ty.dtype().filter(|d| d.size() == Some(1)) else { return Ok(false) };
    if is_real(g, product) || g[product].input(slot).is_some() {
        return Ok(false);
    }
    set_slot(g, product, slot, t);
    retype(g, product, turned, dtype);
    g.remove_node(id);
    g.replace_value(y, x);
    Ok(true)
}

/// Sets an input behind others that may be absent.
fn set_slot(g: &mut Graph, id: NodeId, slot: usize, v: ValueId) {
    while g[id].inputs().len() < slot {
        let end = g[id].inputs().len();
        g.set_input(id, end, None);
    }
    g.set_input(id, slot, Some(v));
}

/// Whether the producer of `v` is a table (for the rule that makes them).
pub(super) fn is_table(g: &Graph, v: ValueId) -> Option<NodeId> {
    made_by(g, v, "oxrt.Lookup")
}
