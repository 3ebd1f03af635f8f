//! Types of results. An exported program states them; a script does not, so those that a lowering asks for are
//! worked out here from the arguments.

use crate::args::{Arg, Args, Scalar};
use crate::cx::{Cx, Val};
use oxrt_ir::{DType, Dim, ValueId};
use oxrt_tensor::{Result, bail};

/// Element type and dimensions of the first result, for the operators whose lowering reads them.
pub(crate) fn result_type(cx: &mut Cx<'static, '_>, a: &Args<'static>) -> Result<(Option<DType>, Option<Vec<Dim>>)> {
    let name = a.target.split('.').nth(1).unwrap_or_default();
    let dims = dims_of(cx, a, name)?;
    let dtype = dtype_of(cx, a, name)?;
    Ok((dtype, dims))
}

fn fresh(cx: &mut Cx) -> Dim {
    cx.b.symbols.fresh().into()
}

/// Dimensions under `size`, where one may be -1.
pub(crate) fn solve(have: &[Dim], size: &[Dim]) -> Result<Vec<Dim>> {
    let total: Dim = have.iter().cloned().product();
    let Some(hole) = size.iter().position(|d| d.is(-1)) else { return Ok(size.to_vec()) };
    let rest: Dim = size.iter().enumerate().filter(|(i, _)| *i != hole).map(|(_, d)| d.clone()).product();
    let mut out = size.to_vec();
    out[hole] = match total.divide_exactly(&rest) {
        Some(d) => d,
        None if rest.is(0) => bail!(invalid, "-1 beside a size of 0"),
        None => total.floor_div(&rest),
    };
    Ok(out)
}

fn reduced(cx: &Cx, a: &Args) -> Result<Option<Vec<Dim>>> {
    let x = a.t("self")?;
    let dims = cx.dims(x)?;
    let keep = a.bool("keepdim").unwrap_or(false);
    let Some(axis) = a.opt_int("dim")? else {
        return Ok(Some(if keep { vec![Dim::Const(1); dims.len()] } else { Vec::new() }));
    };
    if dims.is_empty() {
        return Ok(Some(dims));
    }
    let axis = cx.axis(x, axis)?;
    let mut dims = dims;
    if keep {
        dims[axis] = Dim::Const(1);
    } else {
        dims.remove(axis);
    }
    Ok(Some(dims))
}

