//! Indexing, gathering and scattering.

use crate::args::Args;
use crate::cx::Cx;
use crate::promote::{Operand, value};
use oxrt_ir::{Attrs, DType, Dim, ValueId};
use oxrt_tensor::{Error, Result, bail};

/// `embedding(Tensor weight, Tensor indices, SymInt padding_idx=-1, …)`
pub fn embedding(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    cx.op("Gather", &[a.t("weight")?, a.t("indices")?], Attrs::new().with("axis", 0))
}

/// `index_select(Tensor self, int dim, Tensor index)`
pub fn index_select(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let x = a.t("self")?;
    let mut index = a.t("index")?;
    if cx.rank(index)? == 0 {
        index = cx.b.unsqueeze(index, &[0])?;
    }
    if cx.rank(x)? == 0 {
        return cx.reshape(x, &a.out_dims()?);
    }
    let axis = cx.axis(x, a.int("dim")?)?;
    cx.op("Gather", &[x, index], Attrs::new().with("axis", axis as i64))
}

/// `_unsafe_masked_index(Tensor self, Tensor mask, Tensor?[] indices, Scalar fill)`: places where the mask is false are
/// not looked at
pub fn unsafe_masked_index(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let (x, mask, indices) = (a.t("self")?, a.t("mask")?, clamped(cx, a)?);
    let picked = gathered(cx, x, &indices)?;
    let fill = crate::promote::scalar_value(cx, &a.scalar("fill")?, cx.dtype(x)?)?;
    super::elementwise::select(cx, mask, picked, fill)
}

/// `_unsafe_masked_index_put_accumulate(Tensor self, Tensor mask, Tensor?[] indices, Tensor values)`
pub fn unsafe_masked_index_put(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let (x, mask, values) = (a.t("self")?, a.t("mask")?, a.t("values")?);
    let zero = cx.like(values, 0.0)?;
    let values = super::elementwise::select(cx, mask, values, zero)?;
    let indices = clamped(cx, a)?;
    scattered(cx, x, &indices, values, true)
}

/// The indices, brought inside the tensor.
fn clamped(cx: &mut Cx, a: &Args) -> Result<Vec<Option<ValueId>>> {
    let dims = cx.dims(a.t("self")?)?;
    let mut out = Vec::new();
    for (v, d) in a.opt_ts("indices")?.into_iter().zip(&dims) {
        let Some(v) = v else {
            out.push(None);
            continue;
        };
        let v = cx.cast(v, DType::I64)?;
        let (low, high) = (cx.dim_scalar(&-d.clone())?, cx.dim_scalar(&(d.clone() - 1))?);
        let v = cx.call("Max", &[v, low])?;
        out.push(Some(cx.call("Min", &[v, high])?));
    }
    Ok(out)
}

/// `embedding_renorm(Tensor self, Tensor indices, float max_norm, float norm_type)`: rows that are looked up and longer
/// than allowed are shortened
pub fn embedding_renorm(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let (w, index) = (a.t("self")?, a.t("indices")?);
    let (dtype, rows) = (cx.dtype(w)?, cx.size(w, 0)?);
    let count = cx.dims(index)?.into_iter().product();
    let index = cx.reshape(index, &[count])?;
    let index = cx.cast(index, DType::I64)?;
    let places = super::create::range(cx, &rows)?;
    let places = cx.b.unsqueeze(places, &[1])?;
    let met = cx.call("Equal", &[places, index])?;
    let met = cx.cast(met, DType::I32)?;
    let met = cx.reduce("ReduceMax", met, &[1], true)?;
    let met = cx.cast(met, DType::Bool)?;
    let norm = super::reduce::norm_of(cx, w, a.float("norm_type")?, &[1], true)?;
    use super::formula::F;
    let (norm, most) = (F::from(norm), a.float("max_norm")?);
    let long = F::from(met).and(norm.gt(most));
    long.pick(F::from(w) * (most / (norm + 1e-7)), F::from(w)).emit(cx, dtype)
}

