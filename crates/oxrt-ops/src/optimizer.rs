//! What the training steps share: lists of tensors that are changed together.

use crate::eval::{Datum, Eval};
use crate::infer::Infer;
use oxrt_tensor::{Error, Result, Tensor, bail};

/// Inputs 0 and 1 are the rate and the step; `parts` lists follow, of which the gradients (the second) are
/// not given back.
pub fn infer(ctx: &mut Infer, parts: usize) -> Result<()> {
    let n = count(ctx.num_inputs(), parts)?;
    for i in 0..ctx.num_outputs() {
        let from = if i < n { 2 + i } else { 2 + i + n };
        let ty = ctx.ty(from)?.clone();
        ctx.set_type(i, ty.into());
    }
    Ok(())
}

fn count(inputs: usize, parts: usize) -> Result<usize> {
    match inputs.checked_sub(2) {
        Some(n) if n % parts == 0 => Ok(n / parts),
        _ => bail!(invalid, "{inputs} inputs are not two and lists of {parts}"),
    }
}

/// `step(rate, count, [x, gradient, …])` gives the new x and states of one element.
pub fn eval(ctx: &Eval, parts: usize, step: impl Fn(f64, f64, &[f64]) -> Vec<f64>) -> Result<Vec<Datum>> {
    let n = count(ctx.inputs.len(), parts)?;
    let one = |i: usize| -> Result<f64> {
        let v = ctx.tensor(i)?.to_f64_vec()?;
        v.first().copied().ok_or_else(|| Error::invalid(format!("input {i} is empty")))
    };
    let (rate, time) = (one(0)?, one(1)?);
    let mut results: Vec<Option<Datum>> = vec![None; n * (parts - 1)];
    for k in 0..n {
        let tensors: Vec<&Tensor> = (0..parts).map(|p| ctx.tensor(2 + p * n + k)).collect::<Result<_>>()?;
        if let Some(t) = tensors.iter().find(|t| t.len() != tensors[0].len()) {
            bail!(invalid, "{:?} goes along with {:?}", t.shape(), tensors[0].shape());
        }
        let data: Vec<Vec<f64>> = tensors.iter().map(|t| t.to_f64_vec()).collect::<Result<_>>()?;
        let mut out = vec![Vec::with_capacity(data[0].len()); parts - 1];
        for i in 0..data[0].len() {
            let element: Vec<f64> = data.iter().map(|d| d[i]).collect();
            out.iter_mut().zip(step(rate, time, &element)).for_each(|(list, v)| list.push(v));
        }
        for (p, values) in out.iter().enumerate() {
            let like = tensors[if p == 0 { 0 } else { p + 1 }];
            results[p * n + k] = Some(Tensor::from_f64(like.dtype(), like.shape(), values)?.into());
        }
    }
    results.into_iter().map(|r| r.ok_or_else(|| Error::bug("a result was not made"))).collect()
}
