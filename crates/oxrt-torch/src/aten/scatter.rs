//! Writing to places that an index names: scatter, and whole rows.

use super::index::as_index;
use crate::args::Args;
use crate::cx::Cx;
use crate::promote::{Operand, value};
use oxrt_ir::{Attrs, DType, Dim, ValueId};
use oxrt_tensor::{Result, bail};

fn scatter_op(cx: &mut Cx, a: &Args, updates: ValueId, reduction: Option<&str>) -> Result<ValueId> {
    scatter_into(cx, a, a.t("self")?, updates, reduction)
}

fn scatter_into(cx: &mut Cx, a: &Args, x: ValueId, updates: ValueId, reduction: Option<&str>) -> Result<ValueId> {
    let index = as_index(cx, a.t("index")?)?;
    let updates = cx.cast(updates, cx.dtype(x)?)?;
    if cx.rank(x)? == 0 {
        let Some(_) = reduction else { return cx.reshape(updates, &[]) };
        // A number is a vector of one element here.
        let one = [Dim::Const(1)];
        let (x, updates, index) = (cx.reshape(x, &one)?, cx.reshape(updates, &one)?, cx.reshape(index, &one)?);
        let attrs = Attrs::new().with("axis", 0).with("reduction", reduction.unwrap_or("none"));
        let y = cx.op("ScatterElements", &[x, index, updates], attrs)?;
        return cx.b.squeeze(y, &[0]);
    }
    let axis = cx.axis(x, a.int("dim")?)?;
    // torch reads only as much of the source as the index has; ONNX wants equal shapes.
    let wanted = cx.dims(index)?;
    let mut updates = updates;
    for (i, d) in wanted.iter().enumerate() {
        if cx.size(updates, i)? != *d {
            updates = cx.slice(updates, i, &Dim::Const(0), d, 1)?;
        }
    }
    let mut attrs = Attrs::new().with("axis", axis as i64);
    if let Some(r) = reduction {
        attrs.set("reduction", r);
    }
    cx.op("ScatterElements", &[x, index, updates], attrs)
}

/// `scatter.src(Tensor self, int dim, Tensor index, Tensor src)`
pub fn scatter_src(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    scatter_op(cx, a, a.t("src")?, None)
}

/// `scatter.value(Tensor self, int dim, Tensor index, Scalar value)`
pub fn scatter_value(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let dtype = cx.dtype(a.t("self")?)?;
    let v = Operand::of(a, "value")?;
    let v = value(cx, &v, dtype)?;
    let dims = cx.dims(a.t("index")?)?;
    let v = cx.expand(v, &dims)?;
    scatter_op(cx, a, v, None)
}

/// `scatter_add(Tensor self, int dim, Tensor index, Tensor src)`
pub fn scatter_add(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    scatter_op(cx, a, a.t("src")?, Some("add"))
}

/// `scatter.reduce(Tensor self, int dim, Tensor index, Tensor src, *, str reduce)`, `scatter.value_reduce`
pub fn scatter_with(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let reduction = match &*a.text("reduce")? {
        "add" => "add",
        "multiply" => "mul",
        other => bail!(unsupported, "scatter with {other}"),
    };
    let updates = match a.opt_t("src")? {
        Some(src) => src,
        None => {
            let dtype = cx.dtype(a.t("self")?)?;
            let v = Operand::of(a, "value")?;
            let v = value(cx, &v, dtype)?;
            let dims = cx.dims(a.t("index")?)?;
            cx.expand(v, &dims)?
        }
    };
    scatter_op(cx, a, updates, Some(reduction))
}

/// Ones at the places that an index names, zero elsewhere.
fn hits(cx: &mut Cx, a: &Args, dtype: DType, add: bool) -> Result<ValueId> {
    let (x, index) = (a.t("self")?, as_index(cx, a.t("index")?)?);
    if cx.rank(x)? == 0 {
        return cx.b.scalar(dtype, 1.0);
    }
    let axis = cx.axis(x, a.int("dim")?)?;
    let (dims, wanted) = (cx.dims(x)?, cx.dims(index)?);
    let (zero, one) = (cx.b.scalar(dtype, 0.0)?, cx.b.scalar(dtype, 1.0)?);
    let (base, ones) = (cx.expand(zero, &dims)?, cx.expand(one, &wanted)?);
    let mut attrs = Attrs::new().with("axis", axis as i64);
    if add {
        attrs.set("reduction", "add");
    }
    cx.op("ScatterElements", &[base, index, ones], attrs)
}