/// `nonzero_static(Tensor self, *, SymInt size, int fill_value=-1)`: cut or filled up to a number of rows
pub fn nonzero_static(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let x = a.t("self")?;
    let rank = cx.rank(x)?;
    let mask = cx.cast(x, DType::Bool)?;
    let total: Dim = cx.dims(x)?.into_iter().product();
    let (size, fill) = (a.dim("size")?, a.int("fill_value")?);
    // The true places first, in order, by sorting; what is beyond their number is filled.
    let flat = cx.reshape(mask, std::slice::from_ref(&total))?;
    let places = super::create::range(cx, &total)?;
    let beyond = cx.dim_scalar(&total)?;
    let keys = cx.call("Where", &[flat, places, beyond])?;
    let filler =
        super::create::filled(cx, DType::I64, std::slice::from_ref(&size), &crate::args::Scalar::Int(total.clone()))?;
    let keys = cx.concat(&[keys, filler], 0)?;
    let k = cx.b.dim_value(&size)?;
    let attrs = Attrs::new().with("axis", 0).with("largest", 0).with("sorted", 1);
    let first = cx.b.op_multi("TopK", &[Some(keys), Some(k)], attrs, 2)?[0];
    let valid = cx.call("Less", &[first, beyond])?;
    let mut columns = Vec::new();
    let mut stride = total;
    for d in cx.dims(x)? {
        // Coordinate along this axis: (place / stride) mod size.
        stride = stride.floor_div(&d.at_least(&Dim::Const(1)));
        let (by, d) = (cx.dim_scalar(&stride.at_least(&Dim::Const(1)))?, cx.dim_scalar(&d.at_least(&Dim::Const(1)))?);
        let q = cx.call("Div", &[first, by])?;
        let c = cx.call("Mod", &[q, d])?;
        let none = cx.b.scalar(DType::I64, fill as f64)?;
        let c = cx.call("Where", &[valid, c, none])?;
        columns.push(cx.b.unsqueeze(c, &[1])?);
    }
    match rank {
        0 => super::create::filled(cx, DType::I64, &a.out_dims()?, &crate::args::Scalar::Int(Dim::Const(0))),
        _ => cx.concat(&columns, 1),
    }
}

/// Reads indices of the wrong integer type as i64.
pub(crate) fn as_index(cx: &mut Cx, v: ValueId) -> Result<ValueId> {
    match cx.dtype(v)? {
        DType::I64 | DType::I32 => Ok(v),
        _ => cx.cast(v, DType::I64),
    }
}

/// Index tensors over leading axes: booleans become the places where they are true.
struct Picks {
    /// One per indexed axis, in rising order of the axes, all of one shape.
    indices: Vec<ValueId>,
    axes: Vec<usize>,
    /// Shape that the indices share.
    dims: Vec<Dim>,
    /// Where the picked axes stand in the result.
    place: usize,
}

fn picks(cx: &mut Cx, x: ValueId, given: &[Option<ValueId>], count: Option<Dim>) -> Result<Picks> {
    let rank = cx.rank(x)?;
    let (mut axes, mut indices, mut axis) = (Vec::new(), Vec::new(), 0);
    for v in given {
        let Some(v) = *v else {
            axis += 1;
            continue;
        };
        if matches!(cx.dtype(v)?, DType::Bool | DType::U8) {
            let n = cx.rank(v)?;
            for place in true_places(cx, v, count.clone())? {
                indices.push(place);
                axes.push(axis);
                axis += 1;
            }
            if n == 0 {
                bail!(unsupported, "indexing with a single boolean");
            }
        } else {
            indices.push(as_index(cx, v)?);
            axes.push(axis);
            axis += 1;
        }
    }
    if axis > rank || axes.is_empty() {
        bail!(invalid, "{axis} indices for a tensor of rank {rank}");
    }
    let dims = {
        let all = indices.iter().map(|&v| cx.dims(v)).collect::<Result<Vec<_>>>()?;
        oxrt_ops::shape::broadcast_dims(&all.iter().map(Vec::as_slice).collect::<Vec<_>>())?
    };
    let adjacent = axes.windows(2).all(|w| w[1] == w[0] + 1);
    let place = if adjacent { axes[0] } else { 0 };
    Ok(Picks { indices, axes, dims, place })
}

/// Coordinates of the true elements, one vector per axis.
fn true_places(cx: &mut Cx, mask: ValueId, count: Option<Dim>) -> Result<Vec<ValueId>> {
    let rank = cx.rank(mask)?;
    let mask = cx.cast(mask, DType::Bool)?;
    let places = cx.call("NonZero", &[mask])?;
    if let Some(n) = count {
        cx.b.graph[places].ty = oxrt_ir::ValueType::tensor(DType::I64, vec![Dim::from(rank), n]);
        cx.b.note_symbols(places);
    }
    (0..rank)
        .map(|i| {
            let i = cx.b.scalar(DType::I64, i as f64)?;
            cx.op("Gather", &[places, i], Attrs::new().with("axis", 0))
        })
        .collect()
}

