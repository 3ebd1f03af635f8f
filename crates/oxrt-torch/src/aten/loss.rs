//! Losses.

use crate::args::Args;
use crate::cx::Cx;
use oxrt_ir::{Attrs, ValueId};
use oxrt_tensor::{Result, bail};

/// `reduction` 0 none, 1 mean, 2 sum.
fn reduced(cx: &mut Cx, a: &Args, v: ValueId) -> Result<ValueId> {
    match a.int("reduction")? {
        0 => Ok(v),
        1 => cx.reduce("ReduceMean", v, &[], false),
        2 => cx.reduce("ReduceSum", v, &[], false),
        other => bail!(invalid, "the reduction {other}"),
    }
}

fn difference(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    cx.call("Sub", &[a.t("self")?, a.t("target")?])
}

/// `mse_loss(Tensor self, Tensor target, int reduction=Mean)`
pub fn mse_loss(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let d = difference(cx, a)?;
    let sq = cx.call("Mul", &[d, d])?;
    reduced(cx, a, sq)
}

/// `l1_loss(Tensor self, Tensor target, int reduction=Mean)`
pub fn l1_loss(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let d = difference(cx, a)?;
    let d = cx.call("Abs", &[d])?;
    reduced(cx, a, d)
}

/// Quadratic up to `edge`, linear above; `scale` divides the quadratic part.
fn rounded_l1(cx: &mut Cx, a: &Args, edge: f64, huber: bool) -> Result<ValueId> {
    let d = difference(cx, a)?;
    let d = cx.call("Abs", &[d])?;
    if edge == 0.0 {
        return reduced(cx, a, d);
    }
    let (e, half_edge) = (cx.like(d, edge)?, cx.like(d, edge / 2.0)?);
    let curve = cx.like(d, if huber { 0.5 } else { 0.5 / edge })?;
    let sq = cx.call("Mul", &[d, d])?;
    let near = cx.call("Mul", &[sq, curve])?;
    let mut far = cx.call("Sub", &[d, half_edge])?;
    if huber {
        far = cx.call("Mul", &[far, e])?;
    }
    let inside = cx.call("Less", &[d, e])?;
    let y = cx.call("Where", &[inside, near, far])?;
    reduced(cx, a, y)
}

/// `smooth_l1_loss(Tensor self, Tensor target, int reduction=Mean, float beta=1.0)`
pub fn smooth_l1_loss(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    rounded_l1(cx, a, a.float("beta")?, false)
}

/// `huber_loss(Tensor self, Tensor target, int reduction=Mean, float delta=1.0)`
pub fn huber_loss(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    rounded_l1(cx, a, a.float("delta")?, true)
}

/// `binary_cross_entropy(Tensor self, Tensor target, Tensor? weight=None, int reduction=Mean)`: logarithms stop at -100
pub fn binary_cross_entropy(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let (x, t) = (a.t("self")?, a.t("target")?);
    let (one, floor) = (cx.like(x, 1.0)?, cx.like(x, -100.0)?);
    let (x1, t1) = (cx.call("Sub", &[one, x])?, cx.call("Sub", &[one, t])?);
    let mut terms = Vec::new();
    for (p, t) in [(x, t), (x1, t1)] {
        let l = cx.call("Log", &[p])?;
        let l = cx.call("Max", &[l, floor])?;
        terms.push(cx.call("Mul", &[t, l])?);
    }
    let s = cx.call("Add", &terms)?;
    let mut y = cx.call("Neg", &[s])?;
    if let Some(w) = a.opt_t("weight")? {
        y = cx.call("Mul", &[y, w])?;
    }
    reduced(cx, a, y)
}

/// `binary_cross_entropy_with_logits(Tensor self, Tensor target, Tensor? weight=None, Tensor? pos_weight=None, …)`
pub fn binary_cross_entropy_with_logits(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let (x, t) = (a.t("self")?, a.t("target")?);
    let one = cx.like(x, 1.0)?;
    // (1 - t)·x + (1 + (p - 1)·t)·softplus(-x)
    let minus = cx.call("Neg", &[x])?;
    let mut soft = cx.call("Softplus", &[minus])?;
    if let Some(p) = a.opt_t("pos_weight")? {
        let p = cx.call("Sub", &[p, one])?;
        let p = cx.call("Mul", &[p, t])?;
        let p = cx.call("Add", &[p, one])?;
        soft = cx.call("Mul", &[soft, p])?;
    }
    let rest = cx.call("Sub", &[one, t])?;
    let rest = cx.call("Mul", &[rest, x])?;
    let mut y = cx.call("Add", &[rest, soft])?;
    if let Some(w) = a.opt_t("weight")? {
        y = cx.call("Mul", &[y, w])?;
    }
    reduced(cx, a, y)
}

