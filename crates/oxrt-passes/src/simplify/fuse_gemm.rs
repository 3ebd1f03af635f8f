//! MatMul of matrices followed by an Add of a row is Gemm.

use crate::driver::{Rewrite, Rule};
use crate::query::{made_by, only_user, pair};
use oxrt_ir::{Attrs, NodeId};
use oxrt_tensor::Result;

pub(crate) const RULE: Rule = Rule { name: "fuse-gemm", ops: &["Add"], apply };

fn apply(rw: &mut Rewrite, id: NodeId) -> Result<bool> {
    let g = &rw.model.graph;
    let (Some((a, b)), Some(y)) = (pair(g, id), g[id].output(0)) else { return Ok(false) };
    let found = [(a, b), (b, a)].into_iter().find_map(|(product, bias)| {
        let (x, w) = pair(g, made_by(g, product, "MatMul")?)?;
        only_user(g, product)?;
        let t = g.constant(bias)?;
        let ([_, _], [_, n]) = (g.dims(x)?, g.dims(w)?) else { return None };
        let row = t.rank() <= 1 && n.as_size().is_some_and(|n| t.len() == n || t.len() == 1);
        (row && t.dtype().is_float()).then_some((x, w, bias))
    });
    let Some((x, w, bias)) = found else { return Ok(false) };
    let new = rw.builder(id).op("Gemm", &[x, w, bias], Attrs::new())?;
    rw.model.graph.remove_node(id);
    rw.model.graph.replace_value(y, new);
    Ok(true)
}
