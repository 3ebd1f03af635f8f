//! <https://onnx.ai/onnx/operators/onnx_aionnxml_DictVectorizer.html>

use crate::control::map;
use crate::copy::select;
use crate::def::OpDef;
use crate::eval::{Datum, Eval};
use crate::infer::Infer;
use oxrt_ir::{Attrs, Dim, ValueType};
use oxrt_tensor::{Result, Tensor, bail};

/// The values of a map in the order of a vocabulary [1, words]; zero or "" for what the map does not hold.
pub const OP: OpDef = OpDef::new("ai.onnx.ml.DictVectorizer", &[1], 1..=1, infer, eval).examples(&[(
    "(f32[1, 3] x) { m = ai.onnx.ml.ZipMap<classlabels_strings=[\"a\", \"b\", \"c\"]>(x); e = SequenceAt(m, i64{0});
       y = ai.onnx.ml.DictVectorizer<string_vocabulary=[\"c\", \"z\", \"a\"]>(e) } => y",
    &["x = 1 2 3"],
    "3 0 1",
)]);

fn vocabulary(attrs: &Attrs) -> Result<Tensor> {
    match (attrs.get_strings("string_vocabulary")?, attrs.ints("int64_vocabulary")?) {
        (Some(words), _) if !words.is_empty() => Tensor::from_strings(&[words.len()], words.clone()),
        (_, Some(words)) => Ok(Tensor::from_slice(&[words.len()], words)),
        _ => bail!(invalid, "the vocabulary is missing"),
    }
}

fn infer(ctx: &mut Infer) -> Result<()> {
    let words = vocabulary(ctx.attrs())?.len();
    match ctx.value_type(0) {
        Some(ValueType::Map(_, value)) => match value.dtype() {
            Some(dtype) => ctx.set(0, dtype, Some(vec![Dim::Const(1), words.into()])),
            None => bail!(unsupported, "a map of {value}"),
        },
        Some(other) if *other != ValueType::Unknown => bail!(invalid, "input 0 should be a map, found {other}"),
        _ => {}
    }
    Ok(())
}

fn eval(ctx: &Eval) -> Result<Vec<Datum>> {
    let (keys, values) = map(ctx, 0)?;
    let words = vocabulary(ctx.attrs())?;
    if words.dtype() != keys.dtype() {
        bail!(invalid, "a vocabulary of {} for keys of {}", words.dtype(), keys.dtype());
    }
    // What is not in the map is the last element, a zero.
    let zero = Tensor::zeros(values.dtype(), &[1]);
    let values = crate::copy::concat(&[values, &zero], 0)?;
    let none = values.len() - 1;
    let place = |i: usize| match (words.strings(), keys.strings()) {
        (Some(w), Some(k)) => k.iter().position(|key| *key == w[i]),
        _ => keys.as_slice::<i64>().iter().position(|key| *key == words.as_slice::<i64>()[i]),
    };
    let places: Vec<usize> = (0..words.len()).map(|i| place(i).unwrap_or(none)).collect();
    Ok(vec![select(&values, &[1, words.len()], places.into_iter())?.into()])
}
