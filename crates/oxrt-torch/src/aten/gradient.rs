//! Gradients that torch names as operators: programs hold them that compute derivatives (`torch.func.grad`), and the core set lists some.

use super::create::{filled, range};
use super::formula::{F, call};
use crate::args::{Arg, Args, Scalar};
use crate::cx::Cx;
use oxrt_ir::{Attrs, DType, Dim, ValueId};
use oxrt_tensor::{Result, bail};
use std::f64::consts::PI;

/// A function of what comes from above, and of the argument (or result) `at`.
fn of(cx: &mut Cx, a: &Args, at: &str, f: impl FnOnce(&F, &F) -> F) -> Result<ValueId> {
    let g = if a.has("grad_output") { a.t("grad_output")? } else { a.t("grad_out")? };
    let x = a.t(at)?;
    let dtype = cx.dtype(x)?;
    let g = cx.cast(g, dtype)?;
    f(&F::from(g), &F::from(x)).emit(cx, dtype)
}

fn sigmoid(x: &F) -> F {
    call("Sigmoid", &[x])
}

fn tanh(x: &F) -> F {
    call("Tanh", &[x])
}

/// `tanh_backward(Tensor grad_output, Tensor output)`
pub fn tanh_backward(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    of(cx, a, "output", |g, y| g * (1.0 - y.squared()))
}

/// `sigmoid_backward(Tensor grad_output, Tensor output)`
pub fn sigmoid_backward(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    of(cx, a, "output", |g, y| g * y * (1.0 - y))
}

/// `threshold_backward(Tensor grad_output, Tensor self, Scalar threshold)`: of `relu`
pub fn threshold_backward(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let t = a.float("threshold")?;
    of(cx, a, "self", |g, x| x.le(t).pick(0.0, g))
}

/// `gelu_backward(Tensor grad_output, Tensor self, *, str approximate="none")`
pub fn gelu_backward(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    if a.text("approximate")? == "tanh" {
        return of(cx, a, "self", |g, x| {
            let root = (2.0 / PI).sqrt();
            let square = x.squared();
            let t = tanh(&(x * (&square * (0.044715 * root) + root)));
            let inner = square * (3.0 * 0.044715 * root) + root;
            g * ((&t + 1.0) * 0.5 + x * (1.0 - t.squared()) * inner * 0.5)
        });
    }
    of(cx, a, "self", |g, x| {
        let below = ((x * 0.5f64.sqrt()).erf() + 1.0) * 0.5;
        g * (below + x * (x.squared() * -0.5).exp() * (1.0 / (2.0 * PI).sqrt()))
    })
}

/// `silu_backward(Tensor grad_output, Tensor self)`
pub fn silu_backward(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    of(cx, a, "self", |g, x| {
        let s = sigmoid(x);
        g * &s * (x * (1.0 - &s) + 1.0)
    })
}

/// `mish_backward(Tensor grad_output, Tensor self)`
pub fn mish_backward(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    of(cx, a, "self", |g, x| {
        let t = tanh(&call("Softplus", &[x]));
        g * (&t + x * sigmoid(x) * (1.0 - t.squared()))
    })
}

/// `softplus_backward(Tensor grad_output, Tensor self, Scalar beta, Scalar threshold)`
pub fn softplus_backward(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let (beta, threshold) = (a.float("beta")?, a.float("threshold")?);
    of(cx, a, "self", |g, x| {
        let scaled = x * beta;
        scaled.gt(threshold).pick(g, g * sigmoid(&scaled))
    })
}

/// `log_sigmoid_backward(Tensor grad_output, Tensor self, Tensor buffer)`
pub fn log_sigmoid_backward(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    of(cx, a, "self", |g, x| g * sigmoid(&-x))
}

/// `elu_backward(Tensor grad_output, Scalar alpha, Scalar scale, Scalar input_scale, bool is_result, Tensor self_or_result)`
pub fn elu_backward(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let (alpha, scale, input) = (a.float("alpha")?, a.float("scale")?, a.float("input_scale")?);
    let of_result = a.bool("is_result")?;
    of(cx, a, "self_or_result", |g, x| {
        let below = match of_result {
            true => (x + alpha * scale) * input,
            false => (x * input).exp() * (input * alpha * scale),
        };
        x.le(0.0).pick(g * below, g * scale)
    })
}

