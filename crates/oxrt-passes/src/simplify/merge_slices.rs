//! Slices that take a value apart are one `Split`, and those of joined values are the parts. A buffer that a loop of Python fills row by
//! row is taken apart and joined at every write; these rules make one `Concat` of the rows.

use crate::driver::{Rewrite, Rule};
use crate::query::{made_by, only_user};
use oxrt_ir::{Attrs, Graph, NodeId, ValueId};
use oxrt_tensor::Result;

pub(crate) const RULE: Rule = Rule { name: "merge-slices", ops: &["Slice"], apply };

/// A slice that holds whole parts of a `Concat`, or lies within one or within another slice.
pub(crate) const PARTS: Rule = Rule { name: "slice-parts", ops: &["Slice"], apply: of_parts };

/// A `Concat` that only another one along the same axis reads.
pub(crate) const CONCATS: Rule = Rule { name: "merge-concats", ops: &["Concat"], apply: concats };

/// What a Slice along one axis by steps of one takes.
#[derive(Clone, Copy, PartialEq)]
struct Range {
    axis: usize,
    start: i64,
    end: i64,
    /// Of the whole axis.
    size: i64,
}

fn range(g: &Graph, id: NodeId, x: ValueId) -> Option<Range> {
    let node = &g[id];
    if &*node.op != "Slice" || node.input(0) != Some(x) || g[x].is_constant() {
        return None;
    }
    let dims = g.dims(x)?;
    let one = |i: usize| match g.constant(node.input(i)?)?.to_i64_vec().ok()?[..] {
        [one] => Some(one),
        _ => None,
    };
    let axis = if node.input(3).is_some() { one(3)? } else { 0 };
    let axis = usize::try_from(if axis < 0 { axis + dims.len() as i64 } else { axis }).ok()?;
    if node.input(4).is_some() && one(4)? != 1 {
        return None;
    }
    let size = dims.get(axis)?.as_const()?;
    let place = |p: i64| if p < 0 { p.saturating_add(size) } else { p }.clamp(0, size);
    Some(Range { axis, start: place(one(1)?), end: place(one(2)?), size })
}

fn apply(rw: &mut Rewrite, id: NodeId) -> Result<bool> {
    let g = &rw.model.graph;
    let Some(x) = g[id].input(0) else { return Ok(false) };
    let Some(first) = range(g, id, x) else { return Ok(false) };
    let readers = g[x].users().iter();
    let mut parts: Vec<(Range, NodeId)> = readers.filter_map(|&n| Some((range(g, n, x)?, n))).collect();
    parts.retain(|(r, _)| r.axis == first.axis && r.start < r.end);
    parts.sort_by_key(|(r, n)| (r.start, *n));
    parts.dedup();
    let gapless = parts.windows(2).all(|w| w[0].0.end == w[1].0.start);
    let ends = parts.first().is_some_and(|p| p.0.start == 0) && parts.last().is_some_and(|p| p.0.end == first.size);
    if parts.len() < 2 || !gapless || !ends || !parts.iter().any(|p| p.1 == id) {
        return Ok(false);
    }
    let sizes: Vec<i64> = parts.iter().map(|(r, _)| r.end - r.start).collect();
    let Some(ys) = parts.iter().map(|&(_, n)| g[n].output(0)).collect::<Option<Vec<ValueId>>>() else {
        return Ok(false);
    };
    let mut b = rw.builder(id);
    let sizes = b.ints(&sizes);
    let attrs = Attrs::new().with("axis", first.axis as i64);
    let outputs = b.op_multi("Split", &[Some(x), Some(sizes)], attrs, ys.len())?;
    let g = &mut rw.model.graph;
    g.remove_nodes(&parts.iter().map(|p| p.1).collect::<Vec<_>>());
    for (y, new) in ys.into_iter().zip(outputs) {
        g[new].ty = g[y].ty.clone();
        g.replace_value(y, new);
    }
    Ok(true)
}

/// The axis of a Concat, which joins to `x`.
fn joined_axis(g: &Graph, join: NodeId, x: ValueId) -> Option<usize> {
    Some(g[join].attrs.int_or("axis", 0).ok()?.rem_euclid(g.dims(x)?.len().max(1) as i64) as usize)
}

