//! Zero padding of the spatial axes moves into the convolution or pool that reads it.

use crate::driver::{Rewrite, Rule};
use crate::query::{made_by, scalar};
use oxrt_ir::NodeId;
use oxrt_tensor::Result;

pub(crate) const RULE: Rule = Rule { name: "fuse-pad", ops: &["Conv", "AveragePool"], apply };

fn apply(rw: &mut Rewrite, id: NodeId) -> Result<bool> {
    let g = &mut rw.model.graph;
    let Some(padded) = g[id].input(0) else { return Ok(false) };
    let Some(pad) = made_by(g, padded, "Pad") else { return Ok(false) };
    let (Some(x), Some(pads)) = (g[pad].input(0), g[pad].input(1).and_then(|v| g.constant(v))) else {
        return Ok(false);
    };
    let pads = pads.to_i64_vec()?;
    let Some(rank) = g.dims(x).map(<[_]>::len).filter(|&r| r >= 3) else { return Ok(false) };
    let zero = g[pad].input(2).is_none_or(|v| scalar(g, v) == Some(0.0));
    let plain = g[pad].attrs.string_or("mode", "constant")? == "constant" && g[pad].input(3).is_none() && zero;
    let spatial_only = pads.len() == 2 * rank && [0, 1, rank, rank + 1].iter().all(|&i| pads[i] == 0);
    let auto = g[id].attrs.string_or("auto_pad", "NOTSET")?;
    if !plain || !spatial_only || auto != "NOTSET" && auto != "VALID" || pads.iter().any(|&p| p < 0) {
        return Ok(false);
    }
    let own = g[id].attrs.ints_or("pads", &vec![0; 2 * (rank - 2)])?;
    if &*g[id].op == "AveragePool" {
        // The padding was counted; pads of the pool itself must then count too.
        let counts = g[id].attrs.bool_or("count_include_pad", false)?;
        if g[id].attrs.bool_or("ceil_mode", false)? || !counts && own.iter().any(|&p| p != 0) {
            return Ok(false);
        }
    }
    let s = rank - 2;
    let total: Vec<i64> =
        (0..2 * s).map(|i| own[i] + if i < s { pads[2 + i] } else { pads[rank + 2 + i - s] }).collect();
    if &*g[id].op == "AveragePool" {
        // Windows of nothing but padding: onnxruntime refuses them.
        let kernel = g[id].attrs.ints_or("kernel_shape", &[])?;
        if kernel.len() != s || total.iter().enumerate().any(|(i, &p)| p >= kernel[i % s]) {
            return Ok(false);
        }
        g[id].attrs.set("count_include_pad", 1);
    }
    g[id].attrs.remove("auto_pad");
    g[id].attrs.set("pads", total);
    g.set_input(id, 0, Some(x));
    Ok(true)
}
