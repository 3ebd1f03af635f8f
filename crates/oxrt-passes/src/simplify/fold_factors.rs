//! Multiplication by constants, and addition of constants, become part of constants that stand before them: the weights of a
//! product, the scale and shift of a normalisation, another factor.

use crate::driver::{Rewrite, Rule};
use crate::query::{only_user, pair, perm_of, scalar};
use oxrt_ir::{Attrs, DType, Graph, NodeId, Tensor, ValueId};
use oxrt_ops::eval::{Datum, eval_node};
use oxrt_tensor::Result;

/// `Mul` and `Div` by a number, or by a constant along one axis.
pub(crate) const FACTORS: Rule = Rule { name: "fold-factors", ops: &["Mul", "Div"], apply: factors };

/// `Add` and `Sub` of a constant along one axis after something that adds a constant already.
pub(crate) const SHIFTS: Rule = Rule { name: "fold-shifts", ops: &["Add", "Sub"], apply: shifts };

/// Constants above this many bytes stay where they lie, mapped from their file.
const LARGEST: usize = 16 << 20;

/// Longest way from the multiplication to the constant.
const MAX_STEPS: usize = 8;

/// Numbers that differ along one axis at most.
#[derive(Clone)]
struct Along {
    /// Axis of the value at hand; `None` when all are one number.
    axis: Option<usize>,
    values: Vec<f32>,
}

impl Along {
    /// A constant operand of a result of rank `rank`.
    fn of(t: &Tensor, rank: usize) -> Option<Along> {
        if t.dtype() != DType::F32 || t.is_empty() || t.rank() > rank || t.bytes().len() > LARGEST {
            return None;
        }
        let values = t.as_slice::<f32>().to_vec();
        if values.iter().all(|v| v == &values[0]) {
            return Some(Along { axis: None, values: values[..1].to_vec() });
        }
        let mut long = t.shape().iter().enumerate().filter(|(_, d)| **d != 1);
        match (long.next(), long.next()) {
            (Some((i, _)), None) => Some(Along { axis: Some(i + rank - t.rank()), values }),
            _ => None,
        }
    }

    fn map(&self, f: impl Fn(f32) -> f32) -> Along {
        Along { axis: self.axis, values: self.values.iter().map(|&v| f(v)).collect() }
    }

    /// As a tensor that broadcasts along axis `axis` of one of rank `rank`.
    fn spread(&self, axis: usize, rank: usize) -> Tensor {
        let mut shape = vec![1; rank];
        if self.values.len() > 1 {
            shape[axis] = self.values.len();
        }
        Tensor::from_slice(&shape, &self.values)
    }
}

