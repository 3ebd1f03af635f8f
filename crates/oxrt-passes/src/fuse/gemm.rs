//! MatMul and Gemm with constant weights become `oxrt.Gemm`, whose weights are packed at build time.

use crate::driver::{Rewrite, Rule};
use oxrt_ir::{Attrs, Graph, NodeId, ValueId};
use oxrt_tensor::{DType, Result, Tensor};

pub(crate) const MATMUL: Rule = Rule { name: "lower-matmul", ops: &["MatMul"], apply: matmul };
pub(crate) const GEMM: Rule = Rule { name: "lower-gemm", ops: &["Gemm"], apply: gemm };

/// The same for tensors of 16 bits, whose weights become single. For devices whose products take them.
pub(crate) const HALF_MATMUL: Rule = Rule { name: "lower-half-matmul", ops: &["MatMul"], apply: half_matmul };
pub(crate) const HALF_GEMM: Rule = Rule { name: "lower-half-gemm", ops: &["Gemm"], apply: half_gemm };

const HALVES: &[DType] = &[DType::F16, DType::BF16];

fn matmul(rw: &mut Rewrite, id: NodeId) -> Result<bool> {
    matmul_of(rw, id, &[DType::F32])
}

fn half_matmul(rw: &mut Rewrite, id: NodeId) -> Result<bool> {
    matmul_of(rw, id, HALVES)
}

fn gemm(rw: &mut Rewrite, id: NodeId) -> Result<bool> {
    gemm_of(rw, id, &[DType::F32])
}

fn half_gemm(rw: &mut Rewrite, id: NodeId) -> Result<bool> {
    gemm_of(rw, id, HALVES)
}

/// A constant in single precision; itself where it is that.
fn single(g: &mut Graph, v: ValueId) -> Result<ValueId> {
    let Some(t) = g.constant(v).filter(|t| t.dtype() != DType::F32) else { return Ok(v) };
    let t = oxrt_ops::cast::cast(t, DType::F32, &Attrs::new())?;
    let name = g.unused_value_name(&g[v].name.clone());
    Ok(g.add_constant(&name, t))
}

fn matmul_of(rw: &mut Rewrite, id: NodeId, types: &[DType]) -> Result<bool> {
    let g = &mut rw.model.graph;
    let (Some(x), Some(w)) = (g[id].input(0), g[id].input(1)) else { return Ok(false) };
    let weights = g.constant(w).is_some_and(|t| t.rank() == 2 && types.contains(&t.dtype()));
    if !weights || g.dims(x).is_none_or(|d| d.len() < 2) || g[x].is_constant() {
        return Ok(false);
    }
    let w = single(g, w)?;
    g.set_inputs(id, &[Some(x), Some(w)]);
    g[id].op = "oxrt.Gemm".into();
    Ok(true)
}

fn gemm_of(rw: &mut Rewrite, id: NodeId, types: &[DType]) -> Result<bool> {
    let g = &mut rw.model.graph;
    let (Some(x), Some(w)) = (g[id].input(0), g[id].input(1)) else { return Ok(false) };
    let attrs = &g[id].attrs;
    let (alpha, beta) = (attrs.float_or("alpha", 1.0)?, attrs.float_or("beta", 1.0)?);
    let (trans_a, trans_b) = (attrs.bool_or("transA", false)?, attrs.bool_or("transB", false)?);
    let Some(shape) = g.constant(w).filter(|t| t.rank() == 2 && types.contains(&t.dtype())).map(|t| t.shape().to_vec())
    else {
        return Ok(false);
    };
    let n = shape[if trans_b { 0 } else { 1 }];
    let bias = g[id].input(2);
    // Only a bias per column is one for the fused operator.
    let bias_fits = bias.is_none_or(|b| {
        g.constant(b).is_some_and(|t| types.contains(&t.dtype()) && (t.shape() == [n] || t.shape() == [1, n]))
    });
    if trans_a || beta != 1.0 || !bias_fits || g[x].is_constant() {
        return Ok(false);
    }
    let w = single(g, w)?;
    let mut inputs = vec![Some(x), Some(w)];
    if let (true, Some(weights)) = (alpha != 1.0, g.constant(w)) {
        let scaled: Vec<f32> = weights.as_slice::<f32>().iter().map(|v| v * alpha).collect();
        let name = g.unused_value_name(&g[w].name.clone());
        inputs[1] = Some(g.add_constant(&name, Tensor::from_slice(&shape, &scaled)));
    }
    if let Some(b) = bias {
        let b = single(g, b)?;
        let row = g.constant(b).map(|t| t.reshaped(&[n])).transpose()?;
        let flat = match row {
            Some(t) if g.constant(b).is_some_and(|t| t.rank() != 1) => {
                let name = g.unused_value_name(&g[b].name.clone());
                g.add_constant(&name, t)
            }
            _ => b,
        };
        inputs.push(Some(flat));
    }
    g[id].op = "oxrt.Gemm".into();
    g[id].attrs = if trans_b { Attrs::new().with("trans_b", 1) } else { Attrs::new() };
    g.set_inputs(id, &inputs);
    Ok(true)
}
