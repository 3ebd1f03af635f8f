//! Copies, shapes and small mathematics.

use super::fused::one;
use super::{Call, Expand, keep};
use oxrt_ir::{Attrs, ValueId};
use oxrt_tensor::{DType, Error, Result, Tensor, bail};

pub(super) const TABLE: &[(&str, Expand)] = &[
    ("Trilu", |c| same(c, "Trilu")),
    ("GatherND", |c| same(c, "GatherND")),
    ("SampleOp", |c| same(c, "Identity")),
    ("GridSample", |c| {
        let mode = match c.attrs.string_or("mode", "bilinear")? {
            "bilinear" => "linear",
            "bicubic" => "cubic",
            other => other,
        };
        let attrs = keep(c.attrs, &["align_corners", "padding_mode"]).with("mode", mode);
        one(c.b.op("GridSample", &[c.input(0)?, c.input(1)?], attrs)?)
    }),
    ("Pad", |c| {
        let pads = c.b.reshape_const(c.input(1)?, &[-1])?;
        let value = match c.opt(2) {
            Some(v) => Some(c.b.reshape_const(v, &[])?),
            None => None,
        };
        let y = c.b.op_multi("Pad", &[c.opt(0), Some(pads), value], keep(c.attrs, &["mode"]), 1)?;
        one(y[0])
    }),
    ("Unique", |c| {
        let outs = c.b.op_multi("Unique", &[c.opt(0)], Attrs::new().with("sorted", 0), 4)?;
        Ok(vec![Some(outs[0]), Some(outs[2]), Some(outs[3])])
    }),
    ("Range", |c| {
        let (start, limit) = (c.b.reshape_const(c.input(0)?, &[])?, c.b.reshape_const(c.input(1)?, &[])?);
        let delta = match c.opt(2) {
            Some(d) => c.b.reshape_const(d, &[])?,
            None => c.b.scalar_like(start, 1.0)?,
        };
        one(c.call("Range", &[start, limit, delta])?)
    }),
    ("ExpandDims", |c| {
        let axis = c.b.reshape_const(c.input(1)?, &[1])?;
        let axis = c.b.cast(axis, DType::I64)?;
        let x = c.input(0)?;
        one(c.call("Unsqueeze", &[x, axis])?)
    }),
    ("TorchEmbedding", |c| {
        let (table, ids) = (c.input(0)?, c.input(1)?);
        one(c.call("Gather", &[table, ids])?)
    }),
    ("IsAllFinite", is_all_finite),
    ("ComplexMul", |c| complex_mul(c, 1.0)),
    ("ComplexMulConj", |c| complex_mul(c, -1.0)),
    ("Rfft", |c| {
        let x = c.b.unsqueeze(c.input(0)?, &[-1])?;
        refuse_signal(c)?;
        one(c.b.op("DFT", &[x], Attrs::new().with("onesided", 1))?)
    }),
    ("Irfft", |c| {
        refuse_signal(c)?;
        let x = c.input(0)?;
        let y = c.b.op("DFT", &[x], Attrs::new().with("onesided", 1).with("inverse", 1))?;
        one(c.b.squeeze(y, &[-1])?)
    }),
    ("CDist", cdist),
    ("SwiGLU", swi_glu),
    ("RelativePositionBias", relative_position_bias),
];

/// The standard operator of the same form.
fn same(c: &mut Call, op: &str) -> Result<Vec<Option<ValueId>>> {
    let y = c.b.op_multi(op, c.inputs, c.attrs.clone(), 1)?;
    one(y[0])
}

fn is_all_finite(c: &mut Call) -> Result<Vec<Option<ValueId>>> {
    let (inf_only, nan_only) = (c.attrs.bool_or("isinf_only", false)?, c.attrs.bool_or("isnan_only", false)?);
    let mut good = c.b.constant(Tensor::scalar(true));
    for x in c.inputs.iter().flatten() {
        for (op, wanted) in [("IsInf", !nan_only), ("IsNaN", !inf_only)] {
            if !wanted {
                continue;
            }
            let bad = c.call(op, &[*x])?;
            let bad = c.b.cast(bad, DType::U8)?;
            let any = c.b.op("ReduceMax", &[bad], Attrs::new().with("keepdims", 0))?;
            let any = c.b.cast(any, DType::Bool)?;
            let none = c.call("Not", &[any])?;
            good = c.call("And", &[good, none])?;
        }
    }
    one(good)
}

/// Real and imaginary parts lie along the last axis; `sign` is that of the second operand's imaginary part.
fn complex_mul(c: &mut Call, sign: f64) -> Result<Vec<Option<ValueId>>> {
    let (x, y) = (c.input(0)?, c.input(1)?);
    let (a, b) = (c.pick(x, -1, 0)?, c.pick(x, -1, 1)?);
    let (d, e) = (c.pick(y, -1, 0)?, c.pick(y, -1, 1)?);
    let e = c.scaled(e, sign)?;
    let (ad, be, ae, bd) = (c.mul(a, d)?, c.mul(b, e)?, c.mul(a, e)?, c.mul(b, d)?);
    let (re, im) = (c.call("Sub", &[ad, be])?, c.add(ae, bd)?);
    let (re, im) = (c.b.unsqueeze(re, &[-1])?, c.b.unsqueeze(im, &[-1])?);
    one(c.concat(&[re, im], -1)?)
}

