//! Convolution followed by a scale and shift per channel is one convolution.
//!
//! BatchNormalization at inference: y = γ (x - μ)/√(σ² + ε) + β, so W' = W γ/√(σ² + ε) and
//! b' = (b - μ) γ/√(σ² + ε) + β.

use crate::driver::{Rewrite, Rule};
use crate::query::{made_by, only_user, pair, varies_along};
use oxrt_ir::{Graph, NodeId, ValueId};
use oxrt_tensor::{DType, Result, Tensor};

pub(crate) const RULE: Rule = Rule { name: "fuse-conv-bn", ops: &["BatchNormalization"], apply: batch_norm };

/// The same for `Mul` and `Add` by a constant per channel.
pub(crate) const SCALE: Rule = Rule { name: "fuse-conv-scale", ops: &["Mul", "Add"], apply: scale };

/// The convolution that makes `v`, when nobody else reads it, and its output channels.
fn conv_of(g: &Graph, v: ValueId, reader: NodeId) -> Option<(NodeId, usize)> {
    let conv = made_by(g, v, "Conv").or_else(|| made_by(g, v, "ConvTranspose"))?;
    if only_user(g, v) != Some(reader) {
        return None;
    }
    let w = g.constant(g[conv].input(1)?)?;
    let bias_ok = g[conv].input(2).is_none_or(|b| g[b].is_constant());
    if w.dtype() != DType::F32 || w.rank() < 3 || !bias_ok {
        return None;
    }
    let group = g[conv].attrs.int_or("group", 1).ok()? as usize;
    let channels = if &*g[conv].op == "Conv" { w.shape()[0] } else { w.shape()[1] * group };
    Some((conv, channels))
}

fn batch_norm(rw: &mut Rewrite, id: NodeId) -> Result<bool> {
    let g = &rw.model.graph;
    let node = &g[id];
    let (Some(x), Some(y)) = (node.input(0), node.output(0)) else { return Ok(false) };
    if node.outputs().iter().flatten().count() > 1 || node.attrs.bool_or("training_mode", false)? {
        return Ok(false);
    }
    let Some((conv, channels)) = conv_of(g, x, id) else { return Ok(false) };
    let vectors: Option<Vec<Vec<f64>>> =
        (1..5).map(|i| g.constant(node.input(i)?)?.to_f64_vec().ok().filter(|v| v.len() == channels)).collect();
    let Some(vectors) = vectors else { return Ok(false) };
    let [gamma, beta, mean, var] = &vectors[..] else { return Ok(false) };
    let eps = node.attrs.float_or("epsilon", 1e-5)? as f64;
    let factor: Vec<f64> = gamma.iter().zip(var).map(|(g, v)| g / (v + eps).sqrt()).collect();
    let shift: Vec<f64> = (0..channels).map(|c| beta[c] - mean[c] * factor[c]).collect();
    let g = &mut rw.model.graph;
    rescale(g, conv, &factor, &shift)?;
    g.remove_node(id);
    g.replace_value(y, x);
    Ok(true)
}

fn scale(rw: &mut Rewrite, id: NodeId) -> Result<bool> {
    let g = &rw.model.graph;
    let (Some((a, b)), Some(y)) = (pair(g, id), g[id].output(0)) else { return Ok(false) };
    let (x, c) = if g[b].is_constant() { (a, b) } else { (b, a) };
    let (Some(t), Some(rank)) = (g.constant(c), g.dims(x).map(<[_]>::len)) else { return Ok(false) };
    if t.dtype() != DType::F32 || !varies_along(t, 1, rank) || g.dims(y) != g.dims(x) {
        return Ok(false);
    }
    let Some((conv, channels)) = conv_of(g, x, id) else { return Ok(false) };
    let values = t.to_f64_vec()?;
    let values = if values.len() == 1 { vec![values[0]; channels] } else { values };
    if values.len() != channels {
        return Ok(false);
    }
    let is_mul = &*g[id].op == "Mul";
    let g = &mut rw.model.graph;
    match is_mul {
        true => rescale(g, conv, &values, &vec![0.0; channels])?,
        false => rescale(g, conv, &vec![1.0; channels], &values)?,
    }
    g.remove_node(id);
    g.replace_value(y, x);
    Ok(true)
}

/// W' = W·factor and b' = b·factor + shift, per output channel.
fn rescale(g: &mut Graph, conv: NodeId, factor: &[f64], shift: &[f64]) -> Result<()> {
    let channels = factor.len();
    let is_conv = &*g[conv].op == "Conv";
    let group = g[conv].attrs.int_or("group", 1)? as usize;
    let Some(wv) = g[conv].input(1) else { return Ok(()) };
    if factor.iter().any(|&f| f != 1.0) {
        let Some(w) = g.constant(wv).cloned() else { return Ok(()) };
        let mut scaled = Tensor::zeros(DType::F32, w.shape());
        let (rows, per_group) = (w.shape()[0], w.shape()[1]);
        let inner = w.shape()[2..].iter().product::<usize>();
        let (from, to) = (w.as_slice::<f32>(), scaled.as_mut_slice::<f32>());
        for r in 0..rows {
            for k in 0..per_group {
                // Conv weights are [M, C/group, …], those of ConvTranspose [C, M/group, …].
                let c = if is_conv { r } else { r / (rows / group) * per_group + k };
                let at = (r * per_group + k) * inner;
                for i in at..at + inner {
                    to[i] = (from[i] as f64 * factor[c]) as f32;
                }
            }
        }
        let name = g.unused_value_name(&g[wv].name.clone());
        let new = g.add_constant(&name, scaled);
        g.set_input(conv, 1, Some(new));
    }
    let old = g[conv].input(2).and_then(|b| g.constant(b)).map(Tensor::to_f64_vec).transpose()?;
    let bias: Vec<f32> =
        (0..channels).map(|c| (old.as_ref().map_or(0.0, |b| b[c]) * factor[c] + shift[c]) as f32).collect();
    let name = g.unused_value_name(&format!("{}_bias", g[conv].name));
    let new = g.add_constant(&name, Tensor::from_slice(&[channels], &bias));
    g.set_input(conv, 2, Some(new));
    Ok(())
}
