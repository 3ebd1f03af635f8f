//! Reductions, scans and order statistics.

use crate::args::Args;
use crate::cx::Cx;
use crate::promote::float_of;
use oxrt_ir::{Attrs, DType, Dim, Tensor, ValueId};
use oxrt_tensor::{Result, bail};

/// The axes of `dim` (a number, a list, or absent: all).
fn axes(cx: &Cx, a: &Args, v: ValueId) -> Result<Vec<usize>> {
    let list = a.opt_ints("dim")?.unwrap_or_default();
    let rank = cx.rank(v)?;
    let mut axes = list.iter().map(|&d| cx.axis(v, d)).collect::<Result<Vec<_>>>()?;
    axes.sort_unstable();
    axes.dedup();
    if rank == 0 {
        axes.clear();
    }
    Ok(axes)
}

fn keep(a: &Args) -> Result<bool> {
    a.bool("keepdim")
}

/// The input in the type that a sum or product answers in: integers and bools count in i64.
fn summand(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let x = a.t("self")?;
    let dtype = match a.dtype("dtype")? {
        Some(d) => d,
        None => match cx.dtype(x)? {
            d if d.is_float() => d,
            _ => DType::I64,
        },
    };
    cx.cast(x, dtype)
}

/// `sum(Tensor self, *, ScalarType? dtype=None)`, `sum.dim_IntList`
pub fn sum(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let x = summand(cx, a)?;
    let axes = axes(cx, a, x)?;
    cx.reduce("ReduceSum", x, &axes, keep(a)?)
}

/// `prod(Tensor self, *, ScalarType? dtype=None)`, `prod.dim_int`
pub fn prod(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let x = summand(cx, a)?;
    let axes = axes(cx, a, x)?;
    cx.reduce("ReduceProd", x, &axes, keep(a)?)
}

/// `mean(Tensor self, *, ScalarType? dtype=None)`, `mean.dim`
pub fn mean(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let x = a.t("self")?;
    let dtype = a.dtype("dtype")?.unwrap_or(float_of(cx.dtype(x)?));
    let x = cx.cast(x, dtype)?;
    let axes = axes(cx, a, x)?;
    cx.reduce("ReduceMean", x, &axes, keep(a)?)
}

fn extremum(cx: &mut Cx, x: ValueId, axes: &[usize], keep: bool, op: &str) -> Result<ValueId> {
    let dtype = cx.dtype(x)?;
    if dtype != DType::Bool {
        return cx.reduce(op, x, axes, keep);
    }
    let x = cx.cast(x, DType::I32)?;
    let y = cx.reduce(op, x, axes, keep)?;
    cx.cast(y, DType::Bool)
}

/// `amax(Tensor self, int[1] dim=[], bool keepdim=False)`, `max(Tensor self)`
pub fn amax(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let x = a.t("self")?;
    let axes = axes(cx, a, x)?;
    extremum(cx, x, &axes, keep(a)?, "ReduceMax")
}

/// `amin(Tensor self, int[1] dim=[], bool keepdim=False)`, `min(Tensor self)`
pub fn amin(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let x = a.t("self")?;
    let axes = axes(cx, a, x)?;
    extremum(cx, x, &axes, keep(a)?, "ReduceMin")
}

/// `aminmax(Tensor self, *, int? dim=None, bool keepdim=False)`
pub fn aminmax(cx: &mut Cx, a: &Args) -> Result<Vec<ValueId>> {
    Ok(vec![amin(cx, a)?, amax(cx, a)?])
}

fn logical(cx: &mut Cx, a: &Args, op: &str) -> Result<ValueId> {
    let x = a.t("self")?;
    let b = cx.cast(x, DType::Bool)?;
    let x = cx.cast(b, DType::I32)?;
    let axes = axes(cx, a, x)?;
    let y = cx.reduce(op, x, &axes, keep(a)?)?;
    cx.cast(y, DType::Bool)
}

/// `any(Tensor self)`, `any.dim`, `any.dims`
pub fn any(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    logical(cx, a, "ReduceMax")
}

/// `all(Tensor self)`, `all.dim`, `_is_all_true`
pub fn all(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    logical(cx, a, "ReduceMin")
}

fn arg_extremum(cx: &mut Cx, a: &Args, op: &str) -> Result<ValueId> {
    let mut x = a.t("self")?;
    let shape = cx.dims(x)?;
    if cx.dtype(x)? == DType::Bool {
        x = cx.cast(x, DType::I32)?;
    }
    let (axis, keep) = match a.opt_int("dim")? {
        Some(d) => (cx.axis(x, d)?, keep(a)?),
        None => {
            let total = shape.iter().cloned().product();
            x = cx.reshape(x, &[total])?;
            (0, false)
        }
    };
    if cx.rank(x)? == 0 {
        return cx.b.scalar(DType::I64, 0.0);
    }
    let y = cx.op(op, &[x], Attrs::new().with("axis", axis as i64).with("keepdims", keep))?;
    let dims = a.out_dims()?;
    cx.reshape(y, &dims)
}

/// `argmax(Tensor self, int? dim=None, bool keepdim=False)`
pub fn argmax(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    arg_extremum(cx, a, "ArgMax")
}

/// `argmin(Tensor self, int? dim=None, bool keepdim=False)`
pub fn argmin(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    arg_extremum(cx, a, "ArgMin")
}

