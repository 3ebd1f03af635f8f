//! Attention reads its heads where they lie: in rows that a product of all of q, k and v left, for instance. Nothing is
//! turned, cut or copied before it.

use crate::driver::{Rewrite, Rule};
use crate::query::{made_by, only_user, perm_of};
use oxrt_ir::{Attrs, Dim, Graph, NodeId, ValueId};
use oxrt_tensor::{DType, Result, Tensor};

/// Takes q, k and v from rows of heads, where views of such rows are what they are.
pub(crate) const RULE: Rule = Rule { name: "attention-in-place", ops: &["oxrt.Attention"], apply: in_place };

/// The products that make q, k and v of the same rows become one.
pub(crate) const JOIN: Rule = Rule { name: "join-qkv", ops: &["oxrt.Attention"], apply: join };

/// `nn.MultiheadAttention` turns batches and lengths before its products and after: neither is needed.
pub(crate) const UNTURN: Rule = Rule { name: "attention-unturned", ops: &["oxrt.Attention"], apply: unturn };
pub(crate) const PRODUCT: Rule = Rule { name: "product-unturned", ops: &["Transpose"], apply: product_unturned };

/// Elements along an axis and the distance between them; an axis may step in several ways, the outermost first.
type Steps = Vec<(Dim, Dim)>;

/// A value as a view of another one, which lies as its dimensions say.
struct View {
    root: ValueId,
    at: i64,
    axes: Vec<Steps>,
}

impl View {
    fn whole(g: &Graph, v: ValueId) -> Option<View> {
        let mut step = Dim::Const(1);
        let mut axes = Vec::new();
        for d in g.dims(v)?.iter().rev() {
            axes.push(vec![(d.clone(), step.clone())]);
            step = step * d.clone();
        }
        axes.reverse();
        Some(View { root: v, at: 0, axes })
    }

    fn of(g: &Graph, v: ValueId) -> Option<View> {
        View::through(g, v).or_else(|| View::whole(g, v))
    }

    /// Past the node that makes `v`, when it only looks at its input in another way.
    fn through(g: &Graph, v: ValueId) -> Option<View> {
        let (id, index) = g[v].producer()?;
        let node = &g[id];
        let x = node.input(0)?;
        match &*node.op {
            "Reshape" | "Squeeze" | "Unsqueeze" => {
                let mut view = View::of(g, x)?;
                view.axes = regroup(view.axes.concat(), g.dims(v)?)?;
                Some(view)
            }
            "Transpose" => {
                let mut view = View::of(g, x)?;
                view.axes = perm_of(g, id)?.iter().map(|&p| view.axes[p].clone()).collect();
                Some(view)
            }
            "Gather" => {
                let mut view = View::of(g, x)?;
                let index = g.constant(node.input(1)?).filter(|t| t.rank() == 0)?.to_i64_vec().ok()?[0];
                let axis = axis(node.attrs.int_or("axis", 0).ok()?, view.axes.len())?;
                let (n, step) = single(&view.axes.remove(axis))?;
                let index = if index < 0 { index + n.as_const()? } else { index };
                view.at += index * step.as_const()?;
                Some(view)
            }
            "Split" => {
                let mut view = View::of(g, x)?;
                let axis = axis(node.attrs.int_or("axis", 0).ok()?, view.axes.len())?;
                let (_, step) = single(&view.axes[axis])?;
                let part = |i: usize| g.dims(node.output(i)?)?.get(axis)?.as_const();
                let before: i64 = (0..index).map(part).sum::<Option<i64>>()?;
                view.at += before * step.as_const()?;
                view.axes[axis] = vec![(Dim::from(part(index)?), step)];
                Some(view)
            }
            "Slice" => {
                let mut view = View::of(g, x)?;
                let list = |i: usize| g.constant(node.input(i)?)?.to_i64_vec().ok();
                let ([start], [along]) = (&list(1)?[..], &list(3)?[..]) else { return None };
                if node.input(4).is_some() && list(4)? != [1] {
                    return None;
                }
                let axis = axis(*along, view.axes.len())?;
                let (n, step) = single(&view.axes[axis])?;
                let start = if *start < 0 { start + n.as_const()? } else { *start };
                view.at += start * step.as_const()?;
                view.axes[axis] = vec![(g.dims(v)?[axis].clone(), step)];
                (start >= 0).then_some(view)
            }
            _ => None,
        }
    }
}

fn axis(a: i64, rank: usize) -> Option<usize> {
    usize::try_from(if a < 0 { a + rank as i64 } else { a }).ok().filter(|&a| a < rank)
}