/// `leaky_relu_backward(Tensor grad_output, Tensor self, Scalar negative_slope, bool self_is_result)`
pub fn leaky_relu_backward(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let slope = a.float("negative_slope")?;
    of(cx, a, "self", |g, x| x.gt(0.0).pick(g, g * slope))
}

/// `hardtanh_backward(Tensor grad_output, Tensor self, Scalar min_val, Scalar max_val)`
pub fn hardtanh_backward(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let (lo, hi) = (a.float("min_val")?, a.float("max_val")?);
    of(cx, a, "self", |g, x| x.le(lo).or(x.ge(hi)).pick(0.0, g))
}

/// `hardsigmoid_backward(Tensor grad_output, Tensor self)`
pub fn hardsigmoid_backward(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    of(cx, a, "self", |g, x| x.gt(-3.0).and(x.lt(3.0)).pick(g * (1.0 / 6.0), 0.0))
}

/// `hardswish_backward(Tensor grad_output, Tensor self)`
pub fn hardswish_backward(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    of(cx, a, "self", |g, x| x.le(-3.0).pick(0.0, x.lt(3.0).pick(g * (x * (1.0 / 3.0) + 0.5), g)))
}

/// `hardshrink_backward(Tensor grad_out, Tensor self, Scalar lambd)`, `softshrink_backward`
pub fn shrink_backward(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let l = a.float("lambd")?;
    of(cx, a, "self", |g, x| x.abs().le(l).pick(0.0, g))
}

/// `_log_softmax_backward_data(Tensor grad_output, Tensor output, int dim, ScalarType input_dtype)`
pub fn log_softmax_backward(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let (g, y) = (a.t("grad_output")?, a.t("output")?);
    let (axis, dtype) = (cx.axis(y, a.int("dim")?)?, cx.dtype(y)?);
    let sum = cx.reduce("ReduceSum", g, &[axis], true)?;
    let x = (F::from(g) - F::from(y).exp() * F::from(sum)).emit(cx, dtype)?;
    cx.cast(x, a.out_dtype()?)
}

/// `mse_loss_backward(Tensor grad_output, Tensor self, Tensor target, int reduction)`
pub fn mse_loss_backward(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    loss_backward(cx, a, |d| d * 2.0)
}

/// `smooth_l1_loss_backward(Tensor grad_output, Tensor self, Tensor target, int reduction, float beta)`
pub fn smooth_l1_loss_backward(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let beta = a.float("beta")?;
    loss_backward(cx, a, |d| d.abs().lt(beta).pick(d * (1.0 / beta), d.sign()))
}

/// `huber_loss_backward(Tensor grad_output, Tensor self, Tensor target, int reduction, float delta)`
pub fn huber_loss_backward(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let delta = a.float("delta")?;
    loss_backward(cx, a, |d| d.abs().le(delta).pick(d, d.sign() * delta))
}

/// Of a loss of the difference, whose slope is `f`.
fn loss_backward(cx: &mut Cx, a: &Args, f: impl FnOnce(&F) -> F) -> Result<ValueId> {
    let (g, x, t) = (a.t("grad_output")?, a.t("self")?, a.t("target")?);
    let dtype = cx.dtype(x)?;
    let mut y = F::from(g) * f(&(F::from(x) - F::from(t)));
    if a.int("reduction")? == 1 {
        let count: Dim = cx.dims(x)?.into_iter().product();
        let count = cx.dim_scalar(&count)?;
        y = y / F::from(cx.cast(count, dtype)?);
    }
    y.emit(cx, dtype)
}

// ---- of views ----

