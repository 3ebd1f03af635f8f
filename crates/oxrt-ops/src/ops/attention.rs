//! <https://onnx.ai/onnx/operators/onnx__Attention.html>

use crate::attention::{Attend, Heads, Scores, attend};
use crate::copy::permute;
use crate::def::OpDef;
use crate::eval::{Datum, Eval};
use crate::infer::Infer;
use crate::shape::broadcast_shapes;
use oxrt_ir::{Attrs, Dim};
use oxrt_tensor::{DType, Error, Result, Tensor, bail, strides_of};

/// Inputs: Q, K, V, mask, past key, past value, number of valid keys per batch. Outputs: the result, present
/// key, present value, scores.
pub const OP: OpDef = OpDef::new("Attention", &[23, 24, 25], 3..=7, infer, eval).examples(&[
    (
        "(f32[1, 1, 2, 1] q, f32[1, 1, 2, 1] k, f32[1, 1, 2, 1] v) { y = Attention<is_causal=1>(q, k, v) } => y",
        &["q = 1 0", "k = 1 1", "v = 2 4"],
        "2 3",
    ),
    (
        "(f32[1, 1, 2] q, f32[1, 2, 1] k, f32[1, 2, 1] v, bool[2] m) {
            y, pk = Attention<q_num_heads=2, kv_num_heads=1>(q, k, v, m) } => y",
        &["q = 1 0", "k = 1 1", "v = 2 4", "m = 0 1"],
        "4 4",
    ),
]);

fn heads(attrs: &Attrs, name: &str) -> Result<i64> {
    let n = attrs.get_int(name)?.copied().unwrap_or(0);
    if n > 0 { Ok(n) } else { bail!(invalid, "inputs of three axes need `{name}`") }
}

fn infer(ctx: &mut Infer) -> Result<()> {
    let dtype = ctx.dtype(0)?;
    // [batch, heads, length, size] whatever the layout.
    let four = |ctx: &Infer, i: usize, name: &str| -> Result<Option<[Dim; 4]>> {
        match ctx.dims(i) {
            Some([b, h, s, d]) => Ok(Some([b.clone(), h.clone(), s.clone(), d.clone()])),
            Some([b, s, e]) => {
                let h = Dim::Const(heads(ctx.attrs(), name)?);
                Ok(Some([b.clone(), h.clone(), s.clone(), e.floor_div(&h)]))
            }
            Some(other) => bail!(invalid, "input {i} should have three or four axes, found {other:?}"),
            None => Ok(None),
        }
    };
    let q = four(ctx, 0, "q_num_heads")?;
    let (k, v) = (four(ctx, 1, "kv_num_heads")?, four(ctx, 2, "kv_num_heads")?);
    let (Some([b, h, sq, _]), Some([_, hk, sk, dk]), Some([_, _, _, dv])) = (q, k, v) else {
        (0..4).for_each(|i| ctx.set(i, dtype, None));
        return Ok(());
    };
    let past = match ctx.dims(4) {
        Some([_, _, p, _]) => p.clone(),
        _ if ctx.has(4) => ctx.fresh(),
        _ => Dim::Const(0),
    };
    let total = past + sk;
    let y = if ctx.rank(0) == Some(3) {
        vec![b.clone(), sq.clone(), h.clone() * dv.clone()]
    } else {
        vec![b.clone(), h.clone(), sq.clone(), dv.clone()]
    };
    let (kd, vd) = (ctx.dtype(1)?, ctx.dtype(2)?);
    ctx.set(0, dtype, Some(y));
    ctx.set(1, kd, Some(vec![b.clone(), hk.clone(), total.clone(), dk]));
    ctx.set(2, vd, Some(vec![b.clone(), hk, total.clone(), dv]));
    ctx.set(3, dtype, Some(vec![b, h, sq, total]));
    Ok(())
}

/// As [batch, heads, length, size].
fn split_heads(t: &Tensor, attrs: &Attrs, name: &str) -> Result<Tensor> {
    match *t.shape() {
        [_, _, _, _] => Ok(t.clone()),
        [b, s, e] => {
            let h = heads(attrs, name)? as usize;
            if e % h != 0 {
                bail!(invalid, "{e} features do not make {h} heads");
            }
            permute(&t.reshaped(&[b, s, h, e / h])?, &[0, 2, 1, 3])
        }
        _ => bail!(invalid, "{:?} should have three or four axes", t.shape()),
    }
}

/// The past before the present, along the length.
fn append(past: Option<&Tensor>, new: Tensor) -> Result<Tensor> {
    let Some(past) = past else { return Ok(new) };
    let (a, b) = (past.shape(), new.shape());
    if a.len() != 4 || a[..2] != b[..2] || a[3] != b[3] {
        bail!(invalid, "a past of shape {a:?} before {b:?}");
    }
    crate::copy::concat(&[past, &new], 2)
}

