//! Quantised constants that no operator on bytes took become reals at build time, as float kernels want them.

use super::params::dequantized;
use crate::driver::{Rewrite, Rule};
use oxrt_ir::NodeId;
use oxrt_tensor::Result;

pub(crate) const RULE: Rule = Rule { name: "fold-dequantize", ops: &["DequantizeLinear"], apply };

fn apply(rw: &mut Rewrite, id: NodeId) -> Result<bool> {
    let g = &mut rw.model.graph;
    let Some(y) = g[id].output(0).filter(|&y| !g.is_output(y)) else { return Ok(false) };
    let Some(t) = dequantized(g, y) else { return Ok(false) };
    g.remove_node(id);
    g.set_constant(y, t);
    Ok(true)
}
