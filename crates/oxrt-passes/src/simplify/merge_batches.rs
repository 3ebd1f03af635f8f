//! Products over a flattened batch (`bmm`) are products over the batch as it was.

use crate::driver::{Rewrite, Rule};
use crate::query::{made_by, only_user, pair};
use oxrt_ir::{Dim, Graph, NodeId, ValueId};
use oxrt_tensor::Result;

/// `Reshape(MatMul(Reshape(a), Reshape(b)))`, where the reshapes put the leading axes together and take them apart again.
pub(crate) const RULE: Rule = Rule { name: "merge-batches", ops: &["MatMul"], apply };

fn apply(rw: &mut Rewrite, id: NodeId) -> Result<bool> {
    let Some((a, b, last)) = unflattened(&rw.model.graph, id) else { return Ok(false) };
    let Some(y) = rw.model.graph[last].output(0) else { return Ok(false) };
    let mut builder = rw.builder(id);
    let new = builder.call("MatMul", &[a, b])?;
    let g = &mut rw.model.graph;
    // Dimensions that inference says in another way are those of the reshape.
    g[new].ty = g[y].ty.clone();
    g.remove_node(last);
    g.replace_value(y, new);
    Ok(true)
}

/// The operands before their reshapes, and the reshape of the product.
fn unflattened(g: &Graph, id: NodeId) -> Option<(ValueId, ValueId, NodeId)> {
    let (p, q) = pair(g, id)?;
    let product = g[id].output(0)?;
    let last = only_user(g, product).filter(|&n| &*g[n].op == "Reshape" && g[n].input(0) == Some(product))?;
    let source = |v: ValueId| g[made_by(g, v, "Reshape")?].input(0);
    let (a, b, y) = (source(p)?, source(q)?, g[last].output(0)?);
    let dims =
        |v: ValueId| -> Option<(&[Dim], &[Dim])> { g.dims(v)?.split_last_chunk::<2>().map(|(x, y)| (x, &y[..])) };
    let ((a_lead, a_plane), (b_lead, b_plane), (y_lead, y_plane)) = (dims(a)?, dims(b)?, dims(y)?);
    let ((_, p_plane), (_, q_plane), (_, product_plane)) = (dims(p)?, dims(q)?, dims(product)?);
    let same =
        a_lead == b_lead && a_lead == y_lead && a_plane == p_plane && b_plane == q_plane && y_plane == product_plane;
    (same && !a_lead.is_empty()).then_some((a, b, last))
}
