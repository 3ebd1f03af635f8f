//! Resizing, padding and sampling.

use super::formula::F;
use crate::args::Args;
use crate::cx::Cx;
use oxrt_ir::{Attrs, DType, Dim, Tensor, ValueId, ValueType};
use oxrt_tensor::{Result, bail};

fn resize(cx: &mut Cx, a: &Args, x: ValueId, attrs: Attrs) -> Result<ValueId> {
    let (have, want) = (cx.dims(x)?, a.out_dims()?);
    let n = have.len().checked_sub(2).filter(|_| want.len() == have.len());
    let n = n.ok_or_else(|| oxrt_tensor::Error::invalid(format!("resizing {have:?} to {want:?}")))?;
    let scales = given_scales(a, n)?.filter(|scales| {
        // Aligned corners follow the sizes. Factors that give whole sizes are said better by the sizes: a factor
        // such as 1.6 is not exact in f32, and a coordinate that should be whole would fall short of it.
        let corners =
            attrs.get_string("coordinate_transformation_mode").ok().flatten().is_some_and(|m| m == "align_corners");
        let whole = scales.iter().all(|s| s.fract() == 0.0);
        let exact =
            have[2..].iter().zip(scales).all(|(d, s)| d.as_const().is_some_and(|d| (d as f64 * s).fract() == 0.0));
        !corners && (whole || !exact)
    });
    let inputs = match scales {
        Some(scales) => {
            let all: Vec<f32> = [1.0, 1.0].into_iter().chain(scales.iter().map(|&s| s as f32)).collect();
            let scales = cx.b.constant(Tensor::from_slice(&[n + 2], &all));
            vec![Some(x), None, Some(scales)]
        }
        None => {
            if let Some(factors) = given_scales(a, n)? {
                state_sizes(cx, &have[2..], &want[2..], &factors)?;
            }
            let sizes = cx.shape(&want)?;
            vec![Some(x), None, None, Some(sizes)]
        }
    };
    let y = cx.b.op_multi("Resize", &inputs, attrs, 1)?[0];
    let dtype = cx.dtype(y)?;
    cx.b.graph[y].ty = ValueType::tensor(dtype, want);
    Ok(y)
}

/// Sizes that no expression says (`floor(h · 1.3)`) are computed from the factors.
fn state_sizes(cx: &mut Cx, have: &[Dim], want: &[Dim], factors: &[f64]) -> Result<()> {
    for ((from, to), &factor) in have.iter().zip(want).zip(factors) {
        if !to.as_symbol().is_some_and(|s| s.as_str().starts_with("_x")) {
            continue;
        }
        let size = cx.dim_scalar(from)?;
        let size = cx.cast(size, DType::F64)?;
        let factor = cx.b.scalar(DType::F64, factor)?;
        let size = cx.call("Mul", &[size, factor])?;
        let size = cx.call("Floor", &[size])?;
        let size = cx.cast(size, DType::I64)?;
        cx.b.graph[size].contents = Some(oxrt_ir::Contents::scalar(to.clone()));
        cx.b.note_dim_value(to.clone(), size);
    }
    Ok(())
}

/// Scale factors, when the caller gave all of them: the coordinates then follow the factor, not the sizes.
fn given_scales(a: &Args, n: usize) -> Result<Option<Vec<f64>>> {
    if let Some(s) = a.opt_floats("scale_factors")? {
        return Ok(Some(s).filter(|s| s.len() == n));
    }
    let names: &[&str] = match n {
        1 => &["scales"],
        2 => &["scales_h", "scales_w"],
        _ => &["scales_d", "scales_h", "scales_w"],
    };
    names.iter().map(|name| a.opt_float(name)).collect::<Result<Option<Vec<f64>>>>()
}

fn input(a: &Args) -> Result<ValueId> {
    if a.has("input") { a.t("input") } else { a.t("self") }
}

/// `upsample_nearest2d.vec(Tensor input, SymInt[]? output_size, float[]? scale_factors)`, `1d`, `3d`, `.default`
pub fn nearest(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let attrs = Attrs::new()
        .with("mode", "nearest")
        .with("coordinate_transformation_mode", "asymmetric")
        .with("nearest_mode", "floor");
    let x = input(a)?;
    let (have, want) = (cx.dims(x)?, a.out_dims()?);
    let n = have.len().saturating_sub(2);
    if want.len() == have.len()
        && given_scales(a, n)?.is_none()
        && (2..want.len()).any(|i| misplaced(&have[i], &want[i]))
    {
        return by_places(cx, x, &want);
    }
    resize(cx, a, x, attrs)
}