/// The call with zeros of the view's base as `self` and the gradient as `src`.
fn into_zeros<'a>(cx: &mut Cx, a: &Args<'a>, grad: &str, sizes: &str) -> Result<Args<'a>> {
    let g = a.t(grad)?;
    let base = filled(cx, cx.dtype(g)?, &a.dim_list(sizes)?, &Scalar::Int(Dim::Const(0)))?;
    Ok(a.with("self", Arg::Tensor(cx.new_tensor(base), base)).with("src", Arg::Tensor(cx.new_tensor(g), g)))
}

/// `select_backward(Tensor grad_output, SymInt[] input_sizes, int dim, SymInt index)`
pub fn select_backward(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let a = into_zeros(cx, a, "grad_output", "input_sizes")?;
    super::shape::select_scatter(cx, &a)
}

/// `slice_backward(Tensor grad_output, SymInt[] input_sizes, int dim, SymInt start, SymInt end, SymInt step)`
pub fn slice_backward(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let a = into_zeros(cx, a, "grad_output", "input_sizes")?;
    super::shape::slice_scatter(cx, &a)
}

/// `diagonal_backward(Tensor grad_output, SymInt[] input_sizes, int offset, int dim1, int dim2)`
pub fn diagonal_backward(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let a = into_zeros(cx, a, "grad_output", "input_sizes")?;
    super::matrix::diagonal_scatter_op(cx, &a)
}

/// `index_select_backward(Tensor grad, SymInt[] self_sizes, int dim, Tensor index)`
pub fn index_select_backward(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let a = into_zeros(cx, a, "grad", "self_sizes")?;
    let g = a.t("src")?;
    let a = a.with("source", Arg::Tensor(cx.new_tensor(g), g));
    super::scatter::index_add(cx, &a)
}

/// `value_selecting_reduction_backward(Tensor grad, int dim, Tensor indices, SymInt[] sizes, bool keepdim)`: of `max.dim`, `topk`, …
pub fn selection_backward(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let (mut g, mut places, sizes) = (a.t("grad")?, a.t("indices")?, a.dim_list("sizes")?);
    let zeros = filled(cx, cx.dtype(g)?, &sizes, &Scalar::Int(Dim::Const(0)))?;
    if sizes.is_empty() {
        return Ok(g);
    }
    let axis = cx.axis(zeros, a.int("dim")?)? as i64;
    if !a.bool("keepdim")? {
        (g, places) = (cx.b.unsqueeze(g, &[axis])?, cx.b.unsqueeze(places, &[axis])?);
    }
    cx.op("ScatterElements", &[zeros, places, g], Attrs::new().with("axis", axis))
}

/// `embedding_dense_backward(Tensor grad_output, Tensor indices, SymInt num_weights, SymInt padding_idx, bool scale_grad_by_freq)`,
/// `embedding_backward`
pub fn embedding_backward(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let grad = if a.has("grad_output") { "grad_output" } else { "grad" };
    let (g, ids, rows) = (a.t(grad)?, a.t("indices")?, a.dim("num_weights")?);
    let (dtype, rank) = (cx.dtype(g)?, cx.rank(g)?);
    let width = cx.size(g, rank - 1)?;
    let count: Dim = cx.dims(ids)?.into_iter().product();
    let ids = cx.cast(ids, DType::I64)?;
    let ids = cx.reshape(ids, std::slice::from_ref(&count))?;
    let mut g = cx.reshape(g, &[count.clone(), width.clone()])?;
    let column = cx.b.unsqueeze(ids, &[1])?;
    let add = Attrs::new().with("reduction", "add");
    if a.bool("scale_grad_by_freq")? {
        let zeros = filled(cx, dtype, std::slice::from_ref(&rows), &Scalar::Int(Dim::Const(0)))?;
        let ones = filled(cx, dtype, std::slice::from_ref(&count), &Scalar::Int(Dim::Const(1)))?;
        let times = cx.op("ScatterND", &[zeros, column, ones], add.clone())?;
        let times = cx.op("Gather", &[times, column], Attrs::new())?;
        g = cx.call("Div", &[g, times])?;
    }
    let padding = a.int("padding_idx")?;
    if padding >= 0 {
        let padding = cx.b.scalar(DType::I64, padding as f64)?;
        g = F::from(column).equals(F::from(padding)).pick(0.0, F::from(g)).emit(cx, dtype)?;
    }
    let zeros = filled(cx, dtype, &[rows, width], &Scalar::Int(Dim::Const(0)))?;
    cx.op("ScatterND", &[zeros, column, g], add)
}

