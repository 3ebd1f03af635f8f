//! Normalisations.

use crate::args::{Args, Scalar};
use crate::cx::Cx;
use oxrt_ir::{Attrs, DType, Dim, ValueId};
use oxrt_tensor::{Error, Result, bail};

fn ones(cx: &mut Cx, dtype: DType, dims: &[Dim]) -> Result<ValueId> {
    super::create::filled(cx, dtype, dims, &Scalar::Int(Dim::Const(1)))
}

fn zeros(cx: &mut Cx, dtype: DType, dims: &[Dim]) -> Result<ValueId> {
    super::create::filled(cx, dtype, dims, &Scalar::Int(Dim::Const(0)))
}

/// Scale and shift per channel, ones and zeros where the model has none.
fn affine(cx: &mut Cx, a: &Args, dtype: DType, dims: &[Dim]) -> Result<(ValueId, ValueId)> {
    let w = match a.opt_t("weight")? {
        Some(w) => w,
        None => ones(cx, dtype, dims)?,
    };
    let b = match a.opt_t("bias")? {
        Some(b) => b,
        None => zeros(cx, dtype, dims)?,
    };
    Ok((w, b))
}

/// `batch_norm(Tensor input, Tensor? weight, Tensor? bias, Tensor? running_mean, Tensor? running_var, bool
/// training, float momentum, float eps, bool cudnn_enabled)`, `_native_batch_norm_legit_no_training`,
/// `_native_batch_norm_legit.no_stats`
pub fn batch_norm(cx: &mut Cx, a: &Args) -> Result<Vec<ValueId>> {
    let x = a.t("input")?;
    if cx.rank(x)? < 2 {
        // torch takes an empty vector, and gives it back.
        return Ok(vec![x]);
    }
    let channels = cx.size(x, 1)?;
    let stats = (a.opt_t("running_mean")?, a.opt_t("running_var")?);
    let training = a.bool("training")?;
    if training && stats.0.is_some() {
        cx.warn("the model was exported in training mode: batch_norm uses the statistics of each batch (call `model.eval()` before exporting)".into());
    }
    let (Some(mean), Some(var), false) = (stats.0, stats.1, training) else {
        return batch_statistics(cx, a, x);
    };
    // The statistics are of f32 even where activations are narrower.
    let dtype = cx.dtype(mean)?;
    let (w, b) = affine(cx, a, dtype, &[channels])?;
    let attrs = Attrs::new().with("epsilon", a.float("eps")? as f32);
    let y = cx.op("BatchNormalization", &[x, w, b, mean, var], attrs)?;
    // Where the given statistics are used there are none to save.
    let none = |cx: &mut Cx| zeros(cx, dtype, &[Dim::Const(0)]);
    if a.used(cx, 1) || a.used(cx, 2) {
        return Ok(vec![y, none(cx)?, none(cx)?]);
    }
    Ok(vec![y])
}

/// `_batch_norm_with_update(Tensor input, Tensor? weight, Tensor? bias, Tensor running_mean, Tensor running_var, float momentum, float eps)
/// -> (output, save_mean, save_rstd, reserve)`: what it writes into the running statistics concerns training
pub fn batch_norm_with_update(cx: &mut Cx, a: &Args) -> Result<Vec<ValueId>> {
    let x = a.t("input")?;
    cx.warn("the model was exported in training mode: batch_norm uses the statistics of each batch (call `model.eval()` before exporting)".into());
    let mut out = batch_statistics(cx, a, x)?;
    if out.len() == 3 && a.used(cx, 3) {
        out.push(zeros(cx, DType::U8, &[Dim::Const(0)])?);
    }
    Ok(out)
}

