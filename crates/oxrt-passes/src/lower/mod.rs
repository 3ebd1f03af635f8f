//! Rules for engines that write an operator without kernels as others that have them.

mod einsum;
mod global_pool;
mod mean_variance;
mod recurrent;
mod rotary;

use crate::driver::Rule;
use oxrt_ir::{Graph, NodeId, ValueId};
use oxrt_ops::Builder;
use oxrt_tensor::{DType, Kind, Result};

/// In order of application; they run together with the layout and fusion rules.
pub(crate) const RULES: &[Rule] =
    &[einsum::RULE, global_pool::RULE, mean_variance::RULE, recurrent::RULE, rotary::RULE];

/// Half floats in single precision, so that a chain of operators rounds to their type once, at its end.
fn widened(b: &mut Builder, v: ValueId) -> Result<ValueId> {
    match b.dtype(v)? {
        DType::F16 | DType::BF16 => b.cast(v, DType::F32),
        _ => Ok(v),
    }
}

/// The node's first output is `new` from now on.
fn replace(g: &mut Graph, id: NodeId, new: ValueId) {
    let y = g[id].output(0);
    g.remove_node(id);
    if let Some(y) = y {
        g.replace_value(y, new);
    }
}

/// `None` where sizes stand in the way that no tensor of the graph carries: the node stays as it is.
fn where_sizes_allow(new: Result<ValueId>) -> Result<Option<ValueId>> {
    match new {
        Ok(v) => Ok(Some(v)),
        Err(e) if e.kind() == Kind::Unsupported => Ok(None),
        Err(e) => Err(e),
    }
}
