//! Resizing along axes by interpolation, for `Resize` and its channels-last twin.

use crate::eval::Eval;
use crate::infer::Infer;
use crate::shape::{axis, fractions, sizes};
use oxrt_ir::{Attrs, Dim};
use oxrt_tensor::{Error, Result, Tensor, bail};

/// Weights of the cubic kernel for the four neighbours of a point `ratio` behind the second.
pub fn cubic_weights(ratio: f64, a: f64) -> [f64; 4] {
    [1.0 + ratio, ratio, 1.0 - ratio, 2.0 - ratio].map(|d| cubic(d, a))
}

/// Keys, "Cubic convolution interpolation for digital image processing", equation 4.
fn cubic(x: f64, a: f64) -> f64 {
    let x = x.abs();
    match () {
        _ if x <= 1.0 => ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0,
        _ if x < 2.0 => ((a * x - 5.0 * a) * x + 8.0 * a) * x - 4.0 * a,
        _ => 0.0,
    }
}

/// The axes that scales and sizes speak of.
fn listed_axes(attrs: &Attrs, rank: usize) -> Result<Vec<usize>> {
    match attrs.ints("axes")? {
        Some(list) => list.iter().map(|&a| axis(a, rank)).collect(),
        None => Ok((0..rank).collect()),
    }
}

/// Size of an axis of size `n` under a scale factor, in the precision of the factor as runtimes do.
fn scaled(n: usize, scale: f64) -> usize {
    (n as f32 * scale as f32).floor().max(0.0) as usize
}

/// Dimensions after resizing `x` (in ONNX's order of axes), when they can be told.
pub fn dims(ctx: &mut Infer, x: &[Dim]) -> Result<Vec<Dim>> {
    let axes = listed_axes(ctx.attrs(), x.len())?;
    let mut out = x.to_vec();
    let stretch = ctx.attrs().string_or("keep_aspect_ratio_policy", "stretch")? == "stretch";
    let count = |n: usize| {
        if n == axes.len() {
            Ok(())
        } else {
            Err(Error::invalid(format!("{n} sizes or scales for {} axes", axes.len())))
        }
    };
    let given = |i: usize| ctx.has(i) && ctx.length_of(i) != Some(0);
    if given(3) {
        let known = ctx.contents(3).map(|c| c.elements.clone());
        if let Some(list) = &known {
            count(list.len())?;
        }
        let shape: Option<Vec<usize>> = x.iter().map(Dim::as_size).collect();
        let target: Option<Vec<usize>> = known.as_ref().and_then(|l| l.iter().map(Dim::as_size).collect());
        match (known, stretch) {
            (Some(list), true) => axes.iter().zip(list).for_each(|(&a, d)| out[a] = d),
            (_, false) if shape.is_some() && target.is_some() => {
                let plans = plans(ctx.attrs(), &shape.unwrap_or_default(), None, target, None)?;
                axes.iter().for_each(|&a| out[a] = plans[a].out.into());
            }
            _ => {
                for &a in &axes {
                    out[a] = ctx.fresh();
                }
            }
        }
        return Ok(out);
    }
    let constant = ctx.constant(2).map(Tensor::to_f64_vec).transpose()?;
    let parts = fractions(ctx, 2).map(|f| f.1);
    if let Some(n) = constant.as_ref().map(Vec::len).or(parts.as_ref().map(Vec::len)) {
        count(n)?;
    }
    for (i, &a) in axes.iter().enumerate() {
        let scale = constant.as_ref().map(|c| c[i]);
        out[a] = match (x[a].as_size(), scale, &parts) {
            (Some(n), Some(s), _) => scaled(n, s).into(),
            (_, _, Some(parts)) => (x[a].clone() * parts[i].0.clone()).floor_div(&parts[i].1),
            // One over a whole number, which no binary fraction equals.
            (None, Some(s), None) if (1.0 / s).round() as f32 == (1.0 / s) as f32 && s > 0.0 => {
                x[a].floor_div(&Dim::Const((1.0 / s).round() as i64))
            }
            (None, Some(1.0), _) => continue,
            _ => ctx.fresh(),
        };
    }
    Ok(out)
}