/// Normalised by the statistics of the batch itself.
fn batch_statistics(cx: &mut Cx, a: &Args, x: ValueId) -> Result<Vec<ValueId>> {
    let rank = cx.rank(x)?;
    let axes: Vec<usize> = (0..rank).filter(|&i| i != 1).collect();
    let (var, mean) = super::reduce::moments(cx, x, &axes, 0.0)?;
    let eps = cx.like(x, a.float("eps")?)?;
    let var = cx.call("Add", &[var, eps])?;
    let deviation = cx.call("Sqrt", &[var])?;
    let d = cx.call("Sub", &[x, mean])?;
    let mut y = cx.call("Div", &[d, deviation])?;
    let mut dims = vec![Dim::Const(1); rank];
    dims[1] = cx.size(x, 1)?;
    if let Some(w) = a.opt_t("weight")? {
        let w = cx.reshape(w, &dims)?;
        y = cx.call("Mul", &[y, w])?;
    }
    if let Some(b) = a.opt_t("bias")? {
        let b = cx.reshape(b, &dims)?;
        y = cx.call("Add", &[y, b])?;
    }
    if !a.used(cx, 1) && !a.used(cx, 2) {
        return Ok(vec![y]);
    }
    let per_channel = [cx.size(x, 1)?];
    let inverse = cx.call("Reciprocal", &[deviation])?;
    Ok(vec![y, cx.reshape(mean, &per_channel)?, cx.reshape(inverse, &per_channel)?])
}

/// `layer_norm(Tensor input, SymInt[] normalized_shape, Tensor? weight=None, Tensor? bias=None, float eps=1e-05,
/// bool cudnn_enable=True)`, `native_layer_norm -> (output, mean, rstd)`
pub fn layer_norm(cx: &mut Cx, a: &Args) -> Result<Vec<ValueId>> {
    let (x, shape) = (a.t("input")?, a.dim_list("normalized_shape")?);
    let w = match a.opt_t("weight")? {
        Some(w) => w,
        None => {
            let dtype = cx.dtype(x)?;
            ones(cx, dtype, &shape)?
        }
    };
    let b = a.opt_t("bias")?;
    let attrs = Attrs::new().with("axis", -(shape.len() as i64)).with("epsilon", a.float("eps")? as f32);
    let outputs = if a.used(cx, 1) || a.used(cx, 2) { 3 } else { 1 };
    cx.b.op_multi("LayerNormalization", &[Some(x), Some(w), b], attrs, outputs)
}

/// `rms_norm(Tensor input, SymInt[] normalized_shape, Tensor? weight=None, float? eps=None)`, `_fused_rms_norm`
pub fn rms_norm(cx: &mut Cx, a: &Args) -> Result<Vec<ValueId>> {
    let (x, shape) = (a.t("input")?, a.dim_list("normalized_shape")?);
    let dtype = cx.dtype(x)?;
    let w = match a.opt_t("weight")? {
        Some(w) => w,
        None => ones(cx, dtype, &shape)?,
    };
    let default = match dtype {
        DType::F64 => f64::EPSILON,
        // torch computes narrow types in f32 and takes its epsilon.
        _ => f32::EPSILON as f64,
    };
    let eps = a.opt_float("eps")?.unwrap_or(default);
    let attrs = Attrs::new().with("axis", -(shape.len() as i64)).with("epsilon", eps as f32);
    Ok(vec![cx.op("RMSNormalization", &[x, w], attrs)?])
}

