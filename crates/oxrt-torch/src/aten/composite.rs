//! Operators that PyTorch composes of simpler ones, and copies.

use super::formula::{F, call};
use crate::args::Args;
use crate::cx::{Cx, Val};
use crate::promote::{Operand, float_arg, float_of, pair, result_type, scalar_value, value};
use oxrt_ir::{Attrs, DType, Dim, ValueId};
use oxrt_tensor::{Result, bail};

/// `deg2rad(Tensor self)`
pub fn deg2rad(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let x = float_arg(cx, a, "self")?;
    let dtype = cx.dtype(x)?;
    (F::from(x) * (std::f64::consts::PI / 180.0)).emit(cx, dtype)
}

/// `rad2deg(Tensor self)`
pub fn rad2deg(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let x = float_arg(cx, a, "self")?;
    let dtype = cx.dtype(x)?;
    (F::from(x) * (180.0 / std::f64::consts::PI)).emit(cx, dtype)
}

/// `float_power.Tensor_Tensor(Tensor self, Tensor exponent)`, `.Scalar`, `.Tensor_Scalar`: in f64
pub fn float_power(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let (x, y) = (Operand::of(a, "self")?, Operand::of(a, "exponent")?);
    let (x, y) = (value(cx, &x, DType::F64)?, value(cx, &y, DType::F64)?);
    cx.call("Pow", &[x, y])
}

/// `isclose(Tensor self, Tensor other, float rtol=1e-05, float atol=1e-08, bool equal_nan=False)`
pub fn isclose(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let (x, y) = (Operand::of(a, "self")?, Operand::of(a, "other")?);
    let dtype = match result_type(cx, &[&x, &y])? {
        DType::F32 => DType::F32,
        // Integers, and narrow types, keep all their digits in f64.
        _ => DType::F64,
    };
    let (rtol, atol) = (a.float("rtol")?, a.float("atol")?);
    let (x, y) = (F::from(value(cx, &x, dtype)?), F::from(value(cx, &y, dtype)?));
    let gap = (&x - &y).abs();
    let near = gap.le(atol + rtol * y.abs()).and(gap.is_inf().not());
    let mut close = x.equals(&y).or(near);
    if a.bool("equal_nan")? {
        close = close.or(x.is_nan().and(y.is_nan()));
    }
    close.emit(cx, dtype)
}

fn whether_all<'a>(cx: &mut Cx<'a, '_>, v: ValueId) -> Result<Vec<Val<'a>>> {
    let counted = cx.cast(v, DType::I32)?;
    let least = cx.reduce("ReduceMin", counted, &[], false)?;
    Ok(vec![Val::Runtime(cx.cast(least, DType::Bool)?)])
}

/// `allclose(Tensor self, Tensor other, float rtol=1e-05, float atol=1e-08, bool equal_nan=False) -> bool`
pub fn allclose<'a>(cx: &mut Cx<'a, '_>, a: &Args<'a>) -> Result<Vec<Val<'a>>> {
    let v = isclose(cx, a)?;
    whether_all(cx, v)
}

/// `equal(Tensor self, Tensor other) -> bool`
pub fn equal<'a>(cx: &mut Cx<'a, '_>, a: &Args<'a>) -> Result<Vec<Val<'a>>> {
    let (x, y) = (a.t("self")?, a.t("other")?);
    if cx.dims(x)? != cx.dims(y)? {
        return Ok(vec![Val::Bool(false)]);
    }
    let v = cx.call("Equal", &[x, y])?;
    whether_all(cx, v)
}

/// `addr(Tensor self, Tensor vec1, Tensor vec2, *, Scalar beta=1, Scalar alpha=1)`
pub fn addr(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let names = ["self", "vec1", "vec2"];
    let operands = names.iter().map(|n| Operand::of(a, n)).collect::<Result<Vec<_>>>()?;
    let dtype = result_type(cx, &operands.iter().collect::<Vec<_>>())?;
    let mut v = Vec::new();
    for o in &operands {
        v.push(value(cx, o, dtype)?);
    }
    let column = cx.b.unsqueeze(v[1], &[1])?;
    let (beta, alpha) = (a.opt_scalar("beta")?, a.opt_scalar("alpha")?);
    if dtype == DType::Bool {
        let mut outer = cx.call("And", &[column, v[2]])?;
        if alpha.is_some_and(|s| s.is(0.0)) {
            let no = cx.b.scalar(DType::Bool, 0.0)?;
            outer = cx.call("And", &[outer, no])?;
        }
        return if beta.is_some_and(|s| s.is(0.0)) { Ok(outer) } else { cx.call("Or", &[v[0], outer]) };
    }
    let mut outer = cx.call("Mul", &[column, v[2]])?;
    if let Some(s) = alpha.filter(|s| !s.is(1.0)) {
        let s = scalar_value(cx, &s, dtype)?;
        outer = cx.call("Mul", &[outer, s])?;
    }
    match beta {
        // What is multiplied by zero is not looked at, not even where it is no number.
        Some(s) if s.is(0.0) => Ok(outer),
        Some(s) if !s.is(1.0) => {
            let s = scalar_value(cx, &s, dtype)?;
            let scaled = cx.call("Mul", &[v[0], s])?;
            cx.call("Add", &[scaled, outer])
        }
        _ => cx.call("Add", &[v[0], outer]),
    }
}

