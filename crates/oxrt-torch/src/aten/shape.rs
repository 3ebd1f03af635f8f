//! Views, copies, joins and splits.

use crate::alias::{Index, Shown, View};
use crate::args::Args;
use crate::cx::Cx;
use crate::promote::{Operand, result_type, value};
use oxrt_ir::{Attrs, Dim, ValueId};
use oxrt_tensor::{Result, bail};

// ---- views of the same elements ----

/// `alias(Tensor self)`, `detach`, `lift_fresh_copy`, `view_as_real` and others that pass their input on
pub fn same(_: &mut Cx, _: &Args) -> Result<Shown> {
    Ok(View::Same.into())
}

/// `dropout(Tensor input, float p, bool train)`, `feature_dropout`, `alpha_dropout`
pub fn dropout(cx: &mut Cx, a: &Args) -> Result<Shown> {
    if a.bool("train")? && a.float("p")? != 0.0 {
        cx.warn(
            "the model was exported in training mode: dropout is left out (call `model.eval()` before exporting)"
                .into(),
        );
    }
    Ok(View::Same.into())
}

/// `contiguous(Tensor self, *, MemoryFormat memory_format=contiguous_format)`: a copy when the layout differs
pub fn contiguous(cx: &mut Cx, a: &Args) -> Result<Shown> {
    let already = a.first_name.map_or(Ok(true), |n| cx.is_contiguous(n))?;
    Ok(if already { View::Same.into() } else { Shown::Copy(a.t("self")?) })
}

/// `clone(Tensor self, *, MemoryFormat? memory_format=None)`
pub fn clone(_: &mut Cx, a: &Args) -> Result<ValueId> {
    a.t("self")
}

/// `to.dtype(Tensor self, ScalarType dtype, bool non_blocking=False, bool copy=False, …)`,
/// `to.dtype_layout`, `to.device`, `to.other`, `type_as`
pub fn to(cx: &mut Cx, a: &Args) -> Result<Shown> {
    let x = a.t("self")?;
    let wanted = match a.opt_t("other")? {
        Some(other) => Some(cx.dtype(other)?),
        None => a.dtype("dtype")?,
    };
    match wanted {
        Some(d) if d != cx.dtype(x)? => super::elementwise::cast_to(cx, x, d).map(Shown::Copy),
        _ if a.bool("copy")? => Ok(Shown::Copy(x)),
        _ => Ok(View::Same.into()),
    }
}

/// `view.dtype(Tensor self, ScalarType dtype)`: the bits under another type
pub fn view_dtype(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let (x, Some(d)) = (a.t("self")?, a.dtype("dtype")?) else { bail!(invalid, "no element type") };
    let from = cx.dtype(x)?;
    if from.bits() != d.bits() {
        bail!(unsupported, "a view of {from} as {d}");
    }
    if from == d {
        return Ok(x);
    }
    cx.op("BitCast", &[x], Attrs::new().with("to", d.to_onnx() as i64))
}

// ---- reshapes ----

/// `view(Tensor self, SymInt[] size)`, `_unsafe_view`
pub fn view(_: &mut Cx, a: &Args) -> Result<Shown> {
    Ok(View::Reshape(a.out_dims()?).into())
}

/// `reshape(Tensor self, SymInt[] shape)`, `flatten`, `view_as`, `unflatten`…: a view where strides allow
pub fn reshape(cx: &mut Cx, a: &Args) -> Result<Shown> {
    let dims = a.out_dims()?;
    let x = a.t("self")?;
    let is_view = a.first_name.map_or(Ok(true), |n| viewable(cx, n, &dims))?;
    Ok(if is_view { View::Reshape(dims).into() } else { Shown::Copy(cx.reshape(x, &dims)?) })
}

/// Whether torch can show the tensor under `new` sizes without copying (`computeStride` of ATen).
fn viewable(cx: &mut Cx, name: &str, new: &[Dim]) -> Result<bool> {
    let (Some(strides), Some((_, old))) = (cx.strides(name)?, cx.meta(name)?) else { return Ok(true) };
    if old.iter().any(|d| d.is(0)) || old.is_empty() {
        return Ok(true);
    }
    let mut at = new.len();
    let (mut old_chunk, mut base) = (Dim::Const(1), strides.last().cloned().unwrap_or(Dim::Const(1)));
    for axis in (0..old.len()).rev() {
        old_chunk = old_chunk * old[axis].clone();
        let chunk_ends = axis == 0 || !old[axis - 1].is(1) && strides[axis - 1] != old_chunk.clone() * base.clone();
        if !chunk_ends {
            continue;
        }
        let mut new_chunk = Dim::Const(1);
        while at > 0 && (new_chunk != old_chunk || new[at - 1].is(1)) {
            at -= 1;
            new_chunk = new_chunk * new[at].clone();
            if let (Some(a), Some(b)) = (new_chunk.as_const(), old_chunk.as_const()) {
                if a > b {
                    return Ok(false);
                }
            }
        }
        if new_chunk != old_chunk {
            return Ok(false);
        }
        if axis > 0 {
            base = strides[axis - 1].clone();
            old_chunk = Dim::Const(1);
        }
    }
    Ok(true)
}

