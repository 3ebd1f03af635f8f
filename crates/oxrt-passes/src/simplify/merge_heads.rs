//! Queries, keys and values of attention come from one product, are taken apart into heads together, and parted last.

use crate::driver::{Rewrite, Rule};
use crate::query::{made_by, only_user, pair, perm_of};
use crate::simplify::merge_reshapes::target_between;
use oxrt_ir::{Attrs, DType, Dim, Graph, NodeId, Tensor, ValueId, ValueType};
use oxrt_tensor::Result;

/// Products of one matrix with several weights, all read as heads, are one product and a `Split`.
pub(crate) const JOIN: Rule = Rule { name: "join-products", ops: &["MatMul"], apply: join };

/// What is done to each part of a `Split` alike is done before it.
pub(crate) const SINK: Rule = Rule { name: "sink-split", ops: &["Split"], apply: sink };

/// `[b, n, 3, heads, size]`, turned and taken apart by `Gather` or `Split` and `Squeeze`, needs no axis for its parts.
pub(crate) const PARTS: Rule = Rule { name: "split-heads", ops: &["Transpose"], apply: parts };

/// Weights above this many bytes stay where they lie, mapped from their file.
const LARGEST: usize = 16 << 20;

/// One product with its bias.
struct Product {
    /// The product and the addition.
    nodes: Vec<NodeId>,
    /// Result of the last of these.
    y: ValueId,
    /// [k, n]
    weights: Tensor,
    bias: Option<Tensor>,
}

impl Product {
    fn width(&self) -> usize {
        self.weights.shape()[1]
    }
}

fn product(g: &Graph, id: NodeId) -> Option<Product> {
    let (_, w) = pair(g, id)?;
    let weights = g.constant(w).filter(|t| t.rank() == 2 && t.dtype() == DType::F32)?.clone();
    let made = g[id].output(0)?;
    let n = weights.shape()[1];
    let bias = only_user(g, made).filter(|&u| &*g[u].op == "Add").and_then(|add| {
        let (a, b) = pair(g, add)?;
        let bias = g.constant(if a == made { b } else { a })?;
        let fits = bias.shape() == [n] && bias.dtype() == DType::F32 && g.dims(g[add].output(0)?)? == g.dims(made)?;
        fits.then(|| (add, bias.clone()))
    });
    let (nodes, bias) = match bias {
        Some((add, bias)) => (vec![id, add], Some(bias)),
        None => (vec![id], None),
    };
    let y = g[*nodes.last()?].output(0)?;
    // Parts of attention: each is read once, as heads.
    let read = only_user(g, y).filter(|&u| &*g[u].op == "Reshape" && g[u].input(0) == Some(y))?;
    let (x, heads) = (g.dims(y)?, g.dims(g[read].output(0)?)?);
    let fits = heads.len() == x.len() + 1 && heads[..x.len() - 1] == x[..x.len() - 1];
    fits.then_some(Product { nodes, y, weights, bias })
}

