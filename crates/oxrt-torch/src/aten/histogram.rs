//! Histograms, in one axis and in several.
//!
//! An element lies in the last bin whose lower edge it reaches; the last bin holds its upper edge too; what lies outside of all bins,
//! and what is no number, is not counted.

use super::create::{filled, range};
use super::formula::F;
use crate::args::{Args, Scalar};
use crate::cx::Cx;
use crate::promote::float_of;
use oxrt_ir::{Attrs, DType, Dim, ValueId};
use oxrt_tensor::{Result, bail};

/// `histc(Tensor self, int bins=100, Scalar min=0, Scalar max=0)`
pub fn histc(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let (x, bins) = (a.t("self")?, a.int("bins")?);
    let (dtype, n) = (cx.dtype(x)?, cx.dims(x)?.into_iter().product());
    let float = float_of(dtype);
    let x = cx.reshape(x, &[n])?;
    let x = cx.cast(x, float)?;
    let (lo, hi) = (a.float("min")?, a.float("max")?);
    let (lo, hi) = if lo == hi {
        (cx.reduce("ReduceMin", x, &[], false)?, cx.reduce("ReduceMax", x, &[], false)?)
    } else {
        (cx.b.scalar(float, lo)?, cx.b.scalar(float, hi)?)
    };
    let (x, lo, hi) = (F::from(x), F::from(lo), F::from(hi));
    let inside = x.ge(&lo).and(x.le(&hi));
    let place = ((&x - &lo) * bins as f64 / (&hi - &lo)).floor();
    // The last bin holds its upper end.
    let place = place.min((bins - 1) as f64);
    let numbers = range(cx, &Dim::Const(bins))?;
    let numbers = cx.cast(numbers, float)?;
    let numbers = cx.b.unsqueeze(numbers, &[1])?;
    let hit = F::from(numbers).equals(place).and(inside).emit(cx, float)?;
    let hit = cx.cast(hit, dtype)?;
    cx.reduce("ReduceSum", hit, &[1], false)
}

/// `histogram.bin_ct(Tensor self, int bins=100, *, float[]? range=None, Tensor? weight=None, bool density=False)
/// -> (hist, bin_edges)`, `histogram.bins_tensor(Tensor self, Tensor bins, …)`: of all elements
pub fn histogram(cx: &mut Cx, a: &Args) -> Result<Vec<ValueId>> {
    let x = a.t("self")?;
    let n: Dim = cx.dims(x)?.into_iter().product();
    let x = cx.reshape(x, &[n, Dim::Const(1)])?;
    let edges = match a.target.ends_with("bins_tensor") {
        true => vec![a.t("bins")?],
        false => even_edges(cx, a, x, &[a.int("bins")?])?,
    };
    let counts = count(cx, a, x, &edges)?;
    Ok(vec![counts, edges[0]])
}

/// `histogramdd(Tensor self, int[] bins, *, float[]? range=None, Tensor? weight=None, bool density=False)
/// -> (hist, bin_edges[])`, `.int_bins`, `.TensorList_bins`, `_histogramdd_bin_edges -> bin_edges[]`,
/// `_histogramdd_from_bin_cts -> hist`, `_histogramdd_from_bin_tensors`: the last axis names a point
pub fn histogramdd(cx: &mut Cx, a: &Args) -> Result<Vec<ValueId>> {
    let x = a.t("self")?;
    let rank = cx.rank(x)?;
    if rank == 0 {
        bail!(invalid, "points without an axis");
    }
    let axes = cx.static_size(x, rank - 1, "the points of a histogram")?;
    let n: Dim = cx.dims(x)?[..rank - 1].iter().cloned().product();
    let x = cx.reshape(x, &[n, Dim::Const(axes)])?;
    let edges = if a.target.contains("ensorList_bins") || a.target.contains("from_bin_tensors") {
        a.ts("bins")?
    } else {
        let bins = a.ints_n("bins", axes as usize)?;
        even_edges(cx, a, x, &bins)?
    };
    if edges.len() != axes as usize {
        bail!(invalid, "bins of {} axes for points of {axes}", edges.len());
    }
    if a.target.contains("bin_edges") {
        return Ok(edges);
    }
    let mut out = vec![count(cx, a, x, &edges)?];
    if !a.target.contains("from_bin") {
        out.extend(edges);
    }
    Ok(out)
}

