//! Linear quantisation: which scale belongs to which element, and rounding to a quantised type.

use crate::cast::int_range;
use crate::shape::axis;
use oxrt_ir::Attrs;
use oxrt_tensor::{DType, Result, Tensor, bail, strides_of};

/// (code - zero) · scale of codes [rows, columns] with `block_size` columns to a scale, and a zero point as each scale has (absent: 0).
///
/// # Errors
/// Scales or zero points of other shapes.
pub fn block_reals(codes: &Tensor, scale: &Tensor, zero: Option<&Tensor>, block_size: i64) -> Result<Vec<f64>> {
    if zero.is_some_and(|z| z.shape() != scale.shape()) {
        bail!(invalid, "the zero points should have the shape of the scales {:?}", scale.shape());
    }
    let offsets = scale_offsets(codes.shape(), scale, &Attrs::new().with("axis", 1).with("block_size", block_size))?;
    let (scales, zeros) = (scale.to_f64_vec()?, zero.map(Tensor::to_f64_vec).transpose()?);
    let real = |(code, &o): (f64, &usize)| (code - zeros.as_ref().map_or(0.0, |z| z[o])) * scales[o];
    Ok(codes.to_f64_vec()?.into_iter().zip(&offsets).map(real).collect())
}

/// For each element of `shape`, the offset of its scale: one for all, one per slice of `axis`, or one per
/// block along it.
pub fn scale_offsets(shape: &[usize], scale: &Tensor, attrs: &Attrs) -> Result<Vec<usize>> {
    let n = crate::copy::checked_len(shape)?;
    if scale.len() == 1 {
        return Ok(vec![0; n]);
    }
    let at = axis(attrs.int_or("axis", 1)?, shape.len())?;
    let strides = strides_of(shape);
    let s = scale.shape();
    if s.len() == 1 && s[0] == shape[at] {
        return Ok((0..n).map(|i| i / strides[at] % shape[at]).collect());
    }
    let block = match usize::try_from(attrs.int_or("block_size", 0)?) {
        Ok(0) if s.len() == shape.len() && s[at] > 0 => shape[at].div_ceil(s[at]).max(1),
        Ok(b) if b > 0 => b,
        _ => bail!(invalid, "scales of shape {s:?} for a tensor of shape {shape:?}"),
    };
    let fits = s.len() == shape.len()
        && (0..s.len()).all(|d| s[d] == if d == at { shape[d].div_ceil(block) } else { shape[d] });
    if !fits {
        bail!(invalid, "scales of shape {s:?} for blocks of {block} along axis {at} of {shape:?}");
    }
    let own = strides_of(s);
    let offset =
        |i: usize| (0..s.len()).map(|d| i / strides[d] % shape[d] / if d == at { block } else { 1 } * own[d]).sum();
    Ok((0..n).map(offset).collect())
}

/// `v` as the nearest number of a float type.
pub fn round_to(dtype: DType, v: f64) -> f64 {
    match dtype {
        DType::F32 => v as f32 as f64,
        DType::F16 => oxrt_tensor::f16_from_f64(v).to_f64(),
        DType::BF16 => oxrt_tensor::bf16_from_f64(v).to_f64(),
        _ => v,
    }
}

/// Rounds to even and saturates.
pub fn to_int(dtype: DType, v: f64, zero: i64) -> i64 {
    let (low, high) = int_range(dtype);
    // A float becomes an integer by saturation; NaN by zero.
    (v.round_ties_even() as i64).saturating_add(zero).clamp(low, high)
}

/// The elements of a matrix (or stack of them) less their zero points: one, or one per row or column.
pub fn centred(x: &Tensor, zero: Option<&Tensor>, rows: bool) -> Result<Tensor> {
    let mut data = x.to_i64_vec()?;
    if let Some(zero) = zero {
        let zeros = spread(zero, x.shape(), rows)?;
        data.iter_mut().zip(zeros).for_each(|(v, z)| *v = v.wrapping_sub(z as i64));
    }
    Tensor::from_i64(DType::I64, x.shape(), &data)
}

/// The elements of x [M, …] less their zero points: one, or one per slice of the first axis.
pub fn centred_maps(x: &Tensor, zero: Option<&Tensor>) -> Result<Vec<f64>> {
    let mut data = x.to_f64_vec()?;
    let Some(zero) = zero else { return Ok(data) };
    let zeros = zero.to_f64_vec()?;
    let maps = if zeros.len() == 1 { 1 } else { *x.shape().first().unwrap_or(&0) };
    if zeros.len() != maps {
        bail!(invalid, "zero points of {:?} for a tensor of {:?}", zero.shape(), x.shape());
    }
    let each = data.len() / maps.max(1);
    data.iter_mut().enumerate().for_each(|(i, v)| *v -= zeros[i / each.max(1) % maps.max(1)]);
    Ok(data)
}

/// A parameter for every element of `shape`: one for all, or a vector along the rows or columns of its
/// matrices, or something that broadcasts.
pub fn spread(t: &Tensor, shape: &[usize], rows: bool) -> Result<Vec<f64>> {
    let values = t.to_f64_vec()?;
    let t_shape = match (t.shape(), rows) {
        ([1], _) => vec![],
        ([n], true) => vec![*n, 1],
        (s, _) => s.to_vec(),
    };
    if crate::shape::broadcast_shapes(&[shape, &t_shape])? != shape {
        bail!(invalid, "parameters of {:?} for a tensor of {shape:?}", t.shape());
    }
    let mut out = Vec::with_capacity(crate::copy::checked_len(shape)?);
    crate::scalar::broadcast_each(shape, &[&t_shape], |at| {
        out.push(values[at[0]]);
        Ok(())
    })?;
    Ok(out)
}
