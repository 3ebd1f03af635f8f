//! <https://onnx.ai/onnx/operators/onnx_aionnxml_CategoryMapper.html>

use crate::def::OpDef;
use crate::eval::{Datum, Eval};
use oxrt_tensor::{DType, Result, Tensor, bail};

/// Strings to integers or back, by parallel lists.
pub const OP: OpDef = OpDef::new(
    "ai.onnx.ml.CategoryMapper",
    &[1],
    1..=1,
    |ctx| {
        let t = ctx.ty(0)?;
        ctx.set(0, if t.dtype == DType::String { DType::I64 } else { DType::String }, t.dims.clone());
        Ok(())
    },
    eval,
)
.examples(&[(
    "(string[2] x) { y = ai.onnx.ml.CategoryMapper<cats_strings=[\"a\", \"b\"], cats_int64s=[5, 6]>(x) } => y",
    &["x = b c"],
    "6 -1",
)]);

fn eval(ctx: &Eval) -> Result<Vec<Datum>> {
    let (x, attrs) = (ctx.tensor(0)?, ctx.attrs());
    let names = attrs.get_strings("cats_strings")?.cloned().unwrap_or_default();
    let numbers = attrs.ints_or("cats_int64s", &[])?;
    if names.len() != numbers.len() {
        bail!(invalid, "{} strings for {} integers", names.len(), numbers.len());
    }
    if let Some(strings) = x.strings() {
        let other = attrs.int_or("default_int64", -1)?;
        let number = |s: &String| names.iter().position(|n| n == s).map_or(other, |i| numbers[i]);
        return Ok(vec![Tensor::from_slice(x.shape(), &strings.iter().map(number).collect::<Vec<_>>()).into()]);
    }
    let other = attrs.string_or("default_string", "_Unused")?.to_string();
    let name = |v: &i64| numbers.iter().position(|n| n == v).map_or(other.clone(), |i| names[i].clone());
    Ok(vec![Tensor::from_strings(x.shape(), x.to_i64_vec()?.iter().map(name).collect())?.into()])
}
