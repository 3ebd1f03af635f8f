//! Normalisations, alone and behind sums and embeddings.

use super::fused::one;
use super::{Call, Expand, keep};
use oxrt_ir::{Attrs, ValueId};
use oxrt_tensor::{DType, Result, bail};

pub(super) const TABLE: &[(&str, Expand)] = &[
    ("LayerNormalization", layer_normalization),
    ("SimplifiedLayerNormalization", simplified_layer_normalization),
    ("SkipLayerNormalization", skip_layer_normalization),
    ("SkipSimplifiedLayerNormalization", skip_simplified),
    ("EmbedLayerNormalization", |c| {
        let e = Embedding {
            words: c.input(2)?,
            positions: c.input(3)?,
            segments: c.opt(4),
            gamma: c.input(5)?,
            beta: c.input(6)?,
            position_ids: c.opt(8),
        };
        embed(c, &e)
    }),
    ("QEmbedLayerNormalization", |c| {
        // (quantised, scale, zero point)
        let part = |c: &mut Call, at: [usize; 3]| -> Result<Option<ValueId>> {
            let (Some(q), Some(scale), Some(zero)) = (c.opt(at[0]), c.opt(at[1]), c.opt(at[2])) else {
                return Ok(None);
            };
            c.call("DequantizeLinear", &[q, scale, zero]).map(Some)
        };
        let parts = [[2, 8, 13], [3, 9, 14], [4, 10, 15], [5, 11, 16], [6, 12, 17]];
        let [words, positions, segments, gamma, beta] = parts.map(|p| part(c, p));
        let need = |v: Option<ValueId>| v.ok_or_else(|| oxrt_tensor::Error::invalid("a quantised table is missing"));
        let e = Embedding {
            words: need(words?)?,
            positions: need(positions?)?,
            segments: segments?,
            gamma: need(gamma?)?,
            beta: need(beta?)?,
            position_ids: None,
        };
        embed(c, &e)
    }),
    ("GroupNorm", |c| {
        let x = c.input(0)?;
        one(group_norm(c, x)?)
    }),
    ("SkipGroupNorm", |c| {
        let mut skip = c.input(3)?;
        let rank = c.b.rank(c.input(0)?)?;
        if c.b.rank(skip)? == 2 {
            let axes: Vec<i64> = (1..rank as i64 - 1).collect();
            skip = c.b.unsqueeze(skip, &axes)?;
        }
        let sum = c.add(c.input(0)?, skip)?;
        let sum = c.add_opt(sum, c.opt(4))?;
        Ok(vec![Some(group_norm(c, sum)?), Some(sum)])
    }),
];

pub(super) fn layer_normalization(c: &mut Call) -> Result<Vec<Option<ValueId>>> {
    let attrs = keep(c.attrs, &["axis", "epsilon", "stash_type"]);
    let outs = c.b.op_multi("LayerNormalization", c.inputs, attrs, c.wanted.len().clamp(1, 3))?;
    Ok(outs.into_iter().map(Some).collect())
}

/// Root mean square normalisation, and the reciprocal of the root when it is asked for.
pub(super) fn simplified_layer_normalization(c: &mut Call) -> Result<Vec<Option<ValueId>>> {
    let attrs = keep(c.attrs, &["axis", "epsilon", "stash_type"]);
    let x = c.input(0)?;
    let y = c.b.op("RMSNormalization", &[x, c.input(1)?], attrs)?;
    let root = if c.wants(1) { Some(inverse_root(c, x)?) } else { None };
    Ok(vec![Some(y), root])
}

/// 1/√(mean of squares + ε) over the axes from `axis` on, in f32.
fn inverse_root(c: &mut Call, x: ValueId) -> Result<ValueId> {
    let rank = c.b.rank(x)?;
    let first = oxrt_ops::shape::axis(c.attrs.int_or("axis", -1)?, rank)? as i64;
    let axes = c.b.ints(&(first..rank as i64).collect::<Vec<_>>());
    let wide = c.b.cast(x, DType::F32)?;
    let square = c.mul(wide, wide)?;
    let mean = c.b.op("ReduceMean", &[square, axes], Attrs::new().with("keepdims", 1))?;
    let eps = c.b.scalar(DType::F32, c.attrs.float_or("epsilon", 1e-5)? as f64)?;
    let shifted = c.add(mean, eps)?;
    let root = c.call("Sqrt", &[shifted])?;
    c.call("Reciprocal", &[root])
}

