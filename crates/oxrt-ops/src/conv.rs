//! Convolutions: dimensions, and evaluation in f64 as a matrix product over gathered windows.

use crate::eval::Eval;
use crate::infer::Infer;
use crate::matmul::{gemm, parallel};
use crate::shape::unify;
use crate::window::Window;
use oxrt_ir::{Attrs, Dim};
use oxrt_tensor::{Result, Tensor, bail};

fn group(attrs: &Attrs) -> Result<usize> {
    let g = attrs.int_or("group", 1)?;
    match usize::try_from(g) {
        Ok(g) if g > 0 => Ok(g),
        _ => bail!(invalid, "group {g}"),
    }
}

/// Sizes of the kernel: from the weights where they are known, else from the attribute.
fn kernel(attrs: &Attrs, weights: &[Dim]) -> Result<Option<Vec<i64>>> {
    let given = attrs.ints("kernel_shape")?;
    let known: Option<Vec<i64>> = weights.iter().skip(2).map(Dim::as_const).collect();
    match (given, &known) {
        (Some(g), Some(k)) if g != k => bail!(invalid, "kernel_shape {g:?} for weights of shape {weights:?}"),
        (Some(g), None) => Ok(Some(g.to_vec())),
        _ => Ok(known),
    }
}

/// Dimensions of a convolution of `x` [N, C, spatial…] with `w`; `None` where the kernel is unknown.
pub fn dims(x: &[Dim], w: &[Dim], attrs: &Attrs, transposed: bool) -> Result<Option<Vec<Dim>>> {
    if x.len() < 3 || x.len() != w.len() {
        bail!(invalid, "a convolution of {x:?} with weights {w:?}");
    }
    let g = Dim::from(group(attrs)?);
    let channels = if transposed { w[0].clone() } else { w[1].clone() * g.clone() };
    if unify(&x[1], &channels).is_err() {
        bail!(invalid, "weights of shape {w:?} with group {g} need {channels} channels, the input has {}", x[1]);
    }
    let Some(kernel) = kernel(attrs, w)? else { return Ok(None) };
    let window = if transposed { Window::transposed(attrs, &kernel)? } else { Window::new(attrs, &kernel)? };
    let maps = if transposed { w[1].clone() * g } else { w[0].clone() };
    let mut out = vec![x[0].clone(), maps];
    out.extend(window.out_dims(&x[2..])?);
    Ok(Some(out))
}

/// Shape rule for input 0 and weights in input 1; `order` takes [N, C, spatial…] from and to the layout.
pub fn infer(ctx: &mut Infer, transposed: bool, channels_last: bool) -> Result<()> {
    let dtype = ctx.dtype(0)?;
    // Kernels read one element per map, so a bias of another length must not reach them.
    if let Some(bias) = ctx.dims(2) {
        let groups = ctx.attrs().int_or("group", 1)?;
        let maps = ctx.dims(1).and_then(|w| {
            if transposed { Some(w.get(1)?.as_const()?.saturating_mul(groups)) } else { w.first()?.as_const() }
        });
        let wrong = |m: i64| bias[0].as_const().is_some_and(|b| b != m);
        if bias.len() != 1 || maps.is_some_and(wrong) {
            bail!(invalid, "the bias should have one element per map, found {bias:?}");
        }
    }
    infer_as(ctx, dtype, 0, 1, transposed, channels_last)
}

/// The same with a result of `dtype` and the operands at inputs `x` and `w`.
pub fn infer_as(
    ctx: &mut Infer,
    dtype: oxrt_tensor::DType,
    x: usize,
    w: usize,
    transposed: bool,
    channels_last: bool,
) -> Result<()> {
    let rank = ctx.rank(x).or(ctx.rank(w));
    let out = match (ctx.dims(x), ctx.dims(w)) {
        (Some(x), Some(w)) => {
            let x = if channels_last { reorder(x, &crate::copy::to_channels_first(x.len())) } else { x.to_vec() };
            dims(&x, w, ctx.attrs(), transposed)?
        }
        _ => None,
    };
    let out = match (out, rank) {
        (Some(d), _) if channels_last => Some(reorder(&d, &crate::copy::to_channels_last(d.len()))),
        (Some(d), _) => Some(d),
        (None, Some(r)) => Some(ctx.fresh_dims(r)),
        _ => None,
    };
    ctx.set(0, dtype, out);
    Ok(())
}

pub fn reorder(dims: &[Dim], order: &[usize]) -> Vec<Dim> {
    order.iter().map(|&i| dims[i].clone()).collect()
}

/// An operand of a convolution: its shape and its elements in f64.
pub struct Operand {
    pub shape: Vec<usize>,
    pub data: Vec<f64>,
}

impl Operand {
    pub fn of(t: &Tensor) -> Result<Operand> {
        Ok(Operand { shape: t.shape().to_vec(), data: t.to_f64_vec()? })
    }
}

