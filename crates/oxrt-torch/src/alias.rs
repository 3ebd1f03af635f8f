//! Tensors that share memory: views, and how a write to one reaches the others.
//!
//! The exported program may write in place, on a tensor or on a view of it. Here every tensor is a slot;
//! a slot is a root (it owns its memory) or a view of another slot. A write replaces the value of the
//! root, rebuilt through the chain of views; slots that saw the old value take their view again when
//! they are read next.

use crate::cx::Cx;
use oxrt_ir::{Attrs, Dim, ValueId};
use oxrt_tensor::{Result, bail};
use std::sync::Arc;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct TensorId(pub u32);

#[derive(Clone, Debug)]
pub(crate) struct Slot {
    pub value: ValueId,
    /// Version of the root that `value` belongs to.
    pub version: u32,
    pub parent: Option<(TensorId, Arc<View>)>,
    pub root: TensorId,
    /// Of a root: how often it was written.
    pub current: u32,
    pub depth: u32,
}

/// How a view shows its base.
#[derive(Clone, Debug)]
pub(crate) enum View {
    Same,
    Reshape(Vec<Dim>),
    Permute(Vec<usize>),
    Slice {
        axis: usize,
        start: Dim,
        end: Dim,
        step: i64,
    },
    /// One place on an axis, which goes away.
    Select {
        axis: usize,
        index: Index,
    },
    Expand(Vec<Dim>),
    /// Diagonal of two axes, moved to the end.
    Diagonal {
        offset: i64,
        axes: (usize, usize),
    },
    /// Windows of `size` every `step` along an axis; the window becomes the last axis.
    Unfold {
        axis: usize,
        size: i64,
        step: i64,
        windows: Dim,
    },
    /// Any elements of a contiguous base, by their places in memory.
    Strided {
        sizes: Vec<Dim>,
        strides: Vec<Dim>,
        offset: Dim,
    },
    /// Real tensor with a last axis of two seen as complex, and back: both are kept the same way.
    Complex,
    /// Real (0) or imaginary (1) part.
    Part(usize),
    /// A view of a view.
    Then(Box<View>, Box<View>),
}

/// What an operator that may give a view gave.
#[derive(Clone, Debug)]
pub(crate) enum Shown {
    View(View),
    Copy(ValueId),
}

impl From<View> for Shown {
    fn from(v: View) -> Shown {
        Shown::View(v)
    }
}

#[derive(Clone, Debug)]
pub(crate) enum Index {
    Size(Dim),
    Value(ValueId),
}

impl View {
    /// The view of `base`.
    pub fn apply(&self, cx: &mut Cx, base: ValueId) -> Result<ValueId> {
        match self {
            View::Same => Ok(base),
            // A value is either real or complex, so the other reading needs a value of its own.
            View::Complex => cx.call("Identity", &[base]),
            View::Reshape(dims) => cx.reshape(base, dims),
            View::Permute(perm) => cx.b.transpose(base, perm),
            View::Slice { axis, start, end, step } => cx.slice(base, *axis, start, end, *step),
            View::Select { axis, index } => {
                let at = match index {
                    Index::Size(d) => cx.dim_scalar(d)?,
                    Index::Value(v) => *v,
                };
                cx.op("Gather", &[base, at], Attrs::new().with("axis", *axis as i64))
            }
            View::Expand(dims) => cx.expand(base, dims),
            View::Diagonal { offset, axes } => crate::aten::matrix::diagonal(cx, base, *offset, *axes),
            View::Unfold { axis, size, step, windows } => {
                crate::aten::window::unfold(cx, base, *axis, *size, *step, windows)
            }
            View::Strided { sizes, strides, offset } => {
                let places = crate::aten::shape::strided_places(cx, sizes, strides, offset)?;
                let total = cx.dims(base)?.into_iter().product();
                let flat = cx.reshape(base, &[total])?;
                cx.op("Gather", &[flat, places], Attrs::new().with("axis", 0))
            }
            View::Then(first, second) => {
                let shown = first.apply(cx, base)?;
                second.apply(cx, shown)
            }
            View::Part(k) => {
                let (last, k) = (cx.rank(base)? - 1, cx.dim_scalar(&Dim::from(*k))?);
                cx.op("Gather", &[base, k], Attrs::new().with("axis", last as i64))
            }
        }
    }

