//! <https://onnx.ai/onnx/operators/onnx__LinearAttention.html>

use crate::copy::checked_len;
use crate::def::OpDef;
use crate::eval::{Datum, Eval};
use crate::infer::Infer;
use oxrt_ir::{Attrs, Dim};
use oxrt_tensor::{Result, Tensor, bail};

/// Attention by a state per head that each step decays and adds to. Inputs: query, key, value [batch, length,
/// heads · size], past state, decay (as a logarithm), rate.
pub const OP: OpDef = OpDef::new("LinearAttention", &[27], 3..=6, infer, eval).examples(&[(
    "(f32[1, 2, 1] q, f32[1, 2, 1] k, f32[1, 2, 1] v) {
        y, s = LinearAttention<q_num_heads=1, kv_num_heads=1, update_rule=\"linear\">(q, k, v) } => y",
    &["q = 1 2", "k = 1 1", "v = 3 4"],
    "3 14",
)]);

fn heads(attrs: &Attrs) -> Result<(usize, usize)> {
    let q = usize::try_from(attrs.int_or("q_num_heads", 0)?).unwrap_or(0);
    let kv = usize::try_from(attrs.int_or("kv_num_heads", 0)?).unwrap_or(0);
    if q == 0 || kv == 0 || q % kv != 0 {
        bail!(invalid, "{q} query heads share {kv} key heads");
    }
    Ok((q, kv))
}

fn infer(ctx: &mut Infer) -> Result<()> {
    let (hq, hk) = heads(ctx.attrs())?;
    let dtype = ctx.dtype(0)?;
    let state = if ctx.has(3) { ctx.dtype(3)? } else { dtype };
    let (Some([b, t, q]), Some([_, _, v])) = (ctx.dims(0), ctx.dims(2)) else {
        ctx.set(0, dtype, None);
        ctx.set(1, state, None);
        return Ok(());
    };
    let (dk, dv) = (q.floor_div(&Dim::from(hq)), v.floor_div(&Dim::from(hk)));
    ctx.set(0, dtype, Some(vec![b.clone(), t.clone(), dv.clone() * Dim::from(hq)]));
    ctx.set(1, state, Some(vec![b.clone(), Dim::from(hk), dk, dv]));
    Ok(())
}

fn eval(ctx: &Eval) -> Result<Vec<Datum>> {
    let (q, k, v) = (ctx.tensor(0)?, ctx.tensor(1)?, ctx.tensor(2)?);
    let (hq, hk) = heads(ctx.attrs())?;
    let (&[b, t, eq], &[bk, tk, ek], &[bv, tv, ev]) = (q.shape(), k.shape(), v.shape()) else {
        bail!(invalid, "query, key and value should have three axes");
    };
    let (dk, dv) = (eq / hq, ev / hk);
    if [bk, bv] != [b, b] || [tk, tv] != [t, t] || eq != dk * hq || ek != dk * hk || ev != dv * hk {
        bail!(invalid, "query {:?}, key {:?} and value {:?} do not fit", q.shape(), k.shape(), v.shape());
    }
    let rule = ctx.attrs().string_or("update_rule", "gated_delta")?;
    let (gated, delta) = match rule {
        "linear" => (false, false),
        "gated" => (true, false),
        "delta" => (false, true),
        "gated_delta" => (true, true),
        other => bail!(invalid, "the update rule `{other}` is unknown"),
    };
    if ctx.opt(4)?.is_some() != gated || ctx.opt(5)?.is_some() != delta {
        bail!(invalid, "the update rule `{rule}` and the inputs decay and beta do not fit");
    }
    // Values per step and key head, one for all sizes or one each.
    let per_step = |i: usize, widths: &[usize]| -> Result<Option<(Vec<f64>, usize)>> {
        let Some(x) = ctx.opt(i)? else { return Ok(None) };
        match *x.shape() {
            [xb, xt, w] if (xb, xt) == (b, t) && widths.contains(&w) => Ok(Some((x.to_f64_vec()?, w))),
            _ => bail!(invalid, "input {i} has the shape {:?}", x.shape()),
        }
    };
    let decay = per_step(4, &[hk, hk * dk])?;
    let rate = per_step(5, &[hk, 1])?;
    let shape = [b, hk, dk, dv];
    let mut state = match ctx.opt(3)? {
        Some(p) if p.shape() != shape => bail!(invalid, "a past state of {:?}, not {shape:?}", p.shape()),
        Some(p) => p.to_f64_vec()?,
        None => vec![0.0; checked_len(&shape)?],
    };
    let scale = match ctx.attrs().float_or("scale", 0.0)? {
        0.0 => 1.0 / (dk as f64).sqrt(),
        s => s as f64,
    };
    let (qd, kd, vd) = (q.to_f64_vec()?, k.to_f64_vec()?, v.to_f64_vec()?);
    let mut out = vec![0.0; checked_len(&[b, t, hq * dv])?];
    for (batch, step) in (0..b).flat_map(|b| (0..t).map(move |t| (b, t))) {
        let row = batch * t + step;
        for h in 0..hk {
            let s = &mut state[(batch * hk + h) * dk * dv..(batch * hk + h + 1) * dk * dv];
            let key = &kd[row * ek + h * dk..][..dk];
            let mut value = vd[row * ev + h * dv..][..dv].to_vec();
            if let Some((g, w)) = &decay {
                for (i, line) in s.chunks_mut(dv.max(1)).enumerate() {
                    let at = if *w == hk { row * w + h } else { row * w + h * dk + i };
                    line.iter_mut().for_each(|x| *x *= g[at].exp());
                }
            }
            if let Some((beta, w)) = &rate {
                let beta = beta[row * w + if *w == 1 { 0 } else { h }];
                for (j, x) in value.iter_mut().enumerate() {
                    let found: f64 = (0..dk).map(|i| s[i * dv + j] * key[i]).sum();
                    *x = beta * (*x - found);
                }
            }
            for (i, line) in s.chunks_mut(dv.max(1)).enumerate() {
                line.iter_mut().zip(&value).for_each(|(x, v)| *x += key[i] * v);
            }
            for head in h * (hq / hk)..(h + 1) * (hq / hk) {
                let query = &qd[row * eq + head * dk..][..dk];
                let y = &mut out[row * hq * dv + head * dv..][..dv];
                for (j, y) in y.iter_mut().enumerate() {
                    *y = scale * (0..dk).map(|i| query[i] * s[i * dv + j]).sum::<f64>();
                }
            }
        }
    }
    let state_type = ctx.opt(3)?.map_or(q.dtype(), Tensor::dtype);
    Ok(vec![
        Tensor::from_f64(q.dtype(), &[b, t, hq * dv], &out)?.into(),
        Tensor::from_f64(state_type, &shape, &state)?.into(),
    ])
}