// ---- of normalisations ----

/// Of `(x - mean) · rstd` over `axes`: of the input, given that of the result.
fn normalised_backward(cx: &mut Cx, g: ValueId, x_hat: ValueId, rstd: ValueId, axes: &[usize]) -> Result<ValueId> {
    let dtype = cx.dtype(g)?;
    let product = cx.call("Mul", &[g, x_hat])?;
    let (a, b) = (cx.reduce("ReduceMean", g, axes, true)?, cx.reduce("ReduceMean", product, axes, true)?);
    ((F::from(g) - F::from(a) - F::from(x_hat) * F::from(b)) * F::from(rstd)).emit(cx, dtype)
}

/// `native_layer_norm_backward(Tensor grad_out, Tensor input, SymInt[] normalized_shape, Tensor mean, Tensor rstd, Tensor? weight,
/// Tensor? bias, bool[3] output_mask)`: of input, weight and bias
pub fn layer_norm_backward(cx: &mut Cx, a: &Args) -> Result<Vec<ValueId>> {
    let (g, x, rstd) = (a.t("grad_out")?, a.t("input")?, a.t("rstd")?);
    let (dtype, rank) = (cx.dtype(x)?, cx.rank(x)?);
    let first = rank - a.dim_list("normalized_shape")?.len();
    let mean = a.t("mean")?;
    let (mean, rstd) = (cx.cast(mean, dtype)?, cx.cast(rstd, dtype)?);
    let x_hat = ((F::from(x) - F::from(mean)) * F::from(rstd)).emit(cx, dtype)?;
    let scaled = match a.opt_t("weight")? {
        Some(w) => cx.call("Mul", &[g, w])?,
        None => g,
    };
    let axes: Vec<usize> = (first..rank).collect();
    let dx = normalised_backward(cx, scaled, x_hat, rstd, &axes)?;
    let outer: Vec<usize> = (0..first).collect();
    let product = cx.call("Mul", &[g, x_hat])?;
    let mut out = vec![dx];
    for v in [product, g] {
        out.push(if outer.is_empty() { v } else { cx.reduce("ReduceSum", v, &outer, false)? });
    }
    Ok(out)
}

/// `native_group_norm_backward(Tensor grad_out, Tensor input, Tensor mean, Tensor rstd, Tensor? weight, SymInt N, SymInt C, SymInt HxW,
/// int group, bool[3] output_mask)`: of input, weight and bias
pub fn group_norm_backward(cx: &mut Cx, a: &Args) -> Result<Vec<ValueId>> {
    let (g, x) = (a.t("grad_out")?, a.t("input")?);
    let (dtype, dims) = (cx.dtype(x)?, cx.dims(x)?);
    let (n, c, plane, groups) = (a.dim("N")?, a.dim("C")?, a.dim("HxW")?, Dim::Const(a.int("group")?));
    let each = c.floor_div(&groups);
    let grouped = [n.clone(), groups.clone(), each, plane];
    let (g4, x4) = (cx.reshape(g, &grouped)?, cx.reshape(x, &grouped)?);
    let per_group = [n, groups, Dim::Const(1), Dim::Const(1)];
    let (mean, rstd) = (cx.reshape(a.t("mean")?, &per_group)?, cx.reshape(a.t("rstd")?, &per_group)?);
    let x_hat = ((F::from(x4) - F::from(mean)) * F::from(rstd)).emit(cx, dtype)?;
    let scaled = match a.opt_t("weight")? {
        Some(w) => {
            let w = cx.reshape(w, &[Dim::Const(1), grouped[1].clone(), grouped[2].clone(), Dim::Const(1)])?;
            cx.call("Mul", &[g4, w])?
        }
        None => g4,
    };
    let dx = normalised_backward(cx, scaled, x_hat, rstd, &[2, 3])?;
    let product = cx.call("Mul", &[g4, x_hat])?;
    let mut out = vec![cx.reshape(dx, &dims)?];
    for v in [product, g4] {
        let v = cx.reduce("ReduceSum", v, &[0, 3], false)?;
        out.push(cx.reshape(v, std::slice::from_ref(&c))?);
    }
    Ok(out)
}