/// LayerNormalization(x + skip + bias); output 3 is the sum.
fn skip_layer_normalization(c: &mut Call) -> Result<Vec<Option<ValueId>>> {
    let sum = c.add(c.input(0)?, c.input(1)?)?;
    let sum = c.add_opt(sum, c.opt(4))?;
    let attrs = Attrs::new().with("axis", -1).with("epsilon", c.attrs.float_or("epsilon", 1e-12)?);
    let n = if c.wants(1) || c.wants(2) { 3 } else { 1 };
    let outs = c.b.op_multi("LayerNormalization", &[Some(sum), c.opt(2), c.opt(3)], attrs, n)?;
    Ok(vec![Some(outs[0]), outs.get(1).copied(), outs.get(2).copied(), Some(sum)])
}

fn skip_simplified(c: &mut Call) -> Result<Vec<Option<ValueId>>> {
    let sum = c.add(c.input(0)?, c.input(1)?)?;
    let sum = c.add_opt(sum, c.opt(3))?;
    let attrs = Attrs::new().with("axis", -1).with("epsilon", c.attrs.float_or("epsilon", 1e-12)?);
    let y = c.b.op("RMSNormalization", &[sum, c.input(2)?], attrs)?;
    let root = if c.wants(2) { Some(inverse_root(c, sum)?) } else { None };
    if c.wants(1) {
        bail!(unsupported, "the output `mean`, which this normalisation does not have");
    }
    Ok(vec![Some(y), None, root, Some(sum)])
}

/// Tables of an embedding of words, positions and segments.
struct Embedding {
    words: ValueId,
    positions: ValueId,
    segments: Option<ValueId>,
    gamma: ValueId,
    beta: ValueId,
    position_ids: Option<ValueId>,
}

/// LayerNormalization of the sum of the embeddings; output 1 counts the mask, output 2 is the sum.
fn embed(c: &mut Call, e: &Embedding) -> Result<Vec<Option<ValueId>>> {
    let ids = c.input(0)?;
    if c.b.rank(ids)? != 2 {
        bail!(invalid, "word ids of shape {:?}, which should be [batch, length]", c.b.dims(ids)?);
    }
    let words = c.call("Gather", &[e.words, ids])?;
    let positions = match e.position_ids {
        Some(ids) => c.call("Gather", &[e.positions, ids])?,
        None => {
            let range = c.range(ids, 1)?;
            c.call("Gather", &[e.positions, range])?
        }
    };
    let mut sum = c.add(words, positions)?;
    if let (Some(table), Some(ids)) = (e.segments, c.opt(1)) {
        let segments = c.call("Gather", &[table, ids])?;
        sum = c.add(sum, segments)?;
    }
    let attrs = Attrs::new().with("axis", -1).with("epsilon", c.attrs.float_or("epsilon", 1e-12)?);
    let y = c.b.op("LayerNormalization", &[sum, e.gamma, e.beta], attrs)?;
    let mask = match c.opt(7) {
        _ if !c.wants(1) => None,
        Some(mask) => {
            let axes = c.b.ints(&[1]);
            let one = c.b.scalar_like(mask, 1.0)?;
            let set = c.call("Equal", &[mask, one])?;
            let set = c.b.cast(set, DType::I32)?;
            Some(c.b.op("ReduceSum", &[set, axes], Attrs::new().with("keepdims", 0))?)
        }
        None => {
            let shape = c.size(ids, 0)?;
            let zero = c.b.scalar(DType::I32, 0.0)?;
            Some(c.b.call("Expand", &[zero, shape])?)
        }
    };
    Ok(vec![Some(y), mask, Some(sum)])
}

/// Of channels last by default, with SiLU when `activation` is 1.
fn group_norm(c: &mut Call, x: ValueId) -> Result<ValueId> {
    let last = c.attrs.bool_or("channels_last", true)?;
    let first = if last { c.channels_first(x)? } else { x };
    let dtype = c.b.dtype(x)?;
    let (scale, bias) = (c.b.cast(c.input(1)?, dtype)?, c.b.cast(c.input(2)?, dtype)?);
    let groups = c.attrs.int_or("groups", 0)?;
    let attrs = Attrs::new().with("num_groups", groups).with("epsilon", c.attrs.float_or("epsilon", 1e-5)?);
    let mut y = c.b.op("GroupNormalization", &[first, scale, bias], attrs)?;
    match c.attrs.int_or("activation", 0)? {
        0 => {}
        1 => y = c.b.call("Swish", &[y])?,
        other => bail!(invalid, "`activation` {other} of a group normalisation"),
    }
    if last { c.channels_last(y) } else { Ok(y) }
}
