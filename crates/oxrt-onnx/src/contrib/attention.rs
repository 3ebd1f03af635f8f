//! Attention in the forms that onnxruntime fuses, and rotary positions, as standard `Attention`.
//!
//! Caches are put together in front of the operator, and what hides a key (padding, causality with a past, windows)
//! becomes one additive mask, which equal layers share.

use super::fused::one;
use super::{Call, Expand};
use oxrt_ir::{Attrs, Dim, ValueId};
use oxrt_tensor::{DType, Error, Result, bail};

pub(super) const TABLE: &[(&str, Expand)] = &[
    ("Attention", attention),
    ("QAttention", q_attention),
    ("MultiHeadAttention", multi_head_attention),
    ("DecoderMaskedMultiHeadAttention", decoder_masked),
    ("GroupQueryAttention", group_query_attention),
    ("RotaryEmbedding", rotary_embedding),
];

/// Queries [B, S, features]; keys and values the same, or [B, heads, length, size].
struct Core {
    q: ValueId,
    k: ValueId,
    v: ValueId,
    heads: i64,
    /// Which keys are padding, in any of the forms of [`padding`].
    mask: Option<ValueId>,
    /// Added to the scores.
    bias: Option<ValueId>,
    past: Option<(ValueId, ValueId)>,
    causal: bool,
    wants_present: bool,
    /// The scores after softmax are an output too.
    wants_scores: bool,
}

struct Attended {
    y: ValueId,
    k: Option<ValueId>,
    v: Option<ValueId>,
    scores: Option<ValueId>,
}

fn core(c: &mut Call, a: Core) -> Result<Attended> {
    let mut attrs = Attrs::new();
    if let Some(&scale) = c.attrs.get_float("scale")?.filter(|&&s| s != 0.0) {
        attrs.set("scale", scale);
    }
    if a.wants_scores {
        attrs.set("qk_matmul_output_mode", 3);
    }
    let four = a.past.is_some() || a.wants_present || c.b.rank(a.k)? == 4 || c.b.rank(a.v)? == 4;
    let (mut q, mut k, mut v) = (a.q, a.k, a.v);
    if four {
        q = split_heads(c, q, a.heads)?;
        k = split_heads(c, k, a.heads)?;
        v = split_heads(c, v, a.heads)?;
        if let Some((past_k, past_v)) = a.past {
            k = c.concat(&[past_k, k], 2)?;
            v = c.concat(&[past_v, v], 2)?;
        }
    } else {
        attrs.set("q_num_heads", a.heads);
        attrs.set("kv_num_heads", a.heads);
    }
    let lengths = (q, if four { 2 } else { 1 }, k, if four { 2 } else { 1 });
    let mut mask = match a.mask {
        Some(m) => Some(padding(c, m, a.q, lengths.2, lengths.3)?),
        None => None,
    };
    if let Some(bias) = a.bias {
        mask = Some(c.add_opt(bias, mask)?);
    }
    if a.causal && a.past.is_none() && mask.is_none() {
        attrs.set("is_causal", 1);
    } else if a.causal {
        let hidden = causal_mask(c, lengths)?;
        mask = Some(c.add_opt(hidden, mask)?);
    }
    let inputs = [Some(q), Some(k), Some(v), mask];
    let outs =
        c.b.op_multi("Attention", &inputs[..3 + mask.is_some() as usize], attrs, if a.wants_scores { 4 } else { 1 })?;
    let y = if four { join_heads(c, outs[0])? } else { outs[0] };
    Ok(Attended { y, k: four.then_some(k), v: four.then_some(v), scores: outs.get(3).copied() })
}

/// [B, S, heads · size] to [B, heads, S, size].
fn split_heads(c: &mut Call, x: ValueId, heads: i64) -> Result<ValueId> {
    if c.b.rank(x)? == 4 {
        return Ok(x);
    }
    let parts = c.b.reshape_const(x, &[0, 0, heads, -1])?;
    c.b.transpose(parts, &[0, 2, 1, 3])
}