/// `max.dim(Tensor self, int dim, bool keepdim=False) -> (values, indices)`
pub fn max_dim(cx: &mut Cx, a: &Args) -> Result<Vec<ValueId>> {
    let values = amax(cx, a)?;
    Ok(if a.used(cx, 1) { vec![values, arg_extremum(cx, a, "ArgMax")?] } else { vec![values] })
}

/// `min.dim(Tensor self, int dim, bool keepdim=False) -> (values, indices)`
pub fn min_dim(cx: &mut Cx, a: &Args) -> Result<Vec<ValueId>> {
    let values = amin(cx, a)?;
    Ok(if a.used(cx, 1) { vec![values, arg_extremum(cx, a, "ArgMin")?] } else { vec![values] })
}

/// The mean of no elements is no number (runtimes say 0): that, with the axes kept, where an axis is known to be empty.
fn of_nothing(cx: &mut Cx, x: ValueId, axes: &[usize]) -> Result<Option<ValueId>> {
    let mut dims = cx.dims(x)?;
    let reduced: Vec<usize> = if axes.is_empty() { (0..dims.len()).collect() } else { axes.to_vec() };
    if !reduced.iter().any(|&i| dims[i].is(0)) {
        return Ok(None);
    }
    reduced.iter().for_each(|&i| dims[i] = Dim::Const(1));
    let dtype = cx.dtype(x)?;
    super::create::filled(cx, dtype, &dims, &crate::args::Scalar::Float(f64::NAN)).map(Some)
}

/// Mean of squared distances to the mean over `n - correction`, with its axes kept, and the mean.
pub(crate) fn moments(cx: &mut Cx, x: ValueId, axes: &[usize], correction: f64) -> Result<(ValueId, ValueId)> {
    if let Some(none) = of_nothing(cx, x, axes)? {
        return Ok((none, none));
    }
    let mean = cx.reduce("ReduceMean", x, axes, true)?;
    let d = cx.call("Sub", &[x, mean])?;
    let sq = cx.call("Mul", &[d, d])?;
    if correction == 0.0 {
        return Ok((cx.reduce("ReduceMean", sq, axes, true)?, mean));
    }
    let sum = cx.reduce("ReduceSum", sq, axes, true)?;
    let dims = cx.dims(x)?;
    let count: Dim = match axes.is_empty() {
        true => dims.into_iter().product(),
        false => axes.iter().map(|&i| dims[i].clone()).product(),
    };
    let dtype = cx.dtype(x)?;
    let by = match count.as_const() {
        Some(n) => cx.b.scalar(dtype, (n as f64 - correction).max(0.0))?,
        None => {
            let n = cx.dim_scalar(&count)?;
            let n = cx.cast(n, dtype)?;
            let (c, zero) = (cx.b.scalar(dtype, correction)?, cx.b.scalar(dtype, 0.0)?);
            let n = cx.call("Sub", &[n, c])?;
            cx.call("Max", &[n, zero])?
        }
    };
    Ok((cx.call("Div", &[sum, by])?, mean))
}

fn correction(a: &Args) -> Result<f64> {
    if a.target.ends_with(".correction") {
        return Ok(a.opt_float("correction")?.unwrap_or(1.0));
    }
    Ok(if a.get("unbiased").is_none() || a.bool("unbiased")? { 1.0 } else { 0.0 })
}

fn without_axes(cx: &mut Cx, v: ValueId, axes: &[usize], keep: bool) -> Result<ValueId> {
    let rank = cx.rank(v)?;
    if keep || rank == 0 {
        return Ok(v);
    }
    let list: Vec<i64> = match axes.is_empty() {
        true => (0..rank as i64).collect(),
        false => axes.iter().map(|&a| a as i64).collect(),
    };
    cx.b.squeeze(v, &list)
}

fn spread(cx: &mut Cx, a: &Args, root: bool) -> Result<(ValueId, ValueId)> {
    let x = a.t("self")?;
    let axes = axes(cx, a, x)?;
    let (mut var, mean) = moments(cx, x, &axes, correction(a)?)?;
    if root {
        var = cx.call("Sqrt", &[var])?;
    }
    let keep = keep(a)?;
    Ok((without_axes(cx, var, &axes, keep)?, without_axes(cx, mean, &axes, keep)?))
}

/// `var(Tensor self, bool unbiased=True)`, `var.dim`, `var.correction`
pub fn var(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    spread(cx, a, false).map(|r| r.0)
}

/// `std(Tensor self, bool unbiased=True)`, `std.dim`, `std.correction`
pub fn std(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    spread(cx, a, true).map(|r| r.0)
}

/// `var_mean.dim`, `var_mean.correction`
pub fn var_mean(cx: &mut Cx, a: &Args) -> Result<Vec<ValueId>> {
    spread(cx, a, false).map(|(v, m)| vec![v, m])
}

/// `std_mean.dim`, `std_mean.correction`
pub fn std_mean(cx: &mut Cx, a: &Args) -> Result<Vec<ValueId>> {
    spread(cx, a, true).map(|(v, m)| vec![v, m])
}

/// `logsumexp(Tensor self, int[1] dim, bool keepdim=False)`
pub fn logsumexp(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let x = a.t("self")?;
    let x = cx.cast(x, float_of(cx.dtype(x)?))?;
    let axes = axes(cx, a, x)?;
    cx.reduce("ReduceLogSumExp", x, &axes, keep(a)?)
}

