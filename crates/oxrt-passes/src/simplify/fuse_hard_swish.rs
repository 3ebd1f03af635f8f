//! x · HardSigmoid(x) with slope 1/6 and offset 1/2 is HardSwish (Howard et al., MobileNetV3, 2019).

use crate::driver::{Rewrite, Rule};
use crate::query::{made_by, pair};
use oxrt_ir::{Attrs, NodeId};
use oxrt_tensor::Result;

pub(crate) const RULE: Rule = Rule { name: "fuse-hard-swish", ops: &["Mul"], apply };

fn apply(rw: &mut Rewrite, id: NodeId) -> Result<bool> {
    let g = &rw.model.graph;
    let (Some((a, b)), Some(y)) = (pair(g, id), g[id].output(0)) else { return Ok(false) };
    let found = [(a, b), (b, a)].into_iter().find_map(|(x, gate)| {
        let node = &g[made_by(g, gate, "HardSigmoid")?];
        let slope = node.attrs.float_or("alpha", 0.2).ok()?;
        let offset = node.attrs.float_or("beta", 0.5).ok()?;
        (node.input(0) == Some(x) && (slope - 1.0 / 6.0).abs() < 1e-6 && offset == 0.5).then_some(x)
    });
    let Some(x) = found else { return Ok(false) };
    let new = rw.builder(id).op("HardSwish", &[x], Attrs::new())?;
    rw.model.graph.remove_node(id);
    rw.model.graph.replace_value(y, new);
    Ok(true)
}