fn join(rw: &mut Rewrite, id: NodeId) -> Result<bool> {
    let g = &rw.model.graph;
    let Some((x, _)) = pair(g, id) else { return Ok(false) };
    if g[x].is_constant() || g.dims(x).is_none_or(|d| d.len() < 2) {
        return Ok(false);
    }
    let mut readers: Vec<NodeId> = g[x].users().to_vec();
    readers.sort_unstable();
    readers.dedup();
    let of_x = |&n: &NodeId| &*g[n].op == "MatMul" && g[n].input(0) == Some(x) && g[n].input(1) != Some(x);
    let parts: Vec<Product> = readers.iter().filter(|n| of_x(n)).filter_map(|&n| product(g, n)).collect();
    let biased = parts.iter().any(|p| p.bias.is_some());
    let before: usize = parts.iter().map(|p| p.nodes.len()).sum();
    let bytes: usize = parts.iter().map(|p| p.weights.bytes().len()).sum();
    let shared = |p: &Product| g[p.nodes[0]].input(1).is_some_and(|w| g[w].users().len() > 1);
    if !parts.iter().any(|p| p.nodes[0] == id) || before <= 2 + usize::from(biased) || bytes > LARGEST {
        return Ok(false);
    }
    if parts.iter().any(shared) {
        return Ok(false);
    }
    let depth = parts[0].weights.shape()[0];
    let widths: Vec<i64> = parts.iter().map(|p| p.width() as i64).collect();
    let total: usize = parts.iter().map(Product::width).sum();
    let mut data = Vec::with_capacity(total * depth);
    for r in 0..depth {
        for p in &parts {
            data.extend_from_slice(&p.weights.as_slice::<f32>()[r * p.width()..(r + 1) * p.width()]);
        }
    }
    let one = |p: &Product| p.bias.as_ref().map_or_else(|| vec![0.0; p.width()], |b| b.as_slice::<f32>().to_vec());
    let bias: Vec<f32> = parts.iter().flat_map(one).collect();
    let mut b = rw.builder(id);
    let w = b.constant(Tensor::from_slice(&[depth, total], &data));
    let mut made = b.call("MatMul", &[x, w])?;
    if biased {
        let c = b.constant(Tensor::from_slice(&[total], &bias));
        made = b.call("Add", &[made, c])?;
    }
    let sizes = b.ints(&widths);
    let outputs = b.op_multi("Split", &[Some(made), Some(sizes)], Attrs::new().with("axis", -1), parts.len())?;
    let g = &mut rw.model.graph;
    for (p, new) in parts.iter().zip(outputs) {
        g.remove_nodes(&p.nodes);
        g[new].ty = g[p.y].ty.clone();
        g.replace_value(p.y, new);
    }
    Ok(true)
}

/// The one reader of each part.
fn readers(g: &Graph, split: NodeId) -> Option<Vec<NodeId>> {
    let parts: Option<Vec<ValueId>> = g[split].outputs().iter().copied().collect();
    let read: Vec<NodeId> = parts?.iter().map(|&v| only_user(g, v)).collect::<Option<_>>()?;
    let mut distinct = read.clone();
    distinct.sort_unstable();
    distinct.dedup();
    let alone = |&n: &NodeId| g[n].output(0).is_some() && g[n].outputs().len() == 1;
    (read.len() > 1 && distinct.len() == read.len() && read.iter().all(alone)).then_some(read)
}

/// Axis of a node on a value of this rank.
fn axis_of(g: &Graph, id: NodeId, rank: usize) -> Option<usize> {
    let axis = g[id].attrs.int_or("axis", 0).ok()?;
    usize::try_from(if axis < 0 { axis + rank as i64 } else { axis }).ok().filter(|&a| a < rank)
}

fn sink(rw: &mut Rewrite, id: NodeId) -> Result<bool> {
    let g = &rw.model.graph;
    let Some(read) = readers(g, id) else { return Ok(false) };
    match &*g[read[0]].op {
        "Reshape" => sink_reshape(rw, id, &read),
        "Transpose" => sink_transpose(rw, id, &read),
        _ => Ok(false),
    }
}

/// The last axis is parted, and each part becomes heads.
fn sink_reshape(rw: &mut Rewrite, id: NodeId, read: &[NodeId]) -> Result<bool> {
    let g = &rw.model.graph;
    let Some((x, dims, heads)) = parted_heads(g, id, read) else { return Ok(false) };
    let ys: Vec<ValueId> = read.iter().filter_map(|&n| g[n].output(0)).collect();
    let Some(target) = target_between(g.dims(x).unwrap_or_default(), &dims) else { return Ok(false) };
    let axis = dims.len() as i64 - 2;
    let mut b = rw.builder(id);
    let whole = b.reshape_const(x, &target)?;
    b.graph[whole].ty = ValueType::tensor(b.dtype(whole)?, dims);
    let sizes = b.ints(&heads);
    let outputs = b.op_multi("Split", &[Some(whole), Some(sizes)], Attrs::new().with("axis", axis), ys.len())?;
    replace_all(&mut rw.model.graph, id, read, &ys, outputs);
    Ok(true)
}