/// `group_norm(Tensor input, int num_groups, Tensor? weight=None, Tensor? bias=None, float eps=1e-05, …)`,
/// `native_group_norm(Tensor input, Tensor? weight, Tensor? bias, SymInt N, SymInt C, SymInt HxW, int group, float eps)`
pub fn group_norm(cx: &mut Cx, a: &Args) -> Result<Vec<ValueId>> {
    let x = a.t("input")?;
    let groups = a.int(if a.has("num_groups") { "num_groups" } else { "group" })?;
    let (dtype, channels, dims) = (cx.dtype(x)?, cx.size(x, 1)?, cx.dims(x)?);
    let (w, b) = affine(cx, a, dtype, &[channels])?;
    let attrs = Attrs::new().with("num_groups", groups).with("epsilon", a.float("eps")? as f32);
    let mut moments = Vec::new();
    if a.used(cx, 1) || a.used(cx, 2) {
        let rest: Dim = dims[1..].iter().cloned().product::<Dim>().floor_div(&Dim::Const(groups.max(1)));
        let grouped = cx.reshape(x, &[dims[0].clone(), Dim::Const(groups), rest])?;
        let (var, mean) = super::reduce::moments(cx, grouped, &[2], 0.0)?;
        let eps = cx.like(var, a.float("eps")?)?;
        let var = cx.call("Add", &[var, eps])?;
        let deviation = cx.call("Sqrt", &[var])?;
        let inverse = cx.call("Reciprocal", &[deviation])?;
        moments = vec![cx.b.squeeze(mean, &[2])?, cx.b.squeeze(inverse, &[2])?];
    }
    if dims.len() > 2 {
        let mut out = vec![cx.op("GroupNormalization", &[x, w, b], attrs)?];
        out.append(&mut moments);
        return Ok(out);
    }
    let wide = cx.b.unsqueeze(x, &[2])?;
    let y = cx.op("GroupNormalization", &[wide, w, b], attrs)?;
    let mut out = vec![cx.b.squeeze(y, &[2])?];
    out.append(&mut moments);
    Ok(out)
}

/// `instance_norm(Tensor input, Tensor? weight, Tensor? bias, Tensor? running_mean, Tensor? running_var, bool
/// use_input_stats, float momentum, float eps, bool cudnn_enabled)`
pub fn instance_norm(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    if !a.bool("use_input_stats")? {
        return batch_norm(cx, a)?.first().copied().ok_or_else(|| Error::bug("no result"));
    }
    let x = a.t("input")?;
    let (dtype, channels) = (cx.dtype(x)?, cx.size(x, 1)?);
    let (w, b) = affine(cx, a, dtype, &[channels])?;
    cx.op("InstanceNormalization", &[x, w, b], Attrs::new().with("epsilon", a.float("eps")? as f32))
}

/// `_weight_norm(Tensor v, Tensor g, int dim=0)`: `v · g / |v|`, the norm over all axes but one
pub fn weight_norm(cx: &mut Cx, a: &Args) -> Result<Vec<ValueId>> {
    let (v, g, dim) = (a.t("v")?, a.t("g")?, a.int("dim")?);
    let rank = cx.rank(v)?;
    let axes: Vec<usize> = match dim {
        -1 => (0..rank).collect(),
        d => {
            let keep = cx.axis(v, d)?;
            (0..rank).filter(|&i| i != keep).collect()
        }
    };
    let norm = cx.reduce("ReduceL2", v, &axes, true)?;
    let scale = cx.call("Div", &[g, norm])?;
    Ok(vec![cx.call("Mul", &[v, scale])?, norm])
}

/// `cosine_similarity(Tensor x1, Tensor x2, int dim=1, float eps=1e-08)`
pub fn cosine_similarity(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let (x, y) = (a.t("x1")?, a.t("x2")?);
    let rank = cx.rank(x)?.max(cx.rank(y)?);
    let axis = oxrt_ops::shape::axis(a.int("dim")?, rank)?;
    let eps = cx.like(x, a.float("eps")?)?;
    let product = cx.call("Mul", &[x, y])?;
    let s = cx.reduce("ReduceSum", product, &[axis], false)?;
    let mut norms = Vec::new();
    for v in [x, y] {
        let at = axis + cx.rank(v)?;
        let Some(at) = at.checked_sub(rank) else { bail!(unsupported, "cosine_similarity along a broadcast axis") };
        let n = cx.reduce("ReduceL2", v, &[at], false)?;
        norms.push(cx.call("Max", &[n, eps])?);
    }
    let n = cx.call("Mul", &norms)?;
    cx.call("Div", &[s, n])
}
