//! Fourier transforms: products with matrices of cosines and sines, which every runtime has.

use super::complex::{conj, joined, parts};
use crate::args::Args;
use crate::cx::Cx;
use oxrt_ir::{Attrs, DType, Dim, Tensor, ValueId};
use oxrt_tensor::{Error, Result, bail};

/// Matrices up to this many elements are constants.
const INLINE: i64 = 1 << 16;

/// Cosine and sine of `2π·k/n`, exact at quarters of a turn.
fn wave(k: i64, n: i64) -> (f64, f64) {
    match ((4 * k) % n, 4 * k / n % 4) {
        (0, 0) => (1.0, 0.0),
        (0, 1) => (0.0, 1.0),
        (0, 2) => (-1.0, 0.0),
        (0, _) => (0.0, -1.0),
        _ => {
            let (sin, cos) = (std::f64::consts::TAU * k as f64 / n as f64).sin_cos();
            (cos, sin)
        }
    }
}

/// Cosines and sines of `∓2π·row·column/n` (minus when `forward`) as `rows × columns` matrices. Sines of half turns are
/// zeros, not rounding errors: the phase of a real spectrum's middle frequency is 0 or π, never −π.
fn waves(cx: &mut Cx, n: &Dim, rows: &Dim, columns: &Dim, dtype: DType, forward: bool) -> Result<(ValueId, ValueId)> {
    let known = (n.as_const(), rows.as_const(), columns.as_const());
    if let (Some(n @ 1..), Some(r @ 0..), Some(c @ 0..)) = known {
        if r.saturating_mul(c) <= INLINE {
            let cells = (0..r * c).map(|i| wave((i / c) * (i % c) % n, n));
            let (cos, sin): (Vec<f64>, Vec<f64>) = cells.map(|(c, s)| (c, if forward { 0.0 - s } else { s })).unzip();
            let shape = [r as usize, c as usize];
            let (c, s) = (Tensor::from_f64(dtype, &shape, &cos)?, Tensor::from_f64(dtype, &shape, &sin)?);
            return Ok((cx.b.constant(c), cx.b.constant(s)));
        }
    }
    let (r, c) = (super::create::range(cx, rows)?, super::create::range(cx, columns)?);
    let mut r = cx.b.unsqueeze(r, &[1])?;
    if forward {
        r = cx.call("Neg", &[r])?;
    }
    let n = cx.dim_scalar(n)?;
    // Taken modulo n while still integer, so that large sizes lose no digits.
    let k = cx.call("Mul", &[r, c])?;
    let k = cx.call("Mod", &[k, n])?;
    let (turns, size) = (cx.cast(k, dtype)?, cx.cast(n, dtype)?);
    let turns = cx.call("Div", &[turns, size])?;
    let tau = cx.b.scalar(dtype, std::f64::consts::TAU)?;
    let angle = cx.call("Mul", &[turns, tau])?;
    let (cos, sin) = (cx.call("Cos", &[angle])?, cx.call("Sin", &[angle])?);
    let twice = cx.call("Add", &[k, k])?;
    let (half, zero) = (cx.call("Equal", &[twice, n])?, cx.b.scalar(dtype, 0.0)?);
    Ok((cos, cx.call("Where", &[half, zero, sin])?))
}

/// A real tensor times a matrix along an axis.
fn along(cx: &mut Cx, v: ValueId, axis: usize, matrix: ValueId) -> Result<ValueId> {
    let rank = cx.rank(v)?;
    let mut perm: Vec<usize> = (0..rank).collect();
    perm.swap(axis, rank - 1);
    let t = cx.b.transpose(v, &perm)?;
    let t = cx.call("MatMul", &[t, matrix])?;
    cx.b.transpose(t, &perm)
}