impl Picks {
    /// Axes in the order: picked, rest.
    fn front(&self, rank: usize) -> Vec<usize> {
        let rest = (0..rank).filter(|i| !self.axes.contains(i));
        self.axes.iter().copied().chain(rest).collect()
    }

    /// The index tensors as one, coordinates along the last axis.
    fn coordinates(&self, cx: &mut Cx) -> Result<ValueId> {
        let mut parts = Vec::new();
        for &v in &self.indices {
            let v = cx.cast(v, DType::I64)?;
            let v = cx.expand(v, &self.dims)?;
            parts.push(cx.b.unsqueeze(v, &[self.dims.len() as i64])?);
        }
        cx.concat(&parts, self.dims.len())
    }

    /// Order of the axes `[picked…, rest…]` that puts the picked ones at their place.
    fn placed(&self, rest: usize) -> Vec<usize> {
        let n = self.dims.len();
        let before = (n..n + self.place).collect::<Vec<_>>();
        let after = n + self.place..n + rest;
        before.into_iter().chain(0..n).chain(after).collect()
    }
}

/// `index.Tensor(Tensor self, Tensor?[] indices)`, `_unsafe_index`
pub fn index(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let (x, given) = (a.t("self")?, a.opt_ts("indices")?);
    if let [only] = given.iter().flatten().collect::<Vec<_>>()[..] {
        if !matches!(cx.dtype(*only)?, DType::Bool | DType::U8) {
            let axis = given.iter().position(Option::is_some).unwrap_or(0);
            let i = as_index(cx, *only)?;
            return cx.op("Gather", &[x, i], Attrs::new().with("axis", axis as i64));
        }
    }
    let count = masked_count(cx, a, &given)?;
    gathered_with(cx, x, &given, count)
}

fn gathered(cx: &mut Cx, x: ValueId, given: &[Option<ValueId>]) -> Result<ValueId> {
    gathered_with(cx, x, given, None)
}

fn gathered_with(cx: &mut Cx, x: ValueId, given: &[Option<ValueId>], count: Option<Dim>) -> Result<ValueId> {
    let rank = cx.rank(x)?;
    let p = picks(cx, x, given, count)?;
    if let ([axis], [i]) = (&p.axes[..], &p.indices[..]) {
        return cx.op("Gather", &[x, *i], Attrs::new().with("axis", *axis as i64));
    }
    let front = cx.b.transpose(x, &p.front(rank))?;
    let coordinates = p.coordinates(cx)?;
    let y = cx.call("GatherND", &[front, coordinates])?;
    cx.b.transpose(y, &p.placed(rank - p.axes.len()))
}

/// The number of true elements that the program names, from the result's shape.
fn masked_count(cx: &Cx, a: &Args, given: &[Option<ValueId>]) -> Result<Option<Dim>> {
    let mask = given.iter().position(|v| v.is_some_and(|v| matches!(cx.dtype(v), Ok(DType::Bool | DType::U8))));
    let Some(at) = mask else { return Ok(None) };
    let alone = given.iter().flatten().count() == 1;
    Ok(a.out_dims.as_ref().filter(|_| alone).and_then(|d| d.get(at)).cloned())
}

/// `index_put(Tensor self, Tensor?[] indices, Tensor values, bool accumulate=False)`
pub fn index_put(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let (x, given) = (a.t("self")?, a.opt_ts("indices")?);
    let (rank, dtype) = (cx.rank(x)?, cx.dtype(x)?);
    let values = cx.cast(a.t("values")?, dtype)?;
    let accumulate = a.bool("accumulate")?;
    // A mask with one value for all (or one per remaining axis) is a choice, not a scatter.
    if let [Some(mask)] = given[..] {
        let is_mask = matches!(cx.dtype(mask)?, DType::Bool | DType::U8);
        let mask_rank = cx.rank(mask)?;
        let value_dims = cx.dims(values)?;
        let rest = rank - mask_rank.min(rank);
        let broadcast = value_dims.len() <= rest || value_dims.len() == rest + 1 && value_dims[0].is(1);
        if is_mask && broadcast && !accumulate {
            let mut mask = cx.cast(mask, DType::Bool)?;
            if rest > 0 {
                let axes: Vec<i64> = (mask_rank as i64..rank as i64).collect();
                mask = cx.b.unsqueeze(mask, &axes)?;
            }
            let values = if value_dims.len() == rest + 1 { cx.b.squeeze(values, &[0])? } else { values };
            let y = super::elementwise::select(cx, mask, values, x)?;
            let dims = cx.dims(x)?;
            return cx.expand(y, &dims);
        }
    }
    scattered(cx, x, &given, values, accumulate)
}