/// `linalg_vector_norm(Tensor self, Scalar ord=2, int[1]? dim=None, bool keepdim=False, *, ScalarType? dtype=None)`
pub fn vector_norm(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let x = a.t("self")?;
    let dtype = a.dtype("dtype")?.unwrap_or(float_of(cx.dtype(x)?));
    let x = cx.cast(x, dtype)?;
    let axes = axes(cx, a, x)?;
    let ord = a.opt_float(if a.has("ord") { "ord" } else { "p" })?.unwrap_or(2.0);
    norm_of(cx, x, ord, &axes, keep(a)?)
}

pub(crate) fn norm_of(cx: &mut Cx, x: ValueId, ord: f64, axes: &[usize], keep: bool) -> Result<ValueId> {
    if cx.rank(x)? == 0 {
        let size = cx.call("Abs", &[x])?;
        return if ord == 0.0 { cx.call("Sign", &[size]) } else { Ok(size) };
    }
    if ord == 2.0 {
        return cx.reduce("ReduceL2", x, axes, keep);
    }
    if ord == 1.0 {
        return cx.reduce("ReduceL1", x, axes, keep);
    }
    let size = cx.call("Abs", &[x])?;
    if ord.is_infinite() {
        let axes_or_all: Vec<usize> = if axes.is_empty() { (0..cx.rank(x)?).collect() } else { axes.to_vec() };
        let size = not_of_nothing(cx, size, &axes_or_all)?;
        return cx.reduce(if ord > 0.0 { "ReduceMax" } else { "ReduceMin" }, size, axes, keep);
    }
    if ord == 0.0 {
        let sign = cx.call("Sign", &[size])?;
        return cx.reduce("ReduceSum", sign, axes, keep);
    }
    let (p, q) = (cx.like(x, ord)?, cx.like(x, 1.0 / ord)?);
    let y = cx.call("Pow", &[size, p])?;
    let y = cx.reduce("ReduceSum", y, axes, keep)?;
    cx.call("Pow", &[y, q])
}

/// Norms of nothing are 0: where an axis to choose from is known to be empty, a zero is put there.
fn not_of_nothing(cx: &mut Cx, x: ValueId, axes: &[usize]) -> Result<ValueId> {
    let mut dims = cx.dims(x)?;
    if !axes.iter().any(|&i| dims[i].is(0)) {
        return Ok(x);
    }
    for &i in axes {
        if dims[i].is(0) {
            dims[i] = Dim::Const(1);
        }
    }
    super::create::filled(cx, cx.dtype(x)?, &dims, &crate::args::Scalar::Int(Dim::Const(0)))
}

/// `count_nonzero(Tensor self, int? dim=None)`, `.dim_IntList`
pub fn count_nonzero(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let x = a.t("self")?;
    let b = cx.cast(x, DType::Bool)?;
    let x = cx.cast(b, DType::I64)?;
    let axes = axes(cx, a, x)?;
    cx.reduce("ReduceSum", x, &axes, false)
}

fn without_nan(cx: &mut Cx, a: &Args) -> Result<(ValueId, ValueId)> {
    let x = match a.dtype("dtype")? {
        Some(d) => cx.cast(a.t("self")?, d)?,
        None => a.t("self")?,
    };
    let nan = cx.call("IsNaN", &[x])?;
    let zero = cx.like(x, 0.0)?;
    Ok((cx.call("Where", &[nan, zero, x])?, nan))
}

/// `nansum(Tensor self, int[1]? dim=None, bool keepdim=False, *, ScalarType? dtype=None)`
pub fn nansum(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    if !cx.dtype(a.t("self")?)?.is_float() {
        return sum(cx, a);
    }
    let (x, _) = without_nan(cx, a)?;
    let axes = axes(cx, a, x)?;
    cx.reduce("ReduceSum", x, &axes, keep(a)?)
}

/// `nanmean(Tensor self, int[1]? dim=None, bool keepdim=False, *, ScalarType? dtype=None)`
pub fn nanmean(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let (x, nan) = without_nan(cx, a)?;
    let axes = axes(cx, a, x)?;
    let keep = keep(a)?;
    let sum = cx.reduce("ReduceSum", x, &axes, keep)?;
    let present = cx.call("Not", &[nan])?;
    let present = cx.cast(present, cx.dtype(x)?)?;
    let count = cx.reduce("ReduceSum", present, &axes, keep)?;
    cx.call("Div", &[sum, count])
}

/// `cumsum(Tensor self, int dim, *, ScalarType? dtype=None)`
pub fn cumsum(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let x = summand(cx, a)?;
    if cx.rank(x)? == 0 {
        return Ok(x);
    }
    let axis = cx.axis(x, a.int("dim")?)?;
    let axis = cx.b.scalar(DType::I64, axis as f64)?;
    cx.call("CumSum", &[x, axis])
}

/// `cumprod(Tensor self, int dim, *, ScalarType? dtype=None)`
pub fn cumprod(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let x = summand(cx, a)?;
    if cx.rank(x)? == 0 {
        return Ok(x);
    }
    let axis = cx.axis(x, a.int("dim")?)?;
    let axis = cx.b.scalar(DType::I64, axis as f64)?;
    cx.call("CumProd", &[x, axis])
}

/// `logcumsumexp(Tensor self, int dim)`: the largest element is taken out first
pub fn logcumsumexp(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let x = a.t("self")?;
    if cx.rank(x)? == 0 {
        return Ok(x);
    }
    let axis = cx.axis(x, a.int("dim")?)?;
    let top = cx.reduce("ReduceMax", x, &[axis], true)?;
    let d = cx.call("Sub", &[x, top])?;
    let e = cx.call("Exp", &[d])?;
    let at = cx.b.scalar(DType::I64, axis as f64)?;
    let s = cx.call("CumSum", &[e, at])?;
    let l = cx.call("Log", &[s])?;
    cx.call("Add", &[l, top])
}