/// `scatter_reduce.two(Tensor self, int dim, Tensor index, Tensor src, str reduce, *, bool include_self=True)`
pub fn scatter_reduce(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let (mut x, mut src) = (a.t("self")?, a.t("src")?);
    let reduce = a.text("reduce")?;
    if cx.dtype(x)? == DType::Bool {
        (x, src) = (cx.cast(x, DType::I32)?, cx.cast(src, DType::I32)?);
        let y = scatter_reduced(cx, a, x, src, &reduce)?;
        return cx.cast(y, DType::Bool);
    }
    scatter_reduced(cx, a, x, src, &reduce)
}

fn scatter_reduced(cx: &mut Cx, a: &Args, mut x: ValueId, src: ValueId, reduce: &str) -> Result<ValueId> {
    let (dtype, own) = (cx.dtype(x)?, a.get("include_self").is_none() || a.bool("include_self")?);
    let reduction = match reduce {
        "sum" | "mean" => "add",
        "prod" => "mul",
        "amax" => "max",
        "amin" => "min",
        other => bail!(unsupported, "scatter_reduce with {other}"),
    };
    if !own {
        // Where something arrives, the tensor's own value gives way to one that changes nothing.
        let hit = hits(cx, a, DType::I32, false)?;
        let hit = cx.cast(hit, DType::Bool)?;
        let neutral = match reduction {
            "add" => cx.b.scalar(dtype, 0.0)?,
            "mul" => cx.b.scalar(dtype, 1.0)?,
            "max" => super::reduce::lowest(cx, dtype, false)?,
            _ => super::reduce::lowest(cx, dtype, true)?,
        };
        x = super::elementwise::select(cx, hit, neutral, x)?;
    }
    let y = scatter_into(cx, a, x, src, Some(reduction))?;
    if reduce != "mean" {
        return Ok(y);
    }
    let count = hits(cx, a, dtype, true)?;
    let one = cx.b.scalar(dtype, 1.0)?;
    let count = if own { cx.call("Add", &[count, one])? } else { cx.call("Max", &[count, one])? };
    match dtype.is_int() {
        true => super::elementwise::floor_div_values(cx, y, count, dtype),
        false => cx.call("Div", &[y, count]),
    }
}

/// Adds or writes whole rows `source` at the places `index` of an axis.
fn put_rows(cx: &mut Cx, a: &Args, source: ValueId, reduction: Option<&str>) -> Result<ValueId> {
    let (x, mut index) = (a.t("self")?, a.t("index")?);
    if cx.rank(index)? == 0 {
        index = cx.b.unsqueeze(index, &[0])?;
    }
    if cx.rank(x)? == 0 {
        // A number is a vector of one element here.
        let (x, source) = (cx.b.unsqueeze(x, &[0])?, cx.reshape(source, &cx.dims(index)?)?);
        let y = put_rows_of(cx, x, 0, index, source, reduction)?;
        return cx.b.squeeze(y, &[0]);
    }
    let axis = cx.axis(x, a.int("dim")?)?;
    put_rows_of(cx, x, axis, index, source, reduction)
}

fn put_rows_of(
    cx: &mut Cx,
    x: ValueId,
    axis: usize,
    index: ValueId,
    source: ValueId,
    reduction: Option<&str>,
) -> Result<ValueId> {
    let rank = cx.rank(x)?;
    let mut perm: Vec<usize> = (0..rank).filter(|&i| i != axis).collect();
    perm.insert(0, axis);
    let source = cx.cast(source, cx.dtype(x)?)?;
    let (front, rows) = (cx.b.transpose(x, &perm)?, cx.b.transpose(source, &perm)?);
    let index = cx.cast(index, DType::I64)?;
    let places = cx.b.unsqueeze(index, &[1])?;
    let mut attrs = Attrs::new();
    if let Some(r) = reduction {
        attrs.set("reduction", r);
    }
    let y = cx.op("ScatterND", &[front, places, rows], attrs)?;
    let mut back = vec![0; rank];
    perm.iter().enumerate().for_each(|(i, &p)| back[p] = i);
    cx.b.transpose(y, &back)
}