fn join_heads(c: &mut Call, x: ValueId) -> Result<ValueId> {
    let turned = c.b.transpose(x, &[0, 2, 1, 3])?;
    c.b.reshape_const(turned, &[0, 0, -1])
}

/// 0 where `shown`, else `hidden`, in the element type of `like`.
fn additive(c: &mut Call, shown: ValueId, hidden: f64, like: ValueId) -> Result<ValueId> {
    let (zero, hidden) = (c.b.scalar_like(like, 0.0)?, c.b.scalar_like(like, hidden)?);
    c.call("Where", &[shown, zero, hidden])
}

/// What a mask of padding adds to the scores: [B] lengths, [2B] ends and starts, [B, T] or [B, S, T] of ones.
fn padding(c: &mut Call, mask: ValueId, q: ValueId, k: ValueId, k_axis: usize) -> Result<ValueId> {
    let filter = c.attrs.float_or("mask_filter_value", -10000.0)? as f64;
    let dims = c.b.dims(mask)?;
    let shown = match dims.len() {
        1 => {
            let batch = c.b.dims(q)?[0].clone();
            let twice = dims[0] == batch.clone() * 2 && !batch.is(0);
            if !twice && dims[0] == batch.clone() * 3 + 2 {
                bail!(unsupported, "a mask of cumulated lengths, which onnxruntime takes on CUDA only");
            }
            let at = c.range(k, k_axis)?;
            let at = c.b.cast(at, DType::I32)?;
            let mask = c.b.cast(mask, DType::I32)?;
            let shown = if twice {
                let parts =
                    c.b.op_multi("Split", &[Some(mask)], Attrs::new().with("axis", 0).with("num_outputs", 2), 2)?;
                let (end, start) = (c.b.unsqueeze(parts[0], &[1])?, c.b.unsqueeze(parts[1], &[1])?);
                let (below, from) = (c.call("Less", &[at, end])?, c.call("GreaterOrEqual", &[at, start])?);
                c.call("And", &[below, from])?
            } else {
                let end = c.b.unsqueeze(mask, &[1])?;
                c.call("Less", &[at, end])?
            };
            c.b.unsqueeze(shown, &[1, 2])?
        }
        2 => {
            let set = c.b.cast(mask, DType::Bool)?;
            c.b.unsqueeze(set, &[1, 2])?
        }
        3 => {
            let set = c.b.cast(mask, DType::Bool)?;
            c.b.unsqueeze(set, &[1])?
        }
        _ => bail!(unsupported, "a mask of shape {dims:?}, which onnxruntime takes on CUDA only"),
    };
    additive(c, shown, filter, q)
}

/// [S, T]: the last query sees all keys, each earlier one a key less.
fn causal_mask(c: &mut Call, (q, q_axis, k, k_axis): (ValueId, usize, ValueId, usize)) -> Result<ValueId> {
    let (rows, columns) = (c.range(q, q_axis)?, c.range(k, k_axis)?);
    let (queries, keys) = (c.size(q, q_axis)?, c.size(k, k_axis)?);
    let offset = c.call("Sub", &[keys, queries])?;
    let at = c.add(rows, offset)?;
    let at = c.b.unsqueeze(at, &[1])?;
    let shown = c.call("LessOrEqual", &[columns, at])?;
    additive(c, shown, f64::NEG_INFINITY, q)
}

/// [2, B, heads, length, size] as keys and values, and back.
fn past_of(c: &mut Call, past: Option<ValueId>) -> Result<Option<(ValueId, ValueId)>> {
    match past {
        Some(p) => Ok(Some((c.pick(p, 0, 0)?, c.pick(p, 0, 1)?))),
        None => Ok(None),
    }
}

fn present_of(c: &mut Call, a: &Attended) -> Result<Option<ValueId>> {
    let (Some(k), Some(v), true) = (a.k, a.v, c.wants(1)) else { return Ok(None) };
    let (k, v) = (c.b.unsqueeze(k, &[0])?, c.b.unsqueeze(v, &[0])?);
    c.concat(&[k, v], 0).map(Some)
}