/// The steps of an axis as one, where they are even.
fn single(steps: &Steps) -> Option<(Dim, Dim)> {
    let mut all = steps.iter().filter(|(n, _)| !n.is(1)).rev();
    let Some((mut n, step)) = all.next().cloned() else { return Some((Dim::Const(1), Dim::Const(0))) };
    for (outer, by) in all {
        if *by != n.clone() * step.clone() {
            return None;
        }
        n = n * outer.clone();
    }
    Some((n, step))
}

/// Deals steps out to axes of these sizes, cutting one where an axis ends inside of it.
fn regroup(steps: Steps, dims: &[Dim]) -> Option<Vec<Steps>> {
    let mut left: Vec<(Dim, Dim)> = steps.into_iter().filter(|(n, _)| !n.is(1)).rev().collect();
    let mut axes = Vec::with_capacity(dims.len());
    for d in dims {
        let (mut taken, mut missing) = (Vec::new(), d.clone());
        while !missing.is(1) {
            let (n, step) = left.pop()?;
            if let Some(rest) = missing.divide_exactly(&n) {
                missing = rest;
                taken.push((n, step));
            } else {
                let rest = n.divide_exactly(&missing)?;
                taken.push((missing, step.clone() * rest.clone()));
                left.push((rest, step));
                missing = Dim::Const(1);
            }
        }
        axes.push(taken);
    }
    left.is_empty().then_some(axes)
}

/// Heads in rows: the value that holds them, the columns of a row, the column of the first head.
struct Rows {
    root: ValueId,
    width: i64,
    at: i64,
    heads: i64,
    size: i64,
    /// Batches and rows of a batch.
    sizes: [Dim; 2],
    batch_first: bool,
}

/// `v` [batch, heads, length, size] as heads in rows.
fn rows(g: &Graph, v: ValueId) -> Option<Rows> {
    let view = View::of(g, v)?;
    let [batch, heads, length, size] = &view.axes.iter().map(single).collect::<Option<Vec<_>>>()?[..] else {
        return None;
    };
    let (n, d) = (heads.0.as_const()?, size.0.as_const()?);
    let neighbours = (d == 1 || size.1.is(1)) && (n == 1 || heads.1.is(d));
    let count = g.dims(view.root)?.iter().cloned().fold(Dim::Const(1), |a, b| a * b);
    let all = batch.0.clone() * length.0.clone();
    let width = count.divide_exactly(&all)?.as_const()?;
    let apart = |steps: &(Dim, Dim), by: Dim| steps.0.is(1) || steps.1 == by;
    let batch_first = apart(length, Dim::from(width)) && apart(batch, length.0.clone() * Dim::from(width));
    let length_first = apart(batch, Dim::from(width)) && apart(length, batch.0.clone() * Dim::from(width));
    let fits = neighbours && (batch_first || length_first) && view.at >= 0 && view.at + n * d <= width;
    fits.then(|| Rows {
        root: view.root,
        width,
        at: view.at,
        heads: n,
        size: d,
        sizes: [batch.0.clone(), length.0.clone()],
        batch_first,
    })
}

fn in_place(rw: &mut Rewrite, id: NodeId) -> Result<bool> {
    let g = &rw.model.graph;
    let node = &g[id];
    if node.attrs.string_or("layout", "bhsd")? != "bhsd" {
        return Ok(false);
    }
    let Some(y) = node.output(0) else { return Ok(false) };
    let Some(found) = (0..3).map(|i| rows(g, node.input(i)?)).collect::<Option<Vec<_>>>() else { return Ok(false) };
    let (Some(dims), [q, k, v]) = (g.dims(y).map(<[Dim]>::to_vec), &found[..]) else { return Ok(false) };
    // Rows of every operand lie the same way: with one batch both ways are the same.
    let either = |r: &Rows| r.sizes[0].is(1) || r.sizes[1].is(1);
    let batch_first = found.iter().all(|r| r.batch_first);
    if !batch_first && !found.iter().all(|r| !r.batch_first || either(r)) {
        return Ok(false);
    }
    let attrs = node.attrs.clone();
    let attrs = attrs.with("layout", if batch_first { "bsw" } else { "sbw" });
    let attrs = attrs.with("heads", q.heads).with("kv_heads", k.heads).with("size", q.size).with("value_size", v.size);
    let attrs = attrs.with("at", vec![q.at, k.at, v.at]);
    let mask = node.input(3);
    let mut b = rw.builder(id);
    let mut inputs = Vec::new();
    for r in &found {
        let [batch, length] = r.sizes.clone();
        let (first, second) = if batch_first { (batch, length) } else { (length, batch) };
        inputs.push(Some(b.reshape(r.root, &[first, second, Dim::from(r.width)])?));
    }
    inputs.extend(mask.map(Some));
    let out = b.op_multi("oxrt.Attention", &inputs, attrs, 1)?[0];
    let [batch, heads, length, size] = &dims[..] else { return Ok(false) };
    let (first, second) = if batch_first { (batch, length) } else { (length, batch) };
    let out = b.reshape(out, &[first.clone(), second.clone(), heads.clone(), size.clone()])?;
    let out = b.transpose(out, if batch_first { &[0, 2, 1, 3] } else { &[1, 2, 0, 3] })?;
    rw.model.graph.remove_node(id);
    rw.model.graph.replace_value(y, out);
    Ok(true)
}