/// The transform of `re + i·im` along an axis, with `columns` frequencies.
fn transform(
    cx: &mut Cx,
    (re, im): (ValueId, Option<ValueId>),
    axis: usize,
    columns: &Dim,
    forward: bool,
) -> Result<(ValueId, ValueId)> {
    let (n, dtype) = (cx.size(re, axis)?, cx.dtype(re)?);
    let (c, s) = waves(cx, &n, &n, columns, dtype, forward)?;
    let (rc, rs) = (along(cx, re, axis, c)?, along(cx, re, axis, s)?);
    let Some(im) = im else { return Ok((rc, rs)) };
    let (ic, is) = (along(cx, im, axis, c)?, along(cx, im, axis, s)?);
    Ok((cx.call("Sub", &[rc, is])?, cx.call("Add", &[ic, rs])?))
}

/// What the result is divided by: nothing, the root of the sizes, or the sizes.
#[derive(Clone, Copy, PartialEq)]
enum Norm {
    None,
    Root,
    Full,
}

fn normalized(cx: &mut Cx, v: ValueId, n: &Dim, norm: Norm) -> Result<ValueId> {
    if norm == Norm::None {
        return Ok(v);
    }
    let dtype = cx.dtype(v)?;
    let by = match n.as_const() {
        Some(n) => cx.b.scalar(dtype, if norm == Norm::Root { (n as f64).sqrt() } else { n as f64 })?,
        None => {
            let n = cx.dim_scalar(n)?;
            let n = cx.cast(n, dtype)?;
            if norm == Norm::Root { cx.call("Sqrt", &[n])? } else { n }
        }
    };
    cx.call("Div", &[v, by])
}

/// The normalisation of `fft_*` (by name) or `_fft_*` (by number).
fn norm_of(a: &Args, forward: bool) -> Result<Norm> {
    if a.has("normalization") {
        return Ok(match a.int("normalization")? {
            0 => Norm::None,
            1 => Norm::Root,
            _ => Norm::Full,
        });
    }
    let name = if a.has("norm") { a.text("norm")? } else { "backward".to_string() };
    Ok(match (&*name, forward) {
        ("ortho", _) => Norm::Root,
        ("backward", true) | ("forward", false) => Norm::None,
        _ => Norm::Full,
    })
}

/// An axis cut or padded with zeros to a size.
fn resized(cx: &mut Cx, v: ValueId, axis: usize, n: &Dim) -> Result<ValueId> {
    let have = cx.size(v, axis)?;
    if have == *n {
        return Ok(v);
    }
    let more = n.clone() - have;
    let (lo, hi) = more.bounds(&|s| cx.symbols.bounds(s));
    let mut v = v;
    if hi > 0 {
        let after = cx.rank(v)? - 1 - axis;
        let mut pad = vec![Dim::Const(0); 2 * after + 2];
        pad[2 * after + 1] = more.at_least(&Dim::Const(0));
        v = super::resize::pad_values(cx, v, &pad, "constant", None)?;
    }
    if lo < 0 { cx.slice(v, axis, &Dim::Const(0), n, 1) } else { Ok(v) }
}

fn input(cx: &mut Cx, a: &Args) -> Result<(ValueId, Option<ValueId>)> {
    input_of(cx, a.t("self")?)
}

fn input_of(cx: &mut Cx, x: ValueId) -> Result<(ValueId, Option<ValueId>)> {
    if cx.is_complex(x) {
        let (re, im) = parts(cx, x)?;
        return Ok((re, Some(im)));
    }
    let x = cx.cast(x, crate::promote::float_of(cx.dtype(x)?))?;
    Ok((x, None))
}

/// Axes to transform with their lengths, where the caller gave any.
fn axes(cx: &Cx, a: &Args, re: ValueId, default: usize) -> Result<Vec<(usize, Option<Dim>)>> {
    let rank = cx.rank(re)?;
    let lengths: Vec<Option<Dim>> =
        if a.has("s") { a.dim_list("s")?.into_iter().map(|d| (!d.is(-1)).then_some(d)).collect() } else { Vec::new() };
    let list = match a.opt_ints("dim")? {
        Some(l) => l.iter().map(|&d| oxrt_ops::shape::axis(d, rank)).collect::<Result<Vec<_>>>()?,
        None => {
            (rank.saturating_sub(if lengths.is_empty() { default.min(rank) } else { lengths.len() })..rank).collect()
        }
    };
    let single = a.opt_dim("n")?;
    Ok(list
        .into_iter()
        .enumerate()
        .map(|(i, axis)| (axis, lengths.get(i).cloned().flatten().or(single.clone())))
        .collect())
}