/// Transforms here are along the last axis alone, onesided and not normalised.
fn refuse_signal(c: &Call) -> Result<()> {
    c.refuse_attr("signal_ndim", 1)?;
    c.refuse_attr("onesided", 1)?;
    c.refuse_attr("normalized", 0)
}

/// Distances between the rows of two matrices.
fn cdist(c: &mut Call) -> Result<Vec<Option<ValueId>>> {
    let (x, y) = (c.b.unsqueeze(c.input(0)?, &[1])?, c.b.unsqueeze(c.input(1)?, &[0])?);
    let difference = c.call("Sub", &[x, y])?;
    let axes = c.b.ints(&[-1]);
    let op = match c.attrs.string_or("metric", "sqeuclidean")? {
        "sqeuclidean" => "ReduceSumSquare",
        "euclidean" => "ReduceL2",
        other => bail!(unsupported, "the metric `{other}`, which onnxruntime does not run either"),
    };
    one(c.b.op(op, &[difference, axes], Attrs::new().with("keepdims", 0))?)
}

/// G σ(αG) (L + β) with G = min(gate, limit) and L = clip(up, ±limit).
fn swi_glu(c: &mut Call) -> Result<Vec<Option<ValueId>>> {
    let (mut gate, mut up) = match c.opt(1) {
        Some(up) => (c.input(0)?, up),
        None => {
            let attrs = Attrs::new().with("axis", -1).with("num_outputs", 2);
            let halves = c.b.op_multi("Split", &[c.opt(0)], attrs, 2)?;
            (halves[0], halves[1])
        }
    };
    c.refuse_attr("round_activation", 0)?;
    let limit = c.attrs.float_or("limit", 0.0)? as f64;
    if limit > 0.0 {
        let (hi, lo) = (c.b.scalar_like(gate, limit)?, c.b.scalar_like(gate, -limit)?);
        gate = c.call("Min", &[gate, hi])?;
        up = c.call("Clip", &[up, lo, hi])?;
    }
    let alpha = c.attrs.float_or("activation_alpha", 1.0)?;
    let active = c.b.op("Swish", &[gate], Attrs::new().with("alpha", alpha))?;
    let beta = c.attrs.float_or("activation_beta", 0.0)? as f64;
    if beta != 0.0 {
        let beta = c.b.scalar_like(up, beta)?;
        up = c.add(up, beta)?;
    }
    one(c.mul(active, up)?)
}

/// The buckets of T5 (Raffel et al., 2020): near distances one each, farther ones in logarithmic steps.
fn relative_position_bias(c: &mut Call) -> Result<Vec<Option<ValueId>>> {
    let table = c.input(0)?;
    let known = c.b.dims(table)?.first().and_then(|d| d.as_const());
    let mut buckets = known.ok_or_else(|| Error::unsupported("an unknown number of buckets"))?;
    let line = |c: &mut Call, i: usize, axis: i64| -> Result<ValueId> {
        let n = c.b.reshape_const(c.input(i)?, &[])?;
        let n = c.b.cast(n, DType::I64)?;
        let range = c.range_value(n)?;
        c.b.unsqueeze(range, &[axis])
    };
    let (rows, columns) = (line(c, 1, 1)?, line(c, 2, 0)?);
    let relative = c.call("Sub", &[columns, rows])?;
    let zero = c.b.scalar_like(relative, 0.0)?;
    let (distance, start) = if c.attrs.bool_or("is_bidirectional", false)? {
        buckets /= 2;
        let after = c.call("Greater", &[relative, zero])?;
        let after = c.b.cast(after, DType::I64)?;
        let start = c.scaled(after, buckets as f64)?;
        (c.call("Abs", &[relative])?, start)
    } else {
        let before = c.call("Neg", &[relative])?;
        (c.call("Max", &[before, zero])?, zero)
    };
    let exact = (buckets / 2).max(1);
    let far = c.attrs.int_or("max_distance", 128)?;
    let step = (buckets - exact) as f64 / (far as f64 / exact as f64).ln();
    let wide = c.b.cast(distance, DType::F32)?;
    let wide = c.scaled(wide, 1.0 / exact as f64)?;
    let log = c.call("Log", &[wide])?;
    let steps = c.scaled(log, step)?;
    let tiny = c.b.scalar(DType::F32, 0.0)?;
    // Distance 0 has no logarithm, and is an exact one.
    let steps = c.call("Max", &[steps, tiny])?;
    let steps = c.b.cast(steps, DType::I64)?;
    let (first, last) = (c.b.scalar(DType::I64, exact as f64)?, c.b.scalar(DType::I64, (buckets - 1) as f64)?);
    let large = c.add(steps, first)?;
    let large = c.call("Min", &[large, last])?;
    let near = c.call("Less", &[distance, first])?;
    let bucket = c.call("Where", &[near, distance, large])?;
    let bucket = c.add(bucket, start)?;
    let bias = c.call("Gather", &[table, bucket])?;
    let bias = c.b.transpose(bias, &[2, 0, 1])?;
    one(c.b.unsqueeze(bias, &[0])?)
}
