//! Activations.

use crate::args::Args;
use crate::cx::Cx;
use crate::promote::{float_arg, float_of, scalar_value};
use oxrt_ir::{Attrs, Dim, ValueId};
use oxrt_tensor::Result;

/// `relu(Tensor self)`
pub fn relu(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let x = a.t("self")?;
    cx.call("Relu", &[x])
}

/// `relu6(Tensor self)`
pub fn relu6(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let x = a.t("self")?;
    let (lo, hi) = (cx.like(x, 0.0)?, cx.like(x, 6.0)?);
    cx.call("Clip", &[x, lo, hi])
}

/// `leaky_relu(Tensor self, Scalar negative_slope=0.01)`
pub fn leaky_relu(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let alpha = a.float("negative_slope")? as f32;
    cx.op("LeakyRelu", &[a.t("self")?], Attrs::new().with("alpha", alpha))
}

/// `rrelu(Tensor self, Scalar lower=0.125, Scalar upper=0.333…, bool training=False, …)`: its mean slope
pub fn rrelu(cx: &mut Cx, a: &Args) -> Result<Vec<ValueId>> {
    if a.bool("training")? {
        // Slopes are drawn anew for each element.
        let x = a.t("self")?;
        let attrs = Attrs::new().with("low", a.float("lower")? as f32).with("high", a.float("upper")? as f32);
        let slopes = cx.op("RandomUniformLike", &[x], attrs)?;
        return Ok(vec![cx.call("PRelu", &[x, slopes])?]);
    }
    let alpha = ((a.float("lower")? + a.float("upper")?) / 2.0) as f32;
    Ok(vec![cx.op("LeakyRelu", &[a.t("self")?], Attrs::new().with("alpha", alpha))?])
}

/// `prelu(Tensor self, Tensor weight)`, `_prelu_kernel`: one slope per channel, the channel axis is 1
pub fn prelu(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let (x, w) = (a.t("self")?, a.t("weight")?);
    let rank = cx.rank(x)?;
    let w = match (cx.dims(w)?.as_slice(), rank) {
        ([n], 3..) if !n.is(1) => {
            let mut dims = vec![Dim::Const(1); rank - 1];
            dims[0] = n.clone();
            cx.reshape(w, &dims)?
        }
        _ => w,
    };
    cx.call("PRelu", &[x, w])
}

/// `elu(Tensor self, Scalar alpha=1, Scalar scale=1, Scalar input_scale=1)`
pub fn elu(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let (alpha, scale, input_scale) = (a.float("alpha")?, a.float("scale")?, a.float("input_scale")?);
    let x = a.t("self")?;
    if scale == 1.0 && input_scale == 1.0 {
        return cx.op("Elu", &[x], Attrs::new().with("alpha", alpha as f32));
    }
    // scale · (x > 0 ? x : alpha · (exp(x · input_scale) - 1))
    let (zero, one, s, i, al) =
        (cx.like(x, 0.0)?, cx.like(x, 1.0)?, cx.like(x, scale)?, cx.like(x, input_scale)?, cx.like(x, alpha)?);
    let e = cx.call("Mul", &[x, i])?;
    let e = cx.call("Exp", &[e])?;
    let e = cx.call("Sub", &[e, one])?;
    let e = cx.call("Mul", &[e, al])?;
    let positive = cx.call("Greater", &[x, zero])?;
    let y = cx.call("Where", &[positive, x, e])?;
    cx.call("Mul", &[y, s])
}

/// `selu(Tensor self)`
pub fn selu(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let attrs = Attrs::new().with("alpha", 1.673_263_2_f32).with("gamma", 1.050_701_f32);
    cx.op("Selu", &[a.t("self")?], attrs)
}

/// `celu(Tensor self, Scalar alpha=1.0)`
pub fn celu(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let (x, alpha) = (a.t("self")?, a.float("alpha")?);
    // max(0, x) + min(0, alpha · (exp(x/alpha) - 1)) in terms of Elu, which every float type has.
    let scale = cx.like(x, alpha)?;
    let q = cx.call("Div", &[x, scale])?;
    let e = cx.op("Elu", &[q], Attrs::new().with("alpha", 1.0f32))?;
    cx.call("Mul", &[e, scale])
}

/// `gelu(Tensor self, *, str approximate='none')`
pub fn gelu(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let approximate = a.text("approximate")?;
    cx.op("Gelu", &[a.t("self")?], Attrs::new().with("approximate", approximate))
}

/// `silu(Tensor self)`
pub fn silu(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let x = a.t("self")?;
    let s = cx.call("Sigmoid", &[x])?;
    cx.call("Mul", &[x, s])
}

/// `hardsigmoid(Tensor self)`
pub fn hardsigmoid(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let attrs = Attrs::new().with("alpha", 1.0f32 / 6.0).with("beta", 0.5f32);
    cx.op("HardSigmoid", &[a.t("self")?], attrs)
}

/// `hardswish(Tensor self)`
pub fn hardswish(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let x = a.t("self")?;
    cx.call("HardSwish", &[x])
}