/// Input of the `Split`, its dimensions with all heads, heads of each part.
fn parted_heads(g: &Graph, id: NodeId, read: &[NodeId]) -> Option<(ValueId, Vec<Dim>, Vec<i64>)> {
    let x = g[id].input(0)?;
    let dx = g.dims(x)?;
    let rank = dx.len();
    if axis_of(g, id, rank)? + 1 != rank {
        return None;
    }
    let mut heads = Vec::new();
    let mut size = None;
    for (&n, &part) in read.iter().zip(g[id].outputs()) {
        let (part, y) = (part?, g[n].output(0)?);
        let (dp, dy) = (g.dims(part)?, g.dims(y)?);
        let alike = &*g[n].op == "Reshape" && g[n].input(0) == Some(part) && dy.len() == rank + 1;
        if !alike || dy[..rank - 1] != dx[..rank - 1] {
            return None;
        }
        let (h, d) = (dy[rank - 1].as_const()?, dy[rank].as_const()?);
        if dp[rank - 1].as_const()? != h * d || *size.get_or_insert(d) != d {
            return None;
        }
        heads.push(h);
    }
    let mut dims = dx[..rank - 1].to_vec();
    dims.extend([Dim::Const(heads.iter().sum()), Dim::Const(size?)]);
    Some((x, dims, heads))
}

fn sink_transpose(rw: &mut Rewrite, id: NodeId, read: &[NodeId]) -> Result<bool> {
    let g = &rw.model.graph;
    let (Some(x), Some(perms)) = (g[id].input(0), read.iter().map(|&n| perm_of(g, n)).collect::<Option<Vec<_>>>())
    else {
        return Ok(false);
    };
    let Some(rank) = g.dims(x).map(<[Dim]>::len) else { return Ok(false) };
    let Some(axis) = axis_of(g, id, rank).filter(|_| perms.iter().all(|p| p.len() == rank)) else { return Ok(false) };
    // The most frequent way; the others turn once more.
    let times = |p: &Vec<usize>| perms.iter().filter(|q| *q == p).count();
    let Some(common) = perms.iter().max_by_key(|p| times(p)).filter(|p| times(p) > 1).cloned() else {
        return Ok(false);
    };
    let Some(new_axis) = common.iter().position(|&a| a == axis) else { return Ok(false) };
    let ys: Vec<ValueId> = read.iter().filter_map(|&n| g[n].output(0)).collect();
    let sizes = g[id].input(1);
    let mut attrs = g[id].attrs.clone();
    attrs.set("axis", new_axis as i64);
    let mut b = rw.builder(id);
    let turned = b.transpose(x, &common)?;
    let outputs = b.op_multi("Split", &[Some(turned), sizes], attrs, ys.len())?;
    let mut finished = Vec::new();
    for (part, perm) in outputs.into_iter().zip(&perms) {
        let again: Vec<usize> = perm.iter().filter_map(|&a| common.iter().position(|&c| c == a)).collect();
        finished.push(if perm == &common { part } else { b.transpose(part, &again)? });
    }
    replace_all(&mut rw.model.graph, id, read, &ys, finished);
    Ok(true)
}

fn replace_all(g: &mut Graph, split: NodeId, read: &[NodeId], ys: &[ValueId], news: Vec<ValueId>) {
    g.remove_nodes(read);
    g.remove_node(split);
    for (&y, new) in ys.iter().zip(news) {
        g[new].ty = g[y].ty.clone();
        g.replace_value(y, new);
    }
}

/// One part of what a Transpose gives: the nodes that take it out, in order of the parts.
struct Taken {
    nodes: Vec<NodeId>,
    ys: Vec<ValueId>,
}

