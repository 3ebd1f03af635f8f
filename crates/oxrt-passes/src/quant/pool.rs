//! Means over whole planes of quantised tensors.

use super::params::dequantised;
use crate::driver::{Rewrite, Rule};
use crate::layout::{to_first, to_last};
use oxrt_ir::{Attrs, DType, NodeId};
use oxrt_tensor::{Result, Tensor};

pub(crate) const RULE: Rule = Rule { name: "lower-q-pool", ops: &["GlobalAveragePool", "ReduceMean"], apply };

fn apply(rw: &mut Rewrite, id: NodeId) -> Result<bool> {
    let g = &rw.model.graph;
    let node = &g[id];
    let (Some(x), Some(y)) = (node.input(0), node.output(0)) else { return Ok(false) };
    let Some((bytes, from)) = dequantised(g, x) else { return Ok(false) };
    let Some(rank) = g.dims(bytes).map(<[_]>::len).filter(|r| (3..=5).contains(r)) else { return Ok(false) };
    let mut keep = true;
    if &*node.op == "ReduceMean" {
        let Some(axes) = node.input(1).and_then(|v| g.constant(v)).map(Tensor::to_i64_vec).transpose()? else {
            return Ok(false);
        };
        let mut axes: Vec<i64> = axes.iter().map(|&a| if a < 0 { a + rank as i64 } else { a }).collect();
        axes.sort_unstable();
        if axes != (2..rank as i64).collect::<Vec<_>>() {
            return Ok(false);
        }
        keep = node.attrs.bool_or("keepdims", true)?;
    }
    let mut attrs = Attrs::new().with("y_dtype", DType::F32.to_onnx() as i64);
    from.to_attrs(&mut attrs, "x");
    // The input's type is its own.
    let Some(dims) = g.dims(y).map(<[_]>::to_vec) else { return Ok(false) };
    if dims.iter().filter(|d| d.as_const().is_none()).count() > 1 {
        return Ok(false);
    }
    let mut b = rw.builder(id);
    let turned = b.transpose(bytes, &to_last(rank))?;
    let pooled = b.op("oxrt.QGlobalAveragePool", &[turned], attrs)?;
    let mut out = b.transpose(pooled, &to_first(rank))?;
    if !keep {
        out = b.reshape(out, &dims)?;
    }
    let g = &mut rw.model.graph;
    g.remove_node(id);
    g.replace_value(y, out);
    Ok(true)
}