/// The `k` first in order along an axis. TopK has no bool and leaves the order of equal values open.
fn top(cx: &mut Cx, x: ValueId, k: &Dim, axis: usize, largest: bool) -> Result<Vec<ValueId>> {
    let dtype = cx.dtype(x)?;
    let v = if dtype == DType::Bool { cx.cast(x, DType::I32)? } else { x };
    let k = cx.b.dim_value(k)?;
    let attrs = Attrs::new().with("axis", axis as i64).with("largest", largest).with("sorted", 1);
    let mut out = cx.b.op_multi("TopK", &[Some(v), Some(k)], attrs, 2)?;
    out[0] = cx.cast(out[0], dtype)?;
    Ok(out)
}

/// `topk(Tensor self, SymInt k, int dim=-1, bool largest=True, bool sorted=True)`
pub fn topk(cx: &mut Cx, a: &Args) -> Result<Vec<ValueId>> {
    let x = a.t("self")?;
    if cx.rank(x)? == 0 {
        let zero = cx.b.scalar(DType::I64, 0.0)?;
        return Ok(vec![x, zero]);
    }
    let axis = cx.axis(x, a.int("dim")?)?;
    let largest = a.get("largest").is_none() || a.bool("largest")?;
    top(cx, x, &a.dim("k")?, axis, largest)
}

/// `sort(Tensor self, int dim=-1, bool descending=False)`, `sort.stable`
pub fn sort(cx: &mut Cx, a: &Args) -> Result<Vec<ValueId>> {
    let x = a.t("self")?;
    if cx.rank(x)? == 0 {
        let zero = cx.b.scalar(DType::I64, 0.0)?;
        return Ok(vec![x, zero]);
    }
    let axis = cx.axis(x, a.int("dim")?)?;
    let n = cx.size(x, axis)?;
    top(cx, x, &n, axis, a.bool("descending")?)
}

/// `argsort(Tensor self, int dim=-1, bool descending=False)`, `argsort.stable`
pub fn argsort(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    Ok(sort(cx, a)?[1])
}

/// `msort(Tensor self)`
pub fn msort(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let x = a.t("self")?;
    let n = cx.size(x, 0)?;
    Ok(top(cx, x, &n, 0, false)?[0])
}

/// Element `k` in rising order along an axis, with its place.
fn kth(cx: &mut Cx, x: ValueId, k: &Dim, axis: usize, keep: bool) -> Result<Vec<ValueId>> {
    let out = top(cx, x, &(k.clone() + 1), axis, false)?;
    let mut picked = Vec::new();
    for v in out {
        let v = cx.slice(v, axis, k, &(k.clone() + 1), 1)?;
        picked.push(if keep { v } else { cx.b.squeeze(v, &[axis as i64])? });
    }
    Ok(picked)
}

/// `kthvalue(Tensor self, SymInt k, int dim=-1, bool keepdim=False)`
pub fn kthvalue(cx: &mut Cx, a: &Args) -> Result<Vec<ValueId>> {
    let x = a.t("self")?;
    if cx.rank(x)? == 0 {
        let zero = cx.b.scalar(DType::I64, 0.0)?;
        return Ok(vec![x, zero]);
    }
    let axis = cx.axis(x, a.int("dim")?)?;
    kth(cx, x, &(a.dim("k")? - 1), axis, keep(a)?)
}

/// `median.dim(Tensor self, int dim, bool keepdim=False)`: the lower of the two middle ones
pub fn median_dim(cx: &mut Cx, a: &Args) -> Result<Vec<ValueId>> {
    let x = a.t("self")?;
    let axis = cx.axis(x, a.int("dim")?)?;
    let middle = (cx.size(x, axis)? - 1).floor_div(&Dim::Const(2));
    kth(cx, x, &middle, axis, keep(a)?)
}

/// `median(Tensor self)`
pub fn median(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let x = a.t("self")?;
    let total: Dim = cx.dims(x)?.into_iter().product();
    let flat = cx.reshape(x, std::slice::from_ref(&total))?;
    let middle = (total - 1).floor_div(&Dim::Const(2));
    Ok(kth(cx, flat, &middle, 0, false)?[0])
}

/// `nanmedian.dim(Tensor self, int dim, bool keepdim=False)`: among the numbers; none of them gives NaN
pub fn nanmedian_dim(cx: &mut Cx, a: &Args) -> Result<Vec<ValueId>> {
    let x = a.t("self")?;
    if !cx.dtype(x)?.is_float() {
        return median_dim(cx, a);
    }
    if cx.rank(x)? == 0 {
        let zero = cx.b.scalar(DType::I64, 0.0)?;
        return Ok(vec![x, zero]);
    }
    let axis = cx.axis(x, a.int("dim")?)?;
    nanmedian_along(cx, x, axis, keep(a)?)
}