fn heads(c: &Call, name: &str) -> Result<i64> {
    match c.attrs.int_or(name, 0)? {
        n if n > 0 => Ok(n),
        n => bail!(invalid, "`{name}` = {n}"),
    }
}

/// Queries, keys and values come from one product with the input.
fn attention(c: &mut Call) -> Result<Vec<Option<ValueId>>> {
    let product = c.call("MatMul", &[c.input(0)?, c.input(1)?])?;
    let all = c.add_opt(product, c.opt(2))?;
    c.refuse_inputs(&[(6, "a past that shares its buffer with the present")])?;
    merged(c, all, c.opt(3), c.opt(4), c.opt(5))
}

fn q_attention(c: &mut Call) -> Result<Vec<Option<ValueId>>> {
    let scale = c.mul(c.input(3)?, c.input(4)?)?;
    let product = super::quant::integer_product(c, [c.input(0)?, c.input(1)?], [c.opt(6), c.opt(7)], scale)?;
    let all = c.add(product, c.input(2)?)?;
    merged(c, all, c.opt(5), c.opt(8), None)
}

fn merged(
    c: &mut Call,
    all: ValueId,
    mask: Option<ValueId>,
    past: Option<ValueId>,
    bias: Option<ValueId>,
) -> Result<Vec<Option<ValueId>>> {
    c.refuse_attr("do_rotary", 0)?;
    c.refuse_attr("past_present_share_buffer", 0)?;
    let sizes = match c.attrs.ints("qkv_hidden_sizes")? {
        Some(list) if list.len() == 3 => list.iter().map(|&n| Dim::Const(n)).collect(),
        Some(list) => bail!(invalid, "`qkv_hidden_sizes` has {} elements", list.len()),
        None => vec![last(c, all)?.floor_div(&Dim::Const(3)); 3],
    };
    let parts = c.split(all, -1, &sizes)?;
    let past = past_of(c, past)?;
    let a = Core {
        q: parts[0],
        k: parts[1],
        v: parts[2],
        heads: heads(c, "num_heads")?,
        mask,
        bias,
        past,
        causal: c.attrs.bool_or("unidirectional", false)?,
        wants_present: c.wants(1),
        wants_scores: false,
    };
    let done = core(c, a)?;
    Ok(vec![Some(done.y), present_of(c, &done)?])
}

fn last(c: &Call, x: ValueId) -> Result<Dim> {
    c.b.dims(x)?.last().cloned().ok_or_else(|| Error::invalid("a scalar where features are needed"))
}

/// Adds the parts of a bias [q | k | v].
fn add_biases(
    c: &mut Call,
    q: ValueId,
    kv: Option<(ValueId, ValueId)>,
    bias: Option<ValueId>,
) -> Result<(ValueId, Option<(ValueId, ValueId)>)> {
    let Some(bias) = bias else { return Ok((q, kv)) };
    let width = last(c, q)?;
    let v_width = last(c, bias)? - width.clone() * 2;
    let parts = c.split(bias, 0, &[width.clone(), width, v_width])?;
    let q = c.add(q, parts[0])?;
    match kv {
        // Keys of a past come with their bias.
        Some((k, v)) if c.b.rank(k)? == 3 => Ok((q, Some((c.add(k, parts[1])?, c.add(v, parts[2])?)))),
        kv => Ok((q, kv)),
    }
}