/// `combinations(Tensor self, int r=2, bool with_replacement=False)`
pub fn combinations(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let x = a.t("self")?;
    let (n, r, again) = (cx.static_size(x, 0, "combinations")?, a.int("r")?, a.bool("with_replacement")?);
    if !(0..=64).contains(&n) || !(0..=8).contains(&r) {
        bail!(unsupported, "combinations of {r} out of {n}");
    }
    let mut all: Vec<Vec<i64>> = vec![Vec::new()];
    for _ in 0..r {
        let longer = all.iter().flat_map(|c| {
            let from = c.last().map_or(0, |&l| if again { l } else { l + 1 });
            (from..n).map(move |i| c.iter().copied().chain([i]).collect())
        });
        all = longer.collect();
        if all.len() > 1 << 16 {
            bail!(unsupported, "more than {} combinations", 1 << 16);
        }
    }
    let places: Vec<i64> = all.iter().flatten().copied().collect();
    let count = if r == 0 { 0 } else { all.len() };
    let t = oxrt_ir::Tensor::from_slice(&[count, r as usize], &places);
    let places = cx.b.constant(t);
    let y = cx.op("Gather", &[x, places], Attrs::new().with("axis", 0))?;
    cx.reshape(y, &a.out_dims()?)
}

/// `sum_to_size(Tensor self, SymInt[] size)`
pub fn sum_to_size(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let x = a.t("self")?;
    let (have, want) = (cx.dims(x)?, a.dim_list("size")?);
    let Some(lead) = have.len().checked_sub(want.len()) else { bail!(invalid, "summing {have:?} to {want:?}") };
    let axes: Vec<usize> = (0..have.len()).filter(|&i| i < lead || want[i - lead].is(1) && !have[i].is(1)).collect();
    let x = cx.cast(x, a.out_dtype()?)?;
    if axes.is_empty() {
        return Ok(x);
    }
    let y = cx.reduce("ReduceSum", x, &axes, true)?;
    cx.reshape(y, &want)
}

/// `cross(Tensor self, Tensor other, int? dim=None)`: over the first axis of size 3 by default
pub fn cross(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let (x, y, _) = pair(cx, a, "self", "other")?;
    let dims = a.out_dims()?;
    let axis = match a.opt_int("dim")? {
        Some(d) => oxrt_ops::shape::axis(d, dims.len())?,
        None => match dims.iter().position(|d| d.is(3)) {
            Some(axis) => axis,
            None => bail!(invalid, "cross without an axis of size 3"),
        },
    };
    let (x, y) = (cx.expand(x, &dims)?, cx.expand(y, &dims)?);
    super::matrix::cross_values(cx, x, y, axis)
}

/// `fliplr(Tensor self)`
pub fn fliplr(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    super::shape::flip_axes(cx, a.t("self")?, &[1])
}

/// `flipud(Tensor self)`
pub fn flipud(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    super::shape::flip_axes(cx, a.t("self")?, &[0])
}

/// `_softmax_backward_data(Tensor grad_output, Tensor output, int dim, ScalarType input_dtype)`
pub fn softmax_backward(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let (g, y) = (a.t("grad_output")?, a.t("output")?);
    let axis = cx.axis(y, a.int("dim")?)?;
    let product = cx.call("Mul", &[g, y])?;
    let sum = cx.reduce("ReduceSum", product, &[axis], true)?;
    let part = cx.call("Mul", &[y, sum])?;
    let x = cx.call("Sub", &[product, part])?;
    cx.cast(x, a.out_dtype()?)
}