fn eval(ctx: &Eval) -> Result<Vec<Datum>> {
    let attrs = ctx.attrs();
    let flat = ctx.tensor(0)?.rank() == 3;
    let q = split_heads(ctx.tensor(0)?, attrs, "q_num_heads")?;
    let k = append(ctx.opt(4)?, split_heads(ctx.tensor(1)?, attrs, "kv_num_heads")?)?;
    let v = append(ctx.opt(5)?, split_heads(ctx.tensor(2)?, attrs, "kv_num_heads")?)?;
    let [batch, heads, queries, size] = *q.shape() else { bail!(invalid, "queries of shape {:?}", q.shape()) };
    let keys = k.shape()[2];
    let past = ctx.opt(4)?.and_then(|p| p.shape().get(2)).copied().unwrap_or(0) as i64;
    let valid = ctx.ints(6)?;
    if valid.as_ref().is_some_and(|v| v.len() != batch) {
        bail!(invalid, "the number of valid keys should be given for each of {batch}");
    }
    let mask = ctx.opt(3)?.map(Mask::new).transpose()?;
    if let Some(m) = &mask {
        m.check(&[batch, heads, queries, keys])?;
    }
    let (left, right) = (attrs.int_or("left_window_size", -1)?, attrs.int_or("right_window_size", -1)?);
    let causal = attrs.bool_or("is_causal", false)?;
    let bias = |b: usize, h: usize, i: usize, j: usize| {
        let valid = valid.as_ref().map(|v| v[b]);
        // Position of the query among the keys.
        let at = i as i64 + valid.map_or(past, |v| v - queries as i64);
        let j_at = j as i64;
        let hidden = causal && j_at > at
            || left >= 0 && at - j_at > left
            || right >= 0 && j_at - at > right
            || valid.is_some_and(|v| j_at >= v);
        if hidden { f64::NEG_INFINITY } else { mask.as_ref().map_or(0.0, |m| m.at(b, h, i, j)) }
    };
    let stage = match attrs.int_or("qk_matmul_output_mode", 0)? {
        0 => Scores::Product,
        1 => Scores::Capped,
        2 => Scores::Biased,
        3 => Scores::Softmax,
        other => bail!(invalid, "qk_matmul_output_mode {other}"),
    };
    let how = Attend {
        scale: attrs.get_float("scale")?.map_or_else(|| 1.0 / (size as f64).sqrt(), |&s| s as f64),
        softcap: attrs.float_or("softcap", 0.0)? as f64,
        bias: &bias,
        want: (ctx.num_outputs() > 3).then_some(stage),
    };
    let part = |t: &Tensor| Heads::new(t.shape(), t.to_f64_vec()?);
    let (y, scores) = attend(&part(&q)?, &part(&k)?, &part(&v)?, &how)?;
    let mut out = Tensor::from_f64(q.dtype(), &y.shape, &y.data)?;
    if flat {
        out = permute(&out, &[0, 2, 1, 3])?.reshaped(&[batch, queries, heads * y.shape[3]])?;
    }
    let mut results = vec![out.into(), k.into(), v.into()];
    if how.want.is_some() {
        results.push(Tensor::from_f64(q.dtype(), &[batch, heads, queries, keys], &scores)?.into());
    }
    Ok(results)
}

/// What a mask adds to the scores.
pub(super) struct Mask {
    shape: Vec<usize>,
    strides: Vec<usize>,
    data: Vec<f64>,
}

impl Mask {
    pub(super) fn new(t: &Tensor) -> Result<Mask> {
        if t.rank() > 4 {
            bail!(invalid, "a mask of shape {:?}", t.shape());
        }
        let shape = [&vec![1; 4 - t.rank()], t.shape()].concat();
        let mut data = t.to_f64_vec()?;
        if t.dtype() == DType::Bool {
            data.iter_mut().for_each(|v| *v = if *v != 0.0 { 0.0 } else { f64::NEG_INFINITY });
        }
        Ok(Mask { strides: strides_of(&shape), shape, data })
    }

    /// The last axis may be shorter: keys beyond it are hidden.
    pub(super) fn check(&self, scores: &[usize; 4]) -> Result<()> {
        let fits = broadcast_shapes(&[&self.shape[..3], &scores[..3]]).is_ok_and(|s| s == scores[..3]);
        if fits && self.shape[3] <= scores[3].max(1) {
            return Ok(());
        }
        Err(Error::invalid(format!("a mask of shape {:?} for scores of shape {scores:?}", self.shape)))
    }

    pub(super) fn at(&self, b: usize, h: usize, i: usize, j: usize) -> f64 {
        if self.shape[3] != 1 && j >= self.shape[3] {
            return f64::NEG_INFINITY;
        }
        let index = [b, h, i, j];
        let offset: usize = (0..4).map(|d| if self.shape[d] == 1 { 0 } else { index[d] * self.strides[d] }).sum();
        self.data[offset]
    }
}