fn multi_head_attention(c: &mut Call) -> Result<Vec<Option<ValueId>>> {
    c.refuse_inputs(&[(8, "a past that shares its buffer with the present"), (9, "beams (`cache_indirection`)")])?;
    let n = heads(c, "num_heads")?;
    let packed = |c: &mut Call, x: ValueId, i: i64| -> Result<ValueId> {
        let part = c.pick(x, 3, i)?;
        c.b.reshape_const(part, &[0, 0, -1])
    };
    let query = c.input(0)?;
    let (q, kv) = match (c.opt(1), c.opt(2)) {
        (Some(k), Some(v)) => (query, (k, v)),
        (Some(k), None) => (query, (packed(c, k, 0)?, packed(c, k, 1)?)),
        (None, _) => (packed(c, query, 0)?, (packed(c, query, 1)?, packed(c, query, 2)?)),
    };
    let (q, kv) = add_biases(c, q, Some(kv), c.opt(3))?;
    let (k, v) = kv.ok_or_else(|| Error::bug("keys are lost"))?;
    let past = match (c.opt(6), c.opt(7)) {
        (Some(k), Some(v)) => Some((k, v)),
        _ => None,
    };
    let a = Core {
        q,
        k,
        v,
        heads: n,
        mask: c.opt(4),
        bias: c.opt(5),
        past,
        causal: c.attrs.bool_or("unidirectional", false)?,
        wants_present: c.wants(1) || c.wants(2),
        wants_scores: c.wants(3),
    };
    let done = core(c, a)?;
    Ok(vec![Some(done.y), done.k, done.v, done.scores])
}

/// One query; keys and values of the past lie in a buffer of their own, or in one that has room for more.
fn decoder_masked(c: &mut Call) -> Result<Vec<Option<ValueId>>> {
    c.refuse_inputs(&[(9, "beams (`cache_indirection`)")])?;
    let n = heads(c, "num_heads")?;
    let query = c.input(0)?;
    let (q, kv) = match (c.opt(1), c.opt(2)) {
        (Some(k), Some(v)) => (query, (k, v)),
        _ => {
            let third = last(c, query)?.floor_div(&Dim::Const(3));
            let parts = c.split(query, -1, &vec![third; 3])?;
            (parts[0], (parts[1], parts[2]))
        }
    };
    let (q, kv) = add_biases(c, q, Some(kv), c.opt(10))?;
    let (mut k, mut v) = kv.ok_or_else(|| Error::bug("keys are lost"))?;
    let mut past = match (c.opt(5), c.opt(6)) {
        (Some(k), Some(v)) => Some((k, v)),
        _ => None,
    };
    let mut bias = c.opt(4);
    if let (Some((past_k, past_v)), true) = (past, c.attrs.bool_or("past_present_share_buffer", false)?) {
        // The new key goes to its place in the buffer; what lies behind it is hidden.
        let at = c.b.reshape_const(c.input(7)?, &[1])?;
        let at = c.b.cast(at, DType::I64)?;
        let batch = c.size(past_k, 0)?;
        let write = c.call("Expand", &[at, batch])?;
        let (new_k, new_v) = (split_heads(c, k, n)?, split_heads(c, v, n)?);
        k = c.call("TensorScatter", &[past_k, new_k, write])?;
        v = c.call("TensorScatter", &[past_v, new_v, write])?;
        let range = c.range(past_k, 2)?;
        let shown = c.call("LessOrEqual", &[range, at])?;
        let hidden = additive(c, shown, f64::NEG_INFINITY, q)?;
        bias = Some(c.add_opt(hidden, bias)?);
        past = None;
    }
    let a = Core {
        q,
        k,
        v,
        heads: n,
        mask: c.opt(3),
        bias,
        past,
        causal: false,
        wants_present: c.wants(1) || c.wants(2),
        wants_scores: c.wants(3),
    };
    let done = core(c, a)?;
    Ok(vec![Some(done.y), done.k, done.v, done.scores])
}

/// Positions of a chunk behind a past of its own length in each batch.
struct Chunk {
    /// [B]: length of the past.
    past: ValueId,
    /// [B, S]: position of each query.
    positions: ValueId,
    /// [1]: length of the longest sequence.
    total: ValueId,
}