/// `quantile(Tensor self, Tensor q, int? dim=None, bool keepdim=False, *, str interpolation='linear')`, `.scalar`,
/// `nanquantile`, `nanquantile.scalar`
pub fn quantile(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let mut x = a.t("self")?;
    let (dtype, ignore_nan) = (cx.dtype(x)?, a.target.contains("nanquantile"));
    let q = Operand::of(a, "q")?;
    let q = value(cx, &q, dtype)?;
    let many = cx.rank(q)? == 1;
    let q = if many { q } else { cx.reshape(q, &[Dim::Const(1)])? };
    // The reduced axis goes last.
    match a.opt_int("dim")? {
        Some(d) => {
            let (axis, rank) = (cx.axis(x, d)?, cx.rank(x)?);
            let perm: Vec<usize> = (0..rank).filter(|&i| i != axis).chain([axis]).collect();
            x = cx.b.transpose(x, &perm)?;
        }
        None => {
            let total = cx.dims(x)?.into_iter().product();
            x = cx.reshape(x, &[total])?;
        }
    }
    let rank = cx.rank(x)?;
    let n = cx.size(x, rank - 1)?;
    let nan = cx.call("IsNaN", &[x])?;
    let infinite = cx.b.scalar(dtype, f64::INFINITY)?;
    let filled = cx.call("Where", &[nan, infinite, x])?;
    let k = cx.b.dim_value(&n)?;
    let attrs = Attrs::new().with("axis", -1).with("largest", 0).with("sorted", 1);
    let sorted = cx.b.op_multi("TopK", &[Some(filled), Some(k)], attrs, 2)?[0];
    let absent = cx.cast(nan, dtype)?;
    let absent = cx.reduce("ReduceSum", absent, &[rank - 1], true)?;
    let count = cx.dim_scalar(&n)?;
    let count = cx.cast(count, dtype)?;
    let last = match ignore_nan {
        true => (F::from(count) - F::from(absent) - 1.0).max(0.0),
        false => F::from(count) - 1.0,
    };
    let place = F::from(q) * last;
    let place = match &*a.text("interpolation")? {
        "lower" => place.floor(),
        "higher" => call("Ceil", &[&place]),
        "nearest" => place.round(),
        _ => place,
    };
    let midpoint = a.text("interpolation")? == "midpoint";
    let lower = place.floor();
    let mut batch = cx.dims(x)?;
    batch.truncate(rank - 1);
    batch.push(cx.size(q, 0)?);
    let mut around = Vec::new();
    for at in [lower.clone(), call("Ceil", &[&place])] {
        let at = at.emit(cx, dtype)?;
        let at = cx.cast(at, DType::I64)?;
        let at = cx.expand(at, &batch)?;
        around.push(F::from(cx.op("GatherElements", &[sorted, at], Attrs::new().with("axis", -1))?));
    }
    let weight = if midpoint { call("Ceil", &[&(&place - &lower)]) * 0.5 } else { &place - &lower };
    // Equal neighbours (infinities among them) need no weighing.
    let between = &around[0] + (&around[1] - &around[0]) * weight;
    let y = around[0].equals(&around[1]).pick(&around[0], between);
    let none = match ignore_nan {
        true => F::from(absent).equals(F::from(count)),
        false => F::from(absent).gt(0.0),
    };
    let mut y = none.pick(f64::NAN, y).emit(cx, dtype)?;
    if many {
        let perm: Vec<usize> = std::iter::once(rank - 1).chain(0..rank - 1).collect();
        y = cx.b.transpose(y, &perm)?;
    }
    cx.reshape(y, &a.out_dims()?)
}

/// `gradient.scalarint(Tensor self, *, Scalar? spacing=None, int? dim=None, int edge_order=1)`, `.scalararray`, `.array`,
/// `.scalarrayint`, `.scalarrayarray`: central differences, one result per axis; `.tensorarray`, `.tensorarrayint`: at the places of
/// coordinates
pub fn gradient(cx: &mut Cx, a: &Args) -> Result<Vec<ValueId>> {
    let x = a.t("self")?;
    let rank = cx.rank(x)?;
    let axes: Vec<usize> = match a.opt_ints("dim")? {
        Some(list) => list.iter().map(|&d| cx.axis(x, d)).collect::<Result<_>>()?,
        None => (0..rank).collect(),
    };
    let order = a.int("edge_order")?;
    if a.target.contains(".tensorarray") {
        return gradient_at(cx, x, &axes, &a.ts("spacing")?, order);
    }
    let spacing = a.opt_floats("spacing")?.unwrap_or_else(|| vec![1.0]);
    if spacing.len() != axes.len() && spacing.len() != 1 || !(1..=2).contains(&order) {
        bail!(invalid, "{} spacings for {} axes, edges of order {order}", spacing.len(), axes.len());
    }
    let dtype = float_of(cx.dtype(x)?);
    let x = cx.cast(x, dtype)?;
    let mut out = Vec::new();
    for (i, axis) in axes.into_iter().enumerate() {
        let h = if spacing.len() == 1 { spacing[0] } else { spacing[i] };
        let n = cx.size(x, axis)?;
        let at = |cx: &mut Cx, from: Dim, to: Dim| -> Result<F> { Ok(F::from(cx.slice(x, axis, &from, &to, 1)?)) };
        let place = |k: i64| if k < 0 { n.clone() + k } else { Dim::Const(k) };
        let one = |cx: &mut Cx, k: i64| at(cx, place(k), place(k) + 1);
        let (ahead, behind) = (at(cx, Dim::Const(2), Dim::Const(i64::MAX))?, at(cx, Dim::Const(0), n.clone() - 2)?);
        let middle = ((ahead - behind) / (2.0 * h)).emit(cx, dtype)?;
        let (first, second) = (one(cx, 0)?, one(cx, 1)?);
        let (last, before) = (one(cx, -1)?, one(cx, -2)?);
        let (start, end) = match order {
            1 => ((second - first) / h, (last - before) / h),
            _ => {
                let (third, third_last) = (one(cx, 2)?, one(cx, -3)?);
                ((4.0 * second - 3.0 * first - third) / (2.0 * h), (3.0 * last - 4.0 * before + third_last) / (2.0 * h))
            }
        };
        let (start, end) = (start.emit(cx, dtype)?, end.emit(cx, dtype)?);
        out.push(cx.concat(&[start, middle, end], axis)?);
    }
    Ok(out)
}

