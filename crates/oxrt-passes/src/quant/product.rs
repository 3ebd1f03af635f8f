//! Convolutions and matrix products of quantised operands, with a real result for the rules of [`super::end`] to go on with.

use super::params::{dequantised, from_small_floats, reals, weights};
use crate::driver::{Rewrite, Rule};
use crate::layout::{to_first, to_last};
use crate::query::{made_by, perm_of};
use oxrt_ir::{Attrs, DType, Graph, NodeId, ValueId};
use oxrt_ops::quantised::Linear;
use oxrt_tensor::{Result, Tensor};

pub(crate) const CONV: Rule = Rule { name: "lower-q-conv", ops: &["Conv"], apply: conv };
pub(crate) const GEMM: Rule = Rule { name: "lower-q-gemm", ops: &["Gemm", "MatMul"], apply: gemm };
/// The same of floats of 8 bits. For devices that multiply them.
pub(crate) const SMALL_CONV: Rule = Rule { name: "lower-f8-conv", ops: &["Conv"], apply: small_conv };
pub(crate) const SMALL_GEMM: Rule = Rule { name: "lower-f8-gemm", ops: &["Gemm", "MatMul"], apply: small_gemm };
pub(crate) const MATMUL: Rule = Rule { name: "lower-q-matmul", ops: &["MatMul"], apply: matmul };
pub(crate) const TRANSPOSED: Rule = Rule { name: "q-matmul-transposed", ops: &["oxrt.QMatMul"], apply: transposed };

/// The attribute of a result in reals.
fn real_result(attrs: &mut Attrs) {
    attrs.set("y_dtype", DType::F32.to_onnx() as i64);
}

/// What a left operand is the real form of, with its parameters.
type From = fn(&Graph, ValueId) -> Option<(ValueId, Linear)>;

/// The zero points of integers.
fn zero_points(attrs: &mut Attrs, from: &Linear, weights: i64) {
    if !from.dtype.is_float() {
        attrs.set("x_zero", from.zero);
        attrs.set("w_zero", weights);
    }
}

fn conv(rw: &mut Rewrite, id: NodeId) -> Result<bool> {
    conv_of(rw, id, dequantised)
}

fn small_conv(rw: &mut Rewrite, id: NodeId) -> Result<bool> {
    // Those that the units take in rows of 16 bytes, images of few channels (which are folded), and filters of single channels. The
    // units multiply others as halves.
    let g = &rw.model.graph;
    let shape = g[id].input(1).and_then(|w| g[w].ty.as_tensor()?.static_shape()).unwrap_or_default();
    let group = g[id].attrs.int_or("group", 1)?;
    let fits = match shape[..] {
        [maps, 1, ..] if maps as i64 == group && group > 1 => true,
        [maps, channels, ..] => group == 1 && maps % 16 == 0 && (channels <= 4 || channels % 16 == 0),
        _ => false,
    };
    if fits { conv_of(rw, id, from_small_floats) } else { Ok(false) }
}

fn conv_of(rw: &mut Rewrite, id: NodeId, from: From) -> Result<bool> {
    let g = &rw.model.graph;
    let node = &g[id];
    let (Some(x), Some(w), Some(y)) = (node.input(0), node.input(1), node.output(0)) else { return Ok(false) };
    let (Some((bytes, from)), Some(weights)) = (from(g, x), weights(g, w, 0)) else { return Ok(false) };
    if weights.bytes.dtype().is_float() != from.dtype.is_float() {
        return Ok(false);
    }
    let bias = match node.input(2) {
        None => None,
        Some(b) => match reals(g, b) {
            Some(t) => Some(t),
            None => return Ok(false),
        },
    };
    let rank = weights.bytes.rank();
    let known = g.dims(bytes).is_some_and(|d| d.len() == rank) && g.dims(y).is_some();
    if !known || !(3..=5).contains(&rank) || node.attrs.string_or("auto_pad", "NOTSET")? != "NOTSET" {
        return Ok(false);
    }
    let mut attrs = node.attrs.clone();
    let kernel: Vec<i64> = weights.bytes.shape()[2..].iter().map(|&k| k as i64).collect();
    attrs.set("kernel_shape", kernel);
    zero_points(&mut attrs, &from, weights.zero);
    real_result(&mut attrs);
    let scale: Vec<f32> = weights.scale.iter().map(|s| s * from.scale).collect();
    let mut b = rw.builder(id);
    let turned = b.transpose(bytes, &to_last(rank))?;
    let w = b.constant(weights.bytes);
    let s = b.constant(Tensor::from_slice(&[scale.len()], &scale));
    let bias = bias.map(|t| b.constant(t));
    let out = b.op_multi("oxrt.QConv", &[Some(turned), Some(w), Some(s), bias], attrs, 1)?[0];
    let back = b.transpose(out, &to_first(rank))?;
    let g = &mut rw.model.graph;
    g.remove_node(id);
    g.replace_value(y, back);
    Ok(true)
}