/// The convolution of x [N, C, spatial…] with weights, plus a bias per map.
pub fn conv(x: &Operand, w: &Operand, bias: Option<&[f64]>, attrs: &Attrs) -> Result<Operand> {
    let (shape, group, placed) = prepare(x, w, bias, attrs, false)?;
    let (n, c, m) = (x.shape[0], x.shape[1], w.shape[0]);
    let (cg, mg, k) = (c / group, m / group, placed.taps_per_output());
    let spatial: usize = x.shape[2..].iter().product();
    let positions = placed.num_outputs();
    let table = placed.taps(&x.shape[2..], &placed.out)?;
    // Windows of so many positions are gathered at once that they stay in cache.
    let tile = ((1 << 17) / (cg * k).max(1)).clamp(32, 1024);
    let tiles = positions.div_ceil(tile);
    let work = crate::copy::checked_len(&shape)?.saturating_mul(cg * k);
    let blocks = parallel(n * group * tiles, work, |job| {
        let (image, g, start) = (job / (group * tiles), job / tiles % group, job % tiles * tile);
        let t = tile.min(positions - start);
        let mut columns = vec![0.0; cg * k * t];
        for (row, column) in columns.chunks_mut(t).enumerate() {
            let base = (image * c + g * cg + row / k) * spatial;
            let taps = &table[row % k * positions + start..][..t];
            for (v, &tap) in column.iter_mut().zip(taps) {
                if tap >= 0 {
                    *v = x.data[base + tap as usize];
                }
            }
        }
        let mut out = vec![0.0; mg * t];
        if let Some(b) = bias {
            out.chunks_mut(t).zip(&b[g * mg..]).for_each(|(row, &b)| row.fill(b));
        }
        gemm(mg, t, cg * k, &w.data[g * mg * cg * k..(g + 1) * mg * cg * k], &columns, &mut out);
        out
    });
    let mut data = vec![0.0; n * m * positions];
    for (job, block) in blocks.into_iter().enumerate() {
        let (image, g, start) = (job / (group * tiles), job / tiles % group, job % tiles * tile);
        let t = tile.min(positions - start);
        for (i, row) in block.chunks(t).enumerate() {
            let at = (image * m + g * mg + i) * positions + start;
            data[at..at + t].copy_from_slice(row);
        }
    }
    Ok(Operand { shape, data })
}

/// The transposed convolution of x [N, C, spatial…] with weights [C, M/group, k…].
pub fn conv_transpose(x: &Operand, w: &Operand, bias: Option<&[f64]>, attrs: &Attrs) -> Result<Operand> {
    let (shape, group, placed) = prepare(x, w, bias, attrs, true)?;
    let (n, c, m) = (x.shape[0], x.shape[1], shape[1]);
    let (cg, mg, k) = (c / group, m / group, placed.taps_per_output());
    let (from, to): (usize, usize) = (x.shape[2..].iter().product(), placed.num_outputs());
    let table = placed.taps(&placed.out, &x.shape[2..])?;
    let work = (n * c).saturating_mul(from).saturating_mul(mg * k);
    let blocks = parallel(n * group, work, |job| {
        let (image, g) = (job / group, job % group);
        let weights = &w.data[g * cg * mg * k..(g + 1) * cg * mg * k];
        let turned: Vec<f64> = (0..mg * k).flat_map(|r| (0..cg).map(move |i| weights[i * mg * k + r])).collect();
        let mut columns = vec![0.0; mg * k * from];
        let at = (image * c + g * cg) * from;
        gemm(mg * k, from, cg, &turned, &x.data[at..at + cg * from], &mut columns);
        let mut out = vec![0.0; mg * to];
        if let Some(b) = bias {
            out.chunks_mut(to.max(1)).zip(&b[g * mg..]).for_each(|(row, &b)| row.fill(b));
        }
        for (row, column) in columns.chunks(from.max(1)).enumerate() {
            let map = &mut out[row / k * to..(row / k + 1) * to];
            for (v, &tap) in column.iter().zip(&table[row % k * from..]) {
                if tap >= 0 {
                    map[tap as usize] += v;
                }
            }
        }
        out
    });
    Ok(Operand { shape, data: blocks.concat() })
}

fn prepare(
    x: &Operand,
    w: &Operand,
    bias: Option<&[f64]>,
    attrs: &Attrs,
    transposed: bool,
) -> Result<(Vec<usize>, usize, crate::window::Placed)> {
    let symbolic = |s: &[usize]| s.iter().map(|&d| Dim::from(d)).collect::<Vec<_>>();
    let group = group(attrs)?;
    let out = dims(&symbolic(&x.shape), &symbolic(&w.shape), attrs, transposed)?;
    let shape: Option<Vec<usize>> = out.and_then(|d| d.iter().map(Dim::as_size).collect());
    let Some(shape) = shape else { bail!(invalid, "the kernel does not fit over {:?}", x.shape) };
    if shape[1] % group != 0 || !x.shape[1].is_multiple_of(group) {
        bail!(invalid, "{} channels and {} maps do not make {group} groups", x.shape[1], shape[1]);
    }
    if bias.is_some_and(|b| b.len() != shape[1]) {
        bail!(invalid, "the bias should have {} elements", shape[1]);
    }
    let kernel: Vec<i64> = w.shape[2..].iter().map(|&k| k as i64).collect();
    let window = if transposed { Window::transposed(attrs, &kernel)? } else { Window::new(attrs, &kernel)? };
    Ok((shape, group, window.place(&x.shape[2..])?))
}

/// Evaluates a node with x, weights and bias in inputs 0 to 2; the result in [N, M, spatial…].
pub fn eval(ctx: &Eval, transposed: bool, channels_last: bool) -> Result<Operand> {
    let mut x = ctx.tensor(0)?.clone();
    if channels_last {
        x = crate::copy::permute(&x, &crate::copy::to_channels_first(x.rank()))?;
    }
    let bias = ctx.opt(2)?.map(Tensor::to_f64_vec).transpose()?;
    let (x, w) = (Operand::of(&x)?, Operand::of(ctx.tensor(1)?)?);
    let f = if transposed { conv_transpose } else { conv };
    f(&x, &w, bias.as_deref(), ctx.attrs())
}