fn dims_of(cx: &mut Cx<'static, '_>, a: &Args<'static>, name: &str) -> Result<Option<Vec<Dim>>> {
    let x = if a.has("self") { a.t("self").ok() } else { None };
    let have = match x {
        Some(x) => cx.dims(x).map(|mut d| {
            if cx.is_complex(x) {
                d.pop();
            }
            d
        }),
        None => Ok(Vec::new()),
    };
    Ok(Some(match name {
        "view" | "_unsafe_view" => match a.has("size") {
            true => solve(&have?, &a.dim_list("size")?)?,
            false => return Ok(None),
        },
        "reshape" | "_reshape_copy" => solve(&have?, &a.dim_list("shape")?)?,
        "view_as" | "reshape_as" | "expand_as" => cx.dims(a.t("other")?)?,
        "ravel" => vec![have?.into_iter().product()],
        "flatten" => {
            let have = have?;
            let n = have.len() as i64;
            if n == 0 {
                return Ok(Some(vec![Dim::Const(1)]));
            }
            let at = |i: i64| if i < 0 { i + n } else { i };
            let (from, to) = (at(a.int("start_dim")?), at(a.int("end_dim")?));
            if from < 0 || to >= n || from > to {
                bail!(invalid, "flatten from axis {from} to {to} of {n}");
            }
            let (from, to) = (from as usize, to as usize);
            let mut out = have[..from].to_vec();
            out.push(have[from..=to].iter().cloned().product());
            out.extend_from_slice(&have[to + 1..]);
            out
        }
        "unflatten" => {
            let have = have?;
            let axis = oxrt_ops::shape::axis(a.int("dim")?, have.len())?;
            let sizes = solve(&have[axis..=axis], &a.dim_list("sizes")?)?;
            [&have[..axis], &sizes, &have[axis + 1..]].concat()
        }
        "unsqueeze" => {
            let mut have = have?;
            let axis = oxrt_ops::shape::axis(a.int("dim")?, have.len() + 1)?;
            have.insert(axis, Dim::Const(1));
            have
        }
        "squeeze" => {
            let have = have?;
            let axes = match a.target.ends_with(".default") {
                true => (0..have.len()).filter(|&i| have[i].is(1)).collect(),
                false if have.is_empty() => Vec::new(),
                false => (a.ints("dim")?.into_iter())
                    .map(|d| oxrt_ops::shape::axis(d, have.len()))
                    .collect::<Result<Vec<_>>>()?,
            };
            have.into_iter().enumerate().filter(|(i, d)| !(axes.contains(i) && d.is(1))).map(|(_, d)| d).collect()
        }
        "atleast_1d" | "atleast_2d" | "atleast_3d" => {
            let n = (name.as_bytes()[8] - b'0') as usize;
            let mut have = have?;
            if n == 3 && have.len() == 2 {
                have.push(Dim::Const(1));
            } else if n == 3 && have.len() == 1 {
                have = vec![Dim::Const(1), have[0].clone(), Dim::Const(1)];
            }
            while have.len() < n {
                have.insert(0, Dim::Const(1));
            }
            have
        }
        "expand" | "broadcast_to" => {
            let have = have?;
            let size = a.dim_list("size")?;
            let lead = size.len().saturating_sub(have.len());
            (size.into_iter().enumerate())
                .map(|(i, d)| if d.is(-1) && i >= lead { have[i - lead].clone() } else { d })
                .collect()
        }
        "argmax" | "argmin" | "max" | "min" if a.has("dim") || name.starts_with("arg") => {
            return reduced(cx, a);
        }
        "quantile" | "median" | "mode" | "kthvalue" if a.has("dim") || name == "quantile" => return reduced(cx, a),
        "gather" => cx.dims(a.t("index")?)?,
        "nonzero" | "argwhere" => vec![fresh(cx), Dim::from(have?.len())],
        "nonzero_numpy" | "where" | "masked_select" | "unique_consecutive" if !a.has("other") => vec![fresh(cx)],
        "zeros" | "ones" | "empty" | "full" | "rand" | "randn" | "randint" | "new_zeros" | "new_ones" | "new_empty"
        | "new_full" | "empty_strided" | "new_empty_strided" | "empty_permuted" | "normal"
            if a.has("size") =>
        {
            a.dim_list("size")?
        }
        "zeros_like" | "ones_like" | "empty_like" | "full_like" | "rand_like" | "randn_like" | "randint_like"
        | "bernoulli" => have?,
        "arange" => vec![arange_length(cx, a)?],
        "linspace" | "logspace" => vec![a.dim("steps")?],
        "eye" => {
            let n = a.dim("n")?;
            let m = a.opt_dim("m")?.unwrap_or_else(|| n.clone());
            vec![n, m]
        }
        "hann_window" | "hamming_window" | "blackman_window" => vec![a.dim("window_length")?],
        "upsample_nearest1d"
        | "upsample_nearest2d"
        | "upsample_nearest3d"
        | "_upsample_nearest_exact1d"
        | "_upsample_nearest_exact2d"
        | "_upsample_nearest_exact3d"
        | "upsample_linear1d"
        | "upsample_bilinear2d"
        | "upsample_trilinear3d"
        | "upsample_bicubic2d"
        | "_upsample_bilinear2d_aa"
        | "_upsample_bicubic2d_aa" => {
            let x = a.t(if a.has("input") { "input" } else { "self" })?;
            resized(cx, a, cx.dims(x)?)?
        }
        "adaptive_avg_pool1d"
        | "adaptive_avg_pool2d"
        | "adaptive_avg_pool3d"
        | "_adaptive_avg_pool2d"
        | "_adaptive_avg_pool3d"
        | "adaptive_max_pool1d"
        | "adaptive_max_pool2d"
        | "adaptive_max_pool3d" => {
            let mut have = have?;
            let n = (name.as_bytes()[name.len() - 2] - b'0') as usize;
            let sizes = a.dim_list("output_size")?;
            let lead = have.len().saturating_sub(n);
            for i in 0..n.min(have.len()) {
                have[lead + i] = sizes.get(i).or(sizes.first()).cloned().unwrap_or(Dim::Const(1));
            }
            have
        }
        "max_unpool2d" => {
            let mut have = have?;
            let lead = have.len().saturating_sub(2);
            have.truncate(lead);
            have.extend(a.dim_list("output_size")?);
            have
        }
        "tensordot" => {
            let (x, y) = (a.t("self")?, a.t("other")?);
            let rest = |cx: &Cx, v: ValueId, name: &str| -> Result<Vec<Dim>> {
                let used = a.ints(name)?.iter().map(|&d| cx.axis(v, d)).collect::<Result<Vec<_>>>()?;
                Ok(cx.dims(v)?.into_iter().enumerate().filter(|(i, _)| !used.contains(i)).map(|(_, d)| d).collect())
            };
            [rest(cx, x, "dims_self")?, rest(cx, y, "dims_other")?].concat()
        }
        "kron" => {
            let (mut x, mut y) = (cx.dims(a.t("self")?)?, cx.dims(a.t("other")?)?);
            while x.len() < y.len() {
                x.insert(0, Dim::Const(1));
            }
            while y.len() < x.len() {
                y.insert(0, Dim::Const(1));
            }
            x.into_iter().zip(y).map(|(x, y)| x * y).collect()
        }
        "unfold" => {
            let mut have = have?;
            let axis = oxrt_ops::shape::axis(a.int("dimension")?, have.len())?;
            let (size, step) = (a.int("size")?, a.int("step")?);
            have[axis] = (have[axis].clone() - size).floor_div(&Dim::Const(step)) + 1;
            have.push(Dim::Const(size));
            have
        }
        "im2col" => {
            let have = have?;
            let (k, d, p, s) = (
                a.ints_n("kernel_size", 2)?,
                a.ints_n("dilation", 2)?,
                a.ints_n("padding", 2)?,
                a.ints_n("stride", 2)?,
            );
            let n = have.len();
            let count = |i: usize| {
                (have[n - 2 + i].clone() + (2 * p[i] - d[i] * (k[i] - 1) - 1)).floor_div(&Dim::Const(s[i])) + 1
            };
            let mut out = have[..n - 3].to_vec();
            out.extend([have[n - 3].clone() * (k[0] * k[1]), count(0) * count(1)]);
            out
        }
        "col2im" => {
            let (have, k, size) = (have?, a.ints_n("kernel_size", 2)?, a.dim_list("output_size")?);
            let n = have.len();
            let mut out = have[..n - 2].to_vec();
            out.push(have[n - 2].floor_div(&Dim::Const(k[0] * k[1])));
            out.extend(size);
            out
        }
        "pixel_shuffle" | "pixel_unshuffle" => {
            let mut have = have?;
            let n = have.len();
            if n < 3 {
                bail!(invalid, "{name} of a tensor of rank {n}");
            }
            let up = name == "pixel_shuffle";
            let r = a.int(if up { "upscale_factor" } else { "downscale_factor" })?;
            let by = Dim::Const(r * r);
            have[n - 3] = if up { have[n - 3].floor_div(&by) } else { have[n - 3].clone() * by };
            for i in [n - 2, n - 1] {
                have[i] = if up { have[i].clone() * r } else { have[i].floor_div(&Dim::Const(r)) };
            }
            have
        }
        "broadcast_tensors" => {
            let all = a.ts("tensors")?.into_iter().map(|v| cx.dims(v)).collect::<Result<Vec<_>>>()?;
            oxrt_ops::shape::broadcast_dims(&all.iter().map(Vec::as_slice).collect::<Vec<_>>())?.into_iter().collect()
        }
        "vander" | "linalg_vander" => {
            let n = cx.size(a.t("x")?, 0)?;
            let m = a.opt_dim("N")?.unwrap_or_else(|| n.clone());
            vec![n, m]
        }
        _ => return Ok(None),
    }))
}