/// Edges of bins of one size per axis of `x` [points, axes]: over the stated range, else from the least to the greatest element.
fn even_edges(cx: &mut Cx, a: &Args, x: ValueId, bins: &[i64]) -> Result<Vec<ValueId>> {
    let dtype = cx.dtype(x)?;
    let stated = a.opt_floats("range")?;
    if stated.as_ref().is_some_and(|r| r.len() != 2 * bins.len()) {
        bail!(invalid, "a range of {} numbers for {} axes", stated.map_or(0, |r| r.len()), bins.len());
    }
    let empty = cx.size(x, 0)?.is(0);
    let mut out = Vec::new();
    for (axis, &count) in bins.iter().enumerate() {
        if !(1..1 << 24).contains(&count) {
            bail!(invalid, "a histogram of {count} bins");
        }
        let (lo, hi) = match &stated {
            Some(r) => (F::from(cx.b.scalar(dtype, r[2 * axis])?), F::from(cx.b.scalar(dtype, r[2 * axis + 1])?)),
            None if empty => (F::from(cx.b.scalar(dtype, 0.0)?), F::from(cx.b.scalar(dtype, 0.0)?)),
            None => {
                let place = cx.b.scalar(DType::I64, axis as f64)?;
                let column = cx.op("Gather", &[x, place], Attrs::new().with("axis", 1))?;
                let (lo, hi) =
                    (cx.reduce("ReduceMin", column, &[], false)?, cx.reduce("ReduceMax", column, &[], false)?);
                (F::from(lo), F::from(hi))
            }
        };
        // A range of nothing is made one of one.
        let half = lo.equals(&hi).pick(0.5, 0.0);
        let (lo, hi) = (lo - &half, hi + &half);
        // As torch spaces them: from both ends towards the middle.
        let places = range(cx, &Dim::Const(count + 1))?;
        let places = F::from(cx.cast(places, dtype)?);
        let step = (&hi - &lo) / count as f64;
        let first = places.lt(((count + 1) / 2) as f64);
        let edges = first.pick(&lo + &step * &places, &hi - &step * (count as f64 - &places));
        out.push(edges.emit(cx, dtype)?);
    }
    Ok(out)
}

/// How many of the points `x` [points, axes] lie in each bin (by weight), or their density.
fn count(cx: &mut Cx, a: &Args, x: ValueId, edges: &[ValueId]) -> Result<ValueId> {
    let (dtype, points) = (cx.dtype(x)?, cx.size(x, 0)?);
    let mut sizes = Vec::new();
    for &e in edges {
        let n = cx.static_size(e, 0, "the edges of bins")?;
        if n < 2 {
            bail!(invalid, "bins with {n} edges");
        }
        sizes.push(n - 1);
    }
    // Number of the bin, and whether there is one.
    let (mut place, mut inside) = (None::<F>, None::<F>);
    for (axis, (&e, &bins)) in edges.iter().zip(&sizes).enumerate() {
        let number = cx.b.scalar(DType::I64, axis as f64)?;
        let column = cx.op("Gather", &[x, number], Attrs::new().with("axis", 1))?;
        let tall = cx.b.unsqueeze(column, &[1])?;
        let reached = cx.call("GreaterOrEqual", &[tall, e])?;
        let reached = cx.cast(reached, DType::I64)?;
        let reached = cx.reduce("ReduceSum", reached, &[1], false)?;
        let own = (F::from(reached) - 1.0).max(0.0).min((bins - 1) as f64);
        place = Some(match place {
            Some(p) => p * bins as f64 + own,
            None => own,
        });
        let (first, last) = (cx.b.scalar(DType::I64, 0.0)?, cx.b.scalar(DType::I64, bins as f64)?);
        let lo = cx.op("Gather", &[e, first], Attrs::new().with("axis", 0))?;
        let hi = cx.op("Gather", &[e, last], Attrs::new().with("axis", 0))?;
        let here = F::from(column).ge(F::from(lo)).and(F::from(column).le(F::from(hi)));
        inside = Some(match inside {
            Some(i) => i.and(here),
            None => here,
        });
    }
    let (Some(place), Some(inside)) = (place, inside) else { bail!(invalid, "a histogram of no axis") };
    let place = place.emit(cx, DType::I64)?;
    let weight = match a.opt_t("weight")? {
        Some(w) => {
            let w = cx.cast(w, dtype)?;
            cx.reshape(w, &[points])?
        }
        None => filled(cx, dtype, &[points], &Scalar::Int(Dim::Const(1)))?,
    };
    let weight = inside.pick(F::from(weight), 0.0).emit(cx, dtype)?;
    let total = sizes.iter().product::<i64>();
    let none = filled(cx, dtype, &[Dim::Const(total)], &Scalar::Int(Dim::Const(0)))?;
    let attrs = Attrs::new().with("axis", 0).with("reduction", "add");
    let counted = cx.op("ScatterElements", &[none, place, weight], attrs)?;
    let dims: Vec<Dim> = sizes.iter().map(|&s| Dim::Const(s)).collect();
    let mut counted = cx.reshape(counted, &dims)?;
    if a.bool("density")? {
        let sum = cx.reduce("ReduceSum", counted, &[], false)?;
        counted = cx.call("Div", &[counted, sum])?;
        for (axis, &e) in edges.iter().enumerate() {
            let upper = cx.slice(e, 0, &Dim::Const(1), &Dim::Const(i64::MAX), 1)?;
            let lower = cx.slice(e, 0, &Dim::Const(0), &Dim::Const(-1), 1)?;
            let width = cx.call("Sub", &[upper, lower])?;
            let mut shape = vec![Dim::Const(1); sizes.len()];
            shape[axis] = dims[axis].clone();
            let width = cx.reshape(width, &shape)?;
            counted = cx.call("Div", &[counted, width])?;
        }
    }
    Ok(counted)
}
