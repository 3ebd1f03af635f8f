//! Pooling.

use super::formula::F;
use crate::args::Args;
use crate::cx::Cx;
use oxrt_ir::{Attrs, DType, Dim, Tensor, ValueId};
use oxrt_tensor::{Result, bail};

/// Number of pooled axes, from the digit in the operator's name.
fn axes_of(target: &str) -> usize {
    target.split_once("pool").and_then(|(_, rest)| rest.bytes().next()).map_or(2, |b| (b - b'0') as usize).clamp(1, 3)
}

/// With a batch axis, and whether one was added.
fn with_batch(cx: &mut Cx, x: ValueId, n: usize) -> Result<(ValueId, bool)> {
    match cx.rank(x)? {
        r if r == n + 2 => Ok((x, false)),
        r if r == n + 1 => Ok((cx.b.unsqueeze(x, &[0])?, true)),
        r => bail!(invalid, "pooling {n} axes of a tensor of rank {r}"),
    }
}

fn without_batch(cx: &mut Cx, v: ValueId, added: bool) -> Result<ValueId> {
    if added { cx.b.squeeze(v, &[0]) } else { Ok(v) }
}

struct Window {
    kernel: Vec<i64>,
    stride: Vec<i64>,
    pads: Vec<i64>,
    ceil: bool,
}

fn window(a: &Args, n: usize) -> Result<Window> {
    let kernel = a.ints_n("kernel_size", n)?;
    let stride = match a.opt_ints("stride")? {
        Some(s) if !s.is_empty() => a.ints_n("stride", n)?,
        _ => kernel.clone(),
    };
    let p = a.ints_n("padding", n)?;
    Ok(Window { kernel, stride, pads: [&p[..], &p[..]].concat(), ceil: a.bool("ceil_mode")? })
}

impl Window {
    fn attrs(&self) -> Attrs {
        let mut attrs = Attrs::new()
            .with("kernel_shape", self.kernel.clone())
            .with("strides", self.stride.clone())
            .with("pads", self.pads.clone());
        if self.ceil {
            attrs.set("ceil_mode", 1);
        }
        attrs
    }
}

/// `max_pool2d(Tensor self, int[2] kernel_size, int[2] stride=[], int[2] padding=0, int[2] dilation=1, bool
/// ceil_mode=False)`, `max_pool1d`, `max_pool3d`, `max_pool2d_with_indices -> (values, indices)`
pub fn max_pool(cx: &mut Cx, a: &Args) -> Result<Vec<ValueId>> {
    let n = axes_of(a.target);
    let w = window(a, n)?;
    let attrs = w.attrs().with("dilations", a.ints_n("dilation", n)?);
    let (x, added) = with_batch(cx, a.t("self")?, n)?;
    if !a.used(cx, 1) {
        let y = cx.op("MaxPool", &[x], attrs)?;
        return Ok(vec![without_batch(cx, y, added)?]);
    }
    let out = cx.b.op_multi("MaxPool", &[Some(x)], attrs, 2)?;
    // ONNX counts places over the whole tensor, torch within each plane.
    let dims = cx.dims(x)?;
    let plane: Dim = dims[2..].iter().cloned().product();
    let plane = cx.dim_scalar(&plane)?;
    let places = cx.call("Mod", &[out[1], plane])?;
    Ok(vec![without_batch(cx, out[0], added)?, without_batch(cx, places, added)?])
}