fn scattered(cx: &mut Cx, x: ValueId, given: &[Option<ValueId>], values: ValueId, accumulate: bool) -> Result<ValueId> {
    let rank = cx.rank(x)?;
    let p = picks(cx, x, given, None)?;
    let order = p.front(rank);
    let front = cx.b.transpose(x, &order)?;
    let coordinates = p.coordinates(cx)?;
    // Values have the shape of the indexed result; bring its picked axes to the front.
    let x_dims = cx.dims(x)?;
    let rest: Vec<Dim> = order[p.axes.len()..].iter().map(|&i| x_dims[i].clone()).collect();
    let mut target: Vec<Dim> = rest[..p.place.min(rest.len())].to_vec();
    target.extend(p.dims.iter().cloned());
    target.extend(rest[p.place.min(rest.len())..].iter().cloned());
    let values = cx.expand(values, &target)?;
    let placed = p.placed(rest.len());
    let mut back = vec![0; placed.len()];
    placed.iter().enumerate().for_each(|(i, &q)| back[q] = i);
    let values = cx.b.transpose(values, &back)?;
    let attrs = if accumulate { Attrs::new().with("reduction", "add") } else { Attrs::new() };
    let y = cx.op("ScatterND", &[front, coordinates, values], attrs)?;
    let mut undo = vec![0; rank];
    order.iter().enumerate().for_each(|(i, &q)| undo[q] = i);
    cx.b.transpose(y, &undo)
}

/// `gather(Tensor self, int dim, Tensor index, *, bool sparse_grad=False)`
pub fn gather(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let (x, index) = (a.t("self")?, a.t("index")?);
    if cx.rank(x)? == 0 {
        return cx.expand(x, &a.out_dims()?);
    }
    let axis = cx.axis(x, a.int("dim")?)?;
    let index = as_index(cx, index)?;
    let wanted = cx.dims(index)?;
    if wanted.iter().any(|d| d.is(0)) {
        // An index of nothing may have any shape.
        let dtype = cx.dtype(x)?;
        return super::create::filled(cx, dtype, &wanted, &crate::args::Scalar::Int(Dim::Const(0)));
    }
    if wanted.is_empty() {
        return cx.op("Gather", &[x, index], Attrs::new().with("axis", axis as i64));
    }
    cx.op("GatherElements", &[x, index], Attrs::new().with("axis", axis as i64))
}

/// `take_along_dim(Tensor self, Tensor indices, int? dim=None)`
pub fn take_along_dim(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let (mut x, mut index) = (a.t("self")?, a.t("indices")?);
    let axis = match a.opt_int("dim")? {
        Some(d) => cx.axis(x, d)?,
        None => {
            let (n, m) = (cx.dims(x)?.into_iter().product(), cx.dims(index)?.into_iter().product());
            (x, index) = (cx.reshape(x, &[n])?, cx.reshape(index, &[m])?);
            0
        }
    };
    // The two broadcast against each other on the other axes.
    let (mut dx, mut di) = (cx.dims(x)?, cx.dims(index)?);
    let all = oxrt_ops::shape::broadcast_dims(&[&without(&dx, axis), &without(&di, axis)])?;
    for (i, d) in (0..dx.len()).filter(|&i| i != axis).zip(all) {
        (dx[i], di[i]) = (d.clone(), d);
    }
    let (x, index) = (cx.expand(x, &dx)?, cx.expand(index, &di)?);
    cx.op("GatherElements", &[x, index], Attrs::new().with("axis", axis as i64))
}

fn without(dims: &[Dim], axis: usize) -> Vec<Dim> {
    dims.iter().enumerate().filter(|(i, _)| *i != axis).map(|(_, d)| d.clone()).collect()
}

/// `take(Tensor self, Tensor index)`
pub fn take(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let x = a.t("self")?;
    let total = cx.dims(x)?.into_iter().product();
    let flat = cx.reshape(x, &[total])?;
    cx.op("Gather", &[flat, a.t("index")?], Attrs::new().with("axis", 0))
}

