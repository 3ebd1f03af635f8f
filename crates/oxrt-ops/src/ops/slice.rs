//! <https://onnx.ai/onnx/operators/onnx__Slice.html>

use crate::copy::{select, signed_strides, walk};
use crate::def::OpDef;
use crate::eval::{Datum, Eval};
use crate::infer::Infer;
use crate::shape::axis;
use oxrt_ir::{Contents, Dim};
use oxrt_tensor::{Error, Result, bail};

pub const OP: OpDef = OpDef::new("Slice", &[1, 10, 11, 13], 3..=5, infer, eval).examples(&[
    (
        "(f32[2, 3] x) { y = Slice(x, i64[1]{-2}, i64[1]{100}, i64[1]{1}) } => y",
        &["x = 1 2 3 4 5 6"],
        "2 3 5 6",
    ),
    ("(f32[4] x) { y = Slice(x, i64[1]{-1}, i64[1]{-100}, _, i64[1]{-2}) } => y", &["x = 1 2 3 4"], "4 2"),
]);

/// Size of the part of an axis of size `d`, when it can be told.
fn part(ctx: &Infer, d: &Dim, start: &Dim, end: &Dim, step: i64) -> Option<Dim> {
    let zero = Dim::Const(0);
    // Below zero counts from the end; the huge numbers of exporters mean "to the end".
    let place = |x: &Dim, low: &Dim, high: &Dim| -> Option<Dim> {
        if x.as_const().is_some_and(|x| x >= i32::MAX as i64) {
            return Some(high.clone());
        }
        if x.as_const().is_some_and(|x| x <= i32::MIN as i64) {
            return Some(low.clone());
        }
        let (least, most) = ctx.bounds(x);
        let x = match () {
            _ if least >= 0 => x.clone(),
            _ if most < 0 => x.clone() + d.clone(),
            _ => return None,
        };
        let x = if ctx.is_at_most(&x, high) { x } else { x.at_most(high) };
        Some(if ctx.is_at_most(low, &x) { x } else { x.at_least(low) })
    };
    let span = if step > 0 {
        place(end, &zero, d)? - place(start, &zero, d)?
    } else {
        let (last, before) = (d.clone() - 1, Dim::Const(-1));
        place(start, &zero, &last)? - place(end, &before, &last)?
    };
    let count = span.ceil_div(&Dim::Const(step.saturating_abs()));
    // Backwards, the last element of an axis of size 0 counts as one.
    let count = if step < 0 && ctx.bounds(d).0 < 1 { count.at_most(d) } else { count };
    Some(if ctx.bounds(&count).0 >= 0 { count } else { count.at_least(&zero) })
}

fn infer(ctx: &mut Infer) -> Result<()> {
    let dtype = ctx.dtype(0)?;
    let Some(x) = ctx.dims(0) else {
        ctx.set(0, dtype, None);
        return Ok(());
    };
    let mut dims = x.to_vec();
    let count = ctx.length_of(1).or(ctx.length_of(2));
    let axes = if ctx.has(3) { ctx.const_ints(3) } else { count.map(|n| (0..n as i64).collect()) };
    let Some(axes) = axes else {
        let dims = ctx.fresh_dims(dims.len());
        ctx.set(0, dtype, Some(dims));
        return Ok(());
    };
    let steps = if ctx.has(4) { ctx.const_ints(4) } else { Some(vec![1; axes.len()]) };
    let one = |i: usize, k: usize| ctx.contents(i).and_then(|c| c.elements.get(k).cloned());
    let mut unknown = Vec::new();
    for (k, &a) in axes.iter().enumerate() {
        let at = axis(a, dims.len())?;
        if axes[..k].iter().any(|&b| axis(b, dims.len()).is_ok_and(|b| b == at)) {
            bail!(invalid, "axis {a} is sliced twice");
        }
        let step = steps.as_ref().and_then(|s| s.get(k).copied());
        if step == Some(0) {
            bail!(invalid, "the step is 0");
        }
        match (one(1, k), one(2, k), step) {
            (Some(start), Some(end), Some(step)) => match part(ctx, &x[at], &start, &end, step) {
                Some(d) => dims[at] = d,
                None => unknown.push(at),
            },
            _ => unknown.push(at),
        }
    }
    for at in unknown {
        dims[at] = ctx.fresh();
    }
    ctx.set(0, dtype, Some(dims));
    let consts = (ctx.contents(0), ctx.const_ints(1), ctx.const_ints(2), steps);
    if let (Some(c), Some(s), Some(e), Some(t)) = consts
        && let ([s], [e], [t]) = (&s[..], &e[..], &t[..]) {
            let (start, n) = range(*s, *e, *t, c.elements.len())?;
            let elements = (0..n).map(|i| c.elements[(start as i64 + i as i64 * t) as usize].clone()).collect();
            ctx.set_contents(0, Contents::vector(elements));
        }
    Ok(())
}

/// First index and number of elements, clamped as in Python.
fn range(start: i64, end: i64, step: i64, size: usize) -> Result<(usize, usize)> {
    let n = size as i64;
    let place = |x: i64, low: i64, high: i64| (if x < 0 { x.saturating_add(n) } else { x }).clamp(low, high);
    let (first, span) = match step {
        0 => bail!(invalid, "the step is 0"),
        s if s > 0 => {
            let first = place(start, 0, n);
            (first, place(end, 0, n) - first)
        }
        _ if n == 0 => (0, 0),
        _ => {
            let first = place(start, 0, n - 1);
            (first, first - place(end, -1, n - 1))
        }
    };
    let step = step.unsigned_abs();
    Ok((first as usize, (span.max(0) as u64).div_ceil(step) as usize))
}

fn eval(ctx: &Eval) -> Result<Vec<Datum>> {
    let x = ctx.tensor(0)?;
    let starts = ctx.ints(1)?.ok_or_else(|| Error::invalid("the starts are missing"))?;
    let ends = ctx.ints(2)?.ok_or_else(|| Error::invalid("the ends are missing"))?;
    let axes = ctx.ints(3)?.unwrap_or_else(|| (0..starts.len() as i64).collect());
    let steps = ctx.ints(4)?.unwrap_or_else(|| vec![1; starts.len()]);
    if [ends.len(), axes.len(), steps.len()].iter().any(|&n| n != starts.len()) {
        bail!(invalid, "starts, ends, axes and steps differ in length");
    }
    let mut shape = x.shape().to_vec();
    let own = signed_strides(&shape);
    let mut strides = own.clone();
    let mut origin = 0;
    for (k, &a) in axes.iter().enumerate() {
        let at = axis(a, x.rank())?;
        if axes[..k].iter().any(|&b| axis(b, x.rank()).is_ok_and(|b| b == at)) {
            bail!(invalid, "axis {a} is sliced twice");
        }
        let (first, n) = range(starts[k], ends[k], steps[k], x.shape()[at])?;
        shape[at] = n;
        origin += first * own[at] as usize;
        strides[at] = own[at].saturating_mul(steps[k] as isize);
    }
    // A huge step never takes a second element.
    (0..shape.len()).filter(|&i| shape[i] <= 1).for_each(|i| strides[i] = 0);
    Ok(vec![select(x, &shape, walk(&shape, &strides, origin)?)?.into()])
}