/// The parts of a Concat that a slice touches, with the places where they begin and end.
fn touched(g: &Graph, join: NodeId, r: Range) -> Option<Vec<(ValueId, i64, i64)>> {
    let (mut at, mut parts) = (0, Vec::new());
    for &part in g[join].inputs() {
        let begin = at;
        at += g.dims(part?)?.get(r.axis)?.as_const()?;
        if begin < r.end && at > r.start {
            parts.push((part?, begin, at));
        }
    }
    Some(parts)
}

fn of_parts(rw: &mut Rewrite, id: NodeId) -> Result<bool> {
    let g = &rw.model.graph;
    let (Some(x), Some(y)) = (g[id].input(0), g[id].output(0)) else { return Ok(false) };
    let Some(r) = range(g, id, x) else { return Ok(false) };
    if only_user(g, x) == Some(id) {
        // Of a slice that nothing else reads: one slice.
        let outer = made_by(g, x, "Slice").and_then(|n| Some((g[n].input(0)?, range(g, n, g[n].input(0)?)?)));
        if let Some((whole, outer)) = outer.filter(|(_, outer)| outer.axis == r.axis) {
            let at = [outer.start + r.start, outer.start + r.end];
            let new = sliced(rw, id, whole, r.axis, at)?;
            return Ok(replace(rw, id, y, new));
        }
    }
    let Some(join) = made_by(g, x, "Concat") else { return Ok(false) };
    if joined_axis(g, join, x) != Some(r.axis) {
        return Ok(false);
    }
    let Some(parts) = touched(g, join, r) else { return Ok(false) };
    let new = match parts[..] {
        [(part, begin, end)] if (begin, end) == (r.start, r.end) => {
            if g.is_output(y) {
                return Ok(false);
            }
            part
        }
        [(part, begin, _)] => sliced(rw, id, part, r.axis, [r.start - begin, r.end - begin])?,
        [(_, begin, _), .., (_, _, end)] if (begin, end) == (r.start, r.end) => {
            let parts: Vec<ValueId> = parts.iter().map(|p| p.0).collect();
            rw.builder(id).op("Concat", &parts, Attrs::new().with("axis", r.axis as i64))?
        }
        _ => return Ok(false),
    };
    Ok(replace(rw, id, y, new))
}

/// The places from `at[0]` to `at[1]` of an axis.
fn sliced(rw: &mut Rewrite, id: NodeId, x: ValueId, axis: usize, at: [i64; 2]) -> Result<ValueId> {
    let mut b = rw.builder(id);
    let at = [at[0], at[1], axis as i64].map(|i| b.ints(&[i]));
    b.call("Slice", &[x, at[0], at[1], at[2]])
}

fn replace(rw: &mut Rewrite, id: NodeId, y: ValueId, new: ValueId) -> bool {
    let g = &mut rw.model.graph;
    g.remove_nodes(&[id]);
    g.replace_value(y, new);
    true
}

fn concats(rw: &mut Rewrite, id: NodeId) -> Result<bool> {
    let g = &rw.model.graph;
    let Some(y) = g[id].output(0) else { return Ok(false) };
    let Some(axis) = joined_axis(g, id, y) else { return Ok(false) };
    let inner = |v: Option<ValueId>| {
        let join = made_by(g, v?, "Concat")?;
        // Read once: a part that stands twice would be joined twice.
        let once = g[id].inputs().iter().filter(|&&part| part == v).count() == 1;
        (once && only_user(g, v?) == Some(id) && joined_axis(g, join, v?) == Some(axis)).then_some(join)
    };
    let joins: Vec<Option<NodeId>> = g[id].inputs().iter().map(|&v| inner(v)).collect();
    let gone: Vec<NodeId> = joins.iter().flatten().copied().collect();
    if gone.is_empty() {
        return Ok(false);
    }
    let parts: Vec<Option<ValueId>> = g[id]
        .inputs()
        .iter()
        .zip(&joins)
        .flat_map(|(&v, join)| join.map_or_else(|| vec![v], |n| g[n].inputs().to_vec()))
        .collect();
    let g = &mut rw.model.graph;
    g.set_inputs(id, &parts);
    g.remove_nodes(&gone);
    Ok(true)
}