fn complex_transform(cx: &mut Cx, a: &Args, forward: bool, default: usize) -> Result<ValueId> {
    let (mut re, mut im) = input(cx, a)?;
    let norm = norm_of(a, forward)?;
    for (axis, n) in axes(cx, a, re, default)? {
        if let Some(n) = n {
            re = resized(cx, re, axis, &n)?;
            im = im.map(|v| resized(cx, v, axis, &n)).transpose()?;
        }
        let n = cx.size(re, axis)?;
        let (r, i) = transform(cx, (re, im), axis, &n, forward)?;
        re = normalized(cx, r, &n, norm)?;
        im = Some(normalized(cx, i, &n, norm)?);
    }
    let im = im.ok_or_else(|| Error::invalid("a transform over no axes"))?;
    joined(cx, re, im)
}

/// `fft_fft(Tensor self, SymInt? n=None, int dim=-1, str? norm=None)`
pub fn fft(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    complex_transform(cx, a, true, 1)
}

/// `fft_ifft(Tensor self, SymInt? n=None, int dim=-1, str? norm=None)`
pub fn ifft(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    complex_transform(cx, a, false, 1)
}

/// `fft_fft2(Tensor self, SymInt[1]? s=None, int[1] dim=[-2,-1], str? norm=None)`, `fft_fftn`
pub fn fftn(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    complex_transform(cx, a, true, usize::MAX)
}

/// `fft_ifft2(Tensor self, SymInt[1]? s=None, int[1] dim=[-2,-1], str? norm=None)`, `fft_ifftn`
pub fn ifftn(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    complex_transform(cx, a, false, usize::MAX)
}

/// `_fft_c2c(Tensor self, SymInt[] dim, int normalization, bool forward)`
pub fn fft_c2c(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let forward = a.bool("forward")?;
    complex_transform(cx, a, forward, 1)
}

/// `fft_rfft(Tensor self, SymInt? n=None, int dim=-1, str? norm=None)`, `fft_rfft2`, `fft_rfftn`,
/// `_fft_r2c(Tensor self, int[] dim, int normalization, bool onesided)`: half the last axis
pub fn rfft(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let norm = norm_of(a, true)?;
    let (re, im) = rfft_parts(cx, a, norm)?;
    joined(cx, re, im)
}

fn rfft_parts(cx: &mut Cx, a: &Args, norm: Norm) -> Result<(ValueId, ValueId)> {
    let (mut re, _) = input(cx, a)?;
    let half = a.get("onesided").is_none() || a.bool("onesided")?;
    let default = if a.target.contains("fft2.") {
        2
    } else if a.target.contains("fftn.") {
        usize::MAX
    } else {
        1
    };
    let all = axes(cx, a, re, default)?;
    let mut im = None;
    for (k, (axis, n)) in all.into_iter().rev().enumerate() {
        if let Some(n) = n {
            re = resized(cx, re, axis, &n)?;
            im = im.map(|v| resized(cx, v, axis, &n)).transpose()?;
        }
        let n = cx.size(re, axis)?;
        let columns = if k == 0 && half { n.floor_div(&Dim::Const(2)) + 1 } else { n.clone() };
        let (r, i) = transform(cx, (re, im), axis, &columns, true)?;
        re = normalized(cx, r, &n, norm)?;
        im = Some(normalized(cx, i, &n, norm)?);
    }
    let im = im.ok_or_else(|| Error::invalid("a transform over no axes"))?;
    Ok((re, im))
}

/// `fft_irfft(Tensor self, SymInt? n=None, int dim=-1, str? norm=None)`,
/// `_fft_c2r(Tensor self, int[] dim, int normalization, SymInt last_dim_size)`: real output
pub fn irfft(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let norm = norm_of(a, false)?;
    irfft_of(cx, a, a.t("self")?, norm)
}

