//! Global pools that have no kernel of their own are reductions.

use super::replace;
use crate::driver::{Rewrite, Rule};
use oxrt_ir::{Attrs, NodeId};
use oxrt_tensor::{DType, Result};

pub(crate) const RULE: Rule =
    Rule { name: "lower-global-pool", ops: &["GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool"], apply };

fn apply(rw: &mut Rewrite, id: NodeId) -> Result<bool> {
    let g = &rw.model.graph;
    let Some(x) = g[id].input(0) else { return Ok(false) };
    let (Some(rank), Some(dtype)) = (g.dims(x).map(<[_]>::len), g[x].ty.dtype()) else { return Ok(false) };
    let op = match (&*g[id].op, g[id].attrs.int_or("p", 2)?) {
        ("GlobalLpPool", 1) => "ReduceL1",
        ("GlobalLpPool", 2) => "ReduceL2",
        ("GlobalAveragePool", _) if dtype == DType::F64 => "ReduceMean",
        ("GlobalMaxPool", _) if dtype == DType::F64 => "ReduceMax",
        _ => return Ok(false),
    };
    if rank < 3 {
        return Ok(false);
    }
    let mut b = rw.builder(id);
    let axes = b.ints(&(2..rank as i64).collect::<Vec<_>>());
    let y = b.op(op, &[x, axes], Attrs::new())?;
    replace(&mut rw.model.graph, id, y);
    Ok(true)
}
