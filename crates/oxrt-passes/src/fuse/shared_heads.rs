//! Heads of keys and values that are repeated for the heads of the queries: attention shares them itself.
//!
//! ```text
//! Attention(q, Reshape(Expand(Unsqueeze(k))), Reshape(Expand(Unsqueeze(v))))  →  Attention(q, k, v)
//! ```
//!
//! Decoders with fewer heads of keys than of queries are exported so, and would copy their caches that many times over.

use crate::driver::{Rewrite, Rule};
use crate::query::made_by;
use oxrt_ir::{Dim, Graph, NodeId, ValueId};
use oxrt_tensor::Result;

pub(crate) const RULE: Rule = Rule { name: "share-heads", ops: &["oxrt.Attention", "Attention"], apply: fuse };

fn fuse(rw: &mut Rewrite, id: NodeId) -> Result<bool> {
    let g = &rw.model.graph;
    let Some((k, v)) = find(g, id) else { return Ok(false) };
    let node = &g[id];
    let mut inputs = node.inputs().to_vec();
    (inputs[1], inputs[2]) = (Some(k), Some(v));
    let (op, attrs, Some(y)) = (node.op.to_string(), node.attrs.clone(), node.output(0)) else { return Ok(false) };
    let new = rw.builder(id).op_multi(&op, &inputs, attrs, 1)?[0];
    rw.model.graph.remove_node(id);
    rw.model.graph.replace_value(y, new);
    Ok(true)
}

/// Keys and values before they are repeated.
fn find(g: &Graph, id: NodeId) -> Option<(ValueId, ValueId)> {
    let node = &g[id];
    // Keys behind a past are results, with all their heads.
    let plain = node.inputs().iter().skip(4).all(Option::is_none) && node.outputs().iter().skip(1).all(Option::is_none);
    let layout = node.attrs.string_or("layout", "bhsd").ok()?;
    if !plain || layout != "bhsd" || g.dims(node.input(0)?)?.len() != 4 {
        return None;
    }
    let (k, share) = repeated(g, node.input(1)?)?;
    let (v, same) = repeated(g, node.input(2)?)?;
    (share == same).then_some((k, v))
}

/// What `[batch, heads, length, size]` repeats, and how often it repeats each head.
fn repeated(g: &Graph, v: ValueId) -> Option<(ValueId, Dim)> {
    let to = g.dims(v)?;
    // One head for all.
    if let Some(expand) = made_by(g, v, "Expand") {
        let x = g[expand].input(0)?;
        let from = g.dims(x)?;
        let fits = from.len() == 4 && to.len() == 4 && from[1].is(1) && from[0] == to[0] && from[2..] == to[2..];
        return fits.then(|| (x, to[1].clone()));
    }
    let wide = g[made_by(g, v, "Reshape")?].input(0)?;
    let narrow = g[made_by(g, wide, "Expand")?].input(0)?;
    let view = made_by(g, narrow, "Unsqueeze").or_else(|| made_by(g, narrow, "Reshape"))?;
    let x = g[view].input(0)?;
    let ([b, h, s, d], [wb, wh, share, ws, wd], [nb, nh, one, ns, nd]) = (g.dims(x)?, g.dims(wide)?, g.dims(narrow)?)
    else {
        return None;
    };
    let same = [b, h, s, d] == [wb, wh, ws, wd] && [b, h, s, d] == [nb, nh, ns, nd] && one.is(1);
    (same && *to == [b.clone(), h.clone() * share.clone(), s.clone(), d.clone()]).then(|| (x, share.clone()))
}