/// Where torch finds output `i`: at `floor(i · (from / to))`, in f32.
fn place(i: i64, from: i64, to: i64) -> i64 {
    ((i as f32 * (from as f32 / to as f32)) as i64).min(from - 1)
}

/// Whether onnxruntime, which divides by `to / from`, may find another place (of 40 pixels made 24, a sixth).
fn misplaced(from: &Dim, to: &Dim) -> bool {
    match (from.as_const(), to.as_const()) {
        (Some(from), Some(to)) => (0..to).any(|i| {
            let theirs = (i as f32 / (to as f32 / from as f32)) as i64;
            theirs.min(from - 1) != place(i, from, to)
        }),
        (None, Some(_)) => true,
        _ => false,
    }
}

/// The nearest input of every output, by its place.
fn by_places(cx: &mut Cx, x: ValueId, want: &[Dim]) -> Result<ValueId> {
    let (have, mut y) = (cx.dims(x)?, x);
    for (axis, (from, to)) in have.iter().zip(want).enumerate().skip(2).filter(|(_, (from, to))| from != to) {
        let at = if let (Some(from), Some(to)) = (from.as_const(), to.as_const()) {
            let at: Vec<i64> = (0..to).map(|i| place(i, from, to)).collect();
            cx.b.ints(&at)
        } else {
            let mut size = |d: &Dim| -> Result<F> {
                let d = cx.dim_scalar(d)?;
                Ok(F::from(cx.cast(d, DType::F32)?))
            };
            let (from, count) = (size(from)?, size(to)?);
            let outputs = super::create::range(cx, to)?;
            let outputs = F::from(cx.cast(outputs, DType::F32)?);
            let at = (outputs * (&from / count)).min(from - 1.0).emit(cx, DType::F32)?;
            cx.cast(at, DType::I64)?
        };
        y = cx.op("Gather", &[y, at], Attrs::new().with("axis", axis as i64))?;
    }
    Ok(y)
}

/// `_upsample_nearest_exact2d.vec(Tensor input, SymInt[]? output_size, float[]? scale_factors)`
pub fn nearest_exact(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let attrs = Attrs::new()
        .with("mode", "nearest")
        .with("coordinate_transformation_mode", "half_pixel")
        .with("nearest_mode", "round_prefer_ceil");
    resize(cx, a, input(a)?, attrs)
}

fn smooth(cx: &mut Cx, a: &Args, mode: &str) -> Result<ValueId> {
    let corners = a.bool("align_corners")?;
    let mut attrs = Attrs::new()
        .with("mode", mode)
        .with("coordinate_transformation_mode", if corners { "align_corners" } else { "half_pixel" });
    if mode == "cubic" {
        attrs.set("cubic_coeff_a", -0.75f32);
    }
    let antialias = a.target.contains("_aa");
    let x = input(a)?;
    if antialias && corners || cx.dtype(x)? == DType::U8 {
        return by_taps(cx, a, x, Filter { cubic: mode == "cubic", antialias, corners });
    }
    if antialias {
        attrs.set("antialias", 1);
        if mode == "cubic" {
            // With antialiasing torch follows Pillow's kernel.
            attrs.set("cubic_coeff_a", -0.5f32);
        }
        attrs.set("exclude_outside", 1);
    }
    resize(cx, a, x, attrs)
}

/// How the inputs near an output are weighed.
struct Filter {
    cubic: bool,
    antialias: bool,
    corners: bool,
}