/// `unsqueeze(Tensor self, int dim)`, `squeeze`, `squeeze.dim`, `squeeze.dims`, `atleast_*`
pub fn resqueeze(_: &mut Cx, a: &Args) -> Result<Shown> {
    Ok(View::Reshape(a.out_dims()?).into())
}

/// `permute(Tensor self, int[] dims)`
pub fn permute(cx: &mut Cx, a: &Args) -> Result<Shown> {
    let x = a.t("self")?;
    let perm = a.ints("dims")?.iter().map(|&d| cx.axis(x, d)).collect::<Result<Vec<_>>>()?;
    Ok(View::Permute(perm).into())
}

fn swap(cx: &Cx, x: ValueId, i: i64, j: i64) -> Result<Shown> {
    let rank = cx.rank(x)?;
    if rank == 0 {
        return Ok(View::Same.into());
    }
    let mut perm: Vec<usize> = (0..rank).collect();
    perm.swap(cx.axis(x, i)?, cx.axis(x, j)?);
    Ok(View::Permute(perm).into())
}

/// `transpose.int(Tensor self, int dim0, int dim1)`
pub fn transpose(cx: &mut Cx, a: &Args) -> Result<Shown> {
    swap(cx, a.t("self")?, a.int("dim0")?, a.int("dim1")?)
}

/// `swapaxes(Tensor self, int axis0, int axis1)`
pub fn swapaxes(cx: &mut Cx, a: &Args) -> Result<Shown> {
    swap(cx, a.t("self")?, a.int("axis0")?, a.int("axis1")?)
}

/// `t(Tensor self)`, `mT`: the last two axes swapped
pub fn matrix_transpose(cx: &mut Cx, a: &Args) -> Result<Shown> {
    let x = a.t("self")?;
    if cx.rank(x)? < 2 {
        return Ok(View::Same.into());
    }
    swap(cx, x, -2, -1)
}

/// `numpy_T(Tensor self)`: all axes reversed
pub fn reverse_axes(cx: &mut Cx, a: &Args) -> Result<Shown> {
    let rank = cx.rank(a.t("self")?)?;
    Ok(View::Permute((0..rank).rev().collect()).into())
}

/// `movedim.int(Tensor self, int source, int destination)`, `movedim.intlist`, `moveaxis`
pub fn movedim(cx: &mut Cx, a: &Args) -> Result<Shown> {
    let x = a.t("self")?;
    let from = a.ints("source")?.iter().map(|&d| cx.axis(x, d)).collect::<Result<Vec<_>>>()?;
    let to = a.ints("destination")?.iter().map(|&d| cx.axis(x, d)).collect::<Result<Vec<_>>>()?;
    let rank = cx.rank(x)?;
    let mut perm = vec![usize::MAX; rank];
    for (&f, &t) in from.iter().zip(&to) {
        perm[t] = f;
    }
    let mut rest = (0..rank).filter(|d| !from.contains(d));
    for slot in perm.iter_mut().filter(|p| **p == usize::MAX) {
        *slot = rest.next().unwrap_or_default();
    }
    Ok(View::Permute(perm).into())
}

/// `expand(Tensor self, SymInt[] size, *, bool implicit=False)`, `expand_as`, `broadcast_to`
pub fn expand(_: &mut Cx, a: &Args) -> Result<Shown> {
    Ok(View::Expand(a.out_dims()?).into())
}

// ---- parts ----

/// `select.int(Tensor self, int dim, SymInt index)`
pub fn select(cx: &mut Cx, a: &Args) -> Result<Shown> {
    let axis = cx.axis(a.t("self")?, a.int("dim")?)?;
    let index = match a.scalar("index")? {
        crate::args::Scalar::Runtime(v) => Index::Value(v),
        _ => Index::Size(a.dim("index")?),
    };
    Ok(View::Select { axis, index }.into())
}

