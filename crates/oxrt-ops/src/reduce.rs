//! Reductions over axes: the shape rule, and evaluation by a function of the reduced elements.

use crate::copy::{checked_len, signed_strides, walk};
use crate::eval::{Datum, Eval};
use crate::infer::Infer;
use crate::shape::axes;
use oxrt_ir::{Attrs, Contents, Dim};
use oxrt_tensor::{DType, Result, Tensor, bail};

/// Which of `rank` axes go: `list` from input 1, where none means all of them or, by attribute, nothing.
fn reduced(attrs: &Attrs, list: Option<Vec<i64>>, rank: usize) -> Result<Vec<usize>> {
    match list {
        Some(l) if !l.is_empty() => axes(&l, rank),
        _ if attrs.bool_or("noop_with_empty_axes", false)? => Ok(vec![]),
        _ => Ok((0..rank).collect()),
    }
}

/// The shape that is left.
fn kept<T: Clone>(dims: &[T], gone: &[usize], keep: bool, one: T) -> Vec<T> {
    let each = dims.iter().enumerate();
    each.filter(|(i, _)| keep || !gone.contains(i))
        .map(|(i, d)| if gone.contains(&i) { one.clone() } else { d.clone() })
        .collect()
}

/// Shape rule of the `Reduce…` operators.
pub fn infer(ctx: &mut Infer) -> Result<()> {
    let dtype = ctx.dtype(0)?;
    let keep = ctx.attrs().bool_or("keepdims", true)?;
    let list = if ctx.has(1) { ctx.const_ints(1).map(Some) } else { Some(None) };
    let (Some(dims), Some(list)) = (ctx.dims(0), list) else {
        // The rank is known as long as the axes stay.
        let dims = ctx.rank(0).filter(|_| keep).map(|r| ctx.fresh_dims(r));
        ctx.set(0, dtype, dims);
        return Ok(());
    };
    let gone = reduced(ctx.attrs(), list, dims.len())?;
    ctx.set(0, dtype, Some(kept(dims, &gone, keep, Dim::Const(1))));
    Ok(())
}

/// The same for operators over whole vectors of sizes: `fold` joins two known elements.
pub fn infer_with(ctx: &mut Infer, fold: fn(Dim, Dim) -> Dim) -> Result<()> {
    infer(ctx)?;
    let Some(c) = ctx.whole(0).filter(|c| !c.scalar) else { return Ok(()) };
    let axes = if ctx.has(1) { ctx.const_ints(1) } else { Some(vec![]) };
    let all = match axes {
        Some(a) if a.is_empty() => !ctx.attrs().bool_or("noop_with_empty_axes", false)?,
        Some(_) => true,
        None => false,
    };
    let keep = ctx.attrs().bool_or("keepdims", true)?;
    if let (true, Some(total)) = (all, c.elements.into_iter().reduce(fold)) {
        ctx.set_contents(0, Contents { scalar: !keep, elements: vec![total] });
    }
    Ok(())
}

/// Offsets of the elements that stay, and of those that join each of them.
pub struct Groups {
    pub shape: Vec<usize>,
    pub starts: Vec<usize>,
    pub steps: Vec<usize>,
}

impl Groups {
    /// Reduction of `shape` over the axes `gone`.
    pub fn new(shape: &[usize], gone: &[usize], keep: bool) -> Result<Groups> {
        let strides = signed_strides(shape);
        let pick = |wanted: bool| -> (Vec<usize>, Vec<isize>) {
            (0..shape.len()).filter(|i| gone.contains(i) == wanted).map(|i| (shape[i], strides[i])).unzip()
        };
        let ((outer, os), (inner, is)) = (pick(false), pick(true));
        let out = kept(shape, gone, keep, 1);
        checked_len(&out)?;
        Ok(Groups { shape: out, starts: walk(&outer, &os, 0)?, steps: walk(&inner, &is, 0)? })
    }

    /// `f` of every group, in order.
    pub fn map<T: Copy, R>(&self, data: &[T], mut f: impl FnMut(&[T]) -> R) -> Vec<R> {
        let mut group = Vec::with_capacity(self.steps.len());
        self.starts
            .iter()
            .map(|&start| {
                group.clear();
                group.extend(self.steps.iter().map(|&s| data[start + s]));
                f(&group)
            })
            .collect()
    }
}

