//! Rearrangements of complex tensors: those of the real tensors that hold them, whose last axis is left alone.

use super::complex::{from_real, joined, parts};
use super::{index, shape};
use crate::alias::{Shown, View};
use crate::args::{Arg, Args, Scalar};
use crate::cx::{Cx, Val};
use crate::promote::Operand;
use oxrt_ir::{DType, Dim, Tensor, ValueId};
use oxrt_tensor::{Error, Result};

/// Arguments that name axes.
const AXES: &[&str] = &["dim", "dims", "dim0", "dim1", "axis0", "axis1", "source", "destination"];

/// The same call on the tensor that holds the pairs: axes are counted from the front.
fn shifted<'a>(cx: &Cx, a: &Args<'a>, extra: i64) -> Result<Args<'a>> {
    let held = a.tensors().into_iter().find(|&v| cx.is_complex(v));
    let held = held.ok_or_else(|| Error::bug("no complex argument"))?;
    let rank = cx.rank(held)? as i64 - 1 + extra;
    fn move_axis<'a>(arg: &Arg<'a>, rank: i64) -> Arg<'a> {
        match arg {
            Arg::Other(Val::Int(Dim::Const(d))) if *d < 0 => Arg::Other(Val::Int(Dim::Const(d + rank))),
            Arg::List(items) => Arg::List(items.iter().map(|i| move_axis(i, rank)).collect()),
            Arg::Other(Val::List(items)) => {
                Arg::List(items.iter().map(|i| move_axis(&Arg::Other(i.clone()), rank)).collect())
            }
            other => other.clone(),
        }
    }
    let mut out = a.clone();
    for (name, arg) in &mut out.named {
        if AXES.contains(name) {
            *arg = move_axis(arg, rank);
        }
    }
    Ok(out)
}