/// `slice.Tensor(Tensor self, int dim=0, SymInt? start=None, SymInt? end=None, SymInt step=1)`
pub fn slice(cx: &mut Cx, a: &Args) -> Result<Shown> {
    let axis = cx.axis(a.t("self")?, a.int("dim")?)?;
    let start = a.opt_dim("start")?.unwrap_or(Dim::Const(0));
    let end = a.opt_dim("end")?.unwrap_or(Dim::Const(i64::MAX));
    let step = a.opt_int("step")?.unwrap_or(1);
    if step <= 0 {
        bail!(invalid, "a slice with step {step}");
    }
    let whole = start.is(0) && step == 1 && end.as_const() == Some(i64::MAX);
    Ok(if whole { View::Same } else { View::Slice { axis, start, end, step } }.into())
}

/// `narrow(Tensor self, int dim, SymInt start, SymInt length)`
pub fn narrow(cx: &mut Cx, a: &Args) -> Result<Shown> {
    let axis = cx.axis(a.t("self")?, a.int("dim")?)?;
    let (start, length) = (a.dim("start")?, a.dim("length")?);
    let end = start.clone() + length;
    Ok(View::Slice { axis, start, end, step: 1 }.into())
}

/// Views of the pieces between `cuts`.
fn pieces(axis: usize, sizes: &[Dim]) -> Vec<View> {
    let mut start = Dim::Const(0);
    (sizes.iter())
        .map(|size| {
            let end = start.clone() + size.clone();
            let from = std::mem::replace(&mut start, end.clone());
            View::Slice { axis, start: from, end, step: 1 }
        })
        .collect()
}

/// `split.Tensor(Tensor self, SymInt split_size, int dim=0)`, `chunk`, `tensor_split.sections`: as the file
/// states the sizes of the pieces
pub fn split(cx: &mut Cx, a: &Args) -> Result<Vec<View>> {
    let axis = cx.axis(a.t("self")?, a.int("dim")?)?;
    let sizes = a.outputs.iter().map(|name| {
        let Some((_, dims)) = cx.meta(name)? else {
            bail!(invalid, "the program does not state the sizes of the pieces")
        };
        dims.get(axis).cloned().ok_or_else(|| oxrt_tensor::Error::invalid("a piece of lower rank"))
    });
    Ok(pieces(axis, &sizes.collect::<Result<Vec<_>>>()?))
}

/// `tensor_split.tensor_indices_or_sections(Tensor self, Tensor tensor_indices_or_sections, int dim=0)`: pieces between places that
/// data tell
pub fn split_at_places(cx: &mut Cx, a: &Args) -> Result<Vec<ValueId>> {
    let (x, places) = (a.t("self")?, a.t("tensor_indices_or_sections")?);
    let axis = cx.axis(x, a.int("dim")?)?;
    if cx.rank(places)? == 0 {
        return split(cx, a)?.iter().map(|v| v.apply(cx, x)).collect();
    }
    let count = cx.static_size(places, 0, "the places to split at")?;
    if count + 1 != a.outputs.len() as i64 {
        bail!(invalid, "{count} places to split at for {} pieces", a.outputs.len());
    }
    let places = cx.cast(places, oxrt_ir::DType::I64)?;
    let (first, last) = (cx.b.ints(&[0]), cx.b.ints(&[i64::MAX]));
    let axes = cx.b.ints(&[axis as i64]);
    let mut bounds = vec![first];
    for i in 0..count {
        bounds.push(cx.slice(places, 0, &Dim::Const(i), &Dim::Const(i + 1), 1)?);
    }
    bounds.push(last);
    bounds.windows(2).map(|b| cx.call("Slice", &[x, b[0], b[1], axes])).collect()
}

/// `hsplit.int(Tensor self, int sections)`, `vsplit`, `dsplit`, `.array`: along axis 1 (0 of a vector), 0, 2
pub fn split_along(cx: &mut Cx, a: &Args) -> Result<Vec<View>> {
    let rank = cx.rank(a.t("self")?)?;
    let axis = match a.target {
        t if t.starts_with("aten.vsplit") => 0,
        t if t.starts_with("aten.dsplit") => 2,
        _ => rank.saturating_sub(1).min(1),
    };
    let sizes = a.outputs.iter().map(|name| {
        let dims = cx.meta(name)?.map(|m| m.1).unwrap_or_default();
        dims.get(axis).cloned().ok_or_else(|| oxrt_tensor::Error::invalid("a piece of lower rank"))
    });
    Ok(pieces(axis, &sizes.collect::<Result<Vec<_>>>()?))
}

