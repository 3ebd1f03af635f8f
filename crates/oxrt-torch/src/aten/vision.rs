//! Operators of torchvision.

use super::formula::F;
use crate::args::{Args, Scalar};
use crate::cx::Cx;
use oxrt_ir::{Attrs, DType, Dim, Tensor, ValueId, ValueType};
use oxrt_tensor::{Result, bail};

/// `torchvision.nms(Tensor dets, Tensor scores, float iou_threshold)`: indices of the kept boxes, best first
pub fn nms(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let (boxes, scores) = (a.t("dets")?, a.t("scores")?);
    let n = cx.size(boxes, 0)?;
    let boxes = cx.b.unsqueeze(boxes, &[0])?;
    let scores = cx.b.unsqueeze(scores, &[0, 1])?;
    let most = cx.b.dim_value(&n)?;
    let iou = cx.b.constant(Tensor::from_slice(&[1], &[a.float("iou_threshold")? as f32]));
    let picked =
        cx.b.op_multi("NonMaxSuppression", &[Some(boxes), Some(scores), Some(most), Some(iou)], Attrs::new(), 1)?[0];
    if let Some(d) = a.out_dims.as_ref().and_then(|d| d.first()) {
        cx.b.graph[picked].ty = ValueType::tensor(DType::I64, vec![d.clone(), Dim::Const(3)]);
        cx.b.note_symbols(picked);
    }
    let two = cx.b.scalar(DType::I64, 2.0)?;
    cx.op("Gather", &[picked, two], Attrs::new().with("axis", 1))
}

/// `torchvision.roi_align(Tensor input, Tensor rois, float spatial_scale, SymInt pooled_height, SymInt
/// pooled_width, int sampling_ratio, bool aligned)`
pub fn roi_align(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let (x, rois) = (a.t("input")?, a.t("rois")?);
    let zero = cx.b.scalar(DType::I64, 0.0)?;
    let batch = cx.op("Gather", &[rois, zero], Attrs::new().with("axis", 1))?;
    let batch = cx.cast(batch, DType::I64)?;
    let boxes = cx.slice(rois, 1, &Dim::Const(1), &Dim::Const(5), 1)?;
    // A factor that follows from dynamic sizes scales the boxes instead.
    let (boxes, scale) = match a.scalar("spatial_scale")? {
        Scalar::Runtime(s) => {
            let s = cx.cast(s, cx.dtype(boxes)?)?;
            (cx.call("Mul", &[boxes, s])?, 1.0)
        }
        _ => (boxes, a.float("spatial_scale")? as f32),
    };
    let ratio = a.int("sampling_ratio")?.max(0);
    // Position-sensitive pooling is always aligned.
    let aligned = !a.has("aligned") || a.bool("aligned")?;
    let attrs = Attrs::new()
        .with("output_height", a.int("pooled_height")?)
        .with("output_width", a.int("pooled_width")?)
        .with("sampling_ratio", ratio)
        .with("spatial_scale", scale)
        .with("mode", "avg")
        .with("coordinate_transformation_mode", if aligned { "half_pixel" } else { "output_half_pixel" });
    cx.op("RoiAlign", &[x, boxes, batch], attrs)
}

/// `torchvision.roi_pool(Tensor input, Tensor rois, float spatial_scale, SymInt pooled_height, SymInt pooled_width)
/// -> (output, argmax)`
pub fn roi_pool(cx: &mut Cx, a: &Args) -> Result<Vec<ValueId>> {
    let attrs = Attrs::new()
        .with("pooled_shape", [a.int("pooled_height")?, a.int("pooled_width")?])
        .with("spatial_scale", a.float("spatial_scale")? as f32);
    Ok(vec![cx.op("MaxRoiPool", &[a.t("input")?, a.t("rois")?], attrs)?])
}

/// `torchvision.ps_roi_align(Tensor input, Tensor rois, float spatial_scale, SymInt pooled_height, SymInt
/// pooled_width, int sampling_ratio) -> (output, channel_mapping)`: bin (i, j) of output channel c is that of input
/// channel (c·h + i)·w + j
pub fn ps_roi_align(cx: &mut Cx, a: &Args) -> Result<Vec<ValueId>> {
    let all = roi_align(cx, a)?;
    let bins = Dim::Const(a.int("pooled_height")? * a.int("pooled_width")?);
    let out = match &a.out_dims {
        Some(dims) => dims.clone(),
        None => {
            let have = cx.dims(all)?;
            vec![
                have[0].clone(),
                have[1].floor_div(&bins),
                Dim::Const(a.int("pooled_height")?),
                Dim::Const(a.int("pooled_width")?),
            ]
        }
    };
    let [n, channels, ..] = &out[..] else { bail!(invalid, "ps_roi_align of rank {}", out.len()) };
    let square = cx.reshape(all, &[n.clone(), channels.clone(), bins.clone(), bins])?;
    let own = super::matrix::diagonal(cx, square, 0, (2, 3))?;
    Ok(vec![cx.reshape(own, &out)?])
}