fn gemm(rw: &mut Rewrite, id: NodeId) -> Result<bool> {
    gemm_of(rw, id, dequantised)
}

fn small_gemm(rw: &mut Rewrite, id: NodeId) -> Result<bool> {
    gemm_of(rw, id, from_small_floats)
}

fn gemm_of(rw: &mut Rewrite, id: NodeId, from: From) -> Result<bool> {
    let g = &rw.model.graph;
    let node = &g[id];
    let (Some(x), Some(w), Some(y)) = (node.input(0), node.input(1), node.output(0)) else { return Ok(false) };
    let plain = node.attrs.float_or("alpha", 1.0)? == 1.0
        && node.attrs.float_or("beta", 1.0)? == 1.0
        && !node.attrs.bool_or("transA", false)?;
    let turned = &*node.op == "Gemm" && node.attrs.bool_or("transB", false)?;
    // Exporters also write the turning of constant weights as a node.
    let (w, flipped) = match made_by(g, w, "Transpose") {
        Some(t) if perm_of(g, t) == Some(vec![1, 0]) => match g[t].input(0) {
            Some(inner) => (inner, true),
            None => return Ok(false),
        },
        _ => (w, false),
    };
    let by_rows = turned != flipped;
    let Some((bytes, from)) = from(g, x) else { return Ok(false) };
    let Some(mut weights) = weights(g, w, if by_rows { 0 } else { 1 }) else { return Ok(false) };
    if !plain
        || weights.bytes.dtype().is_float() != from.dtype.is_float()
        || weights.bytes.rank() != 2
        || g.dims(bytes).is_none_or(|d| d.len() < 2)
    {
        return Ok(false);
    }
    if by_rows {
        weights.bytes = oxrt_ops::copy::permute(&weights.bytes, &[1, 0])?;
    }
    let n = weights.scale.len();
    let bias = match node.input(2) {
        None => None,
        Some(b) => match reals(g, b) {
            Some(t) if t.len() == n && t.shape().last() == Some(&n) => Some(t.reshaped(&[n])?),
            Some(t) if t.len() == 1 => Some(Tensor::from_slice(&[n], &vec![t.as_slice::<f32>()[0]; n])),
            _ => return Ok(false),
        },
    };
    let mut attrs = Attrs::new();
    zero_points(&mut attrs, &from, weights.zero);
    real_result(&mut attrs);
    let scale: Vec<f32> = weights.scale.iter().map(|s| s * from.scale).collect();
    let mut b = rw.builder(id);
    let w = b.constant(weights.bytes);
    let s = b.constant(Tensor::from_slice(&[n], &scale));
    let bias = bias.map(|t| b.constant(t));
    let out = b.op_multi("oxrt.QGemm", &[Some(bytes), Some(w), Some(s), bias], attrs, 1)?[0];
    let g = &mut rw.model.graph;
    g.remove_node(id);
    g.replace_value(y, out);
    Ok(true)
}

fn matmul(rw: &mut Rewrite, id: NodeId) -> Result<bool> {
    let g = &rw.model.graph;
    let (Some(a), Some(b), Some(y)) = (g[id].input(0), g[id].input(1), g[id].output(0)) else { return Ok(false) };
    let (Some((a, pa)), Some((b, pb))) = (dequantised(g, a), dequantised(g, b)) else { return Ok(false) };
    let matrix = |v: ValueId| g.dims(v).is_some_and(|d| d.len() >= 2);
    if !matrix(a) || !matrix(b) {
        return Ok(false);
    }
    let mut attrs = Attrs::new().with("a_zero", pa.zero).with("b_zero", pb.zero).with("scale", pa.scale * pb.scale);
    real_result(&mut attrs);
    let out = rw.builder(id).op("oxrt.QMatMul", &[a, b], attrs)?;
    let g = &mut rw.model.graph;
    g.remove_node(id);
    g.replace_value(y, out);
    Ok(true)
}

/// A right operand whose last two axes were swapped is read the other way round.
fn transposed(rw: &mut Rewrite, id: NodeId) -> Result<bool> {
    let g = &mut rw.model.graph;
    let Some(t) = g[id].input(1).and_then(|b| made_by(g, b, "Transpose")) else { return Ok(false) };
    let (Some(perm), Some(from)) = (perm_of(g, t), g[t].input(0)) else { return Ok(false) };
    let n = perm.len();
    let mut swapped: Vec<usize> = (0..n).collect();
    swapped.swap(n - 1, n - 2);
    if perm != swapped {
        return Ok(false);
    }
    let now = g[id].attrs.bool_or("trans_b", false)?;
    g[id].attrs.set("trans_b", i64::from(!now));
    g.set_input(id, 1, Some(from));
    Ok(true)
}