/// `avg_pool2d(Tensor self, int[2] kernel_size, int[2] stride=[], int[2] padding=0, bool ceil_mode=False, bool
/// count_include_pad=True, int? divisor_override=None)`, `avg_pool1d`, `avg_pool3d`
pub fn avg_pool(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let n = axes_of(a.target);
    let w = window(a, n)?;
    let (mut x, added) = with_batch(cx, a.t("self")?, n)?;
    let dtype = cx.dtype(x)?;
    if dtype.is_int() {
        x = cx.cast(x, DType::F32)?;
    }
    let padded = w.pads.iter().any(|&p| p != 0);
    let include = a.get("count_include_pad").is_none() || a.bool("count_include_pad")?;
    let y = match a.opt_int("divisor_override")? {
        Some(divisor) => {
            // Whole windows over zeros: their mean times the window is the sum, whatever hangs over.
            let mut pads = w.pads.clone();
            if w.ceil {
                (0..n).for_each(|i| pads[n + i] += w.stride[i] - 1);
            }
            let x = zero_padded(cx, x, &pads)?;
            let attrs = Attrs::new().with("kernel_shape", w.kernel.clone()).with("strides", w.stride.clone());
            let y = cx.op("AveragePool", &[x], attrs)?;
            let window = w.kernel.iter().product::<i64>() as f64;
            if dtype.is_int() {
                // Whole sums, divided as integers are.
                let sum = super::formula::F::from(y) * window;
                let sum = sum.round().emit(cx, DType::F32)?;
                let by = cx.like(sum, divisor as f64)?;
                cx.call("Div", &[sum, by])?
            } else {
                let factor = cx.like(y, window / divisor as f64)?;
                cx.call("Mul", &[y, factor])?
            }
        }
        // torch counts the padding, but not what hangs over it.
        None if padded && include && w.ceil => {
            let x = zero_padded(cx, x, &w.pads)?;
            let attrs = Attrs::new().with("kernel_shape", w.kernel.clone()).with("strides", w.stride.clone());
            cx.op("AveragePool", &[x], attrs.with("ceil_mode", 1))?
        }
        None => {
            let mut attrs = w.attrs();
            if padded && include {
                attrs.set("count_include_pad", 1);
            }
            cx.op("AveragePool", &[x], attrs)?
        }
    };
    let y = cx.cast(y, dtype)?;
    // A window that begins beyond the input and its padding does not count.
    let mut y = y;
    let want = match &a.out_dims {
        Some(dims) => dims.clone(),
        None if !w.ceil => Vec::new(),
        None => {
            let have = cx.dims(x)?;
            let size = |i: usize| {
                let (d, s) = (&have[have.len() - n + i], Dim::Const(w.stride[i]));
                let most = (d.clone() + (w.pads[i] + w.pads[n + i] - w.kernel[i])).ceil_div(&s) + 1;
                most.at_most(&((d.clone() + (w.pads[i] - 1)).floor_div(&s) + 1))
            };
            (0..n).map(size).collect()
        }
    };
    if w.ceil && want.len() >= n {
        for (i, size) in want[want.len() - n..].iter().enumerate() {
            if cx.size(y, 2 + i)? != *size {
                y = cx.slice(y, 2 + i, &Dim::Const(0), size, 1)?;
            }
        }
    }
    without_batch(cx, y, added)
}

/// Zeros around the pooled axes: begins, then ends.
fn zero_padded(cx: &mut Cx, x: ValueId, pads: &[i64]) -> Result<ValueId> {
    let n = pads.len() / 2;
    let listed: Vec<Dim> = (0..n).rev().flat_map(|i| [Dim::Const(pads[i]), Dim::Const(pads[n + i])]).collect();
    super::resize::pad_values(cx, x, &listed, "constant", None)
}

/// Wanted sizes of the pooled axes; None keeps an axis.
fn output_sizes(cx: &Cx, a: &Args, x: ValueId, n: usize) -> Result<Vec<Dim>> {
    let rank = cx.rank(x)?;
    let dims = a.out_dims()?;
    if dims.len() != rank || rank < n {
        bail!(invalid, "adaptive pooling of a tensor of rank {rank} to rank {}", dims.len());
    }
    Ok(dims[rank - n..].to_vec())
}

/// `adaptive_avg_pool2d(Tensor self, SymInt[2] output_size)`, `adaptive_avg_pool1d`, `3d`, `_adaptive_avg_pool2d`
pub fn adaptive_avg_pool(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let n = axes_of(a.target);
    let x = a.t("self")?;
    let sizes = output_sizes(cx, a, x, n)?;
    let (x, added) = with_batch(cx, x, n)?;
    let y = adaptive_avg(cx, x, &sizes)?;
    without_batch(cx, y, added)
}