macro_rules! on_pairs {
    ($($(#[$doc:meta])* $name:ident $real:path => $result:ty;)*) => { $(
        $(#[$doc])*
        pub fn $name(cx: &mut Cx, a: &Args) -> Result<$result> {
            let a = shifted(cx, a, 0)?;
            $real(cx, &a)
        }
    )* };
}

on_pairs! {
    /// `transpose.int(Tensor self, int dim0, int dim1)`, `swapaxes`, `swapdims`
    transpose shape::transpose => Shown;
    /// `movedim.int(Tensor self, int source, int destination)`, `moveaxis`
    movedim shape::movedim => Shown;
    /// `slice.Tensor(Tensor self, int dim=0, SymInt? start=None, SymInt? end=None, SymInt step=1)`
    slice shape::slice => Shown;
    /// `select.int(Tensor self, int dim, SymInt index)`
    select shape::select => Shown;
    /// `narrow(Tensor self, int dim, SymInt start, SymInt length)`
    narrow shape::narrow => Shown;
    /// `split.Tensor(Tensor self, SymInt split_size, int dim=0)`, `split_with_sizes`, `chunk`
    split shape::split => Vec<View>;
    /// `unbind.int(Tensor self, int dim=0)`
    unbind shape::unbind => Vec<View>;
    /// `flip(Tensor self, int[] dims)`
    flip shape::flip => ValueId;
    /// `tensor_split.sections(Tensor self, SymInt sections, int dim=0)`, `tensor_split.indices`
    tensor_split shape::split => Vec<View>;
    /// `index.Tensor(Tensor self, Tensor?[] indices)`
    index index::index => ValueId;
}

/// The last axis, which a view put behind the pair, back before it.
fn pair_last(view: View, rank: usize) -> Result<Shown> {
    let mut perm: Vec<usize> = (0..rank).collect();
    perm.swap(rank - 1, rank - 2);
    Ok(View::Then(Box::new(view), Box::new(View::Permute(perm))).into())
}

/// `diagonal(Tensor self, int offset=0, int dim1=0, int dim2=1)`
pub fn diagonal(cx: &mut Cx, a: &Args) -> Result<Shown> {
    let x = a.t("self")?;
    let [one, two] = ["dim1", "dim2"].map(|name| super::complex::axis_of(cx, x, a.int(name)?));
    let view = View::Diagonal { offset: a.int("offset")?, axes: (one?, two?) };
    pair_last(view, cx.rank(x)? - 1)
}

/// `unfold(Tensor self, int dimension, int size, int step)`
pub fn unfold(cx: &mut Cx, a: &Args) -> Result<Shown> {
    let x = a.t("self")?;
    if cx.rank(x)? < 2 {
        return super::complex::reshape(cx, a);
    }
    let axis = super::complex::axis_of(cx, x, a.int("dimension")?)?;
    let windows = a.out_dims()?.get(axis).cloned().unwrap_or(Dim::Const(1));
    let view = View::Unfold { axis, size: a.int("size")?, step: a.int("step")?, windows };
    pair_last(view, cx.rank(x)? + 1)
}

/// `as_strided(Tensor self, SymInt[] size, SymInt[] stride, SymInt? storage_offset=None)`: every element is two
pub fn as_strided(cx: &mut Cx, a: &Args) -> Result<Shown> {
    let twice = |list: Vec<Dim>, k: i64, last: i64| {
        let items = list.into_iter().map(|d| d * Dim::Const(k)).chain([Dim::Const(last)]);
        Arg::List(items.map(|d| Arg::Other(Val::Int(d))).collect())
    };
    let offset = a.opt_dim("storage_offset")?.unwrap_or(Dim::Const(0)) * Dim::Const(2);
    let a = a.with("size", twice(a.dim_list("size")?, 1, 2)).with("stride", twice(a.dim_list("stride")?, 2, 1));
    shape::as_strided(cx, &a.with("storage_offset", Arg::Other(Val::Int(offset))))
}

/// `mT(Tensor self)`, `t`, `T`
pub fn swap_last(cx: &mut Cx, a: &Args) -> Result<Shown> {
    let rank = cx.rank(a.t("self")?)?;
    let mut perm: Vec<usize> = (0..rank).collect();
    if rank > 2 {
        perm.swap(rank - 2, rank - 3);
    }
    Ok(View::Permute(perm).into())
}

fn all_complex(cx: &mut Cx, values: Vec<ValueId>, dtype: DType) -> Result<Vec<Arg<'static>>> {
    let mut out = Vec::new();
    for v in values {
        let v = if cx.is_complex(v) { v } else { from_real(cx, v, dtype)? };
        out.push(Arg::Tensor(cx.new_tensor(v), v));
    }
    Ok(out)
}

/// `cat(Tensor[] tensors, int dim=0)`, `concat`
pub fn cat(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let a = shifted(cx, a, 0)?;
    let parts = all_complex(cx, a.ts("tensors")?, a.out_dtype()?)?;
    shape::cat(cx, &a.with("tensors", Arg::List(parts)))
}

/// `stack(Tensor[] tensors, int dim=0)`
pub fn stack(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let a = shifted(cx, a, 1)?;
    let parts = all_complex(cx, a.ts("tensors")?, a.out_dtype()?)?;
    shape::stack(cx, &a.with("tensors", Arg::List(parts)))
}

/// `repeat(Tensor self, SymInt[] repeats)`, `tile`
pub fn repeat(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let name = if a.has("repeats") { "repeats" } else { "dims" };
    let counts = a.dim_list(name)?.into_iter().chain([Dim::Const(1)]).map(|d| Arg::Other(Val::Int(d))).collect();
    shape::repeat(cx, &a.with(name, Arg::List(counts)))
}

/// A complex operand as pairs.
fn pairs(cx: &mut Cx, a: &Args, name: &str, dtype: DType) -> Result<ValueId> {
    match Operand::of(a, name)? {
        Operand::Tensor(v) if cx.is_complex(v) => Ok(v),
        Operand::Tensor(v) => from_real(cx, v, dtype),
        Operand::Scalar(s) => number(cx, &s, dtype),
    }
}

/// A number as a pair.
pub(crate) fn number(cx: &mut Cx, s: &Scalar, dtype: DType) -> Result<ValueId> {
    let real = crate::cx::real_dtype(dtype);
    let (re, im) = match s {
        Scalar::Complex(re, im) => (*re, *im),
        s => match s.as_f64() {
            Some(x) => (x, 0.0),
            None => {
                let v = crate::promote::scalar_value(cx, s, real)?;
                return from_real(cx, v, dtype);
            }
        },
    };
    let t = Tensor::from_f64(real, &[2], &[re, im])?;
    // A constant may be shared with real tensors.
    let v = cx.b.constant(t);
    cx.call("Identity", &[v])
}

/// `where.self(Tensor condition, Tensor self, Tensor other)`
pub fn where_(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let dtype = a.out_dtype()?;
    let (x, y) = (pairs(cx, a, "self", dtype)?, pairs(cx, a, "other", dtype)?);
    let c = cx.b.unsqueeze(a.t("condition")?, &[-1])?;
    cx.call("Where", &[c, x, y])
}

/// `masked_fill.Scalar(Tensor self, Tensor mask, Scalar value)`, `masked_fill.Tensor`
pub fn masked_fill(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let (x, dtype) = (a.t("self")?, a.out_dtype()?);
    let v = pairs(cx, a, "value", dtype)?;
    let mask = cx.b.unsqueeze(a.t("mask")?, &[-1])?;
    cx.call("Where", &[mask, v, x])
}

/// The type of the complex tensor that `v` holds.
fn held_type(cx: &Cx, v: ValueId) -> Result<DType> {
    Ok(if cx.dtype(v)? == DType::F64 { DType::C128 } else { DType::C64 })
}

/// `copy(Tensor self, Tensor src, bool non_blocking=False)`: a complex source of a real tensor leaves its real part
pub fn copy(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let (x, src) = (a.t("self")?, a.t("src")?);
    if !cx.is_complex(x) {
        let (re, _) = parts(cx, src)?;
        let (dtype, dims) = (cx.dtype(x)?, cx.dims(x)?);
        let re = cx.cast(re, dtype)?;
        return cx.expand(re, &dims);
    }
    let dtype = held_type(cx, x)?;
    let src = pairs(cx, a, "src", dtype)?;
    let (real, dims) = (cx.dtype(x)?, cx.dims(x)?);
    let src = cx.cast(src, real)?;
    let y = cx.expand(src, &dims)?;
    // What is flagged as complex here must not be a constant that others share.
    if cx.b.graph[y].is_constant() { cx.call("Identity", &[y]) } else { Ok(y) }
}

/// `fill.Scalar(Tensor self, Scalar value)`, `fill.Tensor`, `zero(Tensor self)`
pub fn fill(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let x = a.t("self")?;
    let dtype = held_type(cx, x)?;
    let v = if a.has("value") { pairs(cx, a, "value", dtype)? } else { number(cx, &Scalar::Float(0.0), dtype)? };
    let dims = cx.dims(x)?;
    cx.expand(v, &dims)
}

/// `index_put(Tensor self, Tensor?[] indices, Tensor values, bool accumulate=False)`
pub fn index_put(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let dtype = held_type(cx, a.t("self")?)?;
    let values = pairs(cx, a, "values", dtype)?;
    let a = a.with("values", Arg::Tensor(cx.new_tensor(values), values));
    index::index_put(cx, &a)
}

/// `gather(Tensor self, int dim, Tensor index, …)`: both parts at the same place
pub fn gather(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let (re, im) = parts(cx, a.t("self")?)?;
    let mut out = Vec::new();
    for part in [re, im] {
        let a = a.with("self", Arg::Tensor(cx.new_tensor(part), part));
        out.push(index::gather(cx, &a)?);
    }
    joined(cx, out[0], out[1])
}