/// `torchvision.ps_roi_pool(Tensor input, Tensor rois, float spatial_scale, SymInt pooled_height, SymInt pooled_width)
/// -> (output, channel_mapping)`: the mean of each bin, whose ends are whole numbers, over its own channel
pub fn ps_roi_pool(cx: &mut Cx, a: &Args) -> Result<Vec<ValueId>> {
    let (x, rois, scale) = (a.t("input")?, a.t("rois")?, a.float("spatial_scale")?);
    let dtype = cx.dtype(x)?;
    let bins = [a.int("pooled_height")?, a.int("pooled_width")?];
    let have = cx.dims(x)?;
    let count = cx.size(rois, 0)?;
    let column = |cx: &mut Cx, k: f64| -> Result<ValueId> {
        let k = cx.b.scalar(DType::I64, k)?;
        cx.op("Gather", &[rois, k], Attrs::new().with("axis", 1))
    };
    // Per axis, which elements a bin covers: [rois, bins, size].
    let mut covers = Vec::new();
    for (axis, &bins) in bins.iter().enumerate() {
        let n = &have[2 + axis];
        let rounded = |cx: &mut Cx, k: usize| -> Result<F> {
            let v = column(cx, k as f64)?;
            let v = cx.b.unsqueeze(v, &[1])?;
            let v = F::from(v) * scale;
            // Halves are rounded away from zero.
            Ok(v.sign() * (v.abs() + 0.5).floor())
        };
        let (from, to) = (rounded(cx, 2 - axis)?, rounded(cx, 4 - axis)?);
        let size = (&to - &from).max(1.0) / bins as f64;
        let steps = super::create::range(cx, &Dim::Const(bins))?;
        let steps = F::from(cx.cast(steps, dtype)?);
        let last = cx.dim_scalar(&(n.clone() + -1))?;
        let last = F::from(cx.cast(last, dtype)?);
        let end = |f: F| (f + &from).max(0.0).min(&last);
        let lo = end((&steps * &size).floor());
        let hi = end(super::formula::call("Ceil", &[&((&steps + 1.0) * &size)]));
        let (lo, hi) = (lo.emit(cx, dtype)?, hi.emit(cx, dtype)?);
        let (lo, hi) = (cx.b.unsqueeze(lo, &[2])?, cx.b.unsqueeze(hi, &[2])?);
        let places = super::create::range(cx, n)?;
        let places = F::from(cx.cast(places, dtype)?);
        let inside = places.ge(F::from(lo)).and(places.lt(F::from(hi))).emit(cx, dtype)?;
        covers.push(cx.cast(inside, dtype)?);
    }
    let [rows, columns] = covers[..] else { bail!(bug, "two axes") };
    let mut sums = Vec::new();
    for v in [rows, columns] {
        sums.push(cx.reduce("ReduceSum", v, &[2], false)?);
    }
    let area = super::linear::einsum_values(cx, "ni,nj->nij", &sums)?;
    let batch = column(cx, 0.0)?;
    let batch = cx.cast(batch, DType::I64)?;
    let own = cx.op("Gather", &[x, batch], Attrs::new().with("axis", 0))?;
    let channels = have[1].floor_div(&Dim::Const(bins[0] * bins[1]));
    let [i, j] = bins.map(Dim::Const);
    let own = cx.reshape(own, &[count, channels, i, j, have[2].clone(), have[3].clone()])?;
    // The rows of a bin first, then its columns.
    let rows = cx.b.unsqueeze(rows, &[1, 3, 4])?;
    let columns = cx.b.unsqueeze(columns, &[1, 2, 5])?;
    let y = cx.call("MatMul", &[rows, own])?;
    let y = cx.call("MatMul", &[y, columns])?;
    let y = cx.b.squeeze(y, &[4, 5])?;
    let area = cx.b.unsqueeze(area, &[1])?;
    let area = F::from(area);
    let y = area.equals(0.0).pick(0.0, F::from(y) / &area).emit(cx, dtype)?;
    Ok(vec![y])
}

