//! Slices that take a value apart are one `Split`.

use crate::driver::{Rewrite, Rule};
use oxrt_ir::{Attrs, Graph, NodeId, ValueId};
use oxrt_tensor::Result;

pub(crate) const RULE: Rule = Rule { name: "merge-slices", ops: &["Slice"], apply };

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