/// Readers that take all parts of axis `axis` of `v` out, each once.
fn taken_apart(g: &Graph, v: ValueId, axis: usize) -> Option<Taken> {
    let rank = g.dims(v)?.len();
    let count = usize::try_from(g.dims(v)?[axis].as_const()?).ok()?;
    if g.is_output(v) {
        return None;
    }
    let mut ys = vec![None; count];
    let mut nodes = Vec::new();
    for &n in g[v].users() {
        nodes.push(n);
        match &*g[n].op {
            "Gather" if axis_of(g, n, rank)? == axis && g[n].input(0) == Some(v) => {
                let index = g.constant(g[n].input(1)?).filter(|t| t.rank() == 0)?.to_i64_vec().ok()?[0];
                let index = usize::try_from(if index < 0 { index + count as i64 } else { index }).ok()?;
                ys.get_mut(index)?.replace(g[n].output(0)?).is_none().then_some(())?;
            }
            "Split" if axis_of(g, n, rank)? == axis && g[n].outputs().len() == count => {
                for (i, part) in g[n].outputs().iter().enumerate() {
                    let part = (*part)?;
                    let squeeze = only_user(g, part).filter(|&s| matches!(&*g[s].op, "Squeeze" | "Reshape"))?;
                    let y = g[squeeze].output(0)?;
                    let mut without = g.dims(part)?.to_vec();
                    without.remove(axis).is(1).then_some(())?;
                    (g.dims(y)? == without).then_some(())?;
                    nodes.push(squeeze);
                    ys[i].replace(y).is_none().then_some(())?;
                }
            }
            _ => return None,
        }
    }
    let ys: Vec<ValueId> = ys.into_iter().collect::<Option<_>>()?;
    (count > 1).then_some(Taken { nodes, ys })
}

fn parts(rw: &mut Rewrite, id: NodeId) -> Result<bool> {
    let Some((x, axis, taken, perm, dims, count)) = heads_by_axis(&rw.model.graph, id) else { return Ok(false) };
    let from = rw.model.graph.dims(x).unwrap_or_default().to_vec();
    let Some(target) = target_between(&from, &dims) else { return Ok(false) };
    let heads = dims[axis].as_const().unwrap_or(0) / count;
    let mut b = rw.builder(id);
    let whole = b.reshape_const(x, &target)?;
    b.graph[whole].ty = ValueType::tensor(b.dtype(whole)?, dims);
    let turned = b.transpose(whole, &perm)?;
    let sizes = b.ints(&vec![heads; count as usize]);
    let place = perm.iter().position(|&p| p == axis).unwrap_or(0) as i64;
    let outputs =
        b.op_multi("Split", &[Some(turned), Some(sizes)], Attrs::new().with("axis", place), count as usize)?;
    let g = &mut rw.model.graph;
    g.remove_nodes(&taken.nodes);
    for (&y, new) in taken.ys.iter().zip(outputs) {
        g[new].ty = g[y].ty.clone();
        g.replace_value(y, new);
    }
    Ok(true)
}

type Heads = (ValueId, usize, Taken, Vec<usize>, Vec<Dim>, i64);

/// Input of the Reshape before a Transpose, the axis that parts and heads share, the parts, how that is turned, its dimensions,
/// and the number of parts.
fn heads_by_axis(g: &Graph, id: NodeId) -> Option<Heads> {
    let (apart, turned) = (g[id].input(0)?, g[id].output(0)?);
    let reshape = made_by(g, apart, "Reshape").filter(|_| only_user(g, apart) == Some(id))?;
    let (x, perm, dims) = (g[reshape].input(0)?, perm_of(g, id)?, g.dims(apart)?);
    // The axis of parts is the one before that of heads: both become one.
    (0..perm.len()).find_map(|place| {
        let axis = perm[place];
        let taken = taken_apart(g, turned, place)?;
        let (count, heads) = (dims[axis].as_const()?, dims.get(axis + 1)?.as_const()?);
        let mut joined = dims.to_vec();
        joined.remove(axis + 1);
        joined[axis] = Dim::Const(count * heads);
        let rest = perm.iter().filter(|&&p| p != axis).map(|&p| if p > axis { p - 1 } else { p }).collect();
        // Fewer nodes than before: with a `Split` and `Squeeze`s or several `Gather`s there were two at least.
        (taken.nodes.len() > 1).then_some((x, axis, taken, rest, joined, count))
    })
}