/// A product that can be one part of a larger one.
struct Part {
    node: NodeId,
    x: ValueId,
    /// [n, k] or [k, n].
    weights: Tensor,
    turned: bool,
    bias: Option<Tensor>,
    n: usize,
}

/// The product that makes `v`; a Reshape that alone reads it may lie between.
fn product_behind(g: &Graph, v: ValueId) -> Option<NodeId> {
    let made = match made_by(g, v, "Reshape") {
        Some(r) => g[r].input(0).filter(|&inner| only_user(g, inner).is_some())?,
        None => v,
    };
    made_by(g, made, "oxrt.Gemm")
}

/// The product behind rows of heads that nobody else reads.
fn part(g: &Graph, rows: ValueId) -> Option<Part> {
    only_user(g, rows)?;
    let id = product_behind(g, rows)?;
    let node = &g[id];
    let plain = node.attrs.iter().all(|(name, _)| name == "trans_b") && node.input(3).is_none();
    let weights = g.constant(node.input(1)?)?.clone();
    let turned = node.attrs.bool_or("trans_b", false).ok()?;
    let n = *weights.shape().get(usize::from(!turned))?;
    let bias = match node.input(2) {
        Some(b) => Some(g.constant(b).filter(|t| t.shape() == [n])?.clone()),
        None => None,
    };
    let floats = weights.rank() == 2 && weights.dtype() == DType::F32;
    (plain && floats).then_some(Part { node: id, x: node.input(0)?, weights, turned, bias, n })
}

fn join(rw: &mut Rewrite, id: NodeId) -> Result<bool> {
    let g = &rw.model.graph;
    let node = &g[id];
    if !matches!(node.attrs.string_or("layout", "bhsd")?, "bsw" | "sbw") {
        return Ok(false);
    }
    let inputs: Vec<ValueId> = (0..3).filter_map(|i| node.input(i)).collect();
    let Some(parts) = inputs.iter().map(|&v| part(g, v)).collect::<Option<Vec<_>>>() else { return Ok(false) };
    let [q, k, v] = &parts[..] else { return Ok(false) };
    let alike = |p: &Part| p.x == q.x && p.turned == q.turned;
    if q.node == k.node || k.node == v.node || q.node == v.node || !alike(k) || !alike(v) {
        return Ok(false);
    }
    let Some(dims) = g.dims(inputs[0]).map(<[Dim]>::to_vec) else { return Ok(false) };
    let n: usize = parts.iter().map(|p| p.n).sum();
    let depth = q.weights.len() / q.n.max(1);
    let mut data = Vec::with_capacity(n * depth);
    if q.turned {
        parts.iter().for_each(|p| data.extend_from_slice(p.weights.as_slice::<f32>()));
    } else {
        for r in 0..depth {
            parts.iter().for_each(|p| data.extend_from_slice(&p.weights.as_slice::<f32>()[r * p.n..(r + 1) * p.n]));
        }
    }
    let shape = if q.turned { [n, depth] } else { [depth, n] };
    let weights = Tensor::from_slice(&shape, &data);
    let bias = parts.iter().any(|p| p.bias.is_some()).then(|| {
        let one = |p: &Part| p.bias.as_ref().map_or_else(|| vec![0.0; p.n], |b| b.as_slice::<f32>().to_vec());
        Tensor::from_slice(&[n], &parts.iter().flat_map(one).collect::<Vec<f32>>())
    });
    let at = node.attrs.ints("at")?.map_or_else(|| vec![0; 3], <[i64]>::to_vec);
    let at = vec![at[0], at[1] + q.n as i64, at[2] + (q.n + k.n) as i64];
    let attrs = node.attrs.clone().with("at", at);
    let (x, mask, name) = (q.x, node.input(3), g[q.node].name.to_string());
    let turned = q.turned;
    let Some(y) = node.output(0) else { return Ok(false) };
    let mut b = rw.builder(id);
    let weights_name = b.graph.unused_value_name(&format!("{name}/joined"));
    let w = b.graph.add_constant(&weights_name, weights);
    let mut operands = vec![Some(x), Some(w)];
    if let Some(bias) = bias {
        let bias_name = b.graph.unused_value_name(&format!("{name}/joined_bias"));
        operands.push(Some(b.graph.add_constant(&bias_name, bias)));
    }
    let product_attrs = if turned { Attrs::new().with("trans_b", 1) } else { Attrs::new() };
    let product = b.op_multi("oxrt.Gemm", &operands, product_attrs, 1)?[0];
    let mut wide = dims;
    wide[2] = Dim::from(n as i64);
    let product = b.reshape(product, &wide)?;
    let mut operands = vec![Some(product); 3];
    operands.extend(mask.map(Some));
    let out = b.op_multi("oxrt.Attention", &operands, attrs, 1)?[0];
    rw.model.graph.remove_node(id);
    rw.model.graph.replace_value(y, out);
    Ok(true)
}

