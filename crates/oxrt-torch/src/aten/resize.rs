//! Resizing, padding and sampling.

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
    resize(cx, a, input(a)?, attrs)
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
    if a.target.contains("_aa") && corners {
        return antialiased_corners(cx, a, mode == "cubic");
    }
    if a.target.contains("_aa") {
        attrs.set("antialias", 1);
        if mode == "cubic" {
            // With antialiasing torch follows Pillow's kernel.
            attrs.set("cubic_coeff_a", -0.5f32);
        }
        attrs.set("exclude_outside", 1);
    }
    resize(cx, a, input(a)?, attrs)
}

/// Antialiasing with aligned corners, which no runtime's Resize has: a product with torch's weights along each axis.
fn antialiased_corners(cx: &mut Cx, a: &Args, cubic: bool) -> Result<ValueId> {
    let x = input(a)?;
    let (have, want, dtype) = (cx.dims(x)?, a.out_dims()?, cx.dtype(x)?);
    let mut y = x;
    for axis in [2, 3] {
        let (Some(from), Some(to)) = (have[axis].as_const(), want[axis].as_const()) else {
            bail!(unsupported, "dynamic sizes with antialiasing and aligned corners");
        };
        let weights = Tensor::from_f64(dtype, &[to as usize, from as usize], &corner_weights(from, to, cubic))?;
        let weights = cx.b.constant(weights);
        y = match axis {
            2 => cx.call("MatMul", &[weights, y])?,
            _ => {
                let turned = cx.b.transpose(weights, &[1, 0])?;
                cx.call("MatMul", &[y, turned])?
            }
        };
    }
    Ok(y)
}

/// Row `i` says what output `i` takes of each input (`_compute_indices_weights_aa` in ATen's UpSampleKernel.cpp).
fn corner_weights(from: i64, to: i64, cubic: bool) -> Vec<f64> {
    let scale = if to > 1 { (from - 1) as f64 / (to - 1) as f64 } else { 0.0 };
    let (reach, shrink) = (if cubic { 2.0 } else { 1.0 }, scale.max(1.0));
    let support = reach * shrink;
    let filter = |x: f64| {
        let x = x.abs();
        match (cubic, x) {
            (false, x) => (1.0 - x).max(0.0),
            (true, x) if x < 1.0 => (1.5 * x - 2.5) * x * x + 1.0,
            (true, x) if x < 2.0 => ((-0.5 * x + 2.5) * x - 4.0) * x + 2.0,
            _ => 0.0,
        }
    };
    let mut out = vec![0.0; (from * to) as usize];
    for (i, row) in out.chunks_exact_mut(from as usize).enumerate() {
        let center = scale * (i as f64 + 0.5);
        let first = ((center - support + 0.5) as i64).max(0);
        let last = ((center + support + 0.5) as i64).min(from);
        for j in first..last {
            row[j as usize] = filter((j as f64 - center + 0.5) / shrink);
        }
        let total: f64 = row.iter().sum();
        if total != 0.0 {
            row.iter_mut().for_each(|w| *w /= total);
        }
    }
    out
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