/// Sizes after a resize, by `output_size` or by factors.
fn resized(cx: &mut Cx<'static, '_>, a: &Args<'static>, mut have: Vec<Dim>) -> Result<Vec<Dim>> {
    if a.has("output_size") {
        let sizes = a.dim_list("output_size")?;
        have.truncate(have.len().saturating_sub(sizes.len()));
        have.extend(sizes);
        return Ok(have);
    }
    let Some(factors) = a.opt_floats("scale_factors")? else { bail!(invalid, "a resize without sizes and factors") };
    let lead = have.len().saturating_sub(factors.len());
    for (d, f) in have[lead..].iter_mut().zip(factors) {
        *d = match d.as_const() {
            Some(n) => Dim::Const((n as f64 * f).floor() as i64),
            None => match crate::symbols::Ratio::float(f) {
                Some(r) => crate::symbols::Ratio::int(d.clone()).mul(r).floor(),
                // The lowering computes it from the factor under this name.
                None => {
                    cx.symbols.opaque += 1;
                    Dim::symbol(&format!("_x{}", cx.symbols.opaque))
                }
            },
        };
    }
    Ok(have)
}

fn arange_length(cx: &mut Cx<'static, '_>, a: &Args<'static>) -> Result<Dim> {
    let start = a.opt_scalar("start")?.unwrap_or(Scalar::Int(Dim::Const(0)));
    let step = a.opt_scalar("step")?.unwrap_or(Scalar::Int(Dim::Const(1)));
    let end = a.scalar("end")?;
    if let (Scalar::Int(s), Scalar::Int(e), Scalar::Int(Dim::Const(by))) = (&start, &end, &step) {
        return Ok(match by {
            1 => e.clone() - s.clone(),
            0 => bail!(invalid, "arange with step 0"),
            by if *by > 0 => (e.clone() - s.clone()).ceil_div(&Dim::Const(*by)),
            by => (s.clone() - e.clone()).ceil_div(&Dim::Const(-by)),
        });
    }
    Ok(match (start.as_f64(), end.as_f64(), step.as_f64()) {
        (Some(s), Some(e), Some(by)) if by != 0.0 => Dim::Const(((e - s) / by).ceil().max(0.0) as i64),
        _ => fresh(cx),
    })
}