fn irfft_of(cx: &mut Cx, a: &Args, x: ValueId, norm: Norm) -> Result<ValueId> {
    let (mut re, im) = input_of(cx, x)?;
    let zero = cx.like(re, 0.0)?;
    let dims = cx.dims(re)?;
    let mut im = match im {
        Some(im) => im,
        None => cx.expand(zero, &dims)?,
    };
    let default = match a.target {
        t if t.contains("fft2.") => 2,
        t if t.contains("fftn.") => usize::MAX,
        _ => 1,
    };
    let list = axes(cx, a, re, default)?;
    let Some(((last, given), before)) = list.split_last() else { bail!(invalid, "a transform over no axes") };
    let last = *last;
    for (axis, n) in before {
        if let Some(n) = n {
            (re, im) = (resized(cx, re, *axis, n)?, resized(cx, im, *axis, n)?);
        }
        let n = cx.size(re, *axis)?;
        let (r, i) = transform(cx, (re, Some(im)), *axis, &n, false)?;
        (re, im) = (normalized(cx, r, &n, norm)?, normalized(cx, i, &n, norm)?);
    }
    let n = match &a.out_dims {
        Some(dims) => dims.get(last).cloned().ok_or_else(|| Error::invalid("a result of lower rank"))?,
        None => match given {
            Some(n) => n.clone(),
            None => (cx.size(re, last)? - 1) * 2,
        },
    };
    let half = n.floor_div(&Dim::Const(2)) + 1;
    (re, im) = (resized(cx, re, last, &half)?, resized(cx, im, last, &half)?);
    // x[t] = Σ w_k (re_k cos θ - im_k sin θ); every frequency but the first (and the middle one of an even
    // length) stands for two.
    let dtype = cx.dtype(re)?;
    let (c, s) = waves(cx, &n, &half, &n, dtype, false)?;
    let weights = match half.as_const() {
        Some(h @ 0..=65536) => {
            let even = n.as_const().is_some_and(|n| n % 2 == 0);
            let w: Vec<f64> = (0..h).map(|k| if k == 0 || even && k == h - 1 { 1.0 } else { 2.0 }).collect();
            let t = Tensor::from_f64(dtype, &[h as usize, 1], &w)?;
            cx.b.constant(t)
        }
        _ => {
            let k = super::create::range(cx, &half)?;
            let two = cx.b.scalar(DType::I64, 2.0)?;
            let (zero, length, twice) = (cx.like(k, 0.0)?, cx.dim_scalar(&n)?, cx.call("Mul", &[k, two])?);
            let (first, middle) = (cx.call("Equal", &[k, zero])?, cx.call("Equal", &[twice, length])?);
            let alone = cx.call("Or", &[first, middle])?;
            let (one, two) = (cx.b.scalar(dtype, 1.0)?, cx.b.scalar(dtype, 2.0)?);
            let w = cx.call("Where", &[alone, one, two])?;
            cx.b.unsqueeze(w, &[1])?
        }
    };
    let (c, s) = (cx.call("Mul", &[c, weights])?, cx.call("Mul", &[s, weights])?);
    let (rc, is) = (along(cx, re, last, c)?, along(cx, im, last, s)?);
    let y = cx.call("Sub", &[rc, is])?;
    normalized(cx, y, &n, norm)
}

/// `fft_hfft(Tensor self, SymInt? n=None, int dim=-1, str? norm=None)`, `fft_hfft2`, `fft_hfftn`: the real transform of half
/// a Hermitian spectrum, which is the inverse one of the conjugate
pub fn hfft(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let x = a.t("self")?;
    let conjugate = if cx.is_complex(x) { conj(cx, a)? } else { x };
    if cx.is_complex(x) {
        cx.complex.insert(conjugate);
    }
    let norm = norm_of(a, true)?;
    irfft_of(cx, a, conjugate, norm)
}

/// `fft_ihfft(Tensor self, SymInt? n=None, int dim=-1, str? norm=None)`, `fft_ihfft2`, `fft_ihfftn`: the conjugate of the real
/// transform
pub fn ihfft(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let norm = norm_of(a, false)?;
    let (re, im) = rfft_parts(cx, a, norm)?;
    let im = cx.call("Neg", &[im])?;
    joined(cx, re, im)
}

