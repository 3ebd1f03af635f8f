//! <https://onnx.ai/onnx/operators/onnx__Unique.html>

use crate::copy::{around, select_runs};
use crate::def::OpDef;
use crate::eval::{Datum, Eval};
use crate::infer::Infer;
use crate::shape::axis;
use oxrt_ir::Dim;
use oxrt_tensor::{DType, Result, Tensor};

/// The different elements, or slices along `axis`: sorted, or in order of appearance. Outputs 1 to 3: first
/// places, the place of each element among the different ones, counts.
pub const OP: OpDef = OpDef::new("Unique", &[11, 28], 1..=1, infer, eval).examples(&[
    ("(f32[6] x) { y, i, r, c = Unique(x) } => y", &["x = 2 1 1 3 4 3"], "1 2 3 4"),
    ("(f32[6] x) { y, i, r, c = Unique<sorted=0>(x) } => r", &["x = 2 1 1 3 4 3"], "0 1 1 2 3 2"),
    ("(f32[3, 2] x) { y, i, r, c = Unique<axis=0>(x) } => y", &["x = 2 3 1 0 2 3"], "1 0 2 3"),
]);

fn infer(ctx: &mut Infer) -> Result<()> {
    let whole = match (ctx.attrs().get_int("axis")?, ctx.dims(0)) {
        (None, Some(d)) => Some(d.iter().cloned().product::<Dim>()),
        (Some(&a), Some(d)) => Some(d[axis(a, d.len())?].clone()),
        _ => None,
    };
    // One element, or none, is unique.
    let count = match whole.as_ref().and_then(Dim::as_const) {
        Some(n) if n <= 1 => Dim::Const(n),
        _ => ctx.fresh(),
    };
    let dims = match (ctx.attrs().get_int("axis")?, ctx.dims(0)) {
        (None, _) => Some(vec![count.clone()]),
        (Some(&a), Some(d)) => {
            let mut dims = d.to_vec();
            dims[axis(a, d.len())?] = count.clone();
            Some(dims)
        }
        _ => None,
    };
    let total = whole.unwrap_or_else(|| ctx.fresh());
    ctx.set(0, ctx.dtype(0)?, dims);
    ctx.set(1, DType::I64, Some(vec![count.clone()]));
    ctx.set(2, DType::I64, Some(vec![total]));
    ctx.set(3, DType::I64, Some(vec![count]));
    Ok(())
}

/// Puts place `i` into the last group, when that is `alike`, else into a new one.
fn join(groups: &mut Vec<Vec<usize>>, i: usize, alike: impl Fn(usize) -> bool) {
    match groups.last_mut() {
        Some(g) if alike(g[0]) => g.push(i),
        _ => groups.push(vec![i]),
    }
}

/// Integers that order as the elements do: zeros are equal, and so are NaNs, which come last.
fn keys(x: &Tensor) -> Result<Vec<i64>> {
    if !x.dtype().is_float() {
        // The sign bit turned, unsigned numbers of 64 bits order as signed ones do.
        let turn = if x.dtype() == DType::U64 { i64::MIN } else { 0 };
        return Ok(x.to_i64_vec()?.into_iter().map(|v| v ^ turn).collect());
    }
    let key = |v: f64| match v {
        v if v.is_nan() => i64::MAX,
        0.0 => 0,
        // The bits of a negative number fall as it rises.
        v => v.to_bits() as i64 ^ ((v.to_bits() as i64 >> 63) as u64 >> 1) as i64,
    };
    Ok(x.to_f64_vec()?.into_iter().map(key).collect())
}

fn eval(ctx: &Eval) -> Result<Vec<Datum>> {
    let x = ctx.tensor(0)?;
    let (mut shape, at) = match ctx.attrs().get_int("axis")? {
        Some(&a) => (x.shape().to_vec(), axis(a, x.rank())?),
        None => (vec![x.len()], 0),
    };
    let (outer, n, inner) = around(&shape, at);
    // Offsets of the elements of slice i, in order.
    let slice = |i: usize| (0..outer).flat_map(move |o| (o * n + i) * inner..(o * n + i + 1) * inner);
    // Runs of equal slices, each by rising place.
    let mut groups: Vec<Vec<usize>> = Vec::new();
    if let Some(s) = x.strings() {
        let order = |a: &usize, b: &usize| slice(*a).map(|p| &s[p]).cmp(slice(*b).map(|p| &s[p]));
        let mut sorted: Vec<usize> = (0..n).collect();
        sorted.sort_by(order);
        sorted.into_iter().for_each(|i| join(&mut groups, i, |g| order(&g, &i).is_eq()));
    } else {
        let keys = keys(x)?;
        if outer * inner == 1 {
            let mut sorted: Vec<(i64, usize)> = keys.iter().copied().zip(0..).collect();
            sorted.sort_unstable();
            sorted.into_iter().for_each(|(key, i)| join(&mut groups, i, |g| keys[g] == key));
        } else {
            let order = |a: &usize, b: &usize| slice(*a).map(|p| keys[p]).cmp(slice(*b).map(|p| keys[p]));
            let mut sorted: Vec<usize> = (0..n).collect();
            sorted.sort_by(order);
            sorted.into_iter().for_each(|i| join(&mut groups, i, |g| order(&g, &i).is_eq()));
        }
    }
    if !ctx.attrs().bool_or("sorted", true)? {
        groups.sort_by_key(|g| g[0]);
    }
    let mut places = vec![0i64; n];
    for (k, g) in groups.iter().enumerate() {
        g.iter().for_each(|&i| places[i] = k as i64);
    }
    shape[at] = groups.len();
    let groups = &groups;
    let starts = (0..outer).flat_map(|o| groups.iter().map(move |g| (o * n + g[0]) * inner));
    let list = |v: Vec<i64>| Datum::from(Tensor::from_slice(&[v.len()], &v));
    Ok(vec![
        select_runs(x, &shape, starts, inner)?.into(),
        list(groups.iter().map(|g| g[0] as i64).collect()),
        list(places),
        list(groups.iter().map(|g| g.len() as i64).collect()),
    ])
}