fn group_query_attention(c: &mut Call) -> Result<Vec<Option<ValueId>>> {
    c.refuse_inputs(&[(12, "a quantised cache"), (13, "a quantised cache"), (16, "ragged chunks (`query_seqlens`)")])?;
    c.refuse_attr("kv_cache_bit_width", 0)?;
    c.refuse_attr("sliding_window_cache", 0)?;
    let (n, kv_n) = (heads(c, "num_heads")?, heads(c, "kv_num_heads")?);
    let query = c.input(0)?;
    let [mut q, mut k, v] = match (c.opt(1), c.opt(2)) {
        (Some(k), Some(v)) => [(query, n), (k, kv_n), (v, kv_n)].map(|(x, n)| split_heads(c, x, n)),
        _ => {
            let size = last(c, query)?.floor_div(&Dim::Const(n + 2 * kv_n));
            let sizes = [n, kv_n, kv_n].map(|h| size.clone() * h);
            let parts = c.split(query, -1, &sizes)?;
            [(parts[0], n), (parts[1], kv_n), (parts[2], kv_n)].map(|(x, n)| split_heads(c, x, n))
        }
    }
    .into_iter()
    .collect::<Result<Vec<_>>>()?[..] else {
        bail!(bug, "three parts became another number")
    };
    for (x, weight, name) in [(&mut q, 14, "q_norm_epsilon"), (&mut k, 15, "k_norm_epsilon")] {
        if let Some(weight) = c.opt(weight) {
            let default = c.attrs.float_or("qk_norm_epsilon", 1e-6)?;
            let attrs = Attrs::new().with("axis", -1).with("epsilon", c.attrs.float_or(name, default)?);
            *x = c.b.op("RMSNormalization", &[*x, weight], attrs)?;
        }
    }
    let chunk = chunk(c, q)?;
    if c.attrs.bool_or("do_rotary", false)? {
        let positions = match c.opt(9) {
            Some(p) => {
                let p = c.b.cast(p, DType::I64)?;
                let like = c.call("Shape", &[chunk.positions])?;
                c.call("Expand", &[p, like])?
            }
            None => chunk.positions,
        };
        let attrs = Attrs::new().with("interleaved", c.attrs.int_or("rotary_interleaved", 0)?);
        let attrs = rotated_part(c, attrs, q, c.input(7)?)?;
        let (cos, sin) = (c.input(7)?, c.input(8)?);
        q = c.b.op("RotaryEmbedding", &[q, cos, sin, positions], attrs.clone())?;
        k = c.b.op("RotaryEmbedding", &[k, cos, sin, positions], attrs)?;
    }
    let (present_k, present_v) = (cached(c, c.opt(3), k, &chunk)?, cached(c, c.opt(4), v, &chunk)?);
    let mut mask = window(c, &chunk, present_k, q)?;
    if let Some(bias) = c.opt(10) {
        let bias = fitted_bias(c, bias, present_k)?;
        mask = Some(c.add_opt(bias, mask)?);
    }
    let (mut keys, mut values) = (present_k, present_v);
    if c.opt(11).is_some() || c.attrs.bool_or("smooth_softmax", false)? {
        (keys, values, mask) = with_sink(c, present_k, present_v, q, mask, n)?;
    }
    let mut attrs = Attrs::new();
    if let Some(&scale) = c.attrs.get_float("scale")?.filter(|&&s| s != 0.0) {
        attrs.set("scale", scale);
    }
    if let Some(&cap) = c.attrs.get_float("softcap")?.filter(|&&s| s != 0.0) {
        attrs.set("softcap", cap);
    }
    match c.attrs.int_or("qk_output", 0)? {
        0 => {}
        _ if !c.wants(3) => {}
        other => bail!(unsupported, "`qk_output` = {other}"),
    }
    let inputs: Vec<_> = [q, keys, values].into_iter().chain(mask).map(Some).collect();
    let y = c.b.op_multi("Attention", &inputs, attrs, 1)?[0];
    Ok(vec![Some(join_heads(c, y)?), Some(present_k), Some(present_v)])
}

