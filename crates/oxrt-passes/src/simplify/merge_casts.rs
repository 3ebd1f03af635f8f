//! Cast after Cast: the first one goes when it lost nothing.

use crate::driver::{Rewrite, Rule};
use crate::query::made_by;
use oxrt_ir::{DType, NodeId};
use oxrt_tensor::Result;

pub(crate) const RULE: Rule = Rule { name: "merge-casts", ops: &["Cast"], apply };

fn apply(rw: &mut Rewrite, id: NodeId) -> Result<bool> {
    let g = &mut rw.model.graph;
    let Some(mid) = g[id].input(0) else { return Ok(false) };
    let Some(x) = made_by(g, mid, "Cast").and_then(|first| g[first].input(0)) else { return Ok(false) };
    let (Some(from), Some(through)) = (g[x].ty.dtype(), g[mid].ty.dtype()) else { return Ok(false) };
    if !keeps_every_value(from, through) {
        return Ok(false);
    }
    g.set_input(id, 0, Some(x));
    Ok(true)
}

/// Whether each value of `from` has an equal in `to`.
fn keeps_every_value(from: DType, to: DType) -> bool {
    use DType::*;
    let digits = |d: DType| match d {
        F64 => 53,
        F32 => 24,
        F16 => 11,
        BF16 => 8,
        d if d.is_signed_int() => d.bits() - 1,
        d => d.bits(),
    };
    match (from, to) {
        (a, b) if a == b => true,
        (Bool, b) => b != String,
        (F16, F32 | F64) | (BF16, F32 | F64) | (F32, F64) => true,
        (a, b) if a.is_int() && b.is_int() => (b.is_signed_int() || a.is_unsigned_int()) && digits(a) <= digits(b),
        (a, F32 | F64) if a.is_int() => digits(a) <= digits(to),
        _ => false,
    }
}