/// `native_batch_norm_backward(Tensor grad_out, Tensor input, Tensor? weight, Tensor? running_mean, Tensor? running_var, Tensor? save_mean,
/// Tensor? save_invstd, bool train, float eps, bool[3] output_mask)`: of input, weight and bias
pub fn batch_norm_backward(cx: &mut Cx, a: &Args) -> Result<Vec<ValueId>> {
    let (g, x) = (a.t("grad_out")?, a.t("input")?);
    let (dtype, rank) = (cx.dtype(x)?, cx.rank(x)?);
    let mut shape = vec![Dim::Const(1); rank];
    shape[1] = cx.size(x, 1)?;
    let axes: Vec<usize> = (0..rank).filter(|&k| k != 1).collect();
    let train = a.bool("train")?;
    let (mean, rstd) = if train {
        let (var, mean) = super::reduce::moments(cx, x, &axes, 0.0)?;
        let var = cx.reshape(var, &shape)?;
        let rstd = (F::from(var) + a.float("eps")?).sqrt().recip().emit(cx, dtype)?;
        (cx.reshape(mean, &shape)?, rstd)
    } else {
        let (mean, var) = (cx.reshape(a.t("running_mean")?, &shape)?, cx.reshape(a.t("running_var")?, &shape)?);
        (mean, (F::from(var) + a.float("eps")?).sqrt().recip().emit(cx, dtype)?)
    };
    let x_hat = ((F::from(x) - F::from(mean)) * F::from(rstd)).emit(cx, dtype)?;
    let scaled = match a.opt_t("weight")? {
        Some(w) => {
            let w = cx.reshape(w, &shape)?;
            cx.call("Mul", &[g, w])?
        }
        None => g,
    };
    let dx = match train {
        true => normalised_backward(cx, scaled, x_hat, rstd, &axes)?,
        false => cx.call("Mul", &[scaled, rstd])?,
    };
    let product = cx.call("Mul", &[g, x_hat])?;
    Ok(vec![dx, cx.reduce("ReduceSum", product, &axes, false)?, cx.reduce("ReduceSum", g, &axes, false)?])
}

// ---- of windows ----

/// Where a sliding window's elements lie.
struct Slide {
    kernel: Vec<i64>,
    stride: Vec<i64>,
    padding: Vec<i64>,
    dilation: Vec<i64>,
    groups: i64,
}

impl Slide {
    fn of(a: &Args, kernel: Vec<i64>) -> Result<Slide> {
        let n = kernel.len();
        Ok(Slide {
            stride: a.ints_n("stride", n)?,
            padding: a.ints_n("padding", n)?,
            dilation: a.ints_n("dilation", n)?,
            groups: a.int("groups")?,
            kernel,
        })
    }

    /// The windows added up where they came from, on a tensor whose sizes are `want`.
    fn spread(&self, cx: &mut Cx, y: ValueId, w: ValueId, want: &[Dim]) -> Result<ValueId> {
        let n = self.kernel.len();
        let attrs = Attrs::new()
            .with("kernel_shape", self.kernel.clone())
            .with("strides", self.stride.clone())
            .with("dilations", self.dilation.clone())
            .with("group", self.groups);
        let mut x = cx.op("ConvTranspose", &[y, w], attrs)?;
        // Elements that no window reached follow at the end.
        let ends: Vec<i64> = [vec![0; n + 4], self.stride.clone()].concat();
        let ends = cx.b.ints(&ends);
        x = cx.call("Pad", &[x, ends])?;
        for (i, (p, size)) in self.padding.iter().zip(want).enumerate() {
            x = cx.slice(x, 2 + i, &Dim::Const(*p), &(size.clone() + *p), 1)?;
        }
        Ok(x)
    }

