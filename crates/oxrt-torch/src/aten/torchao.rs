//! Affine quantisation in blocks, as programs of torchao call it (`quant_primitives.py` there).

use super::formula::F;
use crate::args::Args;
use crate::cx::Cx;
use oxrt_ir::{DType, Dim, ValueId};
use oxrt_tensor::{Result, bail};

/// The sizes of x with every axis that has several blocks as two, and the axes within blocks: those share a scale.
fn blocks(cx: &Cx, x: ValueId, size: &[Dim]) -> Result<(Vec<Dim>, Vec<usize>)> {
    let dims = cx.dims(x)?;
    if size.len() != dims.len() {
        bail!(invalid, "blocks of {} axes for a tensor of {}", size.len(), dims.len());
    }
    let (mut shape, mut within) = (Vec::new(), Vec::new());
    for (n, block) in dims.into_iter().zip(size) {
        if n != *block && !block.is(1) {
            shape.push(n.floor_div(block));
            within.push(shape.len());
            shape.push(block.clone());
        } else {
            if !block.is(1) {
                within.push(shape.len());
            }
            shape.push(n);
        }
    }
    Ok((shape, within))
}

/// x in blocks, and scales and zero points that broadcast with it, in `dtype`.
fn in_blocks(cx: &mut Cx, a: &Args, dtype: DType) -> Result<(F, F, Option<F>)> {
    let x = a.t("input")?;
    let (shape, within) = blocks(cx, x, &a.dim_list("block_size")?)?;
    let x = cx.reshape(x, &shape)?;
    let mut shared = shape;
    within.iter().for_each(|&i| shared[i] = Dim::Const(1));
    let mut part = |v: ValueId| -> Result<F> {
        let v = cx.cast(v, dtype)?;
        Ok(F::from(cx.reshape(v, &shared)?))
    };
    let (scale, zero) = (part(a.t("scale")?)?, a.opt_t("zero_point")?.map(&mut part).transpose()?);
    Ok((F::from(cx.cast(x, dtype)?), scale, zero))
}

/// The least and the largest code: those given, or all that the type holds.
fn codes(a: &Args, dtype: DType) -> Result<(f64, f64)> {
    let full = match dtype {
        DType::U8 => (0.0, 255.0),
        DType::I8 => (-128.0, 127.0),
        DType::I16 => (-32768.0, 32767.0),
        DType::I32 => (f64::from(i32::MIN), f64::from(i32::MAX)),
        other => bail!(unsupported, "quantization to {other}"),
    };
    let given = |name: &str| -> Result<Option<f64>> { Ok(a.opt_scalar(name)?.and_then(|s| s.as_f64())) };
    Ok((given("quant_min")?.unwrap_or(full.0), given("quant_max")?.unwrap_or(full.1)))
}

/// `torchao.quantize_affine(Tensor input, SymInt[] block_size, Tensor scale, Tensor? zero_point, ScalarType
/// output_dtype, Scalar? quant_min=None, Scalar? quant_max=None)`
pub fn quantize(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let Some(to) = a.dtype("output_dtype")? else { bail!(invalid, "no element type") };
    let ((lo, hi), dtype) = (codes(a, to)?, cx.dtype(a.t("input")?)?);
    let (x, scale, zero) = in_blocks(cx, a, dtype)?;
    let code = (x * (1.0 / scale)).round();
    let code = if let Some(zero) = zero { code + zero } else { code };
    let code = code.max(lo).min(hi).emit(cx, dtype)?;
    let code = cx.cast(code, to)?;
    cx.reshape(code, &a.out_dims()?)
}

/// `torchao.dequantize_affine(Tensor input, SymInt[] block_size, Tensor scale, Tensor? zero_point, ScalarType
/// input_dtype, Scalar? quant_min=None, Scalar? quant_max=None, ScalarType output_dtype=6)`
pub fn dequantize(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let dtype = a.dtype("output_dtype")?.unwrap_or(DType::F32);
    let (code, scale, zero) = in_blocks(cx, a, dtype)?;
    let code = if let Some(zero) = zero { code - zero } else { code };
    let y = (code * scale).emit(cx, dtype)?;
    cx.reshape(y, &a.out_dims()?)
}

/// `torchao.choose_qparams_affine(Tensor? input, str mapping_type, SymInt[] block_size, ScalarType target_dtype, Scalar?
/// quant_min=None, Scalar? quant_max=None, float? eps=None, ScalarType? scale_dtype=None, ScalarType?
/// zero_point_dtype=None, bool keepdim=False) -> (scale, zero_point)`
pub fn choose_qparams(cx: &mut Cx, a: &Args) -> Result<Vec<ValueId>> {
    let x = a.t("input")?;
    let dtype = cx.dtype(x)?;
    let Some(target) = a.dtype("target_dtype")? else { bail!(invalid, "no element type") };
    let (lo, hi) = codes(a, target)?;
    let smallest = if dtype == DType::F16 { 2f64.powi(-14) } else { 2f64.powi(-126) };
    let eps = a.opt_float("eps")?.unwrap_or(smallest);
    let (shape, within) = blocks(cx, x, &a.dim_list("block_size")?)?;
    let x = cx.reshape(x, &shape)?;
    let extreme = |cx: &mut Cx, op| {
        let whole = within.is_empty();
        if whole { Ok(x) } else { cx.reduce(op, x, &within, false) }
    };
    let least = F::from(extreme(cx, "ReduceMin")?).min(0.0);
    let most = F::from(extreme(cx, "ReduceMax")?).max(0.0);
    let (scale, zero) = match &*a.text("mapping_type")? {
        "ASYMMETRIC" => {
            let scale = ((&most - &least) / (hi - lo)).max(eps);
            let zero = (lo - (least / &scale).round()).max(lo).min(hi);
            (scale, zero)
        }
        kind @ ("SYMMETRIC" | "SYMMETRIC_NO_CLIPPING_ERR") => {
            let scale = match kind {
                "SYMMETRIC" => (-&least).max(&most) / ((hi - lo) / 2.0),
                _ => (&least / lo).max(&most / hi),
            };
            let zero = most * 0.0 + ((hi + lo + 1.0) / 2.0).trunc();
            (scale.max(eps), zero)
        }
        other => bail!(unsupported, "quantization parameters by {other}"),
    };
    let mut out = Vec::new();
    for (v, name) in [scale, zero].into_iter().zip(&a.outputs) {
        let v = v.emit(cx, dtype)?;
        let Some((to, dims)) = cx.meta(name)? else {
            out.push(v);
            continue;
        };
        let v = cx.cast(v, to)?;
        out.push(cx.reshape(v, &dims)?);
    }
    Ok(out)
}
