//! Reading quantisation parameters off a graph.

use crate::query::{made_by, scalar};
use oxrt_ir::{DType, Graph, NodeId, ValueId};
use oxrt_ops::quantised::{Linear, is_rounded};
use oxrt_tensor::Tensor;

/// The parameters of a QuantizeLinear or DequantizeLinear with one constant scale (and zero point) for the whole tensor,
/// between `f32` and bytes.
pub(super) fn linear_of(g: &Graph, id: NodeId) -> Option<Linear> {
    parameters(g, id).filter(|l| !l.dtype.is_float())
}

/// The same between `f32` and floats of 8 bits.
pub(super) fn small_linear_of(g: &Graph, id: NodeId) -> Option<Linear> {
    parameters(g, id).filter(|l| l.dtype.is_float() && l.zero == 0)
}

fn parameters(g: &Graph, id: NodeId) -> Option<Linear> {
    let node = &g[id];
    let (real, bytes) = match &*node.op {
        "QuantizeLinear" => (node.input(0)?, node.output(0)?),
        "DequantizeLinear" => (node.output(0)?, node.input(0)?),
        _ => return None,
    };
    let scale = scalar(g, node.input(1)?)?;
    let zero = node.input(2).map_or(Some(0.0), |z| scalar(g, z))?;
    let dtype = g[bytes].ty.dtype().filter(|&d| is_rounded(d))?;
    let plain = g[node.input(1)?].ty.dtype() == Some(DType::F32)
        && g[real].ty.dtype() == Some(DType::F32)
        && node.attrs.int_or("precision", 0).ok()? == 0
        && node.attrs.bool_or("saturate", true).ok()?
        && scale > 0.0
        && scale.is_finite();
    plain.then(|| Linear::new(scale as f32, zero as i64, dtype))
}

/// The bytes that `v` is the real form of, with their parameters.
pub(super) fn dequantised(g: &Graph, v: ValueId) -> Option<(ValueId, Linear)> {
    let id = made_by(g, v, "DequantizeLinear")?;
    Some((g[id].input(0)?, linear_of(g, id)?))
}

/// The floats of 8 bits that `v` is the real form of, with their parameters.
pub(super) fn from_small_floats(g: &Graph, v: ValueId) -> Option<(ValueId, Linear)> {
    let id = made_by(g, v, "DequantizeLinear")?;
    Some((g[id].input(0)?, small_linear_of(g, id)?))
}

/// Quantised constant weights: the signed bytes, a scale per slice of the output axis, and one zero point for all.
pub(super) struct Weights {
    /// Signed bytes (unsigned ones have been moved down by 128), or floats of 8 bits.
    pub bytes: Tensor,
    /// One per output channel.
    pub scale: Vec<f32>,
    /// The zero point.
    pub zero: i64,
}

/// The weights that `v` is the real form of, with `axis` for the output channels.
pub(super) fn weights(g: &Graph, v: ValueId, axis: usize) -> Option<Weights> {
    let id = made_by(g, v, "DequantizeLinear")?;
    let node = &g[id];
    let q = g.constant(node.input(0)?)?;
    let scale = g.constant(node.input(1)?).filter(|s| s.dtype() == DType::F32)?;
    let n = *q.shape().get(axis)?;
    let own = node.attrs.int_or("axis", 1).ok()?;
    let own = if own < 0 { own + q.rank() as i64 } else { own };
    if node.attrs.int_or("block_size", 0).ok()? != 0 || (scale.len() != 1 && (scale.rank() != 1 || own != axis as i64))
    {
        return None;
    }
    let scale: Vec<f32> = match scale.as_slice::<f32>() {
        [one] => vec![*one; n],
        all if all.len() == n => all.to_vec(),
        _ => return None,
    };
    let zeros = match node.input(2) {
        None => vec![0],
        Some(z) => g.constant(z)?.to_f64_vec().ok()?.into_iter().map(|z| z as i64).collect(),
    };
    let zero = *zeros.first()?;
    if zeros.iter().any(|&z| z != zero) {
        return None;
    }
    match q.dtype() {
        DType::I8 => Some(Weights { bytes: q.clone(), scale, zero }),
        DType::U8 => {
            let moved: Vec<i8> = q.as_slice::<u8>().iter().map(|&v| (v ^ 0x80) as i8).collect();
            Some(Weights { bytes: Tensor::from_slice(q.shape(), &moved), scale, zero: zero - 128 })
        }
        DType::F8E4M3FN if zero == 0 => Some(Weights { bytes: q.clone(), scale, zero }),
        _ => None,
    }
}

/// The elements of a constant of reals, or of integers that a DequantizeLinear makes real.
pub(super) fn reals(g: &Graph, v: ValueId) -> Option<Tensor> {
    if let Some(t) = g.constant(v) {
        return (t.dtype() == DType::F32).then(|| t.clone());
    }
    dequantized(g, v).filter(|t| t.dtype() == DType::F32)
}

/// The reals that `DequantizeLinear` makes of constants alone, in its own type.
pub(super) fn dequantized(g: &Graph, v: ValueId) -> Option<Tensor> {
    let id = made_by(g, v, "DequantizeLinear")?;
    let inputs = g[id].inputs().iter().map(|i| i.map(|v| g.constant(v).cloned().map(Into::into)));
    let inputs: Option<Vec<_>> = inputs.map(|i| i.map_or(Some(None), |t| t.map(Some))).collect();
    let made = oxrt_ops::eval::eval_node(&g[id], &inputs?, &|_| None).ok()?;
    made.into_iter().next()?.into_tensor().ok()
}