/// `nonzero(Tensor self)`, `argwhere`: one row per element
pub fn nonzero(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let x = a.t("self")?;
    let x = cx.cast(x, DType::Bool)?;
    let dims = a.out_dims()?;
    if cx.rank(x)? == 0 {
        // A number has no coordinates, and one row of them when it is not zero.
        let wide = cx.b.unsqueeze(x, &[0])?;
        let places = cx.call("NonZero", &[wide])?;
        let places = cx.slice(places, 0, &Dim::Const(0), &Dim::Const(0), 1)?;
        if let Some(n) = dims.first() {
            cx.b.graph[places].ty = oxrt_ir::ValueType::tensor(DType::I64, vec![Dim::Const(0), n.clone()]);
        }
        return cx.b.transpose(places, &[1, 0]);
    }
    let places = cx.call("NonZero", &[x])?;
    if let [n, rank] = &dims[..] {
        cx.b.graph[places].ty = oxrt_ir::ValueType::tensor(DType::I64, vec![rank.clone(), n.clone()]);
        cx.b.note_symbols(places);
    }
    cx.b.transpose(places, &[1, 0])
}

/// `nonzero_numpy(Tensor self)`, `where(Tensor condition)`: one vector per axis
pub fn nonzero_numpy(cx: &mut Cx, a: &Args) -> Result<Vec<ValueId>> {
    let x = if a.has("self") { a.t("self")? } else { a.t("condition")? };
    let count = a.out_dims()?.first().cloned();
    true_places(cx, x, count)
}

/// `masked_select(Tensor self, Tensor mask)`
pub fn masked_select(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let (x, mask) = (a.t("self")?, a.t("mask")?);
    let dims = oxrt_ops::shape::broadcast_dims(&[&cx.dims(x)?, &cx.dims(mask)?])?;
    let (x, mask) = (cx.expand(x, &dims)?, cx.expand(mask, &dims)?);
    let n: Dim = dims.into_iter().product();
    let (x, mask) = (cx.reshape(x, std::slice::from_ref(&n))?, cx.reshape(mask, &[n])?);
    let places = true_places(cx, mask, a.out_dims()?.first().cloned())?;
    cx.op("Gather", &[x, places[0]], Attrs::new().with("axis", 0))
}

/// `masked_scatter(Tensor self, Tensor mask, Tensor source)`: the k-th true element takes the k-th source
pub fn masked_scatter(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let (x, mask, source) = (a.t("self")?, a.t("mask")?, a.t("source")?);
    let dims = oxrt_ops::shape::broadcast_dims(&[&cx.dims(x)?, &cx.dims(mask)?])?;
    let x = cx.expand(x, &dims)?;
    let mask = cx.expand(mask, &dims)?;
    let (n, m): (Dim, Dim) = (dims.iter().cloned().product(), cx.dims(source)?.into_iter().product());
    let (flat, source) = (cx.reshape(mask, &[n])?, cx.reshape(source, std::slice::from_ref(&m))?);
    let counted = cx.cast(flat, DType::I64)?;
    let zero = cx.b.scalar(DType::I64, 0.0)?;
    let rank = cx.call("CumSum", &[counted, zero])?;
    let one = cx.b.scalar(DType::I64, 1.0)?;
    let place = cx.call("Sub", &[rank, one])?;
    // Places of false elements are not used, but must exist.
    let last = cx.dim_scalar(&(m - 1))?;
    let place = cx.call("Max", &[place, zero])?;
    let place = cx.call("Min", &[place, last])?;
    let picked = cx.op("Gather", &[source, place], Attrs::new().with("axis", 0))?;
    let picked = cx.reshape(picked, &dims)?;
    super::elementwise::select(cx, mask, picked, x)
}

/// `repeat_interleave.self_Tensor(Tensor self, Tensor repeats, int? dim=None, …)`
pub fn repeat_interleave_tensor(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let (mut x, repeats) = (a.t("self")?, a.t("repeats")?);
    let axis = match a.opt_int("dim")? {
        Some(d) => cx.axis(x, d)?,
        None => {
            let total = cx.dims(x)?.into_iter().product();
            x = cx.reshape(x, &[total])?;
            0
        }
    };
    let n = cx.size(x, axis)?;
    let repeats = cx.expand(repeats, &[n])?;
    let source = repeated_places(cx, repeats)?;
    cx.op("Gather", &[x, source], Attrs::new().with("axis", axis as i64))
}

/// `repeat_interleave.Tensor(Tensor repeats, *, SymInt? output_size=None)`: place `i`, `repeats[i]` times
pub fn repeated_indices(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let repeats = a.t("repeats")?;
    let places = repeated_places(cx, repeats)?;
    cx.cast(places, a.out_dtype()?)
}