/// `atleast_1d.Sequence(Tensor[] tensors)`, `atleast_2d`, `atleast_3d`
pub fn atleast_each(cx: &mut Cx, a: &Args) -> Result<Vec<ValueId>> {
    let mut out = Vec::new();
    for (v, name) in a.ts("tensors")?.into_iter().zip(&a.outputs) {
        let dims = cx.meta(name)?.map(|m| m.1);
        let dims = dims.ok_or_else(|| oxrt_tensor::Error::invalid("a result without a shape"))?;
        out.push(cx.reshape(v, &dims)?);
    }
    Ok(out)
}

/// `unbind.int(Tensor self, int dim=0)`
pub fn unbind(cx: &mut Cx, a: &Args) -> Result<Vec<View>> {
    let axis = cx.axis(a.t("self")?, a.int("dim")?)?;
    Ok((0..a.outputs.len()).map(|i| View::Select { axis, index: Index::Size(Dim::from(i)) }).collect())
}

/// One `Split` node for slices that cut an axis into consecutive pieces.
pub(crate) fn split_at_once(cx: &mut Cx, base: ValueId, views: &[View]) -> Result<Option<Vec<ValueId>>> {
    let mut sizes = Vec::new();
    let mut at = Dim::Const(0);
    let mut axis_of: Option<usize> = None;
    for v in views {
        let View::Slice { axis, start, end, step: 1 } = v else { return Ok(None) };
        if *start != at || axis_of.is_some_and(|a| a != *axis) {
            return Ok(None);
        }
        sizes.push(end.clone() - start.clone());
        (at, axis_of) = (end.clone(), Some(*axis));
    }
    let Some(axis) = axis_of.filter(|_| views.len() > 1) else { return Ok(None) };
    if cx.size(base, axis)? != at {
        return Ok(None);
    }
    let sizes = cx.shape(&sizes)?;
    let attrs = Attrs::new().with("axis", axis as i64);
    cx.b.op_multi("Split", &[Some(base), Some(sizes)], attrs, views.len()).map(Some)
}

// ---- joins ----

fn in_common_type(cx: &mut Cx, values: &[ValueId]) -> Result<Vec<ValueId>> {
    let operands: Vec<Operand> = values.iter().map(|&v| Operand::Tensor(v)).collect();
    let dtype = result_type(cx, &operands.iter().collect::<Vec<_>>())?;
    operands.iter().map(|o| value(cx, o, dtype)).collect()
}

/// `cat(Tensor[] tensors, int dim=0)`, `concat`
pub fn cat(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let parts = in_common_type(cx, &a.ts("tensors")?)?;
    join(cx, parts, a.int("dim")?)
}

fn join(cx: &mut Cx, parts: Vec<ValueId>, dim: i64) -> Result<ValueId> {
    // Empty vectors may stand beside tensors of any rank.
    let rank = parts.iter().map(|&v| cx.rank(v)).collect::<Result<Vec<_>>>()?.into_iter().max().unwrap_or(0);
    let mut kept = Vec::new();
    for &v in &parts {
        let dims = cx.dims(v)?;
        if dims.len() == rank && !(dims.iter().any(|d| d.is(0)) && dims.len() == 1) {
            kept.push(v);
        }
    }
    let Some(&first) = kept.first() else { return Ok(parts[0]) };
    let axis = cx.axis(first, dim)?;
    cx.concat(&kept, axis)
}

/// `stack(Tensor[] tensors, int dim=0)`
pub fn stack(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let parts = in_common_type(cx, &a.ts("tensors")?)?;
    let rank = match parts.first() {
        Some(&v) => cx.rank(v)?,
        None => bail!(invalid, "nothing to stack"),
    };
    let axis = oxrt_ops::shape::axis(a.int("dim")?, rank + 1)?;
    let parts = parts.into_iter().map(|v| cx.b.unsqueeze(v, &[axis as i64])).collect::<Result<Vec<_>>>()?;
    cx.concat(&parts, axis)
}