fn nanmedian_along(cx: &mut Cx, x: ValueId, axis: usize, keep: bool) -> Result<Vec<ValueId>> {
    let (n, dtype) = (cx.size(x, axis)?, cx.dtype(x)?);
    let nan = cx.call("IsNaN", &[x])?;
    let last = cx.b.scalar(dtype, f64::INFINITY)?;
    let filled = cx.call("Where", &[nan, last, x])?;
    let sorted = top(cx, filled, &n, axis, false)?;
    let present = cx.call("Not", &[nan])?;
    let present = cx.cast(present, DType::I64)?;
    let count = cx.reduce("ReduceSum", present, &[axis], true)?;
    let (one, two, zero) =
        (cx.b.scalar(DType::I64, 1.0)?, cx.b.scalar(DType::I64, 2.0)?, cx.b.scalar(DType::I64, 0.0)?);
    let place = cx.call("Sub", &[count, one])?;
    let place = cx.call("Max", &[place, zero])?;
    let place = cx.call("Div", &[place, two])?;
    let none = cx.call("Equal", &[count, zero])?;
    let mut out = Vec::new();
    for v in sorted {
        out.push(cx.op("GatherElements", &[v, place], Attrs::new().with("axis", axis as i64))?);
    }
    let no_number = cx.b.scalar(dtype, f64::NAN)?;
    out[0] = cx.call("Where", &[none, no_number, out[0]])?;
    if !keep {
        for v in &mut out {
            *v = cx.b.squeeze(*v, &[axis as i64])?;
        }
    }
    Ok(out)
}

/// `nanmedian(Tensor self)`
pub fn nanmedian(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let x = a.t("self")?;
    if !cx.dtype(x)?.is_float() {
        return median(cx, a);
    }
    let total: Dim = cx.dims(x)?.into_iter().product();
    let flat = cx.reshape(x, &[total])?;
    Ok(nanmedian_along(cx, flat, 0, false)?[0])
}

/// `mode(Tensor self, int dim=-1, bool keepdim=False)`: the least of the values that occur most often, and its last
/// place
pub fn mode(cx: &mut Cx, a: &Args) -> Result<Vec<ValueId>> {
    let x = a.t("self")?;
    if cx.rank(x)? == 0 {
        let zero = cx.b.scalar(DType::I64, 0.0)?;
        return Ok(vec![x, zero]);
    }
    let (axis, rank, dtype) = (cx.axis(x, a.int("dim")?)?, cx.rank(x)?, cx.dtype(x)?);
    let mut perm: Vec<usize> = (0..rank).collect();
    perm.swap(axis, rank - 1);
    let t = cx.b.transpose(x, &perm)?;
    let t = if dtype == DType::Bool { cx.cast(t, DType::I32)? } else { t };
    let (rows, columns) = (cx.b.unsqueeze(t, &[-1])?, cx.b.unsqueeze(t, &[-2])?);
    let equal = cx.call("Equal", &[rows, columns])?;
    let equal = cx.cast(equal, DType::I64)?;
    let counts = cx.reduce("ReduceSum", equal, &[rank], false)?;
    let most = cx.reduce("ReduceMax", counts, &[rank - 1], true)?;
    let frequent = cx.call("Equal", &[counts, most])?;
    let greatest = lowest(cx, cx.dtype(t)?, true)?;
    let candidates = cx.call("Where", &[frequent, t, greatest])?;
    let value = cx.reduce("ReduceMin", candidates, &[rank - 1], true)?;
    let hit = cx.call("Equal", &[t, value])?;
    let n = cx.size(t, rank - 1)?;
    let places = super::create::range(cx, &n)?;
    let none = cx.b.scalar(DType::I64, -1.0)?;
    let places = cx.call("Where", &[hit, places, none])?;
    let place = cx.reduce("ReduceMax", places, &[rank - 1], true)?;
    let value = cx.cast(value, dtype)?;
    let mut out = Vec::new();
    for v in [value, place] {
        let v = cx.b.transpose(v, &perm)?;
        out.push(if keep(a)? { v } else { cx.b.squeeze(v, &[axis as i64])? });
    }
    Ok(out)
}

/// `diff(Tensor self, int n=1, int dim=-1, Tensor? prepend=None, Tensor? append=None)`
pub fn diff(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let mut x = a.t("self")?;
    let axis = cx.axis(x, a.int("dim")?)?;
    let parts: Vec<ValueId> = [a.opt_t("prepend")?, Some(x), a.opt_t("append")?].into_iter().flatten().collect();
    x = cx.concat(&parts, axis)?;
    let times = a.int("n")?;
    if !(0..=64).contains(&times) {
        bail!(unsupported, "the {times}th difference");
    }
    for _ in 0..times {
        let n = cx.size(x, axis)?;
        let later = cx.slice(x, axis, &Dim::Const(1), &Dim::Const(i64::MAX), 1)?;
        let earlier = cx.slice(x, axis, &Dim::Const(0), &(n - 1), 1)?;
        x = match cx.dtype(x)? {
            DType::Bool => cx.call("Xor", &[later, earlier])?,
            _ => cx.call("Sub", &[later, earlier])?,
        };
    }
    Ok(x)
}

