//! <https://onnx.ai/onnx/operators/onnx__Unique.html>

use crate::copy::{around, select};
use crate::def::OpDef;
use crate::eval::{Datum, Eval};
use crate::infer::Infer;
use crate::shape::axis;
use oxrt_tensor::{DType, Result, Tensor};
use std::cmp::Ordering;

/// The different elements, or slices along `axis`: sorted, or in order of appearance. Outputs 1 to 3: first
/// places, the place of each element among the different ones, counts.
pub const OP: OpDef = OpDef::new("Unique", &[11, 28], 1..=1, infer, eval).examples(&[
    ("(f32[6] x) { y, i, r, c = Unique(x) } => y", &["x = 2 1 1 3 4 3"], "1 2 3 4"),
    ("(f32[6] x) { y, i, r, c = Unique<sorted=0>(x) } => r", &["x = 2 1 1 3 4 3"], "0 1 1 2 3 2"),
    ("(f32[3, 2] x) { y, i, r, c = Unique<axis=0>(x) } => y", &["x = 2 3 1 0 2 3"], "1 0 2 3"),
]);

fn infer(ctx: &mut Infer) -> Result<()> {
    let count = ctx.fresh();
    let dims = match (ctx.attrs().get_int("axis")?, ctx.dims(0)) {
        (None, _) => Some(vec![count.clone()]),
        (Some(&a), Some(d)) => {
            let mut dims = d.to_vec();
            dims[axis(a, d.len())?] = count.clone();
            Some(dims)
        }
        _ => None,
    };
    let total = match (ctx.attrs().get_int("axis")?, ctx.dims(0)) {
        (None, Some(d)) => d.iter().cloned().product(),
        (Some(&a), Some(d)) => d[axis(a, d.len())?].clone(),
        _ => ctx.fresh(),
    };
    ctx.set(0, ctx.dtype(0)?, dims);
    ctx.set(1, DType::I64, Some(vec![count.clone()]));
    ctx.set(2, DType::I64, Some(vec![total]));
    ctx.set(3, DType::I64, Some(vec![count]));
    Ok(())
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
    let (floats, ints);
    let compare: &dyn Fn(usize, usize) -> Ordering = if let Some(s) = x.strings() {
        &|a, b| s[a].cmp(&s[b])
    } else if x.dtype().is_float() {
        floats = x.to_f64_vec()?;
        &|a, b| floats[a].partial_cmp(&floats[b]).unwrap_or_else(|| floats[a].is_nan().cmp(&floats[b].is_nan()))
    } else {
        // The sign bit turned, unsigned numbers of 64 bits order as signed ones do.
        let turn = if x.dtype() == DType::U64 { i64::MIN } else { 0 };
        ints = x.to_i64_vec()?.into_iter().map(|v| v ^ turn).collect::<Vec<_>>();
        &|a, b| ints[a].cmp(&ints[b])
    };
    let order = |a: &usize, b: &usize| {
        slice(*a).zip(slice(*b)).map(|(p, q)| compare(p, q)).find(|o| o.is_ne()).unwrap_or(Ordering::Equal)
    };
    let mut sorted: Vec<usize> = (0..n).collect();
    sorted.sort_by(order);
    // Runs of equal slices; within one, the first place comes first, for the sort is stable.
    let mut groups: Vec<Vec<usize>> = Vec::new();
    for i in sorted {
        match groups.last_mut() {
            Some(g) if order(&g[0], &i).is_eq() => g.push(i),
            _ => groups.push(vec![i]),
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
    let offsets =
        (0..outer).flat_map(|o| groups.iter().flat_map(move |g| (o * n + g[0]) * inner..(o * n + g[0] + 1) * inner));
    let list = |v: Vec<i64>| Datum::from(Tensor::from_slice(&[v.len()], &v));
    Ok(vec![
        select(x, &shape, offsets)?.into(),
        list(groups.iter().map(|g| g[0] as i64).collect()),
        list(places),
        list(groups.iter().map(|g| g.len() as i64).collect()),
    ])
}
