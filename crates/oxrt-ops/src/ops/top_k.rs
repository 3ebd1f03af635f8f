//! <https://onnx.ai/onnx/operators/onnx__TopK.html>

use crate::copy::select;
use crate::def::OpDef;
use crate::eval::{Datum, Eval};
use crate::infer::Infer;
use crate::reduce::Groups;
use crate::shape::axis;
use oxrt_tensor::{DType, Error, Result, Tensor, bail};

/// The k greatest (or smallest) elements along `axis` and their indices; equal ones in index order.
pub const OP: OpDef = OpDef::new("TopK", &[1, 10, 11, 24], 2..=2, infer, eval).examples(&[
    ("(f32[4] x) { y, i = TopK(x, i64[1]{2}) } => i", &["x = 1 3 2 3"], "1 3"),
    ("(f32[4] x) { y, i = TopK<largest=0>(x, i64[1]{2}) } => y", &["x = 1 3 2 3"], "1 2"),
]);

fn infer(ctx: &mut Infer) -> Result<()> {
    let dims = match ctx.dims(0) {
        Some(x) => {
            let mut dims = x.to_vec();
            let at = axis(ctx.attrs().int_or("axis", -1)?, x.len())?;
            dims[at] = ctx.contents(1).and_then(|c| c.elements.first().cloned()).unwrap_or_else(|| ctx.fresh());
            Some(dims)
        }
        None => None,
    };
    ctx.set(0, ctx.dtype(0)?, dims.clone());
    ctx.set(1, DType::I64, dims);
    Ok(())
}

fn eval(ctx: &Eval) -> Result<Vec<Datum>> {
    let x = ctx.tensor(0)?;
    let at = axis(ctx.attrs().int_or("axis", -1)?, x.rank())?;
    let k = ctx.ints(1)?.and_then(|k| k.first().copied()).ok_or_else(|| Error::invalid("k is missing"))?;
    let largest = ctx.attrs().bool_or("largest", true)?;
    let lanes = Groups::new(x.shape(), &[at], true)?;
    let Some(k) = usize::try_from(k).ok().filter(|&k| k <= lanes.steps.len()) else {
        bail!(invalid, "the first {k} of {} elements", lanes.steps.len());
    };
    // Integers as such: f64 would merge large ones. NaN is greater than everything.
    let orders: Vec<Vec<usize>> = if x.dtype() == DType::U64 {
        lanes.map(&x.to_i64_vec()?, |lane| order(lane, largest, |&a, &b| (a as u64).cmp(&(b as u64))))
    } else if x.dtype().is_int() {
        lanes.map(&x.to_i64_vec()?, |lane| order(lane, largest, |a, b| a.cmp(b)))
    } else {
        let rank = |a: &f64, b: &f64| a.partial_cmp(b).unwrap_or_else(|| a.is_nan().cmp(&b.is_nan()));
        lanes.map(&x.to_f64_vec()?, |lane| order(lane, largest, rank))
    };
    let mut shape = x.shape().to_vec();
    shape[at] = k;
    // Lanes lie side by side along the axes after `at`.
    let inner: usize = shape[at + 1..].iter().product();
    let mut offsets = vec![0; orders.len() * k];
    let mut indices = vec![0i64; offsets.len()];
    for (lane, order) in orders.iter().enumerate() {
        for (j, &i) in order.iter().take(k).enumerate() {
            let place = (lane / inner * k + j) * inner + lane % inner;
            offsets[place] = lanes.starts[lane] + lanes.steps[i];
            indices[place] = i as i64;
        }
    }
    Ok(vec![select(x, &shape, offsets)?.into(), Tensor::from_slice(&shape, &indices).into()])
}

fn order<T>(lane: &[T], largest: bool, compare: impl Fn(&T, &T) -> std::cmp::Ordering) -> Vec<usize> {
    let mut order: Vec<usize> = (0..lane.len()).collect();
    order.sort_by(|&a, &b| if largest { compare(&lane[b], &lane[a]) } else { compare(&lane[a], &lane[b]) });
    order
}