/// Gradients where the elements of an axis lie at given coordinates: parabolas through three neighbours.
fn gradient_at(cx: &mut Cx, x: ValueId, axes: &[usize], places: &[ValueId], order: i64) -> Result<Vec<ValueId>> {
    if places.len() != axes.len() || !(1..=2).contains(&order) {
        bail!(invalid, "coordinates of {} axes for {}, edges of order {order}", places.len(), axes.len());
    }
    let (dtype, rank) = (float_of(cx.dtype(x)?), cx.rank(x)?);
    let x = cx.cast(x, dtype)?;
    let mut out = Vec::new();
    for (&axis, &place) in axes.iter().zip(places) {
        let place = cx.cast(place, dtype)?;
        let cut = |cx: &mut Cx, v: ValueId, axis: usize, from: i64, to: i64| -> Result<F> {
            Ok(F::from(cx.slice(v, axis, &Dim::Const(from), &Dim::Const(to), 1)?))
        };
        const END: i64 = i64::MAX;
        let steps = cut(cx, place, 0, 1, END)? - cut(cx, place, 0, 0, -1)?;
        let steps = steps.emit(cx, dtype)?;
        // Along the axis, to multiply with the elements.
        let behind: Vec<i64> = (0..(rank - 1 - axis) as i64).map(|i| i + 1).collect();
        let steps = if behind.is_empty() { steps } else { cx.b.unsqueeze(steps, &behind)? };
        let (h, g) = (cut(cx, steps, 0, 0, -1)?, cut(cx, steps, 0, 1, END)?);
        let (before, here, after) = (cut(cx, x, axis, 0, -2)?, cut(cx, x, axis, 1, -1)?, cut(cx, x, axis, 2, END)?);
        let middle = -(&g / (&h * (&h + &g))) * before + (&g - &h) / (&h * &g) * here + &h / (&g * (&h + &g)) * after;
        let middle = middle.emit(cx, dtype)?;
        // The slope at an end, `away` steps from it; the sign turns at the far end.
        let (a, b) = (cut(cx, x, axis, 0, 1)?, cut(cx, x, axis, 1, 2)?);
        let (y, z) = (cut(cx, x, axis, -2, -1)?, cut(cx, x, axis, -1, END)?);
        let (first, last) = (cut(cx, steps, 0, 0, 1)?, cut(cx, steps, 0, -1, END)?);
        let (start, end) = match order {
            1 => ((b - a) / first, (z - y) / last),
            _ => {
                let slope = |near: &F, far: &F, at: F, next: F, third: F| {
                    (near + far) / (near * far) * next
                        - (2.0 * near + far) / (near * (near + far)) * at
                        - near / (far * (near + far)) * third
                };
                let (second, before_last) = (cut(cx, steps, 0, 1, 2)?, cut(cx, steps, 0, -2, -1)?);
                let (c, w) = (cut(cx, x, axis, 2, 3)?, cut(cx, x, axis, -3, -2)?);
                (slope(&first, &second, a, b, c), -slope(&last, &before_last, z, y, w))
            }
        };
        let (start, end) = (start.emit(cx, dtype)?, end.emit(cx, dtype)?);
        out.push(cx.concat(&[start, middle, end], axis)?);
    }
    Ok(out)
}

/// `isreal(Tensor self)` of real tensors
pub fn isreal(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let dims = cx.dims(a.t("self")?)?;
    super::create::filled(cx, DType::Bool, &dims, &crate::args::Scalar::Bool(true))
}