/// What happens along one axis.
struct Plan {
    out: usize,
    /// Size of the output that the scale asks for, which may be fractional, over the size of the input.
    scale: f64,
    /// As `scale`, when it is the quotient of two sizes.
    exact: Option<(usize, usize)>,
    roi: (f64, f64),
}

fn plans(
    attrs: &Attrs,
    shape: &[usize],
    scales: Option<Vec<f64>>,
    target: Option<Vec<usize>>,
    roi: Option<Vec<f64>>,
) -> Result<Vec<Plan>> {
    let axes = listed_axes(attrs, shape.len())?;
    let mut plans: Vec<Plan> =
        shape.iter().map(|&n| Plan { out: n, scale: 1.0, exact: Some((n, n)), roi: (0.0, 1.0) }).collect();
    let lists = [scales.as_ref().map(Vec::len), target.as_ref().map(Vec::len)];
    if lists.iter().flatten().any(|&n| n != axes.len()) || lists == [None, None] {
        bail!(invalid, "one of sizes and scales should have {} elements", axes.len());
    }
    if let Some(roi) = roi.filter(|r| !r.is_empty()) {
        if roi.len() != 2 * axes.len() {
            bail!(invalid, "the region should have {} elements, found {}", 2 * axes.len(), roi.len());
        }
        axes.iter().enumerate().for_each(|(i, &a)| plans[a].roi = (roi[i], roi[i + axes.len()]));
    }
    if let Some(target) = target {
        let ratio = |i: usize| target[i] as f64 / shape[axes[i]] as f64;
        let ratios = (0..axes.len()).map(ratio);
        let common = match attrs.string_or("keep_aspect_ratio_policy", "stretch")? {
            "stretch" => None,
            "not_larger" => ratios.reduce(f64::min),
            "not_smaller" => ratios.reduce(f64::max),
            other => bail!(invalid, "the policy `{other}` is unknown"),
        };
        for (i, &a) in axes.iter().enumerate() {
            let n = shape[a];
            (plans[a].out, plans[a].scale, plans[a].exact) = match common {
                None => (target[i], ratio(i), Some((target[i], n))),
                Some(s) => ((s * n as f64 + 0.5).floor() as usize, s, None),
            };
        }
    } else if let Some(scales) = scales {
        for (i, &a) in axes.iter().enumerate() {
            if !(scales[i] > 0.0 && scales[i].is_finite()) {
                bail!(invalid, "a scale of {}", scales[i]);
            }
            (plans[a].out, plans[a].scale, plans[a].exact) = (scaled(shape[a], scales[i]), scales[i], None);
        }
    }
    Ok(plans)
}

/// Where an output position lies in the input.
fn source(plan: &Plan, mode: &str, input: usize, y: f64) -> Result<f64> {
    let (n, out) = (input as f64, plan.out as f64);
    // The size that was asked for, before it was rounded to a whole one.
    let length = plan.exact.map_or(plan.scale * n, |e| e.0 as f64);
    let unscaled = |v: f64| plan.exact.map_or(v / plan.scale, |(to, from)| v * from as f64 / to as f64);
    let half = unscaled(y + 0.5) - 0.5;
    Ok(match mode {
        "half_pixel" => half,
        "pytorch_half_pixel" if length > 1.0 => half,
        "pytorch_half_pixel" => 0.0,
        "half_pixel_symmetric" => n / 2.0 * (1.0 - out / length) + half,
        "asymmetric" => unscaled(y),
        "align_corners" if length == 1.0 => 0.0,
        "align_corners" => y * (n - 1.0) / (length - 1.0),
        "tf_crop_and_resize" => {
            let (start, end) = plan.roi;
            let offset = if length == 1.0 {
                (end - start) * (n - 1.0) / 2.0
            } else {
                y * (end - start) * (n - 1.0) / (length - 1.0)
            };
            start * (n - 1.0) + offset
        }
        other => bail!(invalid, "the coordinate transformation `{other}` is unknown"),
    })
}

