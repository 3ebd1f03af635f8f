//! Losses.

use super::formula::F;
use crate::args::{Arg, Args};
use crate::cx::{Cx, Val};
use oxrt_ir::{Attrs, DType, Dim, ValueId};
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
    let present = cx.cast(kept, dtype)?;
    let places = cx.b.unsqueeze(t, &[axis as i64])?;
    let picked = cx.op("GatherElements", &[x, places], Attrs::new().with("axis", axis as i64))?;
    let picked = cx.b.squeeze(picked, &[axis as i64])?;
    let w = match weight {
        Some(w) => {
            let w = cx.op("Gather", &[w, t], Attrs::new().with("axis", 0))?;
            cx.call("Mul", &[w, present])?
        }
        None => present,
    };
    let y = cx.call("Mul", &[picked, w])?;
    let mut y = cx.call("Neg", &[y])?;
    if smoothing != 0.0 {
        // Every class takes its share, by its own weight.
        let all = match weight {
            Some(w) => {
                let w = along_classes(cx, w, x, axis)?;
                let weighted = cx.call("Mul", &[x, w])?;
                cx.reduce("ReduceMean", weighted, &[axis], false)?
            }
            None => cx.reduce("ReduceMean", x, &[axis], false)?,
        };
        let all = cx.call("Mul", &[all, present])?;
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

/// `_linear_cross_entropy_batch_chunked(Tensor input, Tensor linear_weight, Tensor target, Tensor? linear_bias, Tensor? weight,
/// str reduction, int ignore_index, float label_smoothing, …) -> (loss, gradients…)`, `…_no_reduction`: how it cuts the batch
/// changes no value; the gradients are not there
pub fn linear_cross_entropy(cx: &mut Cx, a: &Args) -> Result<Vec<ValueId>> {
    let (x, w) = (a.t("input")?, a.t("linear_weight")?);
    let w = super::linalg::transposed(cx, w)?;
    let mut x = cx.call("MatMul", &[x, w])?;
    if let Some(b) = a.opt_t("linear_bias")? {
        x = cx.call("Add", &[x, b])?;
    }
    let reduction = match a.has("reduction") {
        true => match &*a.text("reduction")? {
            "mean" => 1,
            "sum" => 2,
            _ => 0,
        },
        false => 0,
    };
    let a = a.with("self", Arg::Tensor(cx.new_tensor(x), x));
    let a = a.with("reduction", Arg::Other(Val::Int(Dim::Const(reduction))));
    Ok(vec![cross_entropy_loss(cx, &Args { target: "aten.cross_entropy_loss.default", ..a })?])
}

/// Weights of the classes, to multiply with `x`.
fn along_classes(cx: &mut Cx, w: ValueId, x: ValueId, axis: usize) -> Result<ValueId> {
    let mut dims = vec![Dim::Const(1); cx.rank(x)?];
    dims[axis] = cx.size(x, axis)?;
    cx.reshape(w, &dims)
}

/// Cross entropy against given class probabilities; the mean is over the samples.
fn probabilities(cx: &mut Cx, a: &Args, x: ValueId, axis: i64) -> Result<ValueId> {
    let (dtype, axis) = (cx.dtype(x)?, axis as usize);
    let l = cx.op("LogSoftmax", &[x], Attrs::new().with("axis", axis as i64))?;
    let mut target = F::from(a.t("target")?);
    let smoothing = a.opt_float("label_smoothing")?.unwrap_or(0.0);
    let classes = cx.size(x, axis)?;
    if smoothing != 0.0 {
        let n = cx.dim_scalar(&classes)?;
        let n = cx.cast(n, dtype)?;
        target = target * (1.0 - smoothing) + smoothing / F::from(n);
    }
    let mut terms = F::from(l) * target;
    if let Some(w) = a.opt_t("weight")? {
        terms = terms * F::from(along_classes(cx, w, x, axis)?);
    }
    let terms = (-terms).emit(cx, dtype)?;
    let y = cx.reduce("ReduceSum", terms, &[axis], false)?;
    reduced(cx, a, y)
}

/// `soft_margin_loss(Tensor self, Tensor target, int reduction=Mean)`
pub fn soft_margin_loss(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let (x, t) = (a.t("self")?, a.t("target")?);
    let dtype = cx.dtype(x)?;
    let y = (1.0 + (-(F::from(x) * F::from(t))).exp()).ln().emit(cx, dtype)?;
    reduced(cx, a, y)
}

/// `margin_ranking_loss(Tensor input1, Tensor input2, Tensor target, float margin=0.0, int reduction=Mean)`
pub fn margin_ranking_loss(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let (x, y, t) = (a.t("input1")?, a.t("input2")?, a.t("target")?);
    let margin = a.float("margin")?;
    let dtype = crate::promote::float_of(cx.dtype(x)?);
    let (x, y, t) = (cx.cast(x, dtype)?, cx.cast(y, dtype)?, cx.cast(t, dtype)?);
    let v = (margin - F::from(t) * (F::from(x) - F::from(y))).max(0.0).emit(cx, dtype)?;
    let v = reduced(cx, a, v)?;
    cx.cast(v, a.out_dtype()?)
}

/// `multi_margin_loss(Tensor self, Tensor target, Scalar p=1, Scalar margin=1, Tensor? weight=None, int reduction=Mean)`
pub fn multi_margin_loss(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let (mut x, t) = (a.t("self")?, a.t("target")?);
    if cx.rank(x)? == 0 {
        x = cx.b.unsqueeze(x, &[0])?;
    }
    let (dtype, rank) = (cx.dtype(x)?, cx.rank(x)?);
    let classes = cx.size(x, rank - 1)?;
    let dims = cx.dims(x)?;
    let t = cx.reshape(t, &dims[..rank - 1])?;
    let place = cx.b.unsqueeze(t, &[-1])?;
    let own = cx.op("GatherElements", &[x, place], Attrs::new().with("axis", -1))?;
    let numbers = super::create::range(cx, &classes)?;
    let other = cx.call("Equal", &[place, numbers])?;
    let gap = (a.float("margin")? - F::from(own) + F::from(x)).max(0.0);
    let gap = if a.float("p")? == 2.0 { gap.squared() } else { gap };
    let mut terms = F::from(other).pick(0.0, gap);
    if let Some(w) = a.opt_t("weight")? {
        let w = cx.op("Gather", &[w, place], Attrs::new().with("axis", 0))?;
        terms = terms * F::from(w);
    }
    let terms = terms.emit(cx, dtype)?;
    let y = cx.reduce("ReduceMean", terms, &[rank - 1], false)?;
    let y = match a.int("reduction")? {
        0 => cx.reshape(y, &a.out_dims()?)?,
        _ => y,
    };
    reduced(cx, a, y)
}

/// `multilabel_margin_loss(Tensor self, Tensor target, int reduction=Mean)`: the labels of a row end at the first -1
pub fn multilabel_margin_loss(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let (mut x, mut t) = (a.t("self")?, a.t("target")?);
    if cx.rank(x)? == 0 {
        (x, t) = (cx.b.unsqueeze(x, &[0])?, cx.reshape(t, &[Dim::Const(1)])?);
    }
    let (dtype, rank) = (cx.dtype(x)?, cx.rank(x)?);
    let classes = cx.size(x, rank - 1)?;
    let zero = cx.b.scalar(DType::I64, 0.0)?;
    let ended = cx.call("Less", &[t, zero])?;
    let ended = cx.cast(ended, DType::I64)?;
    let axis = cx.b.scalar(DType::I64, rank as f64 - 1.0)?;
    let ended = cx.call("CumSum", &[ended, axis])?;
    let valid = cx.call("Equal", &[ended, zero])?;
    let places = cx.call("Max", &[t, zero])?;
    let own = cx.op("GatherElements", &[x, places], Attrs::new().with("axis", -1))?;
    // [labels, classes]: whether the class is that label, then whether it is any of the row's.
    let numbers = super::create::range(cx, &classes)?;
    let (places, valid) = (cx.b.unsqueeze(places, &[-1])?, cx.b.unsqueeze(valid, &[-1])?);
    let hit = cx.call("Equal", &[places, numbers])?;
    let hit = cx.call("And", &[hit, valid])?;
    let hit = cx.cast(hit, DType::I64)?;
    let labelled = cx.reduce("ReduceMax", hit, &[rank - 1], true)?;
    let (own, x) = (cx.b.unsqueeze(own, &[-1])?, cx.b.unsqueeze(x, &[-2])?);
    let gap = (1.0 - (F::from(own) - F::from(x))).max(0.0);
    let labelled = cx.cast(labelled, DType::Bool)?;
    let counted = F::from(valid).and(F::from(labelled).not());
    let terms = counted.pick(gap, 0.0).emit(cx, dtype)?;
    let sum = cx.reduce("ReduceSum", terms, &[rank - 1, rank], false)?;
    let n = cx.dim_scalar(&classes)?;
    let n = cx.cast(n, dtype)?;
    let y = cx.call("Div", &[sum, n])?;
    let y = if a.int("reduction")? == 0 { cx.reshape(y, &a.out_dims()?)? } else { y };
    reduced(cx, a, y)
}

/// `triplet_margin_loss(Tensor anchor, Tensor positive, Tensor negative, float margin=1.0, float p=2.0, float eps=1e-06,
/// bool swap=False, int reduction=Mean)`
pub fn triplet_margin_loss(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let mut points = Vec::new();
    for name in ["anchor", "positive", "negative"] {
        points.push(crate::promote::float_arg(cx, a, name)?);
    }
    let (p, eps) = (a.float("p")?, a.float("eps")?);
    let distance = |cx: &mut Cx, i: usize, j: usize| -> Result<ValueId> {
        let dtype = cx.dtype(points[i])?;
        let d = (F::from(points[i]) - F::from(points[j]) + eps).emit(cx, dtype)?;
        let rank = cx.rank(d)?;
        super::reduce::norm_of(cx, d, p, &[rank - 1], false)
    };
    let (near, mut far) = (distance(cx, 0, 1)?, distance(cx, 0, 2)?);
    if a.bool("swap")? {
        let other = distance(cx, 1, 2)?;
        far = cx.call("Min", &[far, other])?;
    }
    let dtype = cx.dtype(near)?;
    let y = (F::from(near) - F::from(far) + a.float("margin")?).max(0.0).emit(cx, dtype)?;
    reduced(cx, a, y)
}

/// `hinge_embedding_loss(Tensor self, Tensor target, float margin=1.0, int reduction=Mean)`
pub fn hinge_embedding_loss(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let (x, t) = (a.t("self")?, a.t("target")?);
    let dtype = cx.dtype(x)?;
    let (x, t) = (F::from(x), F::from(cx.cast(t, dtype)?));
    let far = t.equals(1.0).pick(0.0, (a.float("margin")? - &x).max(0.0));
    let near = t.equals(-1.0).pick(0.0, x);
    let y = (far + near).emit(cx, dtype)?;
    reduced(cx, a, y)
}

/// `cosine_embedding_loss(Tensor input1, Tensor input2, Tensor target, float margin=0.0, int reduction=Mean)`
pub fn cosine_embedding_loss(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let (x, y) = (crate::promote::float_arg(cx, a, "input1")?, crate::promote::float_arg(cx, a, "input2")?);
    let (dtype, rank) = (cx.dtype(x)?, cx.rank(a.t("target")?)?);
    let dot = |cx: &mut Cx, v: ValueId, w: ValueId| -> Result<F> {
        let p = cx.call("Mul", &[v, w])?;
        Ok(F::from(cx.reduce("ReduceSum", p, &[rank], false)?))
    };
    let product = dot(cx, x, y)?;
    let (xx, yy) = (dot(cx, x, x)? + 1e-12, dot(cx, y, y)? + 1e-12);
    let cosine = product / (xx * yy).sqrt();
    let t = F::from(cx.cast(a.t("target")?, dtype)?);
    let near = t.equals(1.0).pick(1.0 - &cosine, 0.0);
    let far = t.equals(-1.0).pick((cosine - a.float("margin")?).max(0.0), 0.0);
    let v = (near + far).emit(cx, dtype)?;
    let v = reduced(cx, a, v)?;
    cx.cast(v, a.out_dtype()?)
}

/// `poisson_nll_loss(Tensor input, Tensor target, bool log_input, bool full, float eps, int reduction)`
pub fn poisson_nll_loss(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let (x, t) = (crate::promote::float_arg(cx, a, "input")?, a.t("target")?);
    let dtype = cx.dtype(x)?;
    let (x, t) = (F::from(x), F::from(cx.cast(t, dtype)?));
    let mut y = match a.bool("log_input")? {
        true => x.exp() - &t * &x,
        false => &x - &t * (&x + a.float("eps")?).ln(),
    };
    if a.bool("full")? {
        let stirling = &t * t.ln() - &t + 0.5 * (2.0 * std::f64::consts::PI * &t).ln();
        y = y + t.gt(1.0).pick(stirling, 0.0);
    }
    let y = y.emit(cx, dtype)?;
    reduced(cx, a, y)
}
