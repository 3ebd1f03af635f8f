//! Losses of classifiers.

use crate::eval::Eval;
use crate::infer::Infer;
use oxrt_tensor::{Error, Result, Tensor, bail};

/// Shape rule: that of the targets for `reduction` none, else a scalar.
pub fn infer(ctx: &mut Infer) -> Result<()> {
    let dims =
        if ctx.attrs().string_or("reduction", "mean")? == "none" { ctx.ty(1)?.dims.clone() } else { Some(vec![]) };
    ctx.set(0, ctx.dtype(0)?, dims);
    Ok(())
}

/// -weight · x[target] of x [N, C, …], reduced; targets and weights are inputs 1 and 2.
pub fn nll(ctx: &Eval, x: &Tensor) -> Result<Tensor> {
    let target = ctx.tensor(1)?;
    let fits = x.rank() >= 2 && target.rank() + 1 == x.rank() && target.shape()[0] == x.shape()[0];
    if !fits || target.shape()[1..] != x.shape()[2..] {
        bail!(invalid, "targets of {:?} for scores of {:?}", target.shape(), x.shape());
    }
    let classes = x.shape()[1];
    let inner: usize = x.shape()[2..].iter().product();
    let weights = ctx.opt(2)?.map(Tensor::to_f64_vec).transpose()?;
    if weights.as_ref().is_some_and(|w| w.len() != classes) {
        bail!(invalid, "the weights should have {classes} elements");
    }
    let ignored = ctx.attrs().get_int("ignore_index")?.copied();
    let data = x.to_f64_vec()?;
    let (mut losses, mut total) = (Vec::with_capacity(target.len()), 0.0);
    for (i, &t) in target.to_i64_vec()?.iter().enumerate() {
        if Some(t) == ignored {
            losses.push(0.0);
            continue;
        }
        let class = usize::try_from(t).ok().filter(|&t| t < classes);
        let class = class.ok_or_else(|| Error::invalid(format!("the target {t} is none of {classes} classes")))?;
        let weight = weights.as_ref().map_or(1.0, |w| w[class]);
        losses.push(-weight * data[(i / inner * classes + class) * inner + i % inner]);
        total += weight;
    }
    let sum: f64 = losses.iter().sum();
    match ctx.attrs().string_or("reduction", "mean")? {
        "none" => Tensor::from_f64(x.dtype(), target.shape(), &losses),
        "sum" => Tensor::from_f64(x.dtype(), &[], &[sum]),
        "mean" => Tensor::from_f64(x.dtype(), &[], &[sum / total]),
        other => bail!(invalid, "the reduction `{other}` is unknown"),
    }
}