/// x [b, s, w], when `v` is its rows in the order [s, b], with or without a Reshape that merges both axes.
fn turned_rows(g: &Graph, v: ValueId) -> Option<ValueId> {
    let dims = g.dims(v)?;
    let (inner, merged) = match (made_by(g, v, "Reshape"), dims.len()) {
        (Some(r), 2) => (g[r].input(0)?, true),
        _ => (v, false),
    };
    let turn = made_by(g, inner, "Transpose").filter(|&t| perm_of(g, t).as_deref() == Some(&[1, 0, 2]))?;
    let [s, b, w] = g.dims(inner)? else { return None };
    let fits = if merged { dims[0] == s.clone() * b.clone() && dims[1] == *w } else { dims.len() == 3 };
    fits.then(|| g[turn].input(0)).flatten()
}

/// Attention over rows in the order [length, batch], made by a product of turned rows, takes them unturned.
fn unturn(rw: &mut Rewrite, id: NodeId) -> Result<bool> {
    let g = &rw.model.graph;
    let node = &g[id];
    if node.attrs.string_or("layout", "bhsd")? != "sbw" {
        return Ok(false);
    }
    let (Some(rows), Some(y)) = (node.input(0), node.output(0)) else { return Ok(false) };
    if node.input(1) != Some(rows) || node.input(2) != Some(rows) || g[rows].users().len() != 1 || g.is_output(rows) {
        return Ok(false);
    }
    let Some(gemm) = product_behind(g, rows) else { return Ok(false) };
    let Some(x) = g[gemm].input(0).and_then(|v| turned_rows(g, v)).filter(|_| g[gemm].input(3).is_none()) else {
        return Ok(false);
    };
    let attrs = node.attrs.clone().with("layout", "bsw");
    let (mask, product_attrs) = (node.input(3), g[gemm].attrs.clone());
    let mut operands = g[gemm].inputs().to_vec();
    operands[0] = Some(x);
    let mut b = rw.builder(id);
    let rows = b.op_multi("oxrt.Gemm", &operands, product_attrs, 1)?[0];
    let mut operands = vec![Some(rows); 3];
    operands.extend(mask.map(Some));
    let out = b.op_multi("oxrt.Attention", &operands, attrs, 1)?[0];
    let out = b.transpose(out, &[1, 0, 2])?;
    rw.model.graph.remove_node(id);
    rw.model.graph.replace_value(y, out);
    Ok(true)
}

/// A product between two turns of [s, b, w] needs neither.
fn product_unturned(rw: &mut Rewrite, id: NodeId) -> Result<bool> {
    let g = &rw.model.graph;
    if perm_of(g, id).as_deref() != Some(&[1, 0, 2]) {
        return Ok(false);
    }
    let (Some(turned), Some(y)) = (g[id].input(0), g[id].output(0)) else { return Ok(false) };
    let Some(gemm) = only_user(g, turned).and_then(|_| product_behind(g, turned)) else { return Ok(false) };
    let node = &g[gemm];
    let Some(x) = node.input(0).and_then(|v| turned_rows(g, v)).filter(|_| node.input(3).is_none()) else {
        return Ok(false);
    };
    let (Some(before), Some(after)) = (g.dims(x), g.dims(y)) else { return Ok(false) };
    if before.len() != 3 || after.len() != 3 || before[..2] != after[..2] {
        return Ok(false);
    }
    let attrs = node.attrs.clone();
    let mut operands = node.inputs().to_vec();
    operands[0] = Some(x);
    let out = rw.builder(id).op_multi("oxrt.Gemm", &operands, attrs, 1)?[0];
    rw.model.graph.remove_node(id);
    rw.model.graph.replace_value(y, out);
    Ok(true)
}