pub(crate) fn adaptive_avg(cx: &mut Cx, x: ValueId, sizes: &[Dim]) -> Result<ValueId> {
    let have = cx.dims(x)?[2..].to_vec();
    if have == sizes {
        return Ok(x);
    }
    if sizes.iter().all(|s| s.is(1)) {
        return cx.call("GlobalAveragePool", &[x]);
    }
    let even: Option<Vec<i64>> = (have.iter().zip(sizes))
        .map(|(h, s)| {
            let (h, s) = (h.as_const()?, s.as_const()?);
            (s > 0 && h % s == 0).then(|| h / s)
        })
        .collect();
    if let Some(kernel) = even {
        return cx.op("AveragePool", &[x], Attrs::new().with("kernel_shape", kernel.clone()).with("strides", kernel));
    }
    // Windows of uneven width: along each axis a product with a matrix of window weights.
    let mut y = x;
    for (i, (h, s)) in have.iter().zip(sizes).enumerate() {
        if h == s {
            continue;
        }
        let dtype = cx.dtype(y)?;
        let weights = window_weights(cx, h, s, dtype)?;
        let axis = 2 + i;
        let rank = cx.rank(y)?;
        let mut perm: Vec<usize> = (0..rank).collect();
        perm.swap(axis, rank - 1);
        let t = cx.b.transpose(y, &perm)?;
        let t = cx.call("MatMul", &[t, weights])?;
        y = cx.b.transpose(t, &perm)?;
    }
    Ok(y)
}

/// `from × to` matrix: window `j` spans `floor(j·from/to) … ceil((j+1)·from/to)` and averages.
fn window_weights(cx: &mut Cx, from: &Dim, to: &Dim, dtype: DType) -> Result<ValueId> {
    if let (Some(h), Some(s)) = (from.as_size(), to.as_size().filter(|&s| s > 0)) {
        let mut w = vec![0f64; h * s];
        for j in 0..s {
            let (lo, hi) = (j * h / s, ((j + 1) * h).div_ceil(s));
            (lo..hi).for_each(|k| w[k * s + j] = 1.0 / (hi - lo) as f64);
        }
        let t = Tensor::from_f64(dtype, &[h, s], &w)?;
        return Ok(cx.b.constant(t));
    }
    let (h, s) = (cx.dim_scalar(from)?, cx.dim_scalar(to)?);
    let (rows, columns) = (super::create::range(cx, from)?, super::create::range(cx, to)?);
    let rows = cx.b.unsqueeze(rows, &[1])?;
    let one = cx.b.scalar(DType::I64, 1.0)?;
    let lo = cx.call("Mul", &[columns, h])?;
    let lo = cx.call("Div", &[lo, s])?;
    let next = cx.call("Add", &[columns, one])?;
    let hi = cx.call("Mul", &[next, h])?;
    let hi = cx.call("Add", &[hi, s])?;
    let hi = cx.call("Sub", &[hi, one])?;
    let hi = cx.call("Div", &[hi, s])?;
    let (after, before) = (cx.call("GreaterOrEqual", &[rows, lo])?, cx.call("Less", &[rows, hi])?);
    let inside = cx.call("And", &[after, before])?;
    let inside = cx.cast(inside, dtype)?;
    let width = cx.call("Sub", &[hi, lo])?;
    let width = cx.cast(width, dtype)?;
    cx.call("Div", &[inside, width])
}