fn number_type(s: &Scalar, cx: &Cx) -> Result<DType> {
    Ok(match s {
        Scalar::Int(_) => DType::I64,
        Scalar::Bool(_) => DType::Bool,
        Scalar::Runtime(v) => cx.dtype(*v)?,
        _ => DType::F32,
    })
}

fn dtype_of(cx: &mut Cx<'static, '_>, a: &Args<'static>, name: &str) -> Result<Option<DType>> {
    if let Some(Arg::Other(Val::DType(d))) = a.get("dtype") {
        return Ok(Some(d));
    }
    Ok(Some(match name {
        "zeros" | "ones" | "empty" | "rand" | "randn" | "linspace" | "logspace" | "eye" | "hann_window"
        | "hamming_window" | "blackman_window" | "empty_strided" | "empty_permuted" | "normal" => DType::F32,
        "randint" | "randperm" | "tril_indices" | "triu_indices" => DType::I64,
        "full" => number_type(&a.scalar("fill_value")?, cx)?,
        "scalar_tensor" => DType::F32,
        "arange" => {
            let given = ["start", "end", "step"].into_iter().filter_map(|n| a.opt_scalar(n).ok().flatten());
            let floats = given.into_iter().map(|s| number_type(&s, cx)).collect::<Result<Vec<_>>>()?;
            if floats.iter().any(|d| d.is_float()) { DType::F32 } else { DType::I64 }
        }
        "searchsorted" | "bucketize" => {
            if a.bool("out_int32")? {
                DType::I32
            } else {
                DType::I64
            }
        }
        "repeat_interleave" => DType::I64,
        _ => match a.named.first() {
            Some((_, Arg::Tensor(_, v))) => cx.dtype(*v)?,
            _ => return Ok(None),
        },
    }))
}