/// `pad_sequence(Tensor[] sequences, bool batch_first=False, float padding_value=0.0, str padding_side="right")`
pub fn pad_sequence(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let (batch, dims) = (a.bool("batch_first")?, a.out_dims()?);
    let Some(length) = dims.get(batch as usize).cloned() else { bail!(invalid, "sequences of rank 0") };
    let left = a.has("padding_side") && a.text("padding_side")? == "left";
    let mut parts = Vec::new();
    for v in a.ts("sequences")? {
        let fill = cx.like(v, a.opt_float("padding_value")?.unwrap_or(0.0))?;
        let mut pad = vec![Dim::Const(0); 2 * cx.rank(v)?];
        let last = pad.len() - 1;
        pad[if left { last - 1 } else { last }] = length.clone() - cx.size(v, 0)?;
        let v = super::resize::pad_values(cx, v, &pad, "constant", Some(fill))?;
        parts.push(cx.b.unsqueeze(v, &[!batch as i64])?);
    }
    cx.concat(&parts, !batch as usize)
}

/// At least rank `n`, as numpy's `atleast_nd` does it.
fn at_least(cx: &mut Cx, v: ValueId, n: usize) -> Result<ValueId> {
    let mut dims = cx.dims(v)?;
    if dims.len() >= n {
        return Ok(v);
    }
    let one = Dim::Const(1);
    match (dims.len(), n) {
        (0, _) => dims = vec![one; n],
        (1, 2) => dims.insert(0, one),
        (1, _) => dims = vec![one.clone(), dims[0].clone(), one],
        _ => dims.push(one),
    }
    cx.reshape(v, &dims)
}

/// `hstack(Tensor[] tensors)`
pub fn hstack(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let parts = a.ts("tensors")?.into_iter().map(|v| at_least(cx, v, 1)).collect::<Result<Vec<_>>>()?;
    let parts = in_common_type(cx, &parts)?;
    let flat = parts.first().map_or(Ok(true), |&v| cx.rank(v).map(|r| r == 1))?;
    join(cx, parts, if flat { 0 } else { 1 })
}

/// `vstack(Tensor[] tensors)`
pub fn vstack(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let parts = a.ts("tensors")?.into_iter().map(|v| at_least(cx, v, 2)).collect::<Result<Vec<_>>>()?;
    let parts = in_common_type(cx, &parts)?;
    join(cx, parts, 0)
}

/// `dstack(Tensor[] tensors)`
pub fn dstack(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let parts = a.ts("tensors")?.into_iter().map(|v| at_least(cx, v, 3)).collect::<Result<Vec<_>>>()?;
    let parts = in_common_type(cx, &parts)?;
    join(cx, parts, 2)
}

/// `column_stack(Tensor[] tensors)`: vectors become columns
pub fn column_stack(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let mut parts = Vec::new();
    for v in a.ts("tensors")? {
        let n = cx.dims(v)?;
        parts.push(match n.len() {
            0 => cx.reshape(v, &[Dim::Const(1), Dim::Const(1)])?,
            1 => cx.reshape(v, &[n[0].clone(), Dim::Const(1)])?,
            _ => v,
        });
    }
    let parts = in_common_type(cx, &parts)?;
    join(cx, parts, 1)
}

// ---- repeats and orders ----

/// `repeat(Tensor self, SymInt[] repeats)`, `tile(Tensor self, SymInt[] dims)`
pub fn repeat(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let x = a.t("self")?;
    let mut counts = a.dim_list(if a.has("repeats") { "repeats" } else { "dims" })?;
    let mut dims = cx.dims(x)?;
    while counts.len() < dims.len() {
        counts.insert(0, Dim::Const(1));
    }
    while dims.len() < counts.len() {
        dims.insert(0, Dim::Const(1));
    }
    let x = cx.reshape(x, &dims)?;
    if counts.iter().all(|c| c.is(1)) {
        return Ok(x);
    }
    let counts = cx.shape(&counts)?;
    cx.call("Tile", &[x, counts])
}

/// `repeat_interleave.self_int(Tensor self, SymInt repeats, int? dim=None, …)`
pub fn repeat_interleave(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let (mut x, n) = (a.t("self")?, a.dim("repeats")?);
    let axis = match a.opt_int("dim")? {
        Some(d) => cx.axis(x, d)?,
        None => {
            let total = cx.dims(x)?.into_iter().product();
            x = cx.reshape(x, &[total])?;
            0
        }
    };
    let mut dims = cx.dims(x)?;
    let y = cx.b.unsqueeze(x, &[axis as i64 + 1])?;
    dims.insert(axis + 1, n);
    let y = cx.expand(y, &dims)?;
    let inner = dims.remove(axis + 1);
    dims[axis] = dims[axis].clone() * inner;
    cx.reshape(y, &dims)
}