/// `fft_fftshift(Tensor self, int[1]? dim=None)` of real tensors: each axis rolled by half
pub fn fftshift(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let mut x = a.t("self")?;
    let rank = cx.rank(x)? - cx.is_complex(x) as usize;
    let list = match a.opt_ints("dim")? {
        Some(l) => l.iter().map(|&d| oxrt_ops::shape::axis(d, rank)).collect::<Result<Vec<_>>>()?,
        None => (0..rank).collect(),
    };
    for axis in list {
        let n = cx.size(x, axis)?;
        let by = match a.target.contains("ifftshift") {
            true => (n.clone() + 1).floor_div(&Dim::Const(2)),
            false => n.floor_div(&Dim::Const(2)),
        };
        x = super::shape::roll_axis(cx, x, axis, &by)?;
    }
    Ok(x)
}

/// `stft(Tensor self, int n_fft, int? hop_length=None, int? win_length=None, Tensor? window=None, bool
/// normalized=False, bool? onesided=None, bool? return_complex=None, …)`
pub fn stft(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let x = a.t("self")?;
    let n = a.int("n_fft")?;
    let hop = a.opt_int("hop_length")?.unwrap_or((n / 4).max(1));
    let width = a.opt_int("win_length")?.unwrap_or(n);
    if n <= 0 || hop <= 0 || width > n || width <= 0 {
        bail!(invalid, "stft of length {n} with hop {hop} and window {width}");
    }
    let last = cx.rank(x)? - 1;
    let windows = (cx.size(x, last)? - n).floor_div(&Dim::Const(hop)) + 1;
    let mut frames = super::window::unfold(cx, x, last, n, hop, &windows)?;
    let window = match a.opt_t("window")? {
        None if width < n => {
            let ones = Tensor::from_f64(cx.dtype(frames)?, &[width as usize], &vec![1.0; width as usize])?;
            Some(cx.b.constant(ones))
        }
        given => given,
    };
    if let Some(w) = window {
        let left = (n - width) / 2;
        let pad = [Dim::Const(left), Dim::Const(n - width - left)];
        let w = super::resize::pad_values(cx, w, &pad, "constant", None)?;
        frames = cx.call("Mul", &[frames, w])?;
    }
    let half = a.get("onesided").is_none() || a.bool("onesided")?;
    let columns = if half { n / 2 + 1 } else { n };
    let axis = cx.rank(frames)? - 1;
    let (mut re, mut im) = transform(cx, (frames, None), axis, &Dim::Const(columns), true)?;
    if a.bool("normalized")? {
        let size = Dim::Const(n);
        (re, im) = (normalized(cx, re, &size, Norm::Root)?, normalized(cx, im, &size, Norm::Root)?);
    }
    let mut perm: Vec<usize> = (0..=axis).collect();
    perm.swap(axis, axis - 1);
    let (re, im) = (cx.b.transpose(re, &perm)?, cx.b.transpose(im, &perm)?);
    joined(cx, re, im)
}