/// `index_reduce(Tensor self, int dim, Tensor index, Tensor source, str reduce, *, bool include_self=True)`
pub fn index_reduce(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let (x, index, source) = (a.t("self")?, a.t("index")?, a.t("source")?);
    let reduce = a.text("reduce")?;
    let dtype = cx.dtype(x)?;
    let own = a.get("include_self").is_none() || a.bool("include_self")?;
    let (rank0, axis) = (cx.rank(x)? == 0, cx.axis(x, a.int("dim")?)?);
    let count = cx.dims(index)?.into_iter().product::<Dim>();
    let index = cx.reshape(index, std::slice::from_ref(&count))?;
    let (x, source) = match rank0 {
        true => (cx.b.unsqueeze(x, &[0])?, cx.reshape(source, &[count])?),
        false => (x, source),
    };
    let reduction = match &*reduce {
        "mean" => "add",
        "prod" => "mul",
        "amax" => "max",
        "amin" => "min",
        other => bail!(unsupported, "index_reduce with {other}"),
    };
    // How often each row is met.
    let n = cx.size(x, axis)?;
    let places = super::create::range(cx, &n)?;
    let places = cx.b.unsqueeze(places, &[1])?;
    let wide = cx.cast(index, DType::I64)?;
    let met = cx.call("Equal", &[places, wide])?;
    let met = cx.cast(met, DType::I64)?;
    let met = cx.reduce("ReduceSum", met, &[1], false)?;
    let mut shape = vec![Dim::Const(1); cx.rank(x)?];
    shape[axis] = n;
    let met = cx.reshape(met, &shape)?;
    let mut base = x;
    if !own {
        let neutral = match reduction {
            "add" => cx.b.scalar(dtype, 0.0)?,
            "mul" => cx.b.scalar(dtype, 1.0)?,
            "max" => super::reduce::lowest(cx, dtype, false)?,
            _ => super::reduce::lowest(cx, dtype, true)?,
        };
        let zero = cx.b.scalar(DType::I64, 0.0)?;
        let hit = cx.call("Greater", &[met, zero])?;
        base = super::elementwise::select(cx, hit, neutral, x)?;
    }
    let mut y = put_rows_of(cx, base, axis, index, source, Some(reduction))?;
    if reduce == "mean" {
        let one = cx.b.scalar(DType::I64, 1.0)?;
        let count = if own { cx.call("Add", &[met, one])? } else { cx.call("Max", &[met, one])? };
        let count = cx.cast(count, dtype)?;
        y = match dtype.is_int() {
            true => super::elementwise::floor_div_values(cx, y, count, dtype)?,
            false => cx.call("Div", &[y, count])?,
        };
    }
    if rank0 { cx.b.squeeze(y, &[0]) } else { Ok(y) }
}

/// `put(Tensor self, Tensor index, Tensor source, bool accumulate=False)`: over the flattened tensor
pub fn put(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let (x, index, source) = (a.t("self")?, a.t("index")?, a.t("source")?);
    let dims = cx.dims(x)?;
    let (n, m): (Dim, Dim) = (dims.iter().cloned().product(), cx.dims(index)?.into_iter().product());
    let flat = cx.reshape(x, &[n])?;
    let (index, source) = (cx.reshape(index, std::slice::from_ref(&m))?, cx.reshape(source, &[m])?);
    let reduction = if a.bool("accumulate")? { Some("add") } else { None };
    let y = put_rows_of(cx, flat, 0, index, source, reduction)?;
    cx.reshape(y, &dims)
}

/// `index_add(Tensor self, int dim, Tensor index, Tensor source, *, Scalar alpha=1)`
pub fn index_add(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let mut source = a.t("source")?;
    if let Some(alpha) = a.opt_scalar("alpha")?.filter(|s| !s.is(1.0)) {
        let alpha = crate::promote::scalar_value(cx, &alpha, cx.dtype(source)?)?;
        source = cx.call("Mul", &[source, alpha])?;
    }
    put_rows(cx, a, source, Some("add"))
}

/// `index_copy(Tensor self, int dim, Tensor index, Tensor source)`
pub fn index_copy(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    put_rows(cx, a, a.t("source")?, None)
}

/// `index_fill.int_Scalar(Tensor self, int dim, Tensor index, Scalar value)`, `.int_Tensor`
pub fn index_fill(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let x = a.t("self")?;
    let axis = cx.axis(x, a.int("dim")?)?;
    let v = Operand::of(a, "value")?;
    let v = value(cx, &v, cx.dtype(x)?)?;
    let mut dims = cx.dims(x)?;
    let count = cx.dims(a.t("index")?)?.into_iter().product();
    match dims.get_mut(axis) {
        Some(d) => *d = count,
        None => dims.push(count),
    }
    let rows = cx.expand(v, &dims)?;
    put_rows(cx, a, rows, None)
}
