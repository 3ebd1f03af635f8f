//! Reductions over runs of neighbours.

use super::create::{filled, range};
use crate::args::{Args, Scalar};
use crate::cx::Cx;
use oxrt_ir::{Attrs, DType, Dim, ValueId};
use oxrt_tensor::{Result, bail};

/// `segment_reduce(Tensor data, str reduce, *, Tensor? lengths=None, Tensor? indices=None, Tensor? offsets=None, int axis=0,
/// bool unsafe=False, Scalar? initial=None)`: segments lie along `axis`, whose leading axes `lengths` and `offsets` share
pub fn segment_reduce(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let (data, axis) = (a.t("data")?, a.int("axis")?);
    let axis = cx.axis(data, axis)?;
    if a.has("indices") {
        bail!(unsupported, "segment_reduce with indices");
    }
    let (dtype, dims) = (cx.dtype(data)?, cx.dims(data)?);
    // Ends of the segments along the last axis of [lead…, segments].
    let ends = match a.opt_t("lengths")? {
        Some(lengths) => {
            let (lengths, last) = (cx.cast(lengths, DType::I64)?, cx.b.scalar(DType::I64, axis as f64)?);
            cx.call("CumSum", &[lengths, last])?
        }
        None => {
            let offsets = cx.cast(a.t("offsets")?, DType::I64)?;
            cx.slice(offsets, axis, &Dim::Const(1), &Dim::Const(i64::MAX), 1)?
        }
    };
    let segments = cx.dims(ends)?.get(axis).cloned().unwrap_or(Dim::Const(0));
    // The segment of an element: how many have ended before it. [lead…, n]
    let places = range(cx, &dims[axis])?;
    let places = cx.b.unsqueeze(places, &[1])?;
    let ends = cx.b.unsqueeze(ends, &[axis as i64])?;
    let ended = cx.call("GreaterOrEqual", &[places, ends])?;
    let ended = cx.cast(ended, DType::I64)?;
    let segment = cx.reduce("ReduceSum", ended, &[axis + 1], false)?;
    let mut shape = dims[..=axis].to_vec();
    shape.extend(vec![Dim::Const(1); dims.len() - axis - 1]);
    let segment = cx.reshape(segment, &shape)?;
    let mut target = dims.clone();
    // Elements past the last segment go to one more, which is cut off.
    target[axis] = segments.clone() + 1;
    let segment = cx.expand(segment, &dims)?;
    let reduce = a.text("reduce")?;
    let initial = a.opt_scalar("initial")?;
    let (reduction, neutral) = match &*reduce {
        "sum" | "mean" => ("add", 0.0),
        "prod" => ("mul", 1.0),
        "max" => ("max", f64::NEG_INFINITY),
        "min" => ("min", f64::INFINITY),
        other => bail!(invalid, "the reduction `{other}`"),
    };
    let start = initial.clone().unwrap_or(Scalar::Float(neutral));
    let base = filled(cx, dtype, &target, &start)?;
    let attrs = Attrs::new().with("axis", axis as i64).with("reduction", reduction);
    let mut y = cx.op("ScatterElements", &[base, segment, data], attrs.clone())?;
    if reduce == "mean" {
        let zero = filled(cx, dtype, &target, &Scalar::Float(0.0))?;
        let one = filled(cx, dtype, &dims, &Scalar::Float(1.0))?;
        let counts = cx.op("ScatterElements", &[zero, segment, one], attrs)?;
        let mean = cx.call("Div", &[y, counts])?;
        y = match initial {
            // An empty segment keeps what it started from.
            Some(_) => {
                let zero = cx.b.scalar(dtype, 0.0)?;
                let some = cx.call("Greater", &[counts, zero])?;
                cx.call("Where", &[some, mean, y])?
            }
            None => mean,
        };
    }
    cx.slice(y, axis, &Dim::Const(0), &segments, 1)
}

/// `_chunk_cat(Tensor[] tensors, int dim, int num_chunks)`: each tensor, padded with zeros, is cut into chunks along `dim`,
/// and the chunks of one number are joined
pub fn chunk_cat(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let (tensors, chunks) = (a.ts("tensors")?, a.int("num_chunks")?);
    let Some(&first) = tensors.first() else { bail!(invalid, "no tensors") };
    let axis = cx.axis(first, a.int("dim")?)?;
    if chunks < 1 {
        bail!(invalid, "{chunks} chunks");
    }
    let mut rows = Vec::new();
    for x in tensors {
        let dims = cx.dims(x)?;
        let more = dims[axis].ceil_div(&Dim::Const(chunks)) * Dim::Const(chunks) - dims[axis].clone();
        let mut x = x;
        if !more.is(0) {
            let mut shape = dims.clone();
            shape[axis] = more;
            let zeros = filled(cx, cx.dtype(x)?, &shape, &Scalar::Int(Dim::Const(0)))?;
            x = cx.concat(&[x, zeros], axis)?;
        }
        let dims = cx.dims(x)?;
        let inner = dims[axis].floor_div(&Dim::Const(chunks)) * dims[axis + 1..].iter().cloned().product::<Dim>();
        let shape: Vec<Dim> = dims[..axis].iter().cloned().chain([Dim::Const(chunks), inner]).collect();
        rows.push(cx.reshape(x, &shape)?);
    }
    let y = cx.concat(&rows, axis + 1)?;
    cx.cast(y, a.out_dtype()?)
}
