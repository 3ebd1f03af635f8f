//! <https://onnx.ai/onnx/operators/onnx_aionnxml_LabelEncoder.html>

use crate::cast::cast;
use crate::def::OpDef;
use crate::eval::{Datum, Eval};
use crate::infer::Infer;
use oxrt_ir::{Attr, Attrs};
use oxrt_tensor::{DType, Error, Result, Tensor, bail};
use std::collections::HashMap;

/// Maps each element by parallel lists of keys and values; what is no key gets the default.
pub const OP: OpDef = OpDef::new("ai.onnx.ml.LabelEncoder", &[1, 2, 4], 1..=1, infer, eval).examples(&[(
    "(string[3] x) { y = ai.onnx.ml.LabelEncoder<keys_strings=[\"a\", \"b\"], values_int64s=[5, 6], default_int64=9>(x) } => y",
    &["x = b a c"],
    "6 5 9",
)]);

/// The list in the attribute `prefix` + one of the endings.
fn list(attrs: &Attrs, prefix: &str) -> Result<Tensor> {
    for (name, attr) in attrs.iter() {
        let Some(kind) = name.strip_prefix(prefix) else { continue };
        return Ok(match (kind, attr) {
            ("int64s", Attr::Ints(v)) => Tensor::from_slice(&[v.len()], v),
            ("floats", Attr::Floats(v)) => Tensor::from_slice(&[v.len()], v),
            ("strings", Attr::Strings(v)) => Tensor::from_strings(&[v.len()], v.clone())?,
            ("tensor", Attr::Tensor(t)) => t.reshaped(&[t.len()])?,
            _ => continue,
        });
    }
    Err(Error::invalid(format!("the attribute `{prefix}…` is missing")))
}

fn default(attrs: &Attrs, dtype: DType) -> Result<Tensor> {
    if let Some(t) = attrs.get_tensor("default_tensor")? {
        return cast(&t.reshaped(&[])?, dtype, &Attrs::new());
    }
    match dtype {
        DType::String => Tensor::from_strings(&[], vec![attrs.string_or("default_string", "_Unused")?.to_string()]),
        d if d.is_int() => Tensor::from_i64(d, &[], &[attrs.int_or("default_int64", -1)?]),
        d => Tensor::from_f64(d, &[], &[attrs.float_or("default_float", -0.0)? as f64]),
    }
}

fn infer(ctx: &mut Infer) -> Result<()> {
    ctx.set(0, list(ctx.attrs(), "values_")?.dtype(), ctx.ty(0)?.dims.clone());
    Ok(())
}

/// Elements as something that can be looked up; NaN is one key.
fn keys(t: &Tensor) -> Result<Vec<String>> {
    if let Some(s) = t.strings() {
        return Ok(s.to_vec());
    }
    if t.dtype().is_float() {
        return Ok(t.to_f64_vec()?.iter().map(|v| (v + 0.0).to_string()).collect());
    }
    Ok(t.to_i64_vec()?.iter().map(i64::to_string).collect())
}

fn eval(ctx: &Eval) -> Result<Vec<Datum>> {
    let (x, attrs) = (ctx.tensor(0)?, ctx.attrs());
    let (from, to) = (list(attrs, "keys_")?, list(attrs, "values_")?);
    if from.len() != to.len() {
        bail!(invalid, "{} keys for {} values", from.len(), to.len());
    }
    let mut places = HashMap::new();
    for (i, key) in keys(&from)?.into_iter().enumerate() {
        places.entry(key).or_insert(i);
    }
    let other = default(attrs, to.dtype())?;
    let found = keys(x)?.into_iter().map(|k| places.get(&k).map_or((1, 0), |&i| (0, i)));
    Ok(vec![crate::copy::assemble(&[&to, &other], x.shape(), found)?.into()])
}