    /// Of the kernel: per offset within the window, the product of what `wide` has there and what `narrow` has at the window, summed
    /// over batch and windows: [channels of `narrow`, channels of `wide` per group, kernel…].
    fn correlate(&self, cx: &mut Cx, wide: ValueId, narrow: ValueId) -> Result<ValueId> {
        let n = self.kernel.len();
        let count = self.kernel.iter().product::<i64>();
        if !(1..=4096).contains(&count) {
            bail!(unsupported, "the gradient of a kernel of {count} elements");
        }
        let pads: Vec<i64> = [vec![0; 2], self.padding.clone(), vec![0; 2], self.padding.clone()].concat();
        let pads = cx.b.ints(&pads);
        let wide = cx.call("Pad", &[wide, pads])?;
        let (have, small) = (cx.dims(wide)?, cx.dims(narrow)?);
        let groups = Dim::Const(self.groups);
        let (ci, co) = (have[1].floor_div(&groups), small[1].floor_div(&groups));
        let windows: Dim = small[2..].iter().cloned().product();
        let y = cx.reshape(narrow, &[small[0].clone(), groups.clone(), co, windows.clone()])?;
        let mut taps = Vec::new();
        for k in 0..count {
            let (mut part, mut rest) = (wide, k);
            for i in (0..n).rev() {
                let at = rest % self.kernel[i] * self.dilation[i];
                rest /= self.kernel[i];
                let end = (small[2 + i].clone() + -1) * Dim::Const(self.stride[i]) + at + 1;
                part = cx.slice(part, 2 + i, &Dim::Const(at), &end, self.stride[i])?;
            }
            let part = cx.reshape(part, &[small[0].clone(), groups.clone(), ci.clone(), windows.clone()])?;
            let tap = super::linear::einsum_values(cx, "ngiw,ngow->goi", &[part, y])?;
            taps.push(cx.b.unsqueeze(tap, &[-1])?);
        }
        let all = cx.concat(&taps, 3)?;
        let shape: Vec<Dim> =
            [small[1].clone(), ci].into_iter().chain(self.kernel.iter().map(|&k| Dim::Const(k))).collect();
        cx.reshape(all, &shape)
    }
}

/// `convolution_backward(Tensor grad_output, Tensor input, Tensor weight, SymInt[]? bias_sizes, SymInt[] stride, SymInt[] padding,
/// SymInt[] dilation, bool transposed, SymInt[] output_padding, SymInt groups, bool[3] output_mask)`: of input, weight and bias
pub fn convolution_backward(cx: &mut Cx, a: &Args) -> Result<Vec<ValueId>> {
    let (g, x, w) = (a.t("grad_output")?, a.t("input")?, a.t("weight")?);
    let rank = cx.rank(w)?;
    if !(3..=5).contains(&rank) || cx.rank(x)? != rank {
        bail!(unsupported, "the gradient of a convolution without a batch");
    }
    let kernel = (2..rank).map(|i| cx.static_size(w, i, "a convolution kernel")).collect::<Result<Vec<_>>>()?;
    let slide = Slide::of(a, kernel)?;
    let transposed = a.bool("transposed")?;
    let dx = match (a.used(cx, 0), transposed) {
        (false, _) => g,
        (true, false) => {
            let want = cx.dims(x)?;
            slide.spread(cx, g, w, &want[2..])?
        }
        (true, true) => {
            let attrs = Attrs::new()
                .with("kernel_shape", slide.kernel.clone())
                .with("strides", slide.stride.clone())
                .with("pads", [&slide.padding[..], &slide.padding[..]].concat())
                .with("dilations", slide.dilation.clone())
                .with("group", slide.groups);
            let y = cx.op("Conv", &[g, w], attrs)?;
            // Output padding leaves windows that the input does not have.
            let want = cx.dims(x)?;
            let mut y = y;
            for (i, size) in want.iter().enumerate().skip(2) {
                y = cx.slice(y, i, &Dim::Const(0), size, 1)?;
            }
            y
        }
    };
    let dw = match (a.used(cx, 1), transposed) {
        (false, _) => w,
        (true, false) => slide.correlate(cx, x, g)?,
        (true, true) => slide.correlate(cx, g, x)?,
    };
    let axes: Vec<usize> = (0..rank).filter(|&k| k != 1).collect();
    let db = if a.used(cx, 2) { cx.reduce("ReduceSum", g, &axes, false)? } else { g };
    Ok(vec![dx, dw, db])
}