/// Row r of the result comes from the first source whose running total exceeds r.
fn repeated_places(cx: &mut Cx, repeats: ValueId) -> Result<ValueId> {
    let repeats = cx.cast(repeats, DType::I64)?;
    let (zero, one) = (cx.b.scalar(DType::I64, 0.0)?, cx.b.scalar(DType::I64, 1.0)?);
    let ends = cx.call("CumSum", &[repeats, zero])?;
    let total = cx.reduce("ReduceSum", repeats, &[], false)?;
    let rows = cx.call("Range", &[zero, total, one])?;
    let rows = cx.b.unsqueeze(rows, &[1])?;
    let passed = cx.call("LessOrEqual", &[ends, rows])?;
    let passed = cx.cast(passed, DType::I64)?;
    cx.reduce("ReduceSum", passed, &[1], false)
}

/// `unique_consecutive(Tensor self, bool return_inverse=False, bool return_counts=False, int? dim=None)`
pub fn unique_consecutive(cx: &mut Cx, a: &Args) -> Result<Vec<ValueId>> {
    let x = a.t("self")?;
    // Along an axis whole slices are compared; without one, the elements in a row.
    let (flat, axis, n, shape) = match a.opt_int("dim")? {
        Some(axis) => {
            let axis = cx.axis(x, axis)?;
            let n = cx.size(x, axis)?;
            (x, axis, n.clone(), vec![n])
        }
        None => {
            let shape = cx.dims(x)?;
            let n: Dim = shape.iter().cloned().product();
            (cx.reshape(x, std::slice::from_ref(&n))?, 0, n, shape)
        }
    };
    let later = cx.slice(flat, axis, &Dim::Const(1), &Dim::Const(i64::MAX), 1)?;
    let earlier = cx.slice(flat, axis, &Dim::Const(0), &Dim::Const(-1), 1)?;
    let same = cx.call("Equal", &[later, earlier])?;
    let changed = cx.call("Not", &[same])?;
    let others: Vec<usize> = (0..cx.rank(changed)?).filter(|&i| i != axis).collect();
    let changed = if others.is_empty() {
        changed
    } else {
        let changed = cx.cast(changed, DType::I32)?;
        let changed = cx.reduce("ReduceMax", changed, &others, false)?;
        cx.cast(changed, DType::Bool)?
    };
    let first = super::create::filled(cx, DType::Bool, &[Dim::Const(1)], &crate::args::Scalar::Bool(true))?;
    let mut starts = cx.concat(&[first, changed], 0)?;
    if n.is(0) {
        starts = cx.slice(starts, 0, &Dim::Const(0), &n, 1)?;
    }
    let places = true_places(cx, starts, a.out_dims()?.get(axis).cloned())?[0];
    let values = cx.op("Gather", &[flat, places], Attrs::new().with("axis", axis as i64))?;
    let (zero, one) = (cx.b.scalar(DType::I64, 0.0)?, cx.b.scalar(DType::I64, 1.0)?);
    let counted = cx.cast(starts, DType::I64)?;
    let rank = cx.call("CumSum", &[counted, zero])?;
    let inverse = cx.call("Sub", &[rank, one])?;
    let inverse = cx.reshape(inverse, &shape)?;
    let end = cx.b.dim_value(&n)?;
    let ends = cx.concat(&[places, end], 0)?;
    let ends = cx.slice(ends, 0, &Dim::Const(1), &Dim::Const(i64::MAX), 1)?;
    Ok(vec![values, inverse, cx.call("Sub", &[ends, places])?])
}

/// `isin.Tensor_Tensor(Tensor elements, Tensor test_elements, *, bool assume_unique=False, bool invert=False)`, `.Tensor_Scalar`,
/// `.Scalar_Tensor`
pub fn isin(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let named = |many: &'static str, one: &'static str| Operand::of(a, if a.has(many) { many } else { one });
    let (x, set) = (named("elements", "element")?, named("test_elements", "test_element")?);
    let dtype = crate::promote::result_type(cx, &[&x, &set])?;
    let (x, set) = (value(cx, &x, dtype)?, value(cx, &set, dtype)?);
    let n = cx.dims(set)?.into_iter().product();
    let set = cx.reshape(set, &[n])?;
    let x = cx.b.unsqueeze(x, &[-1])?;
    let hit = cx.call("Equal", &[x, set])?;
    let hit = cx.cast(hit, DType::I32)?;
    let rank = cx.rank(hit)?;
    let any = cx.reduce("ReduceMax", hit, &[rank - 1], false)?;
    let any = cx.cast(any, DType::Bool)?;
    if a.bool("invert")? { cx.call("Not", &[any]) } else { Ok(any) }
}