/// `flip(Tensor self, int[] dims)`
pub fn flip(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let x = a.t("self")?;
    let axes = a.ints("dims")?.iter().map(|&d| cx.axis(x, d)).collect::<Result<Vec<_>>>()?;
    flip_axes(cx, x, &axes)
}

pub fn flip_axes(cx: &mut Cx, x: ValueId, axes: &[usize]) -> Result<ValueId> {
    if axes.is_empty() || cx.rank(x)? == 0 {
        return Ok(x);
    }
    let n = axes.len();
    let (starts, ends) = (cx.b.ints(&vec![-1; n]), cx.b.ints(&vec![i64::MIN + 1; n]));
    let list: Vec<i64> = axes.iter().map(|&a| a as i64).collect();
    let (axes, steps) = (cx.b.ints(&list), cx.b.ints(&vec![-1; n]));
    let dims = cx.dims(x)?;
    let out = cx.call("Slice", &[x, starts, ends, axes, steps])?;
    let dtype = cx.dtype(out)?;
    cx.b.graph[out].ty = oxrt_ir::ValueType::tensor(dtype, dims);
    Ok(out)
}

/// `roll(Tensor self, SymInt[] shifts, int[] dims=[])`
pub fn roll(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let x = a.t("self")?;
    let (shifts, axes) = (a.dim_list("shifts")?, a.ints("dims")?);
    let shape = cx.dims(x)?;
    if axes.is_empty() {
        let total: Dim = shape.iter().cloned().product();
        let flat = cx.reshape(x, std::slice::from_ref(&total))?;
        let Some(shift) = shifts.first() else { return Ok(x) };
        let y = roll_axis(cx, flat, 0, shift)?;
        return cx.reshape(y, &shape);
    }
    let mut y = x;
    for (shift, &axis) in shifts.iter().zip(&axes) {
        let axis = cx.axis(x, axis)?;
        y = roll_axis(cx, y, axis, shift)?;
    }
    Ok(y)
}

pub(crate) fn roll_axis(cx: &mut Cx, x: ValueId, axis: usize, shift: &Dim) -> Result<ValueId> {
    let n = cx.size(x, axis)?;
    if n.is(0) || shift.is(0) {
        return Ok(x);
    }
    // The last `shift` elements come first.
    let cut = n.clone() - shift.modulo(&n);
    if cut == n {
        return Ok(x);
    }
    let tail = cx.slice(x, axis, &cut, &Dim::Const(i64::MAX), 1)?;
    let head = cx.slice(x, axis, &Dim::Const(0), &cut, 1)?;
    cx.concat(&[tail, head], axis)
}

/// `rot90(Tensor self, int k=1, int[] dims=[0,1])`
pub fn rot90(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let (x, k) = (a.t("self")?, a.int("k")?.rem_euclid(4));
    let dims = a.ints("dims")?;
    let (i, j) = match dims[..] {
        [i, j] => (cx.axis(x, i)?, cx.axis(x, j)?),
        _ => bail!(invalid, "rot90 in {} axes", dims.len()),
    };
    let mut perm: Vec<usize> = (0..cx.rank(x)?).collect();
    perm.swap(i, j);
    match k {
        0 => Ok(x),
        1 => {
            let y = flip_axes(cx, x, &[j])?;
            cx.b.transpose(y, &perm)
        }
        2 => flip_axes(cx, x, &[i, j]),
        _ => {
            let y = cx.b.transpose(x, &perm)?;
            flip_axes(cx, y, &[j])
        }
    }
}

// ---- channels and pixels ----

/// `pixel_shuffle(Tensor self, int upscale_factor)`
pub fn pixel_shuffle(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let (x, r) = (a.t("self")?, a.int("upscale_factor")?);
    if cx.rank(x)? == 4 {
        return cx.op("DepthToSpace", &[x], Attrs::new().with("blocksize", r).with("mode", "CRD"));
    }
    let mut dims = cx.dims(x)?;
    let n = dims.len();
    let (w, h, c) = (dims.remove(n - 1), dims.remove(n - 2), dims.remove(n - 3));
    let lead = dims.len();
    dims.extend([c.floor_div(&Dim::Const(r * r)), r.into(), r.into(), h, w]);
    let y = cx.reshape(x, &dims)?;
    let mut perm: Vec<usize> = (0..lead).collect();
    perm.extend([0, 3, 1, 4, 2].map(|p| p + lead));
    let y = cx.b.transpose(y, &perm)?;
    cx.reshape(y, &a.out_dims()?)
}