/// The groups that a `Reduce…` node asks for.
pub fn groups(ctx: &Eval) -> Result<Groups> {
    let x = ctx.tensor(0)?;
    let gone = reduced(ctx.attrs(), ctx.ints(1)?, x.rank())?;
    Groups::new(x.shape(), &gone, ctx.attrs().bool_or("keepdims", true)?)
}

/// Evaluates by `f` in f64 (the result of integers is truncated).
pub fn eval_f64(ctx: &Eval, f: fn(&[f64]) -> f64) -> Result<Vec<Datum>> {
    let x = ctx.tensor(0)?;
    let g = groups(ctx)?;
    // The sum of nothing is -0 to Rust, +0 to everyone else: its reciprocal tells them apart.
    let of_some_or_none = |group: &[f64]| if group.is_empty() { f(group) + 0.0 } else { f(group) };
    Ok(vec![Tensor::from_f64(x.dtype(), &g.shape, &g.map(&x.to_f64_vec()?, of_some_or_none))?.into()])
}

/// Evaluates `ReduceMax` (or `ReduceMin`) of integers and booleans.
pub fn eval_int_extreme(ctx: &Eval, largest: bool) -> Result<Vec<Datum>> {
    let x = ctx.tensor(0)?;
    let g = groups(ctx)?;
    let data = x.to_i64_vec()?;
    // Of nothing: the last number of the type.
    let out = if x.dtype() == DType::U64 {
        let of = |group: &[i64]| group.iter().map(|&v| v as u64).reduce(if largest { u64::max } else { u64::min });
        g.map(&data, |group| of(group).unwrap_or(if largest { 0 } else { u64::MAX }) as i64)
    } else {
        let (low, high) = if x.dtype() == DType::Bool { (0, 1) } else { crate::cast::int_range(x.dtype()) };
        let of = |group: &[i64]| group.iter().copied().reduce(if largest { i64::max } else { i64::min });
        g.map(&data, |group| of(group).unwrap_or(if largest { low } else { high }))
    };
    Ok(vec![Tensor::from_i64(x.dtype(), &g.shape, &out)?.into()])
}

/// Evaluates integers by `int` and floats by `float`.
pub fn eval(ctx: &Eval, float: fn(&[f64]) -> f64, int: fn(&[i64]) -> i64) -> Result<Vec<Datum>> {
    let x = ctx.tensor(0)?;
    if x.dtype().is_float() {
        return eval_f64(ctx, float);
    }
    let g = groups(ctx)?;
    Ok(vec![Tensor::from_i64(x.dtype(), &g.shape, &g.map(&x.to_i64_vec()?, int))?.into()])
}

/// Index of the first (or last) greatest or least element; NaN comes before all others.
pub fn arg_extremum(ctx: &Eval, largest: bool) -> Result<Vec<Datum>> {
    let x = ctx.tensor(0)?;
    let attrs = ctx.attrs();
    let gone = crate::shape::axis(attrs.int_or("axis", 0)?, x.rank())?;
    let g = Groups::new(x.shape(), &[gone], attrs.bool_or("keepdims", true)?)?;
    if g.steps.is_empty() && !g.starts.is_empty() {
        bail!(invalid, "axis {gone} of size 0 has no extremum");
    }
    let last = attrs.bool_or("select_last_index", false)?;
    let find = |order: &dyn Fn(usize, usize) -> std::cmp::Ordering, n: usize| {
        let wins = |i: usize, best: usize| match order(i, best) {
            std::cmp::Ordering::Equal => last,
            o => o.is_gt(),
        };
        (1..n).fold(0, |best, i| if wins(i, best) { i } else { best }) as i64
    };
    // Integers as such: f64 would merge large ones.
    let indices = if x.dtype() == DType::U64 {
        let sign = |o: std::cmp::Ordering| if largest { o } else { o.reverse() };
        g.map(&x.to_i64_vec()?, |v| find(&|a, b| sign((v[a] as u64).cmp(&(v[b] as u64))), v.len()))
    } else if x.dtype().is_int() {
        let sign = |o: std::cmp::Ordering| if largest { o } else { o.reverse() };
        g.map(&x.to_i64_vec()?, |v| find(&|a, b| sign(v[a].cmp(&v[b])), v.len()))
    } else {
        g.map(&x.to_f64_vec()?, |v| {
            let order = |a: usize, b: usize| match v[a].partial_cmp(&v[b]) {
                Some(o) if largest => o,
                Some(o) => o.reverse(),
                None => v[a].is_nan().cmp(&v[b].is_nan()),
            };
            find(&order, v.len())
        })
    };
    Ok(vec![Tensor::from_i64(DType::I64, &g.shape, &indices)?.into()])
}