/// `kl_div(Tensor self, Tensor target, int reduction=Mean, *, bool log_target=False)`
pub fn kl_div(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let (x, t) = (a.t("self")?, a.t("target")?);
    let y = if a.bool("log_target")? {
        let e = cx.call("Exp", &[t])?;
        let d = cx.call("Sub", &[t, x])?;
        cx.call("Mul", &[e, d])?
    } else {
        // t·log t is 0 at 0.
        let l = cx.call("Log", &[t])?;
        let p = cx.call("Mul", &[t, l])?;
        let zero = cx.like(t, 0.0)?;
        let positive = cx.call("Greater", &[t, zero])?;
        let p = cx.call("Where", &[positive, p, zero])?;
        let q = cx.call("Mul", &[t, x])?;
        cx.call("Sub", &[p, q])?
    };
    reduced(cx, a, y)
}

/// Negative log-likelihood of log-probabilities (classes on axis 1, or 0 for a single sample).
fn likelihood(cx: &mut Cx, a: &Args, x: ValueId) -> Result<ValueId> {
    let (t, weight) = (a.t("target")?, a.opt_t("weight")?);
    if cx.dtype(t)?.is_float() {
        bail!(unsupported, "a loss over class probabilities");
    }
    let axis = if cx.rank(x)? == 1 { 0 } else { 1 };
    let smoothing = a.opt_float("label_smoothing")?.unwrap_or(0.0);
    let dtype = cx.dtype(x)?;
    let ignore = a.int("ignore_index")?;
    let ignored = cx.b.scalar(cx.dtype(t)?, ignore as f64)?;
    let dropped = cx.call("Equal", &[t, ignored])?;
    let kept = cx.call("Not", &[dropped])?;
    let zero_class = cx.b.scalar(cx.dtype(t)?, 0.0)?;
    let t = cx.call("Where", &[kept, t, zero_class])?;
    let kept = cx.cast(kept, dtype)?;
    let places = cx.b.unsqueeze(t, &[axis as i64])?;
    let picked = cx.op("GatherElements", &[x, places], Attrs::new().with("axis", axis as i64))?;
    let picked = cx.b.squeeze(picked, &[axis as i64])?;
    let w = match weight {
        Some(w) => {
            let w = cx.op("Gather", &[w, t], Attrs::new().with("axis", 0))?;
            cx.call("Mul", &[w, kept])?
        }
        None => kept,
    };
    let y = cx.call("Mul", &[picked, w])?;
    let mut y = cx.call("Neg", &[y])?;
    if smoothing != 0.0 {
        if weight.is_some() {
            bail!(unsupported, "label smoothing with class weights");
        }
        let all = cx.reduce("ReduceMean", x, &[axis], false)?;
        let all = cx.call("Mul", &[all, kept])?;
        let (s, rest) = (cx.like(x, -smoothing)?, cx.like(x, 1.0 - smoothing)?);
        let (y0, y1) = (cx.call("Mul", &[y, rest])?, cx.call("Mul", &[all, s])?);
        y = cx.call("Add", &[y0, y1])?;
    }
    match a.int("reduction")? {
        0 => Ok(y),
        1 => {
            let (s, n) = (cx.reduce("ReduceSum", y, &[], false)?, cx.reduce("ReduceSum", w, &[], false)?);
            cx.call("Div", &[s, n])
        }
        _ => cx.reduce("ReduceSum", y, &[], false),
    }
}

/// `nll_loss_nd(Tensor self, Tensor target, Tensor? weight=None, int reduction=Mean, SymInt ignore_index=-100)`,
/// `nll_loss_forward -> (output, total_weight)`
pub fn nll_loss(cx: &mut Cx, a: &Args) -> Result<Vec<ValueId>> {
    Ok(vec![likelihood(cx, a, a.t("self")?)?])
}

/// `cross_entropy_loss(Tensor self, Tensor target, Tensor? weight=None, int reduction=Mean, SymInt
/// ignore_index=-100, float label_smoothing=0.0)`
pub fn cross_entropy_loss(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let x = a.t("self")?;
    let axis = if cx.rank(x)? == 1 { 0 } else { 1 };
    if cx.dtype(a.t("target")?)?.is_float() {
        return probabilities(cx, a, x, axis);
    }
    let x = cx.op("LogSoftmax", &[x], Attrs::new().with("axis", axis))?;
    likelihood(cx, a, x)
}

/// Cross entropy against given class probabilities.
fn probabilities(cx: &mut Cx, a: &Args, x: ValueId, axis: i64) -> Result<ValueId> {
    if a.has("weight") || a.opt_float("label_smoothing")?.unwrap_or(0.0) != 0.0 {
        bail!(unsupported, "class probabilities with weights or label smoothing");
    }
    let l = cx.op("LogSoftmax", &[x], Attrs::new().with("axis", axis))?;
    let p = cx.call("Mul", &[l, a.t("target")?])?;
    let s = cx.reduce("ReduceSum", p, &[axis as usize], false)?;
    let y = cx.call("Neg", &[s])?;
    reduced(cx, a, y)
}
