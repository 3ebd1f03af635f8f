//! <https://onnx.ai/onnx/operators/onnx_aionnxpreview_FlexAttention.html>

use crate::cast::cast;
use crate::copy::select;
use crate::def::OpDef;
use crate::eval::{Datum, Eval};
use crate::infer::Infer;
use crate::matmul::matmul;
use crate::reduce::change_lanes;
use oxrt_ir::{Attrs, Graph, Symbols, ValueType};
use oxrt_tensor::{DType, Error, Result, Tensor, bail};

/// Attention whose scores and probabilities pass through the graphs `score_mod` and `prob_mod`.
pub const OP: OpDef =
    OpDef::new("ai.onnx.preview.FlexAttention", &[1], 3..=3, infer, eval).subgraphs(body_inputs).examples(&[(
        "(f32[1, 1, 1, 1] q, f32[1, 1, 2, 1] k, f32[1, 1, 2, 1] v) {
            y = ai.onnx.preview.FlexAttention<prob_mod={(f32[1, 1, 1, 2] p) { d = Add(p, p) } => d}>(q, k, v) } => y",
        &["q = 1", "k = 1 1", "v = 2 4"],
        "6",
    )]);

/// The type that the softmax is computed in.
fn precision(attrs: &Attrs, input: DType) -> Result<DType> {
    match attrs.get_int("softmax_precision")? {
        Some(&n) => {
            let dtype = i32::try_from(n).ok().and_then(DType::from_onnx);
            dtype.ok_or_else(|| Error::invalid(format!("{n} is not an element type")))
        }
        None => Ok(if input == DType::F64 { DType::F64 } else { DType::F32 }),
    }
}

fn body_inputs(_: &Graph, attrs: &Attrs, inputs: &[ValueType], _: &mut Symbols) -> Result<Vec<ValueType>> {
    let (Some(q), Some(k)) = (inputs.first().and_then(|t| t.as_tensor()), inputs.get(1).and_then(|t| t.as_tensor()))
    else {
        return Ok(vec![]);
    };
    let dtype = precision(attrs, q.dtype)?;
    Ok(match (q.dims.as_deref(), k.dims.as_deref()) {
        (Some([b, h, l, _]), Some([_, _, s, _])) => {
            vec![ValueType::tensor(dtype, vec![b.clone(), h.clone(), l.clone(), s.clone()])]
        }
        _ => vec![],
    })
}

fn infer(ctx: &mut Infer) -> Result<()> {
    let dims = match (ctx.dims(0), ctx.dims(2)) {
        (Some([b, h, l, _]), Some([_, _, _, e])) => Some(vec![b.clone(), h.clone(), l.clone(), e.clone()]),
        (Some(q), Some(v)) => bail!(invalid, "queries {q:?} and values {v:?} should have four axes"),
        _ => None,
    };
    ctx.set(0, ctx.dtype(2)?, dims);
    Ok(())
}

fn eval(ctx: &Eval) -> Result<Vec<Datum>> {
    let (q, k, v) = (ctx.tensor(0)?, ctx.tensor(1)?, ctx.tensor(2)?);
    let (&[b, h, l, e], &[bk, hk, s, ek], &[bv, hv, sv, _]) = (q.shape(), k.shape(), v.shape()) else {
        bail!(invalid, "queries, keys and values should have four axes");
    };
    if [bk, bv] != [b, b] || hk != hv || s != sv || e != ek || hk == 0 || h % hk != 0 {
        bail!(invalid, "queries {:?}, keys {:?} and values {:?} do not fit", q.shape(), k.shape(), v.shape());
    }
    // Every query head gets keys and values of its own, the keys turned.
    let share = |t: &Tensor| -> Result<Tensor> {
        let plane = t.len() / (b * hk).max(1);
        let heads = (0..b * h).flat_map(|i| {
            let from = (i / h * hk + i % h / (h / hk)) * plane;
            from..from + plane
        });
        select(t, &[b, h, t.shape()[2], t.shape()[3]], heads)
    };
    let keys = crate::copy::permute(&share(k)?, &[0, 1, 3, 2])?;
    let scale = ctx.attrs().get_float("scale")?.map_or_else(|| 1.0 / (e as f64).sqrt(), |&s| s as f64);
    let dtype = precision(ctx.attrs(), q.dtype())?;
    let product = matmul(q, &keys, DType::F64)?;
    let scaled: Vec<f64> = product.to_f64_vec()?.iter().map(|x| x * scale).collect();
    let mut scores = Tensor::from_f64(dtype, &[b, h, l, s], &scaled)?;
    let modify = |name: &str, x: Tensor| -> Result<Tensor> {
        let Some(body) = ctx.attrs().get_graph(name)? else { return Ok(x) };
        let result = ctx.run_subgraph(body, vec![x.into()])?.into_iter().next();
        result.ok_or_else(|| Error::invalid(format!("`{name}` has no output")))?.into_tensor()
    };
    scores = modify("score_mod", scores)?;
    let mut data = scores.to_f64_vec()?;
    change_lanes(&mut data, scores.shape(), 3, super::softmax::softmax)?;
    let probabilities = modify("prob_mod", Tensor::from_f64(dtype, scores.shape(), &data)?)?;
    let y = matmul(&probabilities, &share(v)?, DType::F64)?;
    Ok(vec![cast(&y, v.dtype(), &Attrs::new())?.into()])
}