/// Shape rule of `ArgMax` and `ArgMin`.
pub fn infer_arg(ctx: &mut Infer) -> Result<()> {
    let keep = ctx.attrs().bool_or("keepdims", true)?;
    let dims = match ctx.dims(0) {
        Some(d) => {
            let gone = crate::shape::axis(ctx.attrs().int_or("axis", 0)?, d.len())?;
            Some(kept(d, &[gone], keep, Dim::Const(1)))
        }
        None => None,
    };
    ctx.set(0, DType::I64, dims);
    Ok(())
}

/// Evaluates by a function that changes each lane along the attribute `axis` in place.
pub fn eval_lanes(ctx: &Eval, default_axis: i64, f: fn(&mut [f64])) -> Result<Vec<Datum>> {
    let x = ctx.tensor(0)?;
    let mut data = x.to_f64_vec()?;
    // A scalar is a lane of its own.
    let shape = if x.rank() == 0 { &[1][..] } else { x.shape() };
    let axis = crate::shape::axis(ctx.attrs().int_or("axis", default_axis)?, shape.len())?;
    change_lanes(&mut data, shape, axis, f)?;
    Ok(vec![Tensor::from_f64(x.dtype(), x.shape(), &data)?.into()])
}

/// Changes each lane of `data` along `axis` by `f`.
pub fn change_lanes<T: Copy>(data: &mut [T], shape: &[usize], axis: usize, mut f: impl FnMut(&mut [T])) -> Result<()> {
    let lanes = Groups::new(shape, &[axis], true)?;
    let mut lane = Vec::with_capacity(lanes.steps.len());
    for &start in &lanes.starts {
        lane.clear();
        lane.extend(lanes.steps.iter().map(|&s| data[start + s]));
        f(&mut lane);
        lanes.steps.iter().zip(&lane).for_each(|(&s, &v)| data[start + s] = v);
    }
    Ok(())
}

/// Running fold along the axis in input 1, from (start, function) for floats and for integers; attributes
/// `exclusive` and `reverse`.
pub fn eval_running(
    ctx: &Eval,
    float: (f64, fn(f64, f64) -> f64),
    int: (i64, fn(i64, i64) -> i64),
) -> Result<Vec<Datum>> {
    let x = ctx.tensor(0)?;
    let Some([axis]) = ctx.ints(1)?.as_deref().map(<[i64]>::to_vec).and_then(|a| <[i64; 1]>::try_from(a).ok()) else {
        bail!(invalid, "the axis should be one number");
    };
    let axis = crate::shape::axis(axis, x.rank())?;
    let (exclusive, reverse) = (ctx.attrs().bool_or("exclusive", false)?, ctx.attrs().bool_or("reverse", false)?);
    fn run<T: Copy>(lane: &mut [T], (start, f): (T, fn(T, T) -> T), exclusive: bool, reverse: bool) {
        let mut sum = start;
        for i in 0..lane.len() {
            let at = if reverse { lane.len() - 1 - i } else { i };
            let next = f(sum, lane[at]);
            lane[at] = if exclusive { sum } else { next };
            sum = next;
        }
    }
    let result = if x.dtype().is_int() {
        let mut data = x.to_i64_vec()?;
        change_lanes(&mut data, x.shape(), axis, |lane| run(lane, int, exclusive, reverse))?;
        Tensor::from_i64(x.dtype(), x.shape(), &data)?
    } else {
        let mut data = x.to_f64_vec()?;
        change_lanes(&mut data, x.shape(), axis, |lane| run(lane, float, exclusive, reverse))?;
        Tensor::from_f64(x.dtype(), x.shape(), &data)?
    };
    Ok(vec![result.into()])
}