/// `adaptive_max_pool2d(Tensor self, int[2] output_size) -> (values, indices)`, `adaptive_max_pool1d`, `3d`
pub fn adaptive_max_pool(cx: &mut Cx, a: &Args) -> Result<Vec<ValueId>> {
    let n = axes_of(a.target);
    let x = a.t("self")?;
    let sizes = output_sizes(cx, a, x, n)?;
    let (x, added) = with_batch(cx, x, n)?;
    let have = cx.dims(x)?[2..].to_vec();
    if a.used(cx, 1) {
        return indexed_adaptive_max(cx, x, added, &have, &sizes);
    }
    if sizes.iter().all(|s| s.is(1)) {
        let y = cx.call("GlobalMaxPool", &[x])?;
        return Ok(vec![without_batch(cx, y, added)?]);
    }
    let mut y = x;
    for (i, (h, s)) in have.iter().zip(&sizes).enumerate() {
        if h == s {
            continue;
        }
        let Some(count) = s.as_const().filter(|s| (1..=1024).contains(s)) else {
            return adaptive_max_by_place(cx, x, added, &have, &sizes);
        };
        let axis = 2 + i;
        let mut windows = Vec::new();
        for j in 0..count {
            let (lo, hi) = span(h, s, &Dim::Const(j));
            let part = cx.slice(y, axis, &lo, &hi, 1)?;
            windows.push(cx.reduce("ReduceMax", part, &[axis], true)?);
        }
        y = cx.concat(&windows, axis)?;
    }
    Ok(vec![without_batch(cx, y, added)?])
}

/// The window `j` of `s` over `h` elements: from ⌊j·h/s⌋ to ⌈(j + 1)·h/s⌉.
fn span(h: &Dim, s: &Dim, j: &Dim) -> (Dim, Dim) {
    let lo = (j.clone() * h.clone()).floor_div(s);
    let hi = ((j.clone() + 1) * h.clone() + s.clone() + -1).floor_div(s);
    (lo, hi)
}

/// With the places of the largest, where all windows are of one width.
fn indexed_adaptive_max(cx: &mut Cx, x: ValueId, added: bool, have: &[Dim], sizes: &[Dim]) -> Result<Vec<ValueId>> {
    let even: Option<Vec<i64>> = (have.iter().zip(sizes))
        .map(|(h, s)| {
            let (h, s) = (h.as_const()?, s.as_const()?);
            (s > 0 && h % s == 0).then(|| h / s)
        })
        .collect();
    let Some(kernel) = even else { return uneven_adaptive_max(cx, x, added, have, sizes) };
    let attrs = Attrs::new().with("kernel_shape", kernel.clone()).with("strides", kernel);
    let out = cx.b.op_multi("MaxPool", &[Some(x)], attrs, 2)?;
    let plane: Dim = have.iter().cloned().product();
    let plane = cx.dim_scalar(&plane)?;
    let places = cx.call("Mod", &[out[1], plane])?;
    Ok(vec![without_batch(cx, out[0], added)?, without_batch(cx, places, added)?])
}

/// Each window is gathered from its plane; short ones repeat their first element.
fn uneven_adaptive_max(cx: &mut Cx, x: ValueId, added: bool, have: &[Dim], sizes: &[Dim]) -> Result<Vec<ValueId>> {
    let known = |dims: &[Dim]| dims.iter().map(Dim::as_const).collect::<Option<Vec<i64>>>();
    let (Some(h), Some(s)) = (known(have), known(sizes)) else {
        return adaptive_max_by_place(cx, x, added, have, sizes);
    };
    // Places of every window, axis by axis.
    let mut windows: Vec<Vec<i64>> = vec![vec![0]];
    for (&h, &s) in h.iter().zip(&s) {
        let spans: Vec<(i64, i64)> = (0..s).map(|j| (j * h / s, ((j + 1) * h + s - 1) / s)).collect();
        let next = windows.iter().flat_map(|w| {
            spans
                .iter()
                .map(move |&(lo, hi)| w.iter().flat_map(|&p| (lo..hi).map(move |k| p * h + k)).collect::<Vec<i64>>())
        });
        windows = next.collect();
    }
    let widest = windows.iter().map(Vec::len).max().unwrap_or(0);
    if windows.len().saturating_mul(widest) > 1 << 20 || widest == 0 {
        bail!(unsupported, "adaptive max pooling over {} windows", windows.len());
    }
    let places: Vec<i64> =
        windows.iter().flat_map(|w| w.iter().copied().chain(std::iter::repeat(w[0])).take(widest)).collect();
    let count = windows.len();
    let places = cx.b.constant(Tensor::from_slice(&[count, widest], &places));
    largest_at(cx, x, places, added, have, sizes)
}