/// Where the new positions start: 0 for a first prompt (as long as the whole), else the length less the chunk.
fn chunk(c: &mut Call, q: ValueId) -> Result<Chunk> {
    let lengths = c.b.cast(c.input(5)?, DType::I64)?;
    let lengths = c.b.reshape_const(lengths, &[-1])?;
    let total = c.b.cast(c.input(6)?, DType::I64)?;
    let total = c.b.reshape_const(total, &[1])?;
    if c.b.graph[total].contents.is_none() {
        // The size of caches follows from it.
        let size = Dim::from(c.b.symbols.fresh());
        c.b.graph[total].contents = Some(oxrt_ir::Contents::vector(vec![size]));
    }
    let (new, one, zero) = (c.size(q, 2)?, c.b.ints(&[1]), c.b.ints(&[0]));
    let valid = c.add(lengths, one)?;
    let before = c.call("Sub", &[valid, new])?;
    let first = c.call("Equal", &[total, new])?;
    let past = c.call("Where", &[first, zero, before])?;
    let (range, start) = (c.range(q, 2)?, c.b.unsqueeze(past, &[1])?);
    let positions = c.add(start, range)?;
    Ok(Chunk { past, positions, total })
}

/// The cache with the new keys or values in it: as long as the buffer, or the whole when that is longer.
fn cached(c: &mut Call, past: Option<ValueId>, new: ValueId, chunk: &Chunk) -> Result<ValueId> {
    let Some(past) = past else { return Ok(new) };
    let (have, zero) = (c.size(past, 2)?, c.b.ints(&[0]));
    let more = c.call("Sub", &[chunk.total, have])?;
    let more = c.call("Max", &[more, zero])?;
    let three = c.b.ints(&[0, 0, 0, 0, 0, 0]);
    let last = c.b.ints(&[0]);
    let pads = c.concat(&[three, more, last], 0)?;
    let room = c.call("Pad", &[past, pads])?;
    c.call("TensorScatter", &[room, new, chunk.past])
}

/// [B, 1, S, T]: hides keys after the query, and before its window.
fn window(c: &mut Call, chunk: &Chunk, keys: ValueId, q: ValueId) -> Result<Option<ValueId>> {
    let columns = c.range(keys, 2)?;
    let at = c.b.unsqueeze(chunk.positions, &[1, 3])?;
    let causal = c.attrs.bool_or("causal", true)?;
    let shown = if causal {
        c.call("LessOrEqual", &[columns, at])?
    } else {
        // All that is valid.
        let lengths = c.b.cast(c.input(5)?, DType::I64)?;
        let lengths = c.b.reshape_const(lengths, &[-1, 1, 1, 1])?;
        c.call("LessOrEqual", &[columns, lengths])?
    };
    let width = c.attrs.int_or("local_window_size", -1)?;
    let shown = if width > 0 {
        let width = c.b.ints(&[width]);
        let first = c.call("Sub", &[at, width])?;
        let near = c.call("Greater", &[columns, first])?;
        c.call("And", &[shown, near])?
    } else {
        shown
    };
    additive(c, shown, f64::NEG_INFINITY, q).map(Some)
}

/// A bias over the whole sequence, as long as the buffer of the keys.
fn fitted_bias(c: &mut Call, bias: ValueId, keys: ValueId) -> Result<ValueId> {
    let (have, want) = (c.b.dims(bias)?[3].clone(), c.b.dims(keys)?[2].clone());
    if have == want {
        return Ok(bias);
    }
    let (have, want) = (c.size(bias, 3)?, c.size(keys, 2)?);
    let more = c.call("Sub", &[want, have])?;
    let none = c.b.ints(&[0; 7]);
    let pads = c.concat(&[none, more], 0)?;
    c.call("Pad", &[bias, pads])
}