/// For each output position, input positions (beyond the ends too) with their weights.
fn weights(attrs: &Attrs, plan: &Plan, input: usize) -> Result<Vec<Option<Vec<(i64, f64)>>>> {
    let coordinates = attrs.string_or("coordinate_transformation_mode", "half_pixel")?;
    let (mode, nearest) = (attrs.string_or("mode", "nearest")?, attrs.string_or("nearest_mode", "round_prefer_floor")?);
    let a = attrs.float_or("cubic_coeff_a", -0.75)? as f64;
    let outside = attrs.bool_or("exclude_outside", false)?;
    let shrink = if attrs.bool_or("antialias", false)? { plan.scale.min(1.0) } else { 1.0 };
    let mut all = Vec::with_capacity(plan.out);
    for y in 0..plan.out {
        let x = source(plan, coordinates, input, y as f64)?;
        if coordinates == "tf_crop_and_resize" && (x < 0.0 || x > input as f64 - 1.0) {
            all.push(None);
            continue;
        }
        let (kernel, reach): (fn(f64, f64) -> f64, f64) = match mode {
            "nearest" => {
                // Factors are f32: 8 / 1.6 is 5, not a little less.
                let x = x as f32 as f64;
                let at = match nearest {
                    "round_prefer_floor" => (x - 0.5).ceil(),
                    "round_prefer_ceil" => (x + 0.5).floor(),
                    "floor" => x.floor(),
                    "ceil" => x.ceil(),
                    other => bail!(invalid, "the nearest mode `{other}` is unknown"),
                };
                all.push(Some(vec![(at as i64, 1.0)]));
                continue;
            }
            "linear" => (|d, _| (1.0 - d.abs()).max(0.0), 1.0),
            "cubic" => (cubic, 2.0),
            other => bail!(invalid, "the mode `{other}` is unknown"),
        };
        // The kernel is stretched where the result shrinks.
        let left = x.ceil() - 1.0;
        let first = (-reach / shrink).floor() + 1.0;
        // No further than from either end to the other.
        let taps = (2.0 - 2.0 * first).min(4.0 * reach * input as f64 + 8.0) as i64;
        let mut list: Vec<(i64, f64)> =
            (0..taps).map(|i| (left + first) as i64 + i).map(|i| (i, kernel((i as f64 - x) * shrink, a))).collect();
        if outside {
            list.retain(|t| (0..input as i64).contains(&t.0));
        }
        if outside || shrink < 1.0 {
            let sum: f64 = list.iter().map(|t| t.1).sum();
            if sum != 0.0 {
                list.iter_mut().for_each(|t| t.1 /= sum);
            }
        }
        all.push(Some(list));
    }
    Ok(all)
}