/// What no runtime's Resize computes as torch does: antialiasing with aligned corners, and bytes, whose weights torch rounds to 16 bits and
/// whose results it rounds after each axis. Along each axis, the last first, the weighed inputs ("taps") of every output are added.
fn by_taps(cx: &mut Cx, a: &Args, x: ValueId, filter: Filter) -> Result<ValueId> {
    let (have, want, dtype) = (cx.dims(x)?, a.out_dims()?, cx.dtype(x)?);
    let n = have.len().checked_sub(2).filter(|_| want.len() == have.len());
    let n = n.ok_or_else(|| oxrt_tensor::Error::invalid(format!("resizing {have:?} to {want:?}")))?;
    let (bytes, factors) = (dtype == DType::U8, given_scales(a, n)?);
    if let Some(factors) = &factors {
        state_sizes(cx, &have[2..], &want[2..], factors)?;
    }
    let mut y = if bytes { cx.cast(x, DType::F32)? } else { x };
    for axis in (2..have.len()).rev() {
        let factor = factors.as_ref().map(|f| f[axis - 2]).filter(|_| !filter.corners);
        if factor.is_none() && have[axis] == want[axis] {
            continue;
        }
        let (at, weights) = taps(cx, &have[axis], &want[axis], factor, &filter)?;
        let (weights, unit) = if bytes { sixteen_bits(cx, weights)? } else { (weights, None) };
        let float = cx.dtype(y)?;
        let weights = cx.cast(weights, float)?;
        let behind: Vec<i64> = (0..(have.len() - 1 - axis) as i64).map(|i| 2 + i).collect();
        let weights = if behind.is_empty() { weights } else { cx.b.unsqueeze(weights, &behind)? };
        y = cx.op("Gather", &[y, at], Attrs::new().with("axis", axis as i64))?;
        y = cx.call("Mul", &[y, weights])?;
        y = cx.reduce("ReduceSum", y, &[axis + 1], false)?;
        if let Some(unit) = unit {
            let unit = F::from(cx.cast(unit, float)?);
            let rounded = ((F::from(y) + &unit * 0.5) / unit).floor().max(0.0).min(255.0);
            y = rounded.emit(cx, float)?;
        }
    }
    cx.cast(y, dtype)
}

/// Which inputs each output takes, [to, taps], and with which weights, in f64 (`HelperInterpBase` in ATen's UpSampleKernel.cpp).
fn taps(cx: &mut Cx, from: &Dim, to: &Dim, factor: Option<f64>, filter: &Filter) -> Result<(ValueId, ValueId)> {
    let one = Dim::Const(1);
    let reach = if filter.cubic { 2 } else { 1 };
    let size = |cx: &mut Cx, d: &Dim| -> Result<F> {
        let d = cx.dim_scalar(d)?;
        Ok(F::from(cx.cast(d, DType::F64)?))
    };
    // Inputs per output, as a quotient of sizes; of one output aligned to corners it is 0.
    let (above, below) = if filter.corners {
        (from.clone() - one.clone(), to.clone() - one.clone())
    } else {
        (from.clone(), to.clone())
    };
    let scale = match (factor, above.as_const(), below.as_const()) {
        (Some(factor), ..) if factor > 0.0 => F::from(1.0 / factor),
        (_, _, Some(0)) => F::from(0.0),
        (_, Some(above), Some(below)) => F::from(above as f64 / below as f64),
        _ => {
            let (above, below) = (size(cx, &above)?, size(cx, &below)?);
            above / below.max(1.0) * below.min(1.0)
        }
    };
    let outputs = super::create::range(cx, to)?;
    let outputs = cx.b.unsqueeze(outputs, &[1])?;
    let outputs = F::from(cx.cast(outputs, DType::F64)?);
    let last = size(cx, from)? - 1.0;
    let a = if filter.antialias { -0.5 } else { -0.75 };
    let curve = |x: F| {
        let x = x.abs();
        if !filter.cubic {
            return (1.0 - x).max(0.0);
        }
        let far = x.lt(2.0).pick(x.polynomial(&[a, -5.0 * a, 8.0 * a, -4.0 * a]), 0.0);
        x.lt(1.0).pick(x.polynomial(&[a + 2.0, -(a + 3.0), 0.0, 1.0]), far)
    };
    if filter.antialias {
        let shrink = scale.max(1.0);
        let count = match factor {
            Some(factor) if factor > 0.0 => Dim::Const((f64::from(reach) / factor).ceil() as i64),
            _ => (above * Dim::Const(reach.into())).ceil_div(&below.at_least(&one)),
        };
        let count = count.at_least(&Dim::Const(reach.into())) * Dim::Const(2) + 1;
        let tap = super::create::range(cx, &count)?;
        let tap = F::from(cx.cast(tap, DType::F64)?);
        let (center, support) = (scale * (outputs + 0.5), &shrink * f64::from(reach));
        let at = (&center - &support + 0.5).max(0.0).floor() + tap;
        let inside = at.lt((&center + &support + 0.5).floor()).and(at.le(&last));
        let weights = inside.pick(curve((&at - &center + 0.5) / shrink), 0.0).emit(cx, DType::F64)?;
        let total = cx.reduce("ReduceSum", weights, &[1], true)?;
        let at = at.min(last).emit(cx, DType::F64)?;
        return Ok((cx.cast(at, DType::I64)?, (F::from(weights) / F::from(total)).emit(cx, DType::F64)?));
    }
    let center = if filter.corners { scale * outputs } else { scale * (outputs + 0.5) - 0.5 };
    let center = if filter.cubic { center } else { center.max(0.0) };
    let first = center.floor().min(&last);
    let offsets: Vec<f64> = (1 - reach..=reach).map(f64::from).collect();
    let offsets = F::from(cx.b.constant(Tensor::from_slice(&[offsets.len()], &offsets)));
    let within = (center - &first).max(0.0).min(1.0);
    let (at, weights) = (first + &offsets, curve(offsets - within).emit(cx, DType::F64)?);
    // What lies outside is the input at the edge, which gets the weights of both.
    let held = at.max(0.0).min(last);
    let (inside, held) = (at.equals(&held), held.emit(cx, DType::F64)?);
    let (row, column) = (cx.b.unsqueeze(held, &[1])?, cx.b.unsqueeze(held, &[2])?);
    let others = cx.b.unsqueeze(weights, &[1])?;
    let shared = F::from(row).equals(column).pick(others, 0.0).emit(cx, DType::F64)?;
    let shared = cx.reduce("ReduceSum", shared, &[2], false)?;
    Ok((cx.cast(held, DType::I64)?, inside.pick(shared, 0.0).emit(cx, DType::F64)?))
}