/// Areas of the trapezoids between neighbours along an axis.
fn trapezoids(cx: &mut Cx, a: &Args) -> Result<(ValueId, usize)> {
    let y = crate::promote::float_arg(cx, a, "y")?;
    let (axis, dtype) = (cx.axis(y, a.int("dim")?)?, cx.dtype(y)?);
    let neighbours = |cx: &mut Cx, v: ValueId, axis: usize| -> Result<(ValueId, ValueId)> {
        let n = cx.size(v, axis)?;
        let later = cx.slice(v, axis, &Dim::Const(1), &Dim::Const(i64::MAX), 1)?;
        Ok((later, cx.slice(v, axis, &Dim::Const(0), &(n - 1), 1)?))
    };
    let (later, earlier) = neighbours(cx, y, axis)?;
    let sum = cx.call("Add", &[later, earlier])?;
    let half = match a.opt_t("x")? {
        Some(x) => {
            let x = cx.cast(x, dtype)?;
            let own = if cx.rank(x)? == 1 { 0 } else { axis + cx.rank(x)? - cx.rank(y)? };
            let (later, earlier) = neighbours(cx, x, own)?;
            let mut width = cx.call("Sub", &[later, earlier])?;
            if cx.rank(x)? == 1 {
                // The places lie along the axis.
                let after: Vec<i64> = (1..(cx.rank(y)? - axis) as i64).collect();
                width = if after.is_empty() { width } else { cx.b.unsqueeze(width, &after)? };
            }
            let half = cx.b.scalar(dtype, 0.5)?;
            cx.call("Mul", &[width, half])?
        }
        None => {
            let dx = a.opt_float("dx")?.unwrap_or(1.0);
            cx.b.scalar(dtype, dx / 2.0)?
        }
    };
    let areas = cx.call("Mul", &[sum, half])?;
    Ok((areas, axis + cx.rank(areas)? - cx.rank(y)?))
}

/// `trapezoid.x(Tensor y, Tensor x, *, int dim=-1)`, `trapezoid.dx`, `trapz.x`, `trapz.dx`
pub fn trapezoid(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let (areas, axis) = trapezoids(cx, a)?;
    cx.reduce("ReduceSum", areas, &[axis], false)
}

/// `cumulative_trapezoid.x(Tensor y, Tensor x, *, int dim=-1)`, `.dx`
pub fn cumulative_trapezoid(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let (areas, axis) = trapezoids(cx, a)?;
    let axis = cx.b.scalar(DType::I64, axis as f64)?;
    cx.call("CumSum", &[areas, axis])
}

/// `renorm(Tensor self, Scalar p, int dim, Scalar maxnorm)`: slices along an axis shortened to a norm
pub fn renorm(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let x = a.t("self")?;
    let (axis, dtype, rank) = (cx.axis(x, a.int("dim")?)?, cx.dtype(x)?, cx.rank(x)?);
    let others: Vec<usize> = (0..rank).filter(|&i| i != axis).collect();
    let norm = norm_of(cx, x, a.float("p")?, &others, true)?;
    use super::formula::F;
    let (norm, most) = (F::from(norm), a.float("maxnorm")?);
    let factor = norm.gt(most).pick(most / (&norm + 1e-7), 1.0);
    (F::from(x) * factor).emit(cx, dtype)
}

/// The least value of an element type, as a scalar.
pub(crate) fn lowest(cx: &mut Cx, dtype: DType, negated: bool) -> Result<ValueId> {
    if dtype.is_float() {
        return cx.b.scalar(dtype, if negated { f64::INFINITY } else { f64::NEG_INFINITY });
    }
    let bits = dtype.bits().clamp(8, 64) as u32;
    let (least, most) = match dtype.is_unsigned_int() || dtype == DType::Bool {
        true => (0, if bits == 64 { i64::MAX } else { (1i64 << bits) - 1 }),
        false => (i64::MIN >> (64 - bits), i64::MAX >> (64 - bits)),
    };
    let t = oxrt_ir::Tensor::from_i64(dtype, &[], &[if negated { most } else { least }])?;
    Ok(cx.b.constant(t))
}

/// Running extremum with the last place that holds it: each element against all before it.
fn running(cx: &mut Cx, a: &Args, max: bool) -> Result<Vec<ValueId>> {
    let x = a.t("self")?;
    if cx.dtype(x)? == DType::Bool {
        // Below false there must be something to fill with.
        let wide = cx.cast(x, DType::I32)?;
        let mut out = running_of(cx, a, wide, max)?;
        out[0] = cx.cast(out[0], DType::Bool)?;
        return Ok(out);
    }
    running_of(cx, a, x, max)
}

fn running_of(cx: &mut Cx, a: &Args, x: ValueId, max: bool) -> Result<Vec<ValueId>> {
    if cx.rank(x)? == 0 {
        let zero = cx.b.scalar(DType::I64, 0.0)?;
        return Ok(vec![x, zero]);
    }
    let (axis, rank) = (cx.axis(x, a.int("dim")?)?, cx.rank(x)?);
    let mut perm: Vec<usize> = (0..rank).collect();
    perm.swap(axis, rank - 1);
    let t = cx.b.transpose(x, &perm)?;
    let n = cx.size(x, axis)?;
    let places = super::create::range(cx, &n)?;
    let rows = cx.b.unsqueeze(places, &[1])?;
    let before = cx.call("LessOrEqual", &[places, rows])?;
    let t = cx.b.unsqueeze(t, &[-2])?;
    let fill = lowest(cx, cx.dtype(x)?, !max)?;
    let grid = cx.call("Where", &[before, t, fill])?;
    let values = cx.reduce(if max { "ReduceMax" } else { "ReduceMin" }, grid, &[rank], false)?;
    let attrs = Attrs::new().with("axis", rank as i64).with("keepdims", 0).with("select_last_index", 1);
    let at = cx.op(if max { "ArgMax" } else { "ArgMin" }, &[grid], attrs)?;
    Ok(vec![cx.b.transpose(values, &perm)?, cx.b.transpose(at, &perm)?])
}

/// `cummax(Tensor self, int dim) -> (values, indices)`
pub fn cummax(cx: &mut Cx, a: &Args) -> Result<Vec<ValueId>> {
    running(cx, a, true)
}

/// `cummin(Tensor self, int dim) -> (values, indices)`
pub fn cummin(cx: &mut Cx, a: &Args) -> Result<Vec<ValueId>> {
    running(cx, a, false)
}