/// `softplus(Tensor self, Scalar beta=1, Scalar threshold=20)`: linear above the threshold
pub fn softplus(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let (x, beta, threshold) = (a.t("self")?, a.float("beta")?, a.float("threshold")?);
    let (b, t) = (cx.like(x, beta)?, cx.like(x, threshold)?);
    let scaled = if beta == 1.0 { x } else { cx.call("Mul", &[x, b])? };
    let soft = cx.call("Softplus", &[scaled])?;
    let soft = if beta == 1.0 { soft } else { cx.call("Div", &[soft, b])? };
    // Above 20 the two agree in f32, so the choice matters for other thresholds only.
    if threshold >= 20.0 && cx.dtype(x)? != oxrt_ir::DType::F64 {
        return Ok(soft);
    }
    let above = cx.call("Greater", &[scaled, t])?;
    cx.call("Where", &[above, x, soft])
}

/// `mish(Tensor self)`
pub fn mish(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let x = a.t("self")?;
    let s = cx.call("Softplus", &[x])?;
    let t = cx.call("Tanh", &[s])?;
    cx.call("Mul", &[x, t])
}

/// `log_sigmoid(Tensor self)`
pub fn log_sigmoid(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let x = a.t("self")?;
    let n = cx.call("Neg", &[x])?;
    let s = cx.call("Softplus", &[n])?;
    cx.call("Neg", &[s])
}

/// `log_sigmoid_forward(Tensor self) -> (output, buffer)`
pub fn log_sigmoid_forward(cx: &mut Cx, a: &Args) -> Result<Vec<ValueId>> {
    let (x, mut out) = (a.t("self")?, vec![log_sigmoid(cx, a)?]);
    if a.used(cx, 1) {
        let (size, dtype) = (super::formula::F::from(x).abs(), cx.dtype(x)?);
        out.push((-size).exp().emit(cx, dtype)?);
    }
    Ok(out)
}

fn shrink(cx: &mut Cx, a: &Args, bias: f64) -> Result<ValueId> {
    let lambd = a.float("lambd")?;
    let attrs = Attrs::new().with("lambd", lambd as f32).with("bias", (bias * lambd) as f32);
    cx.op("Shrink", &[a.t("self")?], attrs)
}

/// `softshrink(Tensor self, Scalar lambd=0.5)`
pub fn softshrink(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    shrink(cx, a, 1.0)
}

/// `hardshrink(Tensor self, Scalar lambd=0.5)`
pub fn hardshrink(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    shrink(cx, a, 0.0)
}

/// `threshold(Tensor self, Scalar threshold, Scalar value)`
pub fn threshold(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let x = a.t("self")?;
    let dtype = cx.dtype(x)?;
    let (t, v) = (scalar_value(cx, &a.scalar("threshold")?, dtype)?, scalar_value(cx, &a.scalar("value")?, dtype)?);
    let above = cx.call("Greater", &[x, t])?;
    cx.call("Where", &[above, x, v])
}

/// `glu(Tensor self, int dim=-1)`
pub fn glu(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let x = a.t("self")?;
    let axis = cx.axis(x, a.int("dim")?)?;
    let n = cx.size(x, axis)?;
    let half = n.floor_div(&Dim::Const(2));
    let left = cx.slice(x, axis, &Dim::Const(0), &half, 1)?;
    let right = cx.slice(x, axis, &half, &Dim::Const(i64::MAX), 1)?;
    let gate = cx.call("Sigmoid", &[right])?;
    cx.call("Mul", &[left, gate])
}

fn softmax_input(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let x = a.t("self")?;
    // `half_to_float` and `dtype` both mean: compute and answer in the wider type.
    let wanted = match a.dtype("dtype")? {
        Some(d) => d,
        None if a.bool("half_to_float")? => oxrt_ir::DType::F32,
        None => float_of(cx.dtype(x)?),
    };
    cx.cast(x, wanted)
}

fn softmax_op(cx: &mut Cx, a: &Args, op: &str) -> Result<ValueId> {
    let x = softmax_input(cx, a)?;
    if cx.rank(x)? == 0 {
        let one = cx.like(x, if op == "Softmax" { 1.0 } else { 0.0 })?;
        return Ok(one);
    }
    let axis = cx.axis(x, a.int("dim")?)?;
    cx.op(op, &[x], Attrs::new().with("axis", axis as i64))
}

/// `softmax.int(Tensor self, int dim, ScalarType? dtype=None)`, `_softmax`
pub fn softmax(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    softmax_op(cx, a, "Softmax")
}

/// `log_softmax.int(Tensor self, int dim, ScalarType? dtype=None)`, `_log_softmax`
pub fn log_softmax(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    softmax_op(cx, a, "LogSoftmax")
}

/// `_safe_softmax(Tensor self, int dim, ScalarType? dtype=None)`: rows of nothing but -inf give 0
pub fn safe_softmax(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let x = softmax_input(cx, a)?;
    let axis = cx.axis(x, a.int("dim")?)?;
    let p = cx.op("Softmax", &[x], Attrs::new().with("axis", axis as i64))?;
    let top = cx.reduce("ReduceMax", x, &[axis], true)?;
    let lowest = cx.like(x, f64::NEG_INFINITY)?;
    let some = cx.call("Greater", &[top, lowest])?;
    let zero = cx.like(p, 0.0)?;
    cx.call("Where", &[some, p, zero])
}

/// `dropout(Tensor input, float p, bool train)` and its kin pass their input on outside training.
pub fn native_dropout(cx: &mut Cx, a: &Args) -> Result<Vec<ValueId>> {
    if a.bool("train")? && a.float("p")? != 0.0 {
        cx.warn(
            "the model was exported in training mode: dropout is left out (call `model.eval()` before exporting)"
                .into(),
        );
    }
    let x = float_arg(cx, a, "input")?;
    Ok(vec![x])
}
