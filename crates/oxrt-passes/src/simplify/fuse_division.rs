//! A product with a reciprocal is a quotient.

use crate::driver::{Rewrite, Rule};
use crate::query::{made_by, only_user, pair};
use oxrt_ir::{Attrs, NodeId};
use oxrt_tensor::Result;

pub(crate) const RULE: Rule = Rule { name: "fuse-division", ops: &["Mul"], apply };

fn apply(rw: &mut Rewrite, id: NodeId) -> Result<bool> {
    let g = &mut rw.model.graph;
    let Some((a, b)) = pair(g, id) else { return Ok(false) };
    let found = [(a, b), (b, a)].into_iter().find_map(|(x, inverse)| {
        let by = g[made_by(g, inverse, "Reciprocal").filter(|_| only_user(g, inverse) == Some(id))?].input(0)?;
        (x != inverse).then_some((x, by))
    });
    let Some((x, by)) = found else { return Ok(false) };
    g[id].op = "Div".into();
    g[id].attrs = Attrs::new();
    g.set_inputs(id, &[Some(x), Some(by)]);
    Ok(true)
}