/// `torchvision.deform_conv2d(Tensor input, Tensor weight, Tensor offset, Tensor mask, Tensor bias, SymInt stride_h,
/// …, SymInt groups, SymInt offset_groups, bool use_mask)`
pub fn deform_conv2d(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let (x, w, offset) = (a.t("input")?, a.t("weight")?, a.t("offset")?);
    let mask = if a.bool("use_mask")? { Some(a.t("mask")?) } else { None };
    let (ph, pw) = (a.int("pad_h")?, a.int("pad_w")?);
    let kernel = [cx.static_size(w, 2, "a convolution kernel")?, cx.static_size(w, 3, "a convolution kernel")?];
    let attrs = Attrs::new()
        .with("kernel_shape", kernel)
        .with("strides", [a.int("stride_h")?, a.int("stride_w")?])
        .with("pads", [ph, pw, ph, pw])
        .with("dilations", [a.int("dilation_h")?, a.int("dilation_w")?])
        .with("group", a.int("groups")?)
        .with("offset_group", a.int("offset_groups")?);
    Ok(cx.b.op_multi("DeformConv", &[Some(x), Some(w), Some(offset), a.opt_t("bias")?, mask], attrs, 1)?[0])
}

/// A scale or a zero point: a number, or a tensor of one element.
fn parameter(cx: &mut Cx, a: &Args, name: &str, dtype: DType) -> Result<ValueId> {
    let given = crate::promote::Operand::of(a, name)?;
    let v = crate::promote::value(cx, &given, dtype)?;
    if cx.rank(v)? == 0 { Ok(v) } else { cx.reshape(v, &[]) }
}

/// `quantized_decomposed.choose_qparams.tensor(Tensor input, int quant_min, int quant_max, float eps, ScalarType dtype)
/// -> (scale, zero_point)`: of the range of the elements, zero included
pub fn choose_qparams(cx: &mut Cx, a: &Args) -> Result<Vec<ValueId>> {
    let x = a.t("input")?;
    let x = cx.cast(x, DType::F32)?;
    let (lo, hi) = (a.float("quant_min")?, a.float("quant_max")?);
    let (least, most) = (cx.reduce("ReduceMin", x, &[], false)?, cx.reduce("ReduceMax", x, &[], false)?);
    let (least, most) = (F::from(least).min(0.0), F::from(most).max(0.0));
    let scale = ((most - &least) / (hi - lo)).max(a.float("eps")?);
    let zero = (lo - (&least / &scale).round()).max(lo).min(hi);
    let mut out = Vec::new();
    for (v, name) in [scale, zero].into_iter().zip(&a.outputs) {
        let v = v.emit(cx, DType::F32)?;
        let (dtype, dims) = cx.meta(name)?.unwrap_or((DType::F32, Vec::new()));
        let v = cx.cast(v, dtype)?;
        out.push(cx.reshape(v, &dims)?);
    }
    Ok(out)
}

/// `quantized_decomposed.quantize_per_tensor(Tensor input, float scale, int zero_point, int quant_min, int
/// quant_max, ScalarType dtype)`
pub fn quantize_per_tensor(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let (x, Some(dtype)) = (a.t("input")?, a.dtype("dtype")?) else { bail!(invalid, "no element type") };
    let (lo, hi) = (a.int("quant_min")?, a.int("quant_max")?);
    let (scale, zero) = (parameter(cx, a, "scale", DType::F32)?, parameter(cx, a, "zero_point", dtype)?);
    let q = cx.call("QuantizeLinear", &[x, scale, zero])?;
    clip_codes(cx, q, dtype, lo, hi)
}

/// Codes kept to less than what their type holds.
fn clip_codes(cx: &mut Cx, q: ValueId, dtype: DType, lo: i64, hi: i64) -> Result<ValueId> {
    let full = match dtype {
        DType::U8 => (0, 255),
        DType::I8 => (-128, 127),
        DType::U16 => (0, 65535),
        DType::I16 => (-32768, 32767),
        other => bail!(unsupported, "quantization to {other}"),
    };
    if (lo, hi) == full {
        return Ok(q);
    }
    let (lo, hi) = (cx.b.scalar(dtype, lo as f64)?, cx.b.scalar(dtype, hi as f64)?);
    cx.call("Clip", &[q, lo, hi])
}

