//! <https://onnx.ai/onnx/operators/onnx_aionnxml_CastMap.html>

use crate::control::map;
use crate::def::OpDef;
use crate::eval::{Datum, Eval};
use crate::infer::Infer;
use oxrt_ir::{Attrs, Dim};
use oxrt_tensor::{DType, Error, Result, Tensor, bail};

/// The values of a map with integer keys, in the order of the keys: [1, n]. "DENSE" takes them as they follow each
/// other, "SPARSE" puts each where its key says, among `max_map`.
pub const OP: OpDef = OpDef::new("ai.onnx.ml.CastMap", &[1], 1..=1, infer, eval).examples(&[
    (
        "(f32[1, 3] x) { m = ai.onnx.ml.ZipMap<classlabels_int64s=[4, 0, 2]>(x); e = SequenceAt(m, i64{0});
           y = ai.onnx.ml.CastMap<cast_to=\"TO_INT64\">(e) } => y",
        &["x = 1 2 3"],
        "2 3 1",
    ),
    (
        "(f32[1, 2] x) { m = ai.onnx.ml.ZipMap<classlabels_int64s=[3, 0]>(x); e = SequenceAt(m, i64{0});
           y = ai.onnx.ml.CastMap<map_form=\"SPARSE\", max_map=5>(e) } => y",
        &["x = 1 2"],
        "2 0 0 1 0",
    ),
]);

fn target(attrs: &Attrs) -> Result<DType> {
    match attrs.string_or("cast_to", "TO_FLOAT")? {
        "TO_FLOAT" => Ok(DType::F32),
        "TO_STRING" => Ok(DType::String),
        "TO_INT64" => Ok(DType::I64),
        other => bail!(invalid, "`cast_to` {other}"),
    }
}

/// Length of a sparse result.
fn length(attrs: &Attrs) -> Result<Option<usize>> {
    match attrs.string_or("map_form", "DENSE")? {
        "DENSE" => Ok(None),
        "SPARSE" => match usize::try_from(attrs.int_or("max_map", 1)?) {
            Ok(n) => crate::copy::checked_len(&[n]).map(Some),
            Err(_) => bail!(invalid, "a negative `max_map`"),
        },
        other => bail!(invalid, "`map_form` {other}"),
    }
}

fn infer(ctx: &mut Infer) -> Result<()> {
    let columns = match length(ctx.attrs())? {
        Some(n) => n.into(),
        None => ctx.fresh(),
    };
    ctx.set(0, target(ctx.attrs())?, Some(vec![Dim::Const(1), columns]));
    Ok(())
}

fn eval(ctx: &Eval) -> Result<Vec<Datum>> {
    let (keys, values) = map(ctx, 0)?;
    if keys.dtype() != DType::I64 {
        bail!(invalid, "keys of {}, which should be integers", keys.dtype());
    }
    let mut order: Vec<(i64, usize)> = keys.as_slice::<i64>().iter().copied().zip(0..).collect();
    order.sort_unstable();
    let dtype = target(ctx.attrs())?;
    // The place of the value for each column.
    let places: Vec<Option<usize>> = match length(ctx.attrs())? {
        None => order.iter().map(|&(_, at)| Some(at)).collect(),
        Some(n) => {
            let mut places = vec![None; n];
            for (key, at) in order {
                let slot = usize::try_from(key).ok().and_then(|k| places.get_mut(k));
                *slot.ok_or_else(|| Error::invalid(format!("the key {key} lies outside 0 to {n}")))? = Some(at);
            }
            places
        }
    };
    let shape = [1, places.len()];
    let words = values.strings();
    if dtype == DType::String {
        let word = |at: usize| match words {
            Some(w) => Ok(w[at].clone()),
            // As C's `%f`, which onnxruntime prints.
            None => Ok::<_, Error>(format!("{:.6}", values.to_f64_vec()?[at])),
        };
        let list = places.iter().map(|p| p.map_or(Ok("0.f".to_string()), word)).collect::<Result<Vec<_>>>()?;
        return Ok(vec![Tensor::from_strings(&shape, list)?.into()]);
    }
    let numbers = match words {
        Some(w) => {
            let parse = |s: &String| s.trim().parse().map_err(|_| Error::invalid(format!("`{s}` is not a number")));
            w.iter().map(parse).collect::<Result<Vec<f64>>>()?
        }
        None => values.to_f64_vec()?,
    };
    let list: Vec<f64> = places.iter().map(|p| p.map_or(0.0, |at| numbers[at])).collect();
    Ok(vec![Tensor::from_f64(dtype, &shape, &list)?.into()])
}
