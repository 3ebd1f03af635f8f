//! <https://onnx.ai/onnx/operators/onnx__QuantizeLinear.html>

use crate::cast;
use crate::def::OpDef;
use crate::eval::{Datum, Eval};
use crate::infer::Infer;
use crate::quant::{round_to, scale_offsets, to_int};
use oxrt_ir::Attrs;
use oxrt_tensor::{DType, Error, Result, Tensor, bail};

/// x / scale + zero point, rounded to even and saturated.
pub const OP: OpDef = OpDef::new("QuantizeLinear", &[10, 13, 19, 21, 23, 24, 25, 28], 2..=3, infer, eval).examples(&[
    ("(f32[4] x) { y = QuantizeLinear(x, 2.0, u8{128}) } => y", &["x = 0 2 3 1000"], "128 129 130 255"),
    (
        "(f32[2, 2] x) { y = QuantizeLinear<axis=0, output_dtype=3>(x, f32[2]{1, 2}) } => y",
        &["x = 1 2 4 -300"],
        "1 2 2 -128",
    ),
]);

/// An element type in an attribute, where 0 is absent.
pub(super) fn listed(attrs: &Attrs, name: &str) -> Result<Option<DType>> {
    match attrs.int_or(name, 0)? {
        0 => Ok(None),
        n => match i32::try_from(n).ok().and_then(DType::from_onnx) {
            Some(d) => Ok(Some(d)),
            None => Err(Error::invalid(format!("{n} is not an element type"))),
        },
    }
}

fn infer(ctx: &mut Infer) -> Result<()> {
    let zero = if ctx.has(2) { Some(ctx.dtype(2)?) } else { None };
    let dtype = zero.or(listed(ctx.attrs(), "output_dtype")?).unwrap_or(DType::U8);
    ctx.set(0, dtype, ctx.ty(0)?.dims.clone());
    Ok(())
}

fn eval(ctx: &Eval) -> Result<Vec<Datum>> {
    let (x, scale, zero) = (ctx.tensor(0)?, ctx.tensor(1)?, ctx.opt(2)?);
    let dtype = zero.map(Tensor::dtype).or(listed(ctx.attrs(), "output_dtype")?).unwrap_or(DType::U8);
    let precision = listed(ctx.attrs(), "precision")?.unwrap_or(scale.dtype());
    if zero.is_some_and(|z| z.len() != scale.len()) {
        bail!(invalid, "the zero points should have the shape of the scales {:?}", scale.shape());
    }
    let offsets = scale_offsets(x.shape(), scale, ctx.attrs())?;
    let scales = scale.to_f64_vec()?;
    let values = x.to_f64_vec()?;
    let quotients: Vec<f64> = values.iter().zip(&offsets).map(|(v, &o)| round_to(precision, v / scales[o])).collect();
    if !dtype.is_int() {
        let plain = Tensor::from_f64(DType::F64, x.shape(), &quotients)?;
        return Ok(vec![cast::cast(&plain, dtype, ctx.attrs())?.into()]);
    }
    let zeros = zero.map(Tensor::to_i64_vec).transpose()?;
    let zero_at = |o: usize| zeros.as_ref().map_or(0, |z| z[o]);
    let out: Vec<i64> = quotients.iter().zip(&offsets).map(|(&q, &o)| to_int(dtype, q, zero_at(o))).collect();
    Ok(vec![Tensor::from_i64(dtype, x.shape(), &out)?.into()])
}