/// `pixel_unshuffle(Tensor self, int downscale_factor)`
pub fn pixel_unshuffle(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let (x, r) = (a.t("self")?, a.int("downscale_factor")?);
    let mut dims = cx.dims(x)?;
    let n = dims.len();
    let (w, h, c) = (dims.remove(n - 1), dims.remove(n - 2), dims.remove(n - 3));
    let lead = dims.len();
    let by = Dim::Const(r);
    dims.extend([c, h.floor_div(&by), r.into(), w.floor_div(&by), r.into()]);
    let y = cx.reshape(x, &dims)?;
    let mut perm: Vec<usize> = (0..lead).collect();
    perm.extend([0, 2, 4, 1, 3].map(|p| p + lead));
    let y = cx.b.transpose(y, &perm)?;
    cx.reshape(y, &a.out_dims()?)
}

/// `channel_shuffle(Tensor self, SymInt groups)`
pub fn channel_shuffle(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let (x, g) = (a.t("self")?, a.dim("groups")?);
    let dims = cx.dims(x)?;
    let mut split = dims.clone();
    split.splice(1..2, [g.clone(), dims[1].floor_div(&g)]);
    let y = cx.reshape(x, &split)?;
    let mut perm: Vec<usize> = (0..split.len()).collect();
    perm.swap(1, 2);
    let y = cx.b.transpose(y, &perm)?;
    cx.reshape(y, &dims)
}

/// `meshgrid.indexing(Tensor[] tensors, *, str indexing)`, `meshgrid`
pub fn meshgrid(cx: &mut Cx, a: &Args) -> Result<Vec<ValueId>> {
    let mut parts = a.ts("tensors")?;
    let xy = a.has("indexing") && a.text("indexing")? == "xy";
    let swapped = xy && parts.len() >= 2;
    if swapped {
        parts.swap(0, 1);
    }
    let sizes = parts.iter().map(|&v| Ok(cx.dims(v)?.into_iter().product())).collect::<Result<Vec<Dim>>>()?;
    let mut out = Vec::new();
    for (i, &v) in parts.iter().enumerate() {
        let mut dims = vec![Dim::Const(1); sizes.len()];
        dims[i] = sizes[i].clone();
        let v = cx.reshape(v, &dims)?;
        out.push(cx.expand(v, &sizes)?);
    }
    if swapped {
        out.swap(0, 1);
    }
    Ok(out)
}

/// `broadcast_tensors(Tensor[] tensors)`
pub fn broadcast_tensors(cx: &mut Cx, a: &Args) -> Result<Vec<ValueId>> {
    let dims = a.out_dims()?;
    a.ts("tensors")?.into_iter().map(|v| cx.expand(v, &dims)).collect()
}

/// `cartesian_prod(Tensor[] tensors)`
pub fn cartesian_prod(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let parts = a.ts("tensors")?;
    if let [one] = parts[..] {
        return Ok(one);
    }
    let sizes = parts.iter().map(|&v| cx.size(v, 0)).collect::<Result<Vec<Dim>>>()?;
    let total: Dim = sizes.iter().cloned().product();
    let mut columns = Vec::new();
    for (i, &v) in parts.iter().enumerate() {
        let mut dims = vec![Dim::Const(1); sizes.len()];
        dims[i] = sizes[i].clone();
        let v = cx.reshape(v, &dims)?;
        let v = cx.expand(v, &sizes)?;
        columns.push(cx.reshape(v, &[total.clone(), Dim::Const(1)])?);
    }
    cx.concat(&columns, 1)
}

/// `slice_scatter(Tensor self, Tensor src, int dim=0, SymInt? start=None, SymInt? end=None, SymInt step=1)`
pub fn slice_scatter(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let Shown::View(view) = slice(cx, a)? else { bail!(bug, "a slice is a view") };
    let (x, src) = (a.t("self")?, a.t("src")?);
    let src = cx.cast(src, cx.dtype(x)?)?;
    view.scatter(cx, x, src)
}

/// `select_scatter(Tensor self, Tensor src, int dim, SymInt index)`
pub fn select_scatter(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let Shown::View(view) = select(cx, a)? else { bail!(bug, "a selection is a view") };
    let (x, src) = (a.t("self")?, a.t("src")?);
    let src = cx.cast(src, cx.dtype(x)?)?;
    view.scatter(cx, x, src)
}