/// `quantized_decomposed.dequantize_per_tensor(Tensor input, float scale, int zero_point, int quant_min, int
/// quant_max, ScalarType dtype, *, ScalarType? out_dtype=None)`
pub fn dequantize_per_tensor(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let x = a.t("input")?;
    let dtype = cx.dtype(x)?;
    let (scale, zero) = (parameter(cx, a, "scale", DType::F32)?, parameter(cx, a, "zero_point", dtype)?);
    cx.call("DequantizeLinear", &[x, scale, zero])
}

/// `quantized_decomposed.quantize_per_channel(Tensor input, Tensor scales, Tensor zero_points, int axis, int
/// quant_min, int quant_max, ScalarType dtype)`
pub fn quantize_per_channel(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let (x, Some(dtype)) = (a.t("input")?, a.dtype("dtype")?) else { bail!(invalid, "no element type") };
    let scales = cx.cast(a.t("scales")?, DType::F32)?;
    let zeros = cx.cast(a.t("zero_points")?, dtype)?;
    let q = cx.op("QuantizeLinear", &[x, scales, zeros], Attrs::new().with("axis", a.int("axis")?))?;
    clip_codes(cx, q, dtype, a.int("quant_min")?, a.int("quant_max")?)
}

/// `quantized_decomposed.dequantize_per_channel(Tensor input, Tensor scales, Tensor? zero_points, int axis, …)`
pub fn dequantize_per_channel(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let x = a.t("input")?;
    let dtype = cx.dtype(x)?;
    let scales = cx.cast(a.t("scales")?, DType::F32)?;
    let zeros = match a.opt_t("zero_points")? {
        Some(z) => Some(cx.cast(z, dtype)?),
        None => None,
    };
    let attrs = Attrs::new().with("axis", a.int("axis")?);
    Ok(cx.b.op_multi("DequantizeLinear", &[Some(x), Some(scales), zeros], attrs, 1)?[0])
}

/// Rounds to the grid `scale·(q - zero)` with `q` in `lo..hi`.
fn fake_quantize(cx: &mut Cx, a: &Args, x: ValueId, scale: ValueId, zero: ValueId) -> Result<ValueId> {
    let (lo, hi) = (cx.like(x, a.int("quant_min")? as f64)?, cx.like(x, a.int("quant_max")? as f64)?);
    let inverse = cx.call("Reciprocal", &[scale])?;
    let q = cx.call("Mul", &[x, inverse])?;
    let q = cx.call("Round", &[q])?;
    let q = cx.call("Add", &[q, zero])?;
    let q = cx.call("Clip", &[q, lo, hi])?;
    let q = cx.call("Sub", &[q, zero])?;
    cx.call("Mul", &[q, scale])
}

/// `fake_quantize_per_tensor_affine(Tensor self, float scale, int zero_point, int quant_min, int quant_max)`,
/// `.tensor_qparams`, `_fake_quantize_per_tensor_affine_cachemask_tensor_qparams`
pub fn fake_quantize_per_tensor(cx: &mut Cx, a: &Args) -> Result<Vec<ValueId>> {
    let x = a.t("self")?;
    let dtype = cx.dtype(x)?;
    let number = |cx: &mut Cx, name: &str| -> Result<ValueId> {
        let s = crate::promote::Operand::of(a, name)?;
        let v = crate::promote::value(cx, &s, dtype)?;
        if cx.rank(v)? == 1 { cx.b.squeeze(v, &[0]) } else { Ok(v) }
    };
    let (scale, zero) = (number(cx, "scale")?, number(cx, "zero_point")?);
    Ok(vec![fake_quantize(cx, a, x, scale, zero)?])
}

/// `fake_quantize_per_channel_affine(Tensor self, Tensor scale, Tensor zero_point, int axis, int quant_min, int quant_max)`
pub fn fake_quantize_per_channel(cx: &mut Cx, a: &Args) -> Result<Vec<ValueId>> {
    let x = a.t("self")?;
    let (dtype, rank, axis) = (cx.dtype(x)?, cx.rank(x)?, cx.axis(x, a.int("axis")?)?);
    let mut dims = vec![Dim::Const(1); rank];
    dims[axis] = cx.size(x, axis)?;
    let mut shaped = Vec::new();
    for name in ["scale", "zero_point"] {
        let v = cx.cast(a.t(name)?, dtype)?;
        shaped.push(cx.reshape(v, &dims)?);
    }
    Ok(vec![fake_quantize(cx, a, x, shaped[0], shaped[1])?])
}