/// Weights as torch rounds them for bytes: whole multiples of a power of two, the finest with which the largest weight stays below 2^15 (at most 2^22).
fn sixteen_bits(cx: &mut Cx, weights: ValueId) -> Result<(ValueId, Option<ValueId>)> {
    let largest = F::from(cx.reduce("ReduceMax", weights, &[], false)?);
    let powers: Vec<f64> = (1..=22).map(|k| f64::from(1 << k)).collect();
    let powers = F::from(cx.b.constant(Tensor::from_slice(&[powers.len()], &powers)));
    let fits = (largest * powers + 0.5).lt(32768.0).emit(cx, DType::F64)?;
    let fits = cx.cast(fits, DType::F64)?;
    let bits = cx.reduce("ReduceSum", fits, &[], false)?;
    let unit = F::from(2.0).pow(bits).emit(cx, DType::F64)?;
    let weights = F::from(weights);
    let whole = (weights.abs() * unit + 0.5).floor() * weights.sign();
    Ok((whole.emit(cx, DType::F64)?, Some(unit)))
}

/// `upsample_bilinear2d.vec(Tensor input, SymInt[]? output_size, bool align_corners, float[]? scale_factors)`,
/// `upsample_linear1d`, `upsample_trilinear3d`, `_upsample_bilinear2d_aa`
pub fn linear(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    smooth(cx, a, "linear")
}

/// `upsample_bicubic2d.vec(Tensor input, SymInt[]? output_size, bool align_corners, float[]? scale_factors)`
pub fn cubic(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    smooth(cx, a, "cubic")
}

/// `grid_sampler(Tensor input, Tensor grid, int interpolation_mode, int padding_mode, bool align_corners)`
pub fn grid_sampler(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let mode = match a.int("interpolation_mode")? {
        0 => "linear",
        1 => "nearest",
        2 => "cubic",
        other => bail!(invalid, "the interpolation mode {other}"),
    };
    let padding = match a.int("padding_mode")? {
        0 => "zeros",
        1 => "border",
        2 => "reflection",
        other => bail!(invalid, "the padding mode {other}"),
    };
    let attrs =
        Attrs::new().with("mode", mode).with("padding_mode", padding).with("align_corners", a.bool("align_corners")?);
    cx.op("GridSample", &[a.t("input")?, a.t("grid")?], attrs)
}

/// `affine_grid_generator(Tensor theta, SymInt[] size, bool align_corners)`
pub fn affine_grid(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let size = a.dim_list("size")?;
    let size = cx.shape(&size)?;
    let attrs = Attrs::new().with("align_corners", a.bool("align_corners")?);
    cx.op("AffineGrid", &[a.t("theta")?, size], attrs)
}