/// Of dynamic sizes: the places of every window are computed when the model runs; short windows repeat their last element.
fn adaptive_max_by_place(cx: &mut Cx, x: ValueId, added: bool, have: &[Dim], sizes: &[Dim]) -> Result<Vec<ValueId>> {
    let n = have.len();
    let mut places: Option<F> = None;
    let (mut count, mut widest) = (Dim::Const(1), Dim::Const(1));
    for (i, (h, s)) in have.iter().zip(sizes).enumerate() {
        // No window is wider than this.
        let width = h.floor_div(s) + 2;
        let shaped = |cx: &mut Cx, len: &Dim, at: usize| -> Result<F> {
            let mut shape = vec![Dim::Const(1); 2 * n];
            shape[at] = len.clone();
            let v = super::create::range(cx, len)?;
            Ok(F::from(cx.reshape(v, &shape)?))
        };
        let (j, k) = (shaped(cx, s, i)?, shaped(cx, &width, n + i)?);
        let (h, s) = (F::from(cx.dim_scalar(h)?), F::from(cx.dim_scalar(s)?));
        let one = F::from(cx.b.scalar(DType::I64, 1.0)?);
        let lo = &(&j * &h) / &s;
        let last = &(&(&(&j + &one) * &h) - &one) / &s;
        let here = (lo + k).min(last);
        places = Some(match places {
            None => here,
            Some(before) => before * h + here,
        });
        (count, widest) = (count * sizes[i].clone(), widest * width);
    }
    let Some(places) = places else { bail!(invalid, "pooling without axes") };
    let places = places.emit(cx, DType::I64)?;
    let places = cx.reshape(places, &[count, widest])?;
    largest_at(cx, x, places, added, have, sizes)
}

/// The largest element of each row of `places` in its plane, and its place.
fn largest_at(
    cx: &mut Cx,
    x: ValueId,
    places: ValueId,
    added: bool,
    have: &[Dim],
    sizes: &[Dim],
) -> Result<Vec<ValueId>> {
    let lead = cx.dims(x)?[..2].to_vec();
    let plane: Dim = have.iter().cloned().product();
    let flat = cx.reshape(x, &[lead[0].clone(), lead[1].clone(), plane])?;
    let grid = cx.op("Gather", &[flat, places], Attrs::new().with("axis", 2))?;
    let values = cx.reduce("ReduceMax", grid, &[3], false)?;
    let first = cx.op("ArgMax", &[grid], Attrs::new().with("axis", 3).with("keepdims", 1))?;
    let all = cx.dims(grid)?;
    let places = cx.expand(places, &all)?;
    let places = cx.op("GatherElements", &[places, first], Attrs::new().with("axis", 3))?;
    let out: Vec<Dim> = lead.iter().chain(sizes).cloned().collect();
    let (values, places) = (cx.reshape(values, &out)?, cx.reshape(places, &out)?);
    Ok(vec![without_batch(cx, values, added)?, without_batch(cx, places, added)?])
}

/// `max_unpool2d(Tensor self, Tensor indices, SymInt[2] output_size)`, `max_unpool3d`: values back at their places, zeros elsewhere
pub fn max_unpool(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let (x, places) = (a.t("self")?, a.t("indices")?);
    let (have, want) = (cx.dims(x)?, a.out_dims()?);
    let lead = have.len().saturating_sub(axes_of(a.target));
    let flat = |dims: &[Dim]| -> Vec<Dim> {
        dims[..lead].iter().cloned().chain([dims[lead..].iter().cloned().product()]).collect()
    };
    let (x, places) = (cx.reshape(x, &flat(&have))?, cx.reshape(places, &flat(&have))?);
    let zero = cx.like(x, 0.0)?;
    let base = cx.expand(zero, &flat(&want))?;
    let y = cx.op("ScatterElements", &[base, places, x], Attrs::new().with("axis", lead as i64))?;
    cx.reshape(y, &want)
}