/// `linalg_norm(Tensor self, Scalar? ord=None, int[1]? dim=None, bool keepdim=False, *, ScalarType? dtype=None)`,
/// `.ord_str`
pub fn linalg_norm(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let x = a.t("self")?;
    let dtype = a.dtype("dtype")?.unwrap_or(float_of(cx.dtype(x)?));
    let x = cx.cast(x, dtype)?;
    if a.target.ends_with("ord_str") {
        let axes = matrix_axes(cx, a, x)?;
        return named_matrix_norm(cx, x, &a.text("ord")?, axes, keep(a)?);
    }
    let axes_given = axes(cx, a, x)?;
    let ord = a.opt_float("ord")?;
    let vectors = axes_given.len() == 1 || axes_given.is_empty() && cx.rank(x)? <= 1;
    match ord {
        Some(ord) if !vectors => {
            let axes = matrix_axes(cx, a, x)?;
            matrix_norm_of(cx, x, ord, axes, keep(a)?)
        }
        _ => norm_of(cx, x, ord.unwrap_or(2.0), &axes_given, keep(a)?),
    }
}

/// The two axes of a matrix norm, in the order given.
fn matrix_axes(cx: &Cx, a: &Args, x: ValueId) -> Result<(usize, usize)> {
    match a.opt_ints("dim")?.unwrap_or_else(|| vec![-2, -1])[..] {
        [rows, columns] => Ok((cx.axis(x, rows)?, cx.axis(x, columns)?)),
        ref other => bail!(invalid, "a matrix norm over the axes {other:?}"),
    }
}

/// A norm of singular values: their sum, their greatest, or their least.
fn spectral_norm(cx: &mut Cx, x: ValueId, (rows, columns): (usize, usize), keep: bool, op: &str) -> Result<ValueId> {
    let rank = cx.rank(x)?;
    let mut dims = cx.dims(x)?;
    if dims[rows].is(0) || dims[columns].is(0) {
        // Without singular values every one of these norms is 0.
        (dims[rows], dims[columns]) = (Dim::Const(1), Dim::Const(1));
        let zero = super::create::filled(cx, cx.dtype(x)?, &dims, &crate::args::Scalar::Int(Dim::Const(0)))?;
        return if keep { Ok(zero) } else { cx.b.squeeze(zero, &[rows.min(columns) as i64, rows.max(columns) as i64]) };
    }
    let mut perm: Vec<usize> = (0..rank).filter(|&i| i != rows && i != columns).collect();
    perm.extend([rows, columns]);
    let x = cx.b.transpose(x, &perm)?;
    let values = super::spectral::singular_values(cx, x)?;
    let y = cx.reduce(op, values, &[rank - 2], false)?;
    if !keep {
        return Ok(y);
    }
    let (lo, hi) = (rows.min(columns) as i64, rows.max(columns) as i64);
    cx.b.unsqueeze(y, &[lo, hi])
}

/// `hash_tensor(Tensor self, int[1] dim=[], *, bool keepdim=False, int mode=0) -> Tensor`: the elements, widened to 64 bits, joined by exclusive or
pub fn hash_tensor(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let x = a.t("self")?;
    if a.int("mode")? != 0 {
        bail!(unsupported, "the mode {} of a hash", a.int("mode")?);
    }
    let bits = match cx.dtype(x)?.is_float() {
        true => bits_of_double(cx, x)?,
        false => cx.cast(x, DType::I64)?,
    };
    let (axes, rank) = (axes(cx, a, x)?, cx.rank(x)?);
    let axes: Vec<usize> = if axes.is_empty() { (0..rank).collect() } else { axes };
    // One bit each along a last axis: a sum's last bit is the exclusive or of its terms.
    let bits = cx.cast(bits, DType::U64)?;
    let bits = cx.b.unsqueeze(bits, &[rank as i64])?;
    let places = cx.b.constant(Tensor::from_slice(&[64], &(0..64).collect::<Vec<u64>>()));
    let shift =
        |cx: &mut Cx, x, by, direction: &str| cx.op("BitShift", &[x, by], Attrs::new().with("direction", direction));
    let bits = shift(cx, bits, places, "RIGHT")?;
    let one = cx.b.scalar(DType::U64, 1.0)?;
    let bits = cx.call("BitwiseAnd", &[bits, one])?;
    let bits = cx.cast(bits, DType::I64)?;
    let sums = if axes.is_empty() { bits } else { cx.reduce("ReduceSum", bits, &axes, keep(a)?)? };
    let odd = cx.cast(sums, DType::U64)?;
    let odd = cx.call("BitwiseAnd", &[odd, one])?;
    // Back into words by sums of 32 bits: not every runtime adds 64 of them exactly.
    let within = cx.b.constant(Tensor::from_slice(&[64], &(0..64).map(|k| k % 32).collect::<Vec<u64>>()));
    let parts = shift(cx, odd, within, "LEFT")?;
    let parts = cx.cast(parts, DType::I64)?;
    let mut dims = cx.dims(parts)?;
    dims.pop();
    let outer = dims.len();
    let dims = [dims, vec![Dim::Const(2), Dim::Const(32)]].concat();
    let parts = cx.reshape(parts, &dims)?;
    let halves = cx.reduce("ReduceSum", parts, &[outer + 1], false)?;
    let halves = cx.cast(halves, DType::U64)?;
    let by = cx.b.constant(Tensor::from_slice(&[2], &[0u64, 32]));
    let halves = shift(cx, halves, by, "LEFT")?;
    let mut half = |i: i64| -> Result<ValueId> {
        let v = cx.slice(halves, outer, &Dim::Const(i), &Dim::Const(i + 1), 1)?;
        cx.b.squeeze(v, &[outer as i64])
    };
    let (low, high) = (half(0)?, half(1)?);
    cx.call("BitwiseOr", &[low, high])
}