/// Pads (last axis first, begin and end, as torch lists them) in an ONNX mode.
pub(crate) fn pad_values(cx: &mut Cx, x: ValueId, pad: &[Dim], mode: &str, value: Option<ValueId>) -> Result<ValueId> {
    let rank = cx.rank(x)?;
    if !pad.len().is_multiple_of(2) || pad.len() / 2 > rank {
        bail!(invalid, "{} paddings for a tensor of rank {rank}", pad.len());
    }
    if pad.iter().all(|p| p.is(0)) {
        return Ok(x);
    }
    let mut x = x;
    let mut ends: Vec<Dim> = vec![Dim::Const(0); 2 * rank];
    let negative = pad.iter().any(|p| p.as_const().is_some_and(|p| p < 0));
    if matches!(mode, "edge" | "reflect") && negative {
        // What is repeated may be what is cut off, so cutting comes last. (Only a circle is closed after cutting.)
        let grown: Vec<Dim> =
            pad.iter().map(|p| if p.as_const().is_some_and(|p| p < 0) { Dim::Const(0) } else { p.clone() }).collect();
        let cut: Vec<Dim> =
            pad.iter().map(|p| if p.as_const().is_some_and(|p| p < 0) { p.clone() } else { Dim::Const(0) }).collect();
        let wide = pad_values(cx, x, &grown, mode, value)?;
        return pad_values(cx, wide, &cut, "constant", None);
    }
    for (i, pair) in pad.chunks_exact(2).enumerate() {
        let axis = rank - 1 - i;
        for (side, p) in pair.iter().enumerate() {
            // Negative padding cuts.
            if p.as_const().is_some_and(|p| p < 0) {
                x = match side {
                    0 => cx.slice(x, axis, &-p.clone(), &Dim::Const(i64::MAX), 1)?,
                    _ => cx.slice(x, axis, &Dim::Const(0), p, 1)?,
                };
            } else {
                ends[side * rank + axis] = p.clone();
            }
        }
    }
    if ends.iter().all(|p| p.is(0)) {
        return Ok(x);
    }
    let pads = cx.shape(&ends)?;
    let attrs = Attrs::new().with("mode", mode);
    Ok(cx.b.op_multi("Pad", &[Some(x), Some(pads), value], attrs, 1)?[0])
}

/// `pad(Tensor self, SymInt[] pad, str mode='constant', float? value=None)`
pub fn pad(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let mode = a.text("mode")?;
    let mode = match &*mode {
        "constant" => return constant_pad(cx, a),
        "reflect" => "reflect",
        "replicate" => "edge",
        "circular" => "wrap",
        other => bail!(unsupported, "padding by {other}"),
    };
    let x = a.t("self")?;
    if cx.dims(x)?.iter().any(|d| d.is(0)) {
        // Nothing is there to be repeated, and not every runtime pads nothing.
        let (dtype, dims) = (cx.dtype(x)?, a.out_dims()?);
        return super::create::filled(cx, dtype, &dims, &crate::args::Scalar::Int(Dim::Const(0)));
    }
    pad_values(cx, x, &a.dim_list("pad")?, mode, None)
}

/// `constant_pad_nd(Tensor self, SymInt[] pad, Scalar value=0)`
pub fn constant_pad(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let x = a.t("self")?;
    let dtype = cx.dtype(x)?;
    let value = match a.opt_scalar("value")? {
        Some(v) if !v.is(0.0) => Some(crate::promote::scalar_value(cx, &v, dtype)?),
        _ => None,
    };
    if dtype != DType::Bool {
        return pad_values(cx, x, &a.dim_list("pad")?, "constant", value);
    }
    // Not every runtime pads booleans.
    let wide = cx.cast(x, DType::I32)?;
    let value = value.map(|v| cx.cast(v, DType::I32)).transpose()?;
    let y = pad_values(cx, wide, &a.dim_list("pad")?, "constant", value)?;
    cx.cast(y, DType::Bool)
}

/// `reflection_pad2d(Tensor self, SymInt[4] padding)`, `1d`, `3d`
pub fn reflection_pad(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    pad_values(cx, a.t("self")?, &a.dim_list("padding")?, "reflect", None)
}

/// `replication_pad2d(Tensor self, SymInt[4] padding)`, `1d`, `3d`
pub fn replication_pad(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    pad_values(cx, a.t("self")?, &a.dim_list("padding")?, "edge", None)
}