    /// `base` with `value` written where the view shows it.
    pub fn scatter(&self, cx: &mut Cx, base: ValueId, value: ValueId) -> Result<ValueId> {
        let dims = cx.dims(base)?;
        match self {
            View::Same => Ok(value),
            View::Complex => cx.call("Identity", &[value]),
            View::Reshape(_) => cx.reshape(value, &dims),
            View::Permute(perm) => {
                let mut back = vec![0; perm.len()];
                perm.iter().enumerate().for_each(|(i, &p)| back[p] = i);
                cx.b.transpose(value, &back)
            }
            View::Slice { axis, start, end, step } => slice_scatter(cx, base, value, *axis, start, end, *step),
            View::Select { axis, index: Index::Size(d) } => {
                let value = cx.b.unsqueeze(value, &[*axis as i64])?;
                let end = if d.is(-1) { Dim::Const(i64::MAX) } else { d.clone() + 1 };
                slice_scatter(cx, base, value, *axis, d, &end, 1)
            }
            View::Select { axis, index: Index::Value(v) } => {
                let value = cx.b.unsqueeze(value, &[*axis as i64])?;
                let at = cx.b.unsqueeze(*v, &[0])?;
                scatter_axis(cx, base, value, *axis, at)
            }
            View::Expand(_) => bail!(unsupported, "a write to an expanded tensor"),
            View::Diagonal { offset, axes } => crate::aten::matrix::diagonal_scatter(cx, base, value, *offset, *axes),
            View::Strided { sizes, strides, offset } => {
                let places = crate::aten::shape::strided_places(cx, sizes, strides, offset)?;
                let total: Dim = dims.iter().cloned().product();
                let count: Dim = sizes.iter().cloned().product();
                let flat = cx.reshape(base, &[total])?;
                let (places, dtype) = (cx.reshape(places, std::slice::from_ref(&count))?, cx.dtype(base)?);
                let value = cx.cast(value, dtype)?;
                let value = cx.reshape(value, &[count])?;
                let y = scatter_axis(cx, flat, value, 0, places)?;
                cx.reshape(y, &dims)
            }
            View::Then(first, second) => {
                let shown = first.apply(cx, base)?;
                let value = second.scatter(cx, shown, value)?;
                first.scatter(cx, base, value)
            }
            View::Unfold { .. } => bail!(unsupported, "a write to overlapping windows"),
            View::Part(k) => {
                let (value, last) = (cx.b.unsqueeze(value, &[-1])?, dims.len() - 1);
                slice_scatter(cx, base, value, last, &Dim::from(*k), &Dim::from(*k + 1), 1)
            }
        }
    }
}

/// A bound of a slice as a place between 0 and `n`.
fn clamp(d: &Dim, n: &Dim, bounds: &dyn Fn(&Dim) -> (i64, i64)) -> Option<Dim> {
    if d.as_const() == Some(i64::MAX) {
        return Some(n.clone());
    }
    let (lo, hi) = bounds(d);
    let d = match (lo, hi) {
        (0.., _) => d.clone(),
        (_, ..0) => (n.clone() + d.clone()).at_least(&Dim::Const(0)),
        _ => return None,
    };
    Some(d.at_most(n))
}

/// The same for a bound of unknown sign: a new size, computed when the model runs.
fn place_at_run_time(cx: &mut Cx, d: &Dim, n: &Dim) -> Result<Dim> {
    let (v, n, zero) = (cx.dim_scalar(d)?, cx.dim_scalar(n)?, cx.dim_scalar(&Dim::Const(0))?);
    let negative = cx.call("Less", &[v, zero])?;
    let from_end = cx.call("Add", &[v, n])?;
    let v = cx.call("Where", &[negative, from_end, v])?;
    let v = cx.call("Max", &[v, zero])?;
    let v = cx.call("Min", &[v, n])?;
    let place = Dim::from(cx.b.symbols.fresh());
    cx.b.note_dim_value(place.clone(), v);
    Ok(place)
}

/// `base` with `value` in place of `base[start:end:step]` on `axis`.
pub(crate) fn slice_scatter(
    cx: &mut Cx,
    base: ValueId,
    value: ValueId,
    axis: usize,
    start: &Dim,
    end: &Dim,
    step: i64,
) -> Result<ValueId> {
    let n = cx.size(base, axis)?;
    let (from, to) = {
        let bounds = |d: &Dim| d.bounds(&|s| cx.symbols.bounds(s));
        (clamp(start, &n, &bounds), clamp(end, &n, &bounds))
    };
    let from = from.map_or_else(|| place_at_run_time(cx, start, &n), Ok)?;
    let to = to.map_or_else(|| place_at_run_time(cx, end, &n), Ok)?;
    let dtype = cx.dtype(base)?;
    let value = cx.cast(value, dtype)?;
    if step == 1 {
        if from.is(0) && to == n {
            return Ok(value);
        }
        // What lies before and after the slice, with the new part in between.
        let mut parts = Vec::new();
        if !from.is(0) {
            parts.push(cx.slice(base, axis, &Dim::Const(0), &from, 1)?);
        }
        parts.push(value);
        // An empty slice (end before start) writes nothing and must not repeat elements.
        let rest = to.at_least(&from);
        if rest != n {
            parts.push(cx.slice(base, axis, &rest, &Dim::Const(i64::MAX), 1)?);
        }
        return cx.concat(&parts, axis);
    }
    let (from, to) = (cx.dim_scalar(&from)?, cx.dim_scalar(&to)?);
    let step = cx.dim_scalar(&Dim::Const(step))?;
    let places = cx.call("Range", &[from, to, step])?;
    scatter_axis(cx, base, value, axis, places)
}

/// `base` with the rows `value` at `places` (a vector) of `axis`.
pub(crate) fn scatter_axis(
    cx: &mut Cx,
    base: ValueId,
    value: ValueId,
    axis: usize,
    places: ValueId,
) -> Result<ValueId> {
    let rank = cx.rank(base)?;
    let places = cx.b.unsqueeze(places, &[1])?;
    let mut perm: Vec<usize> = (0..rank).filter(|&a| a != axis).collect();
    perm.insert(0, axis);
    let (front, rows) = (cx.b.transpose(base, &perm)?, cx.b.transpose(value, &perm)?);
    let out = cx.call("ScatterND", &[front, places, rows])?;
    let mut back = vec![0; rank];
    perm.iter().enumerate().for_each(|(i, &p)| back[p] = i);
    cx.b.transpose(out, &back)
}