/// `searchsorted.Tensor(Tensor sorted_sequence, Tensor self, *, bool out_int32=False, bool right=False, …)`,
/// `bucketize.Tensor(Tensor self, Tensor boundaries, *, bool out_int32=False, bool right=False)`
pub fn searchsorted(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let bucketize = a.target.starts_with("aten.bucketize");
    let sequence = a.t(if bucketize { "boundaries" } else { "sorted_sequence" })?;
    let sequence = match a.opt_t("sorter")? {
        Some(order) => cx.op("GatherElements", &[sequence, order], Attrs::new().with("axis", -1))?,
        None => sequence,
    };
    let x = Operand::of(a, "self")?;
    let dtype = crate::promote::result_type(cx, &[&x, &Operand::Tensor(sequence)])?;
    let (x, sequence) = (value(cx, &x, dtype)?, cx.cast(sequence, dtype)?);
    let right = a.bool("right")? || a.has("side") && a.text("side")? == "right";
    // The number of elements that come before.
    let x = cx.b.unsqueeze(x, &[-1])?;
    let sequence = if cx.rank(sequence)? > 1 { cx.b.unsqueeze(sequence, &[-2])? } else { sequence };
    let before = cx.call(if right { "LessOrEqual" } else { "Less" }, &[sequence, x])?;
    let before = cx.cast(before, DType::I64)?;
    let rank = cx.rank(before)?;
    let count = cx.reduce("ReduceSum", before, &[rank - 1], false)?;
    cx.cast(count, a.out_dtype()?)
}

/// `bincount(Tensor self, Tensor? weights=None, SymInt minlength=0)`
pub fn bincount(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let x = a.t("self")?;
    let x = cx.cast(x, DType::I64)?;
    let (zero, one) = (cx.b.scalar(DType::I64, 0.0)?, cx.b.scalar(DType::I64, 1.0)?);
    let top = cx.reduce("ReduceMax", x, &[], false)?;
    let bins = cx.call("Add", &[top, one])?;
    let least = cx.dim_scalar(&a.dim("minlength")?)?;
    let bins = cx.call("Max", &[bins, least])?;
    let places = cx.call("Range", &[zero, bins, one])?;
    let places = cx.b.unsqueeze(places, &[1])?;
    let hit = cx.call("Equal", &[places, x])?;
    let hit = match a.opt_t("weights")? {
        Some(w) => {
            let dtype = a.out_dtype()?;
            let (hit, w) = (cx.cast(hit, dtype)?, cx.cast(w, dtype)?);
            cx.call("Mul", &[hit, w])?
        }
        None => cx.cast(hit, DType::I64)?,
    };
    cx.reduce("ReduceSum", hit, &[1], false)
}

/// `embedding_bag.padding_idx(Tensor weight, Tensor indices, Tensor offsets, …, int mode=0, …, Tensor?
/// per_sample_weights, bool include_last_offset, int? padding_idx)`, `_embedding_bag_forward_only`
pub fn embedding_bag(cx: &mut Cx, a: &Args) -> Result<Vec<ValueId>> {
    let (weight, indices, offsets) = (a.t("weight")?, a.t("indices")?, a.t("offsets")?);
    let mode = a.int("mode")?;
    let offsets = match a.bool("include_last_offset")? {
        // The last one says where the last bag ends, which is where the indices end.
        true => cx.slice(offsets, 0, &Dim::Const(0), &Dim::Const(-1), 1)?,
        false => offsets,
    };
    let dtype = cx.dtype(weight)?;
    // Bag of each index: the number of offsets up to it, less one; as a 0/1 matrix [bags, indices].
    let n = cx.size(indices, 0)?;
    let places = super::create::range(cx, &n)?;
    let offsets = cx.cast(offsets, DType::I64)?;
    let starts = cx.b.unsqueeze(offsets, &[1])?;
    let begun = cx.call("LessOrEqual", &[starts, places])?;
    let begun = cx.cast(begun, DType::I64)?;
    let bag = cx.reduce("ReduceSum", begun, &[0], false)?;
    let bags = cx.size(offsets, 0)?;
    let numbers = super::create::range(cx, &(bags.clone() + 1))?;
    let numbers = cx.slice(numbers, 0, &Dim::Const(1), &Dim::Const(i64::MAX), 1)?;
    let numbers = cx.b.unsqueeze(numbers, &[1])?;
    let mut member = cx.call("Equal", &[numbers, bag])?;
    if let Some(padding) = a.opt_int("padding_idx")?.filter(|&p| p >= 0) {
        let p = cx.like(indices, padding as f64)?;
        let is = cx.call("Equal", &[indices, p])?;
        let real = cx.call("Not", &[is])?;
        member = cx.call("And", &[member, real])?;
    }
    let rows = cx.op("Gather", &[weight, indices], Attrs::new().with("axis", 0))?;
    if mode == 2 {
        // The largest per feature; an empty bag gives 0.
        let wide = cx.b.unsqueeze(member, &[2])?;
        let fill = super::reduce::lowest(cx, dtype, false)?;
        let grid = cx.call("Where", &[wide, rows, fill])?;
        let top = cx.reduce("ReduceMax", grid, &[1], false)?;
        let any = cx.cast(member, DType::I32)?;
        let any = cx.reduce("ReduceMax", any, &[1], true)?;
        let any = cx.cast(any, DType::Bool)?;
        let zero = cx.b.scalar(dtype, 0.0)?;
        return Ok(vec![cx.call("Where", &[any, top, zero])?]);
    }
    let mut member = cx.cast(member, dtype)?;
    let count = cx.reduce("ReduceSum", member, &[1], true)?;
    if let Some(w) = a.opt_t("per_sample_weights")? {
        member = cx.call("Mul", &[member, w])?;
    }
    let mut y = cx.call("MatMul", &[member, rows])?;
    if mode == 1 {
        let one = cx.b.scalar(dtype, 1.0)?;
        let count = cx.call("Max", &[count, one])?;
        y = cx.call("Div", &[y, count])?;
    }
    Ok(vec![y])
}

