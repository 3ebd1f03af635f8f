//! MeanVarianceNormalization by its definition: (x - mean) / (deviation + 1e-9).

use super::{replace, widened};
use crate::driver::{Rewrite, Rule};
use oxrt_ir::{Attrs, NodeId};
use oxrt_tensor::Result;

pub(crate) const RULE: Rule =
    Rule { name: "lower-mean-variance-normalization", ops: &["MeanVarianceNormalization"], apply };

fn apply(rw: &mut Rewrite, id: NodeId) -> Result<bool> {
    let g = &rw.model.graph;
    let Some(x) = g[id].input(0).filter(|&x| g[x].ty.dtype().is_some_and(|d| d.is_float() && d.bits() >= 16)) else {
        return Ok(false);
    };
    let axes = g[id].attrs.ints_or("axes", &[0, 2, 3])?;
    let mut b = rw.builder(id);
    let (dtype, axes, wide) = (b.dtype(x)?, b.ints(&axes), widened(&mut b, x)?);
    let mean = b.op("ReduceMean", &[wide, axes], Attrs::new())?;
    let centred = b.call("Sub", &[wide, mean])?;
    let squares = b.call("Mul", &[centred, centred])?;
    let variance = b.op("ReduceMean", &[squares, axes], Attrs::new())?;
    let deviation = b.call("Sqrt", &[variance])?;
    let epsilon = b.scalar_like(wide, 1e-9)?;
    let deviation = b.call("Add", &[deviation, epsilon])?;
    let y = b.call("Div", &[centred, deviation])?;
    let y = b.cast(y, dtype)?;
    replace(&mut rw.model.graph, id, y);
    Ok(true)
}