/// One more key of score `sink` (0 for "smooth" softmax) and value zero: it takes part in the denominator only.
fn with_sink(
    c: &mut Call,
    k: ValueId,
    v: ValueId,
    q: ValueId,
    mask: Option<ValueId>,
    heads: i64,
) -> Result<(ValueId, ValueId, Option<ValueId>)> {
    let pads = c.b.ints(&[0, 0, 0, 0, 0, 0, 1, 0]);
    let (keys, values) = (c.call("Pad", &[k, pads])?, c.call("Pad", &[v, pads])?);
    let sink = match c.opt(11) {
        Some(s) => c.b.reshape_const(s, &[1, heads, 1, 1])?,
        None => c.b.constant(oxrt_tensor::Tensor::zeros(c.b.dtype(q)?, &[1, heads as usize, 1, 1])),
    };
    let mask = mask.ok_or_else(|| Error::bug("a sink without a mask"))?;
    let (batch, count, length) = (c.size(q, 0)?, c.b.ints(&[heads]), c.size(q, 2)?);
    let width = c.size(k, 2)?;
    let one = c.b.ints(&[1]);
    let whole = c.concat(&[batch, count, length, width], 0)?;
    let column = c.concat(&[batch, count, length, one], 0)?;
    let (mask, sink) = (c.call("Expand", &[mask, whole])?, c.call("Expand", &[sink, column])?);
    let mask = c.concat(&[mask, sink], 3)?;
    Ok((keys, values, Some(mask)))
}

/// States how many features are turned when the cache is narrower than half a head.
fn rotated_part(c: &Call, attrs: Attrs, x: ValueId, cos: ValueId) -> Result<Attrs> {
    let (width, half) = (last(c, x)?, last(c, cos)?);
    match (width.as_const(), half.as_const()) {
        (Some(w), Some(h)) if w != 2 * h => Ok(attrs.with("rotary_embedding_dim", 2 * h)),
        _ => Ok(attrs),
    }
}

fn rotary_embedding(c: &mut Call) -> Result<Vec<Option<ValueId>>> {
    c.refuse_attr("is_packed_batching", 0)?;
    if c.attrs.float_or("scale", 1.0)? != 1.0 {
        bail!(unsupported, "a scaled rotary embedding");
    }
    let (x, positions, cos, sin) = (c.input(0)?, c.input(1)?, c.input(2)?, c.input(3)?);
    let rank = c.b.rank(x)?;
    let mut attrs = Attrs::new().with("interleaved", c.attrs.int_or("interleaved", 0)?);
    let turned = c.attrs.int_or("rotary_embedding_dim", 0)?;
    if turned > 0 {
        attrs.set("rotary_embedding_dim", turned);
    }
    // Without a number of heads, a head is twice as wide as the cache.
    let heads = c.attrs.int_or("num_heads", 0)?;
    let width = last(c, cos)?.as_const().map(|half| 2 * half);
    let parted = rank == 3 && heads == 0;
    if rank == 3 && heads > 0 {
        attrs.set("num_heads", heads);
    }
    let length_axis = if rank == 3 { 1 } else { 2 };
    let positions = if c.b.rank(positions)? == 1 {
        // Where the sequence starts, for all batches.
        let range = c.range(x, length_axis)?;
        let positions = c.b.cast(positions, DType::I64)?;
        let row = c.add(range, positions)?;
        let (batch, length) = (c.size(x, 0)?, c.size(x, length_axis)?);
        let shape = c.concat(&[batch, length], 0)?;
        c.call("Expand", &[row, shape])?
    } else {
        positions
    };
    if !parted {
        return one(c.b.op("RotaryEmbedding", &[x, cos, sin, positions], attrs)?);
    }
    let width = width.ok_or_else(|| Error::unsupported("an unknown number of heads"))?;
    let parts = c.b.reshape_const(x, &[0, 0, -1, width])?;
    let parts = c.b.transpose(parts, &[0, 2, 1, 3])?;
    let y = c.b.op("RotaryEmbedding", &[parts, cos, sin, positions], attrs)?;
    one(join_heads(c, y)?)
}