/// `istft(Tensor self, int n_fft, int? hop_length=None, int? win_length=None, Tensor? window=None, bool center=True,
/// bool normalized=False, bool? onesided=None, SymInt? length=None, bool return_complex=False)`: the inverse transforms,
/// the window and the sum of overlapping frames are one transposed convolution
pub fn istft(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let (mut re, mut im) = parts(cx, a.t("self")?)?;
    let (n, dtype) = (a.int("n_fft")?, cx.dtype(re)?);
    let hop = a.opt_int("hop_length")?.unwrap_or((n / 4).max(1));
    let width = a.opt_int("win_length")?.unwrap_or(n);
    if !(1..=1 << 20).contains(&n) || hop <= 0 || width > n || width <= 0 {
        bail!(invalid, "istft of length {n} with hop {hop} and window {width}");
    }
    if a.bool("return_complex")? {
        bail!(unsupported, "istft with a complex result");
    }
    let rank = cx.rank(re)?;
    let mut bins = cx.static_size(re, rank - 2, "istft")?;
    if bins == n && !(a.has("onesided") && a.bool("onesided")?) {
        // torch looks at the first half of both sides alone.
        bins = n / 2 + 1;
        for part in [&mut re, &mut im] {
            *part = cx.slice(*part, rank - 2, &Dim::Const(0), &Dim::Const(bins), 1)?;
        }
    }
    // Row k of the convolution: what frequency k adds to each of the n places.
    let scale = if a.bool("normalized")? { 1.0 / (n as f64).sqrt() } else { 1.0 / n as f64 };
    let weight = |k: i64| if k != 0 && !(n % 2 == 0 && k == n / 2) { 2.0 * scale } else { scale };
    let angle = |k: i64, t: i64| std::f64::consts::TAU * (k * t % n) as f64 / n as f64;
    let cells = || (0..bins).flat_map(move |k| (0..n).map(move |t| (k, t)));
    let rows: Vec<f64> = cells()
        .map(|(k, t)| weight(k) * angle(k, t).cos())
        .chain(cells().map(|(k, t)| -weight(k) * angle(k, t).sin()))
        .collect();
    let rows = Tensor::from_f64(dtype, &[2 * bins as usize, 1, n as usize], &rows)?;
    let rows = cx.b.constant(rows);
    let window = match a.opt_t("window")? {
        Some(w) => w,
        None => {
            let ones = Tensor::from_f64(dtype, &[width as usize], &vec![1.0; width as usize])?;
            cx.b.constant(ones)
        }
    };
    let left = (n - width) / 2;
    let pad = [Dim::Const(left), Dim::Const(n - width - left)];
    let window = super::resize::pad_values(cx, window, &pad, "constant", None)?;
    let rows = cx.call("Mul", &[rows, window])?;
    let frames = cx.size(re, rank - 1)?;
    let batch: Vec<Dim> = cx.dims(re)?[..rank - 2].to_vec();
    let flat =
        |cx: &mut Cx, v: ValueId| cx.reshape(v, &[batch.iter().cloned().product(), Dim::Const(bins), frames.clone()]);
    let (re, im) = (flat(cx, re)?, flat(cx, im)?);
    let spectrum = cx.concat(&[re, im], 1)?;
    let attrs = || Attrs::new().with("strides", [hop]).with("kernel_shape", [n]);
    let sum = cx.op("ConvTranspose", &[spectrum, rows], attrs())?;
    // Divided by what the windows themselves add up to.
    let squares = cx.call("Mul", &[window, window])?;
    let squares = cx.reshape(squares, &[Dim::Const(1), Dim::Const(1), Dim::Const(n)])?;
    let ones =
        super::create::filled(cx, dtype, &[Dim::Const(1), Dim::Const(1), frames], &crate::args::Scalar::Float(1.0))?;
    let envelope = cx.op("ConvTranspose", &[ones, squares], attrs())?;
    let centered = a.get("center").is_none() || a.bool("center")?;
    let dims = match &a.out_dims {
        Some(dims) => dims.clone(),
        None => {
            let whole = (cx.size(re, 2)? - 1) * hop + if centered { 0 } else { n };
            let mut dims = batch.clone();
            dims.push(a.opt_dim("length")?.unwrap_or(whole));
            dims
        }
    };
    let Some(length) = dims.last() else { bail!(invalid, "istft of rank 0") };
    let start = Dim::Const(if centered { n / 2 } else { 0 });
    let end = start.clone() + length.clone();
    let sum = cx.slice(sum, 2, &start, &end, 1)?;
    let envelope = cx.slice(envelope, 2, &start, &end, 1)?;
    let y = cx.call("Div", &[sum, envelope])?;
    // A length beyond the last frame is filled up with zeros.
    let y = match (length.as_const(), cx.size(y, 2)?.as_const()) {
        (Some(want), Some(have)) if want > have => {
            super::resize::pad_values(cx, y, &[Dim::Const(0), Dim::Const(want - have)], "constant", None)?
        }
        _ => y,
    };
    cx.reshape(y, &dims)
}
