//! Pooling over sliding windows and over whole planes.

use crate::conv::reorder;
use crate::copy::{permute, to_channels_first, to_channels_last};
use crate::infer::Infer;
use crate::matmul::parallel;
use crate::window::{OUTSIDE, Window};
use oxrt_ir::{Attrs, Dim};
use oxrt_tensor::{Error, Result, Tensor, bail};

fn window(attrs: &Attrs) -> Result<Window> {
    let kernel = attrs.ints("kernel_shape")?.ok_or_else(|| Error::invalid("`kernel_shape` is missing"))?;
    Window::new(attrs, kernel)
}

fn pooled(x: &[Dim], attrs: &Attrs) -> Result<Vec<Dim>> {
    if x.len() < 3 {
        bail!(invalid, "pooling needs spatial axes, found {x:?}");
    }
    let mut out = x[..2].to_vec();
    out.extend(window(attrs)?.out_dims(&x[2..])?);
    Ok(out)
}

/// Shape rule of pools; output 1, where a node has it, holds indices.
pub fn infer(ctx: &mut Infer, channels_last: bool) -> Result<()> {
    let dtype = ctx.dtype(0)?;
    let dims = match ctx.dims(0) {
        Some(x) if channels_last => {
            let first = pooled(&reorder(x, &to_channels_first(x.len())), ctx.attrs())?;
            Some(reorder(&first, &to_channels_last(x.len())))
        }
        Some(x) => Some(pooled(x, ctx.attrs())?),
        None => None,
    };
    ctx.set(0, dtype, dims.clone());
    ctx.set(1, oxrt_tensor::DType::I64, dims);
    Ok(())
}

/// Shape rule of global pools: every spatial axis becomes 1.
pub fn infer_global(ctx: &mut Infer, channels_last: bool) -> Result<()> {
    infer_global_as(ctx, ctx.dtype(0)?, channels_last)
}

/// The same with a result of `dtype`.
pub fn infer_global_as(ctx: &mut Infer, dtype: oxrt_tensor::DType, channels_last: bool) -> Result<()> {
    let dims = match ctx.dims(0) {
        Some(x) if x.len() < 2 => bail!(invalid, "pooling needs spatial axes, found {x:?}"),
        Some(x) => {
            let stays = |i: usize| i == 0 || if channels_last { i + 1 == x.len() } else { i == 1 };
            Some((0..x.len()).map(|i| if stays(i) { x[i].clone() } else { Dim::Const(1) }).collect())
        }
        None => None,
    };
    ctx.set(0, dtype, dims);
    Ok(())
}

/// One window: (offset in the plane, value) of the taps inside, and how many fell on padding.
pub struct Taps<'a> {
    pub inside: &'a [(usize, f64)],
    pub padding: usize,
}

/// `f` of every window of x [N, C, spatial…], with the offset of its plane.
pub fn over_windows<R: Send>(
    x: &Tensor,
    attrs: &Attrs,
    f: impl Fn(usize, Taps) -> R + Sync,
) -> Result<(Vec<usize>, Vec<R>)> {
    if x.rank() < 3 {
        bail!(invalid, "pooling needs spatial axes, found {:?}", x.shape());
    }
    let spatial = &x.shape()[2..];
    let placed = window(attrs)?.place(spatial)?;
    let (taps, positions) = (placed.taps_per_output(), placed.num_outputs());
    let table = placed.taps(spatial, &placed.out)?;
    let planes = x.shape()[0] * x.shape()[1];
    let size: usize = spatial.iter().product();
    let data = x.to_f64_vec()?;
    let shape = [&x.shape()[..2], &placed.out].concat();
    let work = crate::copy::checked_len(&shape)?.saturating_mul(taps);
    let results = parallel(planes, work, |plane| {
        let base = plane * size;
        let mut inside = Vec::with_capacity(taps);
        let mut out = Vec::with_capacity(positions);
        for p in 0..positions {
            inside.clear();
            let mut padding = 0;
            for k in 0..taps {
                match table[k * positions + p] {
                    at if at >= 0 => inside.push((at as usize, data[base + at as usize])),
                    OUTSIDE => {}
                    _ => padding += 1,
                }
            }
            out.push(f(base, Taps { inside: &inside, padding }));
        }
        out
    });
    Ok((shape, results.into_iter().flatten().collect()))
}

/// Greatest value of each window and where it lies (the first such place).
pub fn max(x: &Tensor, attrs: &Attrs) -> Result<(Tensor, Vec<i64>)> {
    let (shape, best) = over_windows(x, attrs, |base, taps| {
        let first = taps.inside.first().map_or((0, f64::NEG_INFINITY), |&t| t);
        let wins = |a: f64, b: f64| a > b || (a.is_nan() && !b.is_nan());
        let (at, v) = taps.inside.iter().fold(first, |best, &t| if wins(t.1, best.1) { t } else { best });
        (v, (base + at) as i64)
    })?;
    let (values, at): (Vec<f64>, Vec<i64>) = best.into_iter().unzip();
    Ok((Tensor::from_f64(x.dtype(), &shape, &values)?, at))
}

/// Mean of each window; padding counts where the attribute says so.
pub fn average(x: &Tensor, attrs: &Attrs) -> Result<Tensor> {
    let with_padding = attrs.bool_or("count_include_pad", false)?;
    let (shape, means) = over_windows(x, attrs, |_, taps| {
        let count = taps.inside.len() + if with_padding { taps.padding } else { 0 };
        // A window of nothing but uncounted padding gives 0, as from the kernels.
        (taps.inside.iter().map(|t| t.1).sum::<f64>() + 0.0) / count.max(1) as f64
    })?;
    Tensor::from_f64(x.dtype(), &shape, &means)
}

/// `f` of every whole plane of x [N, C, spatial…].
pub fn global(x: &Tensor, f: impl Fn(&[f64]) -> f64) -> Result<Tensor> {
    if x.rank() < 2 {
        bail!(invalid, "pooling needs spatial axes, found {:?}", x.shape());
    }
    let size: usize = x.shape()[2..].iter().product();
    let planes = x.shape()[0] * x.shape()[1];
    let data = x.to_f64_vec()?;
    let values: Vec<f64> = (0..planes).map(|p| f(&data[p * size..(p + 1) * size])).collect();
    let shape: Vec<usize> = x.shape().iter().enumerate().map(|(i, &d)| if i < 2 { d } else { 1 }).collect();
    Tensor::from_f64(x.dtype(), &shape, &values)
}

pub fn mean(plane: &[f64]) -> f64 {
    plane.iter().sum::<f64>() / plane.len() as f64
}

/// Runs a function of [N, C, spatial…] on [N, spatial…, C].
pub fn channels_last(x: &Tensor, f: impl FnOnce(&Tensor) -> Result<Tensor>) -> Result<Tensor> {
    let y = f(&permute(x, &to_channels_first(x.rank()))?)?;
    permute(&y, &to_channels_last(y.rank()))
}