/// Resizes x (in ONNX's order of axes) as the node asks: region, scales and sizes in inputs 1 to 3.
pub fn resize(ctx: &Eval, x: &Tensor) -> Result<Tensor> {
    let attrs = ctx.attrs();
    let floats = |i: usize| -> Result<Option<Vec<f64>>> {
        ctx.opt(i)?.filter(|t| !t.is_empty()).map(Tensor::to_f64_vec).transpose()
    };
    let target = ctx.ints(3)?.filter(|l| !l.is_empty()).map(|l| sizes(&l)).transpose()?;
    let scales = if target.is_some() { None } else { floats(2)? };
    let plans = plans(attrs, x.shape(), scales, target, floats(1)?)?;
    let fill = attrs.float_or("extrapolation_value", 0.0)? as f64;
    let crops = attrs.string_or("coordinate_transformation_mode", "half_pixel")? == "tf_crop_and_resize";
    let mut shape = x.shape().to_vec();
    crate::copy::checked_len(&plans.iter().map(|p| p.out).collect::<Vec<_>>())?;
    for plan in &plans {
        crate::copy::checked_len(&[plan.out])?;
    }
    let mut data = x.to_f64_vec()?;
    for (a, plan) in plans.iter().enumerate() {
        let n = shape[a];
        if plan.out == n && plan.scale == 1.0 && (!crops || plan.roi == (0.0, 1.0)) {
            continue;
        }
        if n == 0 && plan.out > 0 {
            bail!(invalid, "an empty axis cannot grow to {}", plan.out);
        }
        let weights = weights(attrs, plan, n)?;
        let (outer, _, inner) = crate::copy::around(&shape, a);
        shape[a] = plan.out;
        let mut next = vec![0.0; crate::copy::checked_len(&shape)?];
        for (row, out) in next.chunks_mut(inner.max(1)).enumerate() {
            let (o, y) = (row / plan.out.max(1), row % plan.out.max(1));
            if o >= outer {
                break;
            }
            let Some(taps) = &weights[y] else {
                out.fill(fill);
                continue;
            };
            for &(i, w) in taps {
                let at = (o * n + i.clamp(0, n as i64 - 1) as usize) * inner;
                if taps.len() == 1 {
                    out.copy_from_slice(&data[at..at + inner]);
                } else {
                    out.iter_mut().zip(&data[at..at + inner]).for_each(|(v, d)| *v += w * d);
                }
            }
        }
        data = next;
    }
    Tensor::from_f64(x.dtype(), &shape, &data)
}

/// Inputs of every output position along one axis, clamped to the axis, with their weights.
pub type Taps = Vec<Vec<(usize, f64)>>;

/// What a resizing does along each axis (in ONNX's order); `None` where nothing changes.
///
/// # Errors
/// Bad attributes, and regions that are cropped out (`tf_crop_and_resize`), which are no sum of taps.
pub fn taps(
    attrs: &Attrs,
    shape: &[usize],
    scales: Option<Vec<f64>>,
    target: Option<Vec<usize>>,
) -> Result<Vec<Option<Taps>>> {
    if attrs.string_or("coordinate_transformation_mode", "half_pixel")? == "tf_crop_and_resize" {
        bail!(unsupported, "cropping while resizing");
    }
    let plans = plans(attrs, shape, scales, target, None)?;
    let along = |(a, plan): (usize, &Plan)| -> Result<Option<Taps>> {
        let n = shape[a];
        if plan.out == n && plan.scale == 1.0 {
            return Ok(None);
        }
        if n == 0 && plan.out > 0 {
            bail!(invalid, "an empty axis cannot grow to {}", plan.out);
        }
        let inside = |(i, w): (i64, f64)| (i.clamp(0, n as i64 - 1) as usize, w);
        let lists = weights(attrs, plan, n)?.into_iter().map(Option::unwrap_or_default);
        Ok(Some(lists.map(|list| list.into_iter().map(inside).collect()).collect()))
    };
    plans.iter().enumerate().map(along).collect()
}

/// [`taps`] along every axis of the data as it lies: in ONNX's order, or with the channels last.
///
/// # Errors
/// As [`taps`].
pub fn taps_as_laid(
    attrs: &Attrs,
    shape: &[usize],
    channels_last: bool,
    scales: Option<Vec<f64>>,
    target: Option<Vec<usize>>,
) -> Result<Vec<Option<Taps>>> {
    if !channels_last || shape.len() < 3 {
        return taps(attrs, shape, scales, target);
    }
    // Factors and axes speak of ONNX's order.
    let mut ordered = shape[..shape.len() - 1].to_vec();
    ordered.insert(1, shape[shape.len() - 1]);
    let mut all = taps(attrs, &ordered, scales, target)?;
    let channels = all.remove(1);
    all.push(channels);
    Ok(all)
}