/// `as_strided(Tensor self, SymInt[] size, SymInt[] stride, SymInt? storage_offset=None)`: shapes whose
/// strides are a plain reshape of a contiguous input, else a gather from the flat input
pub fn as_strided(cx: &mut Cx, a: &Args) -> Result<Shown> {
    let x = a.t("self")?;
    let name = a.first_name.unwrap_or_default();
    if !cx.is_contiguous(name)? {
        bail!(unsupported, "as_strided of a tensor that is not contiguous");
    }
    let (sizes, strides) = (a.dim_list("size")?, a.dim_list("stride")?);
    let offset = a.opt_dim("storage_offset")?.unwrap_or(Dim::Const(0));
    let total: Dim = cx.dims(x)?.into_iter().product();
    let mut expected = Dim::Const(1);
    let plain = sizes.iter().zip(&strides).rev().all(|(n, s)| {
        let fits = n.is(1) || *s == expected;
        expected = expected.clone() * n.clone();
        fits
    });
    if plain && offset.is(0) && expected == total {
        return Ok(View::Reshape(sizes).into());
    }
    Ok(View::Strided { sizes, strides, offset }.into())
}

/// `as_strided_scatter(Tensor self, Tensor src, SymInt[] size, SymInt[] stride, SymInt? storage_offset=None)`
pub fn as_strided_scatter(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let (x, src) = (a.t("self")?, a.t("src")?);
    if !cx.is_contiguous(a.first_name.unwrap_or_default())? {
        bail!(unsupported, "as_strided of a tensor that is not contiguous");
    }
    let offset = a.opt_dim("storage_offset")?.unwrap_or(Dim::Const(0));
    View::Strided { sizes: a.dim_list("size")?, strides: a.dim_list("stride")?, offset }.scatter(cx, x, src)
}

/// Place in the flat tensor of every element of a strided view: the sum of place times stride over the axes.
pub(crate) fn strided_places(cx: &mut Cx, sizes: &[Dim], strides: &[Dim], offset: &Dim) -> Result<ValueId> {
    let mut index = cx.dim_scalar(offset)?;
    for (i, (n, s)) in sizes.iter().zip(strides).enumerate() {
        let places = super::create::range(cx, n)?;
        let stride = cx.dim_scalar(s)?;
        let places = cx.call("Mul", &[places, stride])?;
        let mut dims = vec![Dim::Const(1); sizes.len()];
        dims[i] = n.clone();
        let places = cx.reshape(places, &dims)?;
        index = cx.call("Add", &[index, places])?;
    }
    Ok(index)
}

/// `view_as_complex(Tensor self)`, `view_as_real`: complex tensors are kept as real ones with a last axis of two
pub fn complex_view(_: &mut Cx, _: &Args) -> Result<Shown> {
    Ok(View::Complex.into())
}

/// `real(Tensor self)`
pub fn real(cx: &mut Cx, a: &Args) -> Result<Shown> {
    // A script states no types.
    let stated = a.first_name.map(|n| cx.meta(n)).transpose()?.flatten().is_some_and(|(d, _)| d.is_complex());
    let complex = stated || a.first_name.is_none() && cx.is_complex(a.t("self")?);
    Ok(if complex { View::Part(0) } else { View::Same }.into())
}

/// `imag(Tensor self)`
pub fn imag(_: &mut Cx, _: &Args) -> Result<Shown> {
    Ok(View::Part(1).into())
}

/// `resize_(Tensor self, SymInt[] size, …)`, `resize_as_(Tensor self, Tensor the_template, …)`: the same memory under another shape;
/// what lies beyond it is not determined, and zero here
pub fn resize(cx: &mut Cx, a: &Args) -> Result<Shown> {
    let x = a.t("self")?;
    let dims = if a.has("size") { a.dim_list("size")? } else { cx.dims(a.t("the_template")?)? };
    let (have, want): (Dim, Dim) = (cx.dims(x)?.into_iter().product(), dims.iter().cloned().product());
    if have == want {
        return Ok(View::Reshape(dims).into());
    }
    let flat = cx.reshape(x, std::slice::from_ref(&have))?;
    let flat = match (have.as_const(), want.as_const()) {
        (Some(h), Some(w)) if h < w => {
            let more = super::create::filled(
                cx,
                cx.dtype(x)?,
                &[Dim::Const(w - h)],
                &crate::args::Scalar::Int(Dim::Const(0)),
            )?;
            cx.concat(&[flat, more], 0)?
        }
        (Some(_), Some(_)) => cx.slice(flat, 0, &Dim::Const(0), &want, 1)?,
        _ => bail!(unsupported, "resize_ between dynamic sizes"),
    };
    Ok(Shown::Copy(cx.reshape(flat, &dims)?))
}