/// `avg_pool2d_backward(Tensor grad_output, Tensor self, int[2] kernel_size, int[2] stride, int[2] padding, bool ceil_mode, bool
/// count_include_pad, int? divisor_override)`
pub fn avg_pool_backward(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let (g, x) = (a.t("grad_output")?, a.t("self")?);
    let (dtype, dims, small) = (cx.dtype(x)?, cx.dims(x)?, cx.dims(g)?);
    let lead: Dim = dims[..dims.len() - 2].iter().cloned().product();
    let plane = dims[dims.len() - 2..].to_vec();
    let kernel = a.ints_n("kernel_size", 2)?;
    let stride = match a.opt_ints("stride")? {
        Some(s) if !s.is_empty() => a.ints_n("stride", 2)?,
        _ => kernel.clone(),
    };
    let slide = Slide { stride, padding: a.ints_n("padding", 2)?, dilation: vec![1, 1], groups: 1, kernel };
    // What a window of ones gives is the number of its elements over its divisor.
    let one = Dim::Const(1);
    let ones = filled(cx, dtype, &[&[one.clone(), one.clone()], &plane[..]].concat(), &Scalar::Int(one.clone()))?;
    let mut pool = a.with("self", Arg::Tensor(cx.new_tensor(ones), ones));
    pool.target = "aten.avg_pool2d.default";
    pool.out_dims = Some([&[one.clone(), one.clone()], &small[small.len() - 2..]].concat());
    let mean = super::pool::avg_pool(cx, &pool)?;
    let pool = pool.with("divisor_override", Arg::Other(crate::cx::Val::Int(one.clone())));
    let count = super::pool::avg_pool(cx, &pool)?;
    let g = cx.reshape(g, &[lead, one.clone(), small[small.len() - 2].clone(), small[small.len() - 1].clone()])?;
    let share = (F::from(g) * F::from(mean) / F::from(count)).emit(cx, dtype)?;
    let kernel = filled(
        cx,
        dtype,
        &[one.clone(), one, slide.kernel[0].into(), slide.kernel[1].into()],
        &Scalar::Int(Dim::Const(1)),
    )?;
    let y = slide.spread(cx, share, kernel, &plane)?;
    cx.reshape(y, &dims)
}

/// `_adaptive_avg_pool2d_backward(Tensor grad_output, Tensor self)`
pub fn adaptive_avg_pool_backward(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let (mut g, x) = (a.t("grad_output")?, a.t("self")?);
    let (dtype, dims, small) = (cx.dtype(x)?, cx.dims(x)?, cx.dims(g)?);
    let rank = dims.len();
    // Per axis the share that each window gives to each element: [windows, size].
    for (axis, equation) in [(rank - 2, "...ij,ik->...kj"), (rank - 1, "...ij,jk->...ik")] {
        let (h, s) = (cx.dim_scalar(&dims[axis])?, cx.dim_scalar(&small[axis])?);
        let (h, s) = (F::from(h), F::from(s));
        let (j, y) = (range(cx, &small[axis])?, range(cx, &dims[axis])?);
        let j = cx.b.unsqueeze(j, &[1])?;
        let (j, y) = (F::from(j), F::from(y));
        let one = F::from(cx.b.scalar(DType::I64, 1.0)?);
        let lo = &(&j * &h) / &s;
        let hi = &(&((&j + &one) * &h) + &s - &one) / &s;
        let inside = y.ge(&lo).and(y.lt(&hi)).emit(cx, DType::I64)?;
        let inside = cx.cast(inside, dtype)?;
        let width = cx.reduce("ReduceSum", inside, &[1], true)?;
        let share = cx.call("Div", &[inside, width])?;
        g = super::linear::einsum_values(cx, equation, &[g, share])?;
    }
    Ok(g)
}