/// The bits of floats as doubles have them: sign, exponent and fraction, found by arithmetic that is exact.
fn bits_of_double(cx: &mut Cx, x: ValueId) -> Result<ValueId> {
    let x = cx.cast(x, DType::F64)?;
    let number = |cx: &mut Cx, v: f64| cx.b.scalar(DType::F64, v);
    let (zero, one, two) = (number(cx, 0.0)?, number(cx, 1.0)?, number(cx, 2.0)?);
    let size = cx.call("Abs", &[x])?;
    // Zero has neither exponent nor fraction; 1 stands in for it.
    let is_zero = cx.call("Equal", &[size, zero])?;
    let size = cx.call("Where", &[is_zero, one, size])?;
    let log = cx.call("Log", &[size])?;
    let ln_2 = number(cx, std::f64::consts::LN_2)?;
    let log = cx.call("Div", &[log, ln_2])?;
    let exponent = cx.call("Floor", &[log])?;
    // The logarithm may be rounded over the next power of two.
    let power = cx.call("Pow", &[two, exponent])?;
    let ratio = cx.call("Div", &[size, power])?;
    let high = cx.call("GreaterOrEqual", &[ratio, two])?;
    let low = cx.call("Less", &[ratio, one])?;
    let (high, low) = (cx.cast(high, DType::F64)?, cx.cast(low, DType::F64)?);
    let exponent = cx.call("Add", &[exponent, high])?;
    let exponent = cx.call("Sub", &[exponent, low])?;
    let power = cx.call("Pow", &[two, exponent])?;
    let ratio = cx.call("Div", &[size, power])?;
    let fraction = cx.call("Sub", &[ratio, one])?;
    let unit = number(cx, (1u64 << 52) as f64)?;
    let fraction = cx.call("Mul", &[fraction, unit])?;
    let fraction = cx.cast(fraction, DType::I64)?;
    let bias = number(cx, 1023.0)?;
    let exponent = cx.call("Add", &[exponent, bias])?;
    let exponent = cx.cast(exponent, DType::I64)?;
    let unit = cx.b.constant(Tensor::from_i64(DType::I64, &[], &[1 << 52])?);
    let exponent = cx.call("Mul", &[exponent, unit])?;
    let bits = cx.call("Add", &[exponent, fraction])?;
    let nothing = cx.b.constant(Tensor::from_i64(DType::I64, &[], &[0])?);
    let bits = cx.call("Where", &[is_zero, nothing, bits])?;
    // The sign bit, of -0 too: 1 / -0 is negative.
    let inverse = cx.call("Reciprocal", &[x])?;
    let negative = cx.call("Less", &[inverse, zero])?;
    let sign = cx.b.constant(Tensor::from_i64(DType::I64, &[], &[i64::MIN])?);
    let signed = cx.call("Add", &[bits, sign])?;
    cx.call("Where", &[negative, signed, bits])
}

/// The matrix norm of order ±1, ±2 or ±∞.
pub(crate) fn matrix_norm_of(
    cx: &mut Cx,
    x: ValueId,
    ord: f64,
    (rows, columns): (usize, usize),
    keep: bool,
) -> Result<ValueId> {
    let op = if ord > 0.0 { "ReduceMax" } else { "ReduceMin" };
    let (summed, chosen) = match ord.abs() {
        2.0 => return spectral_norm(cx, x, (rows, columns), keep, op),
        1.0 => (rows, columns),
        f64::INFINITY => (columns, rows),
        _ => bail!(unsupported, "a matrix norm of order {ord}"),
    };
    let sums = cx.reduce("ReduceL1", x, &[summed], true)?;
    let sums = not_of_nothing(cx, sums, &[chosen])?;
    let y = cx.reduce(op, sums, &[chosen], true)?;
    if keep { Ok(y) } else { cx.b.squeeze(y, &[rows.min(columns) as i64, rows.max(columns) as i64]) }
}

fn named_matrix_norm(cx: &mut Cx, x: ValueId, ord: &str, axes: (usize, usize), keep: bool) -> Result<ValueId> {
    match ord {
        "fro" => cx.reduce("ReduceL2", x, &[axes.0.min(axes.1), axes.0.max(axes.1)], keep),
        "nuc" => spectral_norm(cx, x, axes, keep, "ReduceSum"),
        _ => bail!(unsupported, "the matrix norm `{ord}`"),
    }
}

/// `linalg_matrix_norm.str_ord(Tensor self, str ord='fro', int[] dim=[-2,-1], bool keepdim=False, …)`,
/// `linalg_matrix_norm(Tensor self, Scalar ord, …)`
pub fn matrix_norm(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let x = a.t("self")?;
    let dtype = a.dtype("dtype")?.unwrap_or(float_of(cx.dtype(x)?));
    let x = cx.cast(x, dtype)?;
    let axes = matrix_axes(cx, a, x)?;
    match a.target.ends_with("str_ord") {
        true => named_matrix_norm(cx, x, &a.text("ord")?, axes, keep(a)?),
        false => matrix_norm_of(cx, x, a.float("ord")?, axes, keep(a)?),
    }
}