fn unique_op(cx: &mut Cx, a: &Args, attrs: Attrs) -> Result<Vec<ValueId>> {
    let x = a.t("self")?;
    let out = cx.b.op_multi("Unique", &[Some(x)], attrs, 4)?;
    // (values, inverse, counts); ONNX puts the first places second.
    let shape = cx.dims(x)?;
    let inverse = if a.has("dim") { out[2] } else { cx.reshape(out[2], &shape)? };
    Ok(vec![out[0], inverse, out[3]])
}

/// `_unique2(Tensor self, bool sorted=True, bool return_inverse=False, bool return_counts=False)`
pub fn unique(cx: &mut Cx, a: &Args) -> Result<Vec<ValueId>> {
    unique_op(cx, a, Attrs::new().with("sorted", 1))
}

/// `unique_dim(Tensor self, int dim, bool sorted=True, bool return_inverse=False, bool return_counts=False)`
pub fn unique_dim(cx: &mut Cx, a: &Args) -> Result<Vec<ValueId>> {
    let axis = cx.axis(a.t("self")?, a.int("dim")?)?;
    unique_op(cx, a, Attrs::new().with("sorted", 1).with("axis", axis as i64))
}

/// `grouped_mm_fallback(Tensor input, Tensor weight, Tensor offs)` of transformers: rows sorted by group,
/// `out[r] = input[r] · weight[g(r)]`, `offs` the running number of rows per group
pub fn grouped_mm(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let (x, w, offs) = (a.t("input")?, a.t("weight")?, a.t("offs")?);
    let rows = cx.size(x, 0)?;
    let groups = cx.static_size(w, 0, "grouped_mm")?;
    if groups > 4096 {
        bail!(unsupported, "a product of {groups} groups");
    }
    let places = super::create::range(cx, &rows)?;
    let offs = cx.cast(offs, DType::I64)?;
    let places = cx.b.unsqueeze(places, &[1])?;
    // One product per group over all rows, masked to the rows of the group, summed.
    let ended = cx.call("LessOrEqual", &[offs, places])?;
    let ended = cx.cast(ended, DType::I64)?;
    let group = cx.reduce("ReduceSum", ended, &[1], true)?;
    let zero = cx.like(x, 0.0)?;
    let mut sum: Option<ValueId> = None;
    for g in 0..groups {
        let number = cx.b.scalar(DType::I64, g as f64)?;
        let mine = cx.call("Equal", &[group, number])?;
        let part = cx.call("Where", &[mine, x, zero])?;
        let weight = cx.op("Gather", &[w, number], Attrs::new().with("axis", 0))?;
        let y = cx.call("MatMul", &[part, weight])?;
        sum = Some(match sum {
            Some(s) => cx.call("Add", &[s, y])?,
            None => y,
        });
    }
    sum.ok_or_else(|| Error::invalid("a grouped product without groups"))
}