/// What makes a value larger by factors.
enum Edit {
    /// `op` (`Mul`, `Add` …) on the constant in input `input` with a tensor that broadcasts to it.
    Constant { node: NodeId, input: usize, op: &'static str, by: Tensor },
    /// Numbers among the attributes.
    Floats { node: NodeId, set: Vec<(&'static str, f32)> },
    /// A value that holds other numbers than before: its name goes.
    Changed(ValueId),
}

fn factors(rw: &mut Rewrite, id: NodeId) -> Result<bool> {
    let g = &rw.model.graph;
    let (Some((a, b)), Some(y)) = (pair(g, id), g[id].output(0)) else { return Ok(false) };
    let divides = &*g[id].op == "Div";
    let (x, c) = if divides || g[b].is_constant() { (a, b) } else { (b, a) };
    let Some(by) = operand(g, x, c, y) else { return Ok(false) };
    if divides && by.values.contains(&0.0) {
        return Ok(false);
    }
    let by = if divides { by.map(|v| 1.0 / v) } else { by };
    if !by.values.iter().all(|v| v.is_finite() && *v != 0.0) {
        return Ok(false);
    }
    let mut edits = Vec::new();
    if scale(g, x, id, &by, rw.fold_limit, &mut edits, 0).is_none() {
        return Ok(false);
    }
    finish(rw, id, x, y, edits)
}

fn shifts(rw: &mut Rewrite, id: NodeId) -> Result<bool> {
    let g = &rw.model.graph;
    let (Some((a, b)), Some(y)) = (pair(g, id), g[id].output(0)) else { return Ok(false) };
    let subtracts = &*g[id].op == "Sub";
    let (x, c) = if subtracts || g[b].is_constant() { (a, b) } else { (b, a) };
    let Some(by) = operand(g, x, c, y) else { return Ok(false) };
    let by = if subtracts { by.map(|v| -v) } else { by };
    let mut edits = Vec::new();
    if shift(g, x, id, &by, rw.fold_limit, &mut edits, 0).is_none() {
        return Ok(false);
    }
    finish(rw, id, x, y, edits)
}

/// The constant operand `c` of a result `y` that has the dimensions of `x`.
fn operand(g: &Graph, x: ValueId, c: ValueId, y: ValueId) -> Option<Along> {
    let dims = g.dims(x)?;
    let same = g.dims(y)? == dims && g[x].ty == g[y].ty && !g[x].is_constant();
    same.then(|| Along::of(g.constant(c)?, dims.len())).flatten()
}

fn finish(rw: &mut Rewrite, id: NodeId, x: ValueId, y: ValueId, edits: Vec<Edit>) -> Result<bool> {
    let g = &mut rw.model.graph;
    // All of it or nothing: constants first, which may fail.
    let mut made = Vec::new();
    for edit in &edits {
        if let Edit::Constant { node, input, op, by } = edit {
            let Some(old) = g[*node].input(*input).and_then(|v| g.constant(v)) else { return Ok(false) };
            let Some(new) = combine(op, old, by) else { return Ok(false) };
            made.push((*node, *input, new));
        }
    }
    for (node, input, tensor) in made {
        let base = g[node].input(input).map_or_else(String::new, |v| g[v].name.clone());
        let name = g.unused_value_name(&base);
        let v = g.add_constant(&name, tensor);
        g.set_input(node, input, Some(v));
    }
    for edit in edits {
        match edit {
            Edit::Floats { node, set } => set.into_iter().for_each(|(name, value)| g[node].attrs.set(name, value)),
            Edit::Changed(v) if v != x => {
                let name = g.unused_value_name(&format!("{}_folded", g[v].name));
                g[v].name = name;
                g[v].made_up = true;
            }
            _ => {}
        }
    }
    g.remove_node(id);
    g.replace_value(y, x);
    Ok(true)
}

/// A constant with another one added, or multiplied by it, elementwise with broadcasting.
fn combine(op: &str, a: &Tensor, b: &Tensor) -> Option<Tensor> {
    // Weights are large: the usual case, in which `b` repeats along the elements of `a`, goes straight.
    let long = b.shape().iter().position(|&d| d != 1);
    let from_back = long.map_or(0, |i| b.rank() - i);
    if b.rank() <= a.rank() && (b.len() == 1 || a.shape()[a.rank() - from_back] == b.len()) {
        let inner = if b.len() == 1 { 1 } else { a.shape()[a.rank() - from_back + 1..].iter().product::<usize>() };
        let (from, by) = (a.as_slice::<f32>(), b.as_slice::<f32>());
        let at = |i: usize| by[i / inner.max(1) % by.len()];
        let values: Vec<f32> = match op {
            "Mul" => from.iter().enumerate().map(|(i, x)| x * at(i)).collect(),
            _ => from.iter().enumerate().map(|(i, x)| x + at(i)).collect(),
        };
        return Some(Tensor::from_slice(a.shape(), &values));
    }
    let mut g = Graph::new("");
    let operands = [a, b].map(|t| Some(g.add_constant("c", t.clone())));
    let id = g.add_node(op, "n", &operands, Attrs::new(), 1);
    let data = [a, b].map(|t| Some(Datum::Tensor(t.clone())));
    match eval_node(&g[id], &data, &|_| None).ok()?.into_iter().next()? {
        Datum::Tensor(t) => Some(t),
        _ => None,
    }
}

/// Elements of what two shapes broadcast to.
fn broadcast_len(a: &[usize], b: &[usize]) -> usize {
    let rank = a.len().max(b.len());
    let size = |s: &[usize], i: usize| (i + s.len()).checked_sub(rank).map_or(1, |i| s[i]);
    (0..rank).map(|i| size(a, i).max(size(b, i))).product()
}

/// Whether the constant in input `i` may be replaced by one of `len` bytes.
fn replaceable(g: &Graph, id: NodeId, i: usize, fold_limit: usize) -> Option<&Tensor> {
    let v = g[id].input(i)?;
    let t = g.constant(v).filter(|t| t.dtype() == DType::F32)?;
    let shared = g[v].users().len() > 1 || g.is_output(v);
    (t.bytes().len() <= if shared { fold_limit.min(LARGEST) } else { LARGEST }).then_some(t)
}

/// The node that makes `v` and nothing else, when `reader` alone reads it and the way is not too long.
fn maker(g: &Graph, v: ValueId, reader: NodeId, steps: usize) -> Option<NodeId> {
    let (id, _) = g[v].producer()?;
    let one = only_user(g, v) == Some(reader) && g[id].outputs().iter().flatten().count() == 1;
    (one && steps <= MAX_STEPS).then_some(id)
}

/// `op` with `by` on the constant in input `i`, along its axis `axis` (or all of it).
fn constant(g: &Graph, id: NodeId, i: usize, axis: usize, op: &'static str, by: &Along, limit: usize) -> Option<Edit> {
    let t = replaceable(g, id, i, limit)?;
    let fits = by.values.len() == 1 || t.shape().get(axis) == Some(&by.values.len());
    fits.then(|| Edit::Constant { node: id, input: i, op, by: by.spread(axis, t.rank().max(1)) })
}

/// Multiplies `v`, which `reader` alone reads, by `by`. `None` where no constant before it takes that in.
fn scale(
    g: &Graph,
    v: ValueId,
    reader: NodeId,
    by: &Along,
    limit: usize,
    edits: &mut Vec<Edit>,
    steps: usize,
) -> Option<()> {
    let id = maker(g, v, reader, steps)?;
    edits.push(Edit::Changed(v));
    let node = &g[id];
    let rank = g.dims(v)?.len();
    let x = node.input(0)?;
    let next = |by: &Along, x: ValueId, edits: &mut Vec<Edit>| scale(g, x, id, by, limit, edits, steps + 1);
    let constant =
        |i, axis, edits: &mut Vec<Edit>| constant(g, id, i, axis, "Mul", by, limit).map(|edit| edits.push(edit));
    let along = |axis: usize| by.axis.is_none_or(|a| a == axis);
    match &*node.op {
        "Transpose" => {
            let perm = perm_of(g, id)?;
            next(&Along { axis: by.axis.map(|a| perm[a]), ..by.clone() }, x, edits)
        }
        "Reshape" | "Squeeze" | "Unsqueeze" | "Flatten" | "Identity" if by.axis.is_none() => next(by, x, edits),
        "Slice" | "Gather" if by.axis.is_none() && !g[x].is_constant() => next(by, x, edits),
        "Gather" if by.axis.is_none() => constant(0, 0, edits),
        "Relu" | "LeakyRelu" | "PRelu" | "GlobalAveragePool" | "AveragePool" | "MaxPool"
            if by.axis.is_none() && by.values[0] > 0.0 =>
        {
            next(by, x, edits)
        }
        "MatMul" => {
            let (a, b) = pair(g, id)?;
            let rank_of = |v: ValueId| g.dims(v).map(<[_]>::len);
            if g[b].is_constant() && rank_of(b) >= Some(2) && rank_of(a) >= Some(2) && rank >= 2 && along(rank - 1) {
                return constant(1, rank_of(b)? - 1, edits);
            }
            // A vector on the right leaves out the last axis: rows are then not the last but one.
            if g[a].is_constant() && rank_of(a) >= Some(2) && rank_of(b) >= Some(2) && rank >= 2 && along(rank - 2) {
                return constant(0, rank_of(a)? - 2, edits);
            }
            if by.axis.is_some() || a == b {
                return None;
            }
            let done = edits.len();
            for side in [a, b] {
                if next(by, side, edits).is_some() {
                    return Some(());
                }
                edits.truncate(done);
            }
            None
        }
        "Gemm" if along(1) => {
            let done = edits.len();
            let mut weights = || {
                constant(1, if node.attrs.bool_or("transB", false).ok()? { 0 } else { 1 }, edits)?;
                match node.input(2) {
                    Some(_) => constant(2, replaceable(g, id, 2, limit)?.rank().checked_sub(1)?, edits),
                    None => Some(()),
                }
            };
            if weights().is_some() {
                return Some(());
            }
            edits.truncate(done);
            if by.axis.is_some() {
                return None;
            }
            let float = |name: &str| node.attrs.float_or(name, 1.0).ok();
            let set = vec![("alpha", float("alpha")? * by.values[0]), ("beta", float("beta")? * by.values[0])];
            edits.push(Edit::Floats { node: id, set });
            Some(())
        }
        "Conv" if along(1) => {
            constant(1, 0, edits)?;
            if node.input(2).is_some() { constant(2, 0, edits) } else { Some(()) }
        }
        "BatchNormalization" if along(1) && !node.attrs.bool_or("training_mode", false).ok()? => {
            constant(1, 0, edits)?;
            constant(2, 0, edits)
        }
        "LayerNormalization" => {
            let axis = node.attrs.int_or("axis", -1).ok()?;
            let first = usize::try_from(if axis < 0 { axis + rank as i64 } else { axis }).ok()?;
            let at = by.axis.unwrap_or(first).checked_sub(first)?;
            let full = |i: usize| replaceable(g, id, i, limit).filter(|t| t.rank() == rank - first).map(|_| ());
            full(1)?;
            constant(1, at, edits)?;
            if node.input(2).is_some() { full(2).and_then(|()| constant(2, at, edits)) } else { Some(()) }
        }
        "Add" | "Sub" => {
            let (a, b) = pair(g, id)?;
            let (i, other) = if g[b].is_constant() { (1, a) } else { (0, b) };
            whole(g, id, i, by, rank, limit, edits)?;
            (g.dims(other)? == g.dims(v)?).then_some(())?;
            next(by, other, edits)
        }
        "Mul" => {
            let (_, b) = pair(g, id)?;
            whole(g, id, usize::from(g[b].is_constant()), by, rank, limit, edits)
        }
        "Div" => {
            let (a, b) = pair(g, id)?;
            match (g[a].is_constant(), g[b].is_constant()) {
                (true, _) => whole(g, id, 0, by, rank, limit, edits),
                (_, true) if scalar(g, b) != Some(0.0) => whole(g, id, 1, &by.map(|v| 1.0 / v), rank, limit, edits),
                _ => None,
            }
        }
        _ => None,
    }
}

/// Multiplies a constant operand of an elementwise node; it may take the factor's shape on.
fn whole(g: &Graph, id: NodeId, i: usize, by: &Along, rank: usize, limit: usize, edits: &mut Vec<Edit>) -> Option<()> {
    let t = replaceable(g, id, i, limit)?;
    broadcast(t, by, rank, limit).map(|by| edits.push(Edit::Constant { node: id, input: i, op: "Mul", by }))
}

/// `by` as an operand beside the constant `t` of a result of rank `rank`, unless that makes `t` much larger.
fn broadcast(t: &Tensor, by: &Along, rank: usize, limit: usize) -> Option<Tensor> {
    let spread = by.spread(by.axis.unwrap_or(0), if by.axis.is_some() { rank } else { t.rank() });
    let len = broadcast_len(t.shape(), spread.shape());
    (len <= t.len().max(spread.len()) || 4 * len <= limit).then_some(spread)
}

/// Adds `by` to `v`, which `reader` alone reads.
fn shift(
    g: &Graph,
    v: ValueId,
    reader: NodeId,
    by: &Along,
    limit: usize,
    edits: &mut Vec<Edit>,
    steps: usize,
) -> Option<()> {
    let id = maker(g, v, reader, steps)?;
    edits.push(Edit::Changed(v));
    let node = &g[id];
    let rank = g.dims(v)?.len();
    let constant =
        |i, axis, edits: &mut Vec<Edit>| constant(g, id, i, axis, "Add", by, limit).map(|edit| edits.push(edit));
    let along = |axis: usize| by.axis.is_none_or(|a| a == axis);
    match &*node.op {
        "Transpose" => {
            let perm = perm_of(g, id)?;
            let by = Along { axis: by.axis.map(|a| perm[a]), ..by.clone() };
            shift(g, node.input(0)?, id, &by, limit, edits, steps + 1)
        }
        "Reshape" | "Squeeze" | "Unsqueeze" | "Flatten" | "Identity" if by.axis.is_none() => {
            shift(g, node.input(0)?, id, by, limit, edits, steps + 1)
        }
        "Gemm" if along(1) && node.attrs.float_or("beta", 1.0).ok()? == 1.0 => {
            let t = replaceable(g, id, 2, limit)?;
            constant(2, t.rank().checked_sub(1)?, edits)
        }
        "BatchNormalization" if along(1) && !node.attrs.bool_or("training_mode", false).ok()? => constant(2, 0, edits),
        "LayerNormalization" => {
            let axis = node.attrs.int_or("axis", -1).ok()?;
            let first = usize::try_from(if axis < 0 { axis + rank as i64 } else { axis }).ok()?;
            let at = by.axis.unwrap_or(first).checked_sub(first)?;
            replaceable(g, id, 2, limit).filter(|t| t.rank() == rank - first)?;
            constant(2, at, edits)
        }
        "Add" | "Sub" => {
            let (_, b) = pair(g, id)?;
            let i = usize::from(g[b].is_constant());
            let by = if &*node.op == "Sub" && i == 1 { by.map(|v| -v) } else { by.clone() };
            let t = replaceable(g, id, i, limit)?;
            broadcast(t, &by, rank, limit).map(|by| edits.push(Edit::Constant { node: id, input: i, op: "Add", by }))
        }
        _ => None,
    }
}
