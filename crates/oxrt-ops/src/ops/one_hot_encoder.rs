//! <https://onnx.ai/onnx/operators/onnx_aionnxml_OneHotEncoder.html>

use crate::def::OpDef;
use crate::eval::{Datum, Eval};
use crate::infer::Infer;
use oxrt_ir::{Attrs, Dim};
use oxrt_tensor::{DType, Result, Tensor, bail};

/// A new last axis with a 1 at the place of each element in the list of categories.
pub const OP: OpDef = OpDef::new("ai.onnx.ml.OneHotEncoder", &[1], 1..=1, infer, eval).examples(&[(
    "(i64[2] x) { y = ai.onnx.ml.OneHotEncoder<cats_int64s=[4, 7]>(x) } => y",
    &["x = 7 5"],
    "0 1 0 0",
)]);

fn categories(attrs: &Attrs) -> Result<Vec<String>> {
    match (attrs.get_strings("cats_strings")?, attrs.ints("cats_int64s")?) {
        (Some(s), _) if !s.is_empty() => Ok(s.clone()),
        (_, Some(i)) => Ok(i.iter().map(i64::to_string).collect()),
        _ => bail!(invalid, "the categories are missing"),
    }
}

fn infer(ctx: &mut Infer) -> Result<()> {
    let n = Dim::from(categories(ctx.attrs())?.len());
    let dims = ctx.dims(0).map(|d| [d, &[n]].concat());
    ctx.set(0, DType::F32, dims);
    Ok(())
}

fn eval(ctx: &Eval) -> Result<Vec<Datum>> {
    let x = ctx.tensor(0)?;
    let list = categories(ctx.attrs())?;
    let elements = match x.strings() {
        Some(s) => s.to_vec(),
        None => x.to_i64_vec()?.iter().map(i64::to_string).collect(),
    };
    let zeros = ctx.attrs().bool_or("zeros", true)?;
    let mut out = Vec::new();
    for e in &elements {
        if !zeros && !list.contains(e) {
            bail!(invalid, "`{e}` is no category");
        }
        out.extend(list.iter().map(|c| (c == e) as u8 as f32));
    }
    let shape = [x.shape(), &[list.len()]].concat();
    Ok(vec![Tensor::from_slice(&shape, &out).into()])
}
