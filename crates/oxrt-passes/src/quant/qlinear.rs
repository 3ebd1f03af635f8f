//! QLinearConv and QLinearMatMul with constant parameters are written as the operators between Dequantize and Quantize that
//! they stand for; the other rules then fuse them like any others, with the layout that suits the engine.

use crate::driver::{Rewrite, Rule};
use oxrt_ir::{Attrs, DType, Graph, NodeId, ValueId};
use oxrt_tensor::{Result, Tensor};

pub(crate) const CONV: Rule = Rule { name: "expand-qlinear-conv", ops: &["QLinearConv"], apply: conv };
pub(crate) const MATMUL: Rule = Rule { name: "expand-qlinear-matmul", ops: &["QLinearMatMul"], apply: matmul };

/// The inputs of one of these operators that hold parameters are constants, one number each (those of weights may be more).
fn constants(g: &Graph, id: NodeId, first: [usize; 3]) -> bool {
    let one = |i: usize| g[id].input(i).and_then(|v| g.constant(v)).is_some_and(|t| t.len() == 1);
    let any = |i: usize| g[id].input(i).is_some_and(|v| g[v].is_constant());
    let [x, w, y] = first;
    let float = g[id].input(x).is_some_and(|v| g[v].ty.dtype() == Some(DType::F32));
    float && one(x) && one(x + 1) && any(w) && any(w + 1) && one(y) && one(y + 1)
}

fn conv(rw: &mut Rewrite, id: NodeId) -> Result<bool> {
    let g = &rw.model.graph;
    let inputs = g[id].inputs().to_vec();
    let at = |i: usize| inputs.get(i).copied().flatten();
    let (Some(x), Some(w), Some(y)) = (at(0), at(3), g[id].output(0)) else { return Ok(false) };
    if !constants(g, id, [1, 4, 6]) || !g[w].is_constant() || at(8).is_some_and(|b| !g[b].is_constant()) {
        return Ok(false);
    }
    let float =
        |v: Option<ValueId>| v.and_then(|v| g.constant(v)).map(|t| t.to_f32_cow().map(|c| c.to_vec())).transpose();
    let (Some(xs), Some(ws)) = (float(at(1))?, float(at(4))?) else { return Ok(false) };
    let bias_scale: Vec<f32> = ws.iter().map(|w| w * xs[0]).collect();
    let attrs = g[id].attrs.clone();
    let mut b = rw.builder(id);
    let dx = b.op_multi("DequantizeLinear", &[Some(x), at(1), at(2)], Attrs::new(), 1)?[0];
    let dw = b.op_multi("DequantizeLinear", &[Some(w), at(4), at(5)], Attrs::new().with("axis", 0), 1)?[0];
    let mut operands = vec![dx, dw];
    if let Some(bias) = at(8) {
        let scale = if bias_scale.len() == 1 {
            Tensor::scalar(bias_scale[0])
        } else {
            Tensor::from_slice(&[bias_scale.len()], &bias_scale)
        };
        let scale = b.constant(scale);
        operands.push(b.op("DequantizeLinear", &[bias, scale], Attrs::new().with("axis", 0))?);
    }
    let real = b.op("Conv", &operands, attrs)?;
    let out = b.op_multi("QuantizeLinear", &[Some(real), at(6), at(7)], Attrs::new(), 1)?[0];
    let g = &mut rw.model.graph;
    g.remove_node(id);
    g.replace_value(y, out);
    Ok(true)
}

fn matmul(rw: &mut Rewrite, id: NodeId) -> Result<bool> {
    let g = &rw.model.graph;
    let inputs = g[id].inputs().to_vec();
    let at = |i: usize| inputs.get(i).copied().flatten();
    let (Some(a), Some(w), Some(y)) = (at(0), at(3), g[id].output(0)) else { return Ok(false) };
    let rank = g.dims(w).map_or(0, <[_]>::len);
    if !constants(g, id, [1, 4, 6]) || rank < 2 {
        return Ok(false);
    }
    // One pair of parameters per column is read along the last axis.
    let axis = rank as i64 - 1;
    let mut b = rw.builder(id);
    let da = b.op_multi("DequantizeLinear", &[Some(a), at(1), at(2)], Attrs::new(), 1)?[0];
    let dw = b.op_multi("DequantizeLinear", &[Some(w), at(4), at(5)], Attrs::new().with("axis", axis), 1)?[0];
    let real = b.op("MatMul", &[da, dw], Attrs::new())?;
    let out = b.op_multi("QuantizeLinear", &[Some(real), at(6), at(7)], Attrs::new(), 1)?[0];
    let g = &mut rw.model.graph;
    g.remove_node(id);
    g.replace_value(y, out);
    Ok(true)
}
