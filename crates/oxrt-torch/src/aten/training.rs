//! What only training programs hold: gradients that torch names as operators, and random pooling windows.

use super::create::range;
use super::formula::F;
use crate::args::{Args, Scalar};
use crate::cx::Cx;
use oxrt_ir::{Attrs, DType, Dim, ValueId};
use oxrt_tensor::{Result, bail};

/// `native_dropout_backward(Tensor grad_output, Tensor mask, float scale)`
pub fn native_dropout_backward(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let dtype = a.out_dtype()?;
    let grad = cx.cast(a.t("grad_output")?, dtype)?;
    let mask = cx.cast(a.t("mask")?, dtype)?;
    (F::from(grad) * F::from(mask) * a.float("scale")?).emit(cx, dtype)
}

/// `max_pool2d_with_indices_backward(Tensor grad_output, Tensor self, int[2] kernel_size, …, Tensor indices)`: each
/// gradient goes to the place that its maximum came from
pub fn max_pool_backward(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let (x, grad, places) = (a.t("self")?, a.t("grad_output")?, a.t("indices")?);
    let dims = cx.dims(x)?;
    let lead = dims.len().saturating_sub(2);
    let flat = |dims: &[Dim]| -> Vec<Dim> {
        dims[..lead].iter().cloned().chain([dims[lead..].iter().cloned().product()]).collect()
    };
    let small = cx.dims(grad)?;
    let (grad, places) = (cx.reshape(grad, &flat(&small))?, cx.reshape(places, &flat(&small))?);
    let zeros = super::create::filled(cx, cx.dtype(x)?, &flat(&dims), &Scalar::Float(0.0))?;
    let attrs = Attrs::new().with("axis", lead as i64).with("reduction", "add");
    let y = cx.op("ScatterElements", &[zeros, places, grad], attrs)?;
    cx.reshape(y, &dims)
}

/// `fractional_max_pool2d(Tensor self, int[2] kernel_size, int[2] output_size, Tensor random_samples) -> (Tensor, Tensor)`,
/// `fractional_max_pool3d`: Graham, *Fractional max-pooling* (2014), with the pseudo-random sequences of torch
pub fn fractional_max_pool(cx: &mut Cx, a: &Args) -> Result<Vec<ValueId>> {
    let n = if a.target.contains("3d") { 3 } else { 2 };
    let (x, samples) = (a.t("self")?, a.t("random_samples")?);
    let batched = cx.rank(x)? == n + 2;
    let x = if batched { x } else { cx.b.unsqueeze(x, &[0])? };
    let (kernel, output) = (a.ints_n("kernel_size", n)?, a.ints_n("output_size", n)?);
    let dims = cx.dims(x)?;
    let planes = [dims[0].clone(), dims[1].clone()];
    // Places in a plane: [N, C, o…, k…], summed up axis by axis.
    let mut places: Option<ValueId> = None;
    for i in 0..n {
        let size = cx.static_size(x, 2 + i, "fractional pooling")?;
        if output[i] < 1 || kernel[i] < 1 || output[i] + kernel[i] - 1 > size {
            bail!(invalid, "fractional pooling of {size} elements to {} by windows of {}", output[i], kernel[i]);
        }
        // torch draws for the last axis first.
        let at = cx.b.scalar(DType::I64, (n - 1 - i) as f64)?;
        let sample = cx.op("Gather", &[samples, at], Attrs::new().with("axis", 2))?;
        let sample = cx.cast(sample, DType::F32)?;
        let sample = cx.reshape(sample, &[planes[0].clone(), planes[1].clone(), Dim::Const(1)])?;
        let steps = range(cx, &Dim::Const(output[i]))?;
        let steps = F::from(cx.cast(steps, DType::F32)?);
        let last = (size - kernel[i]) as f64;
        let alpha = if output[i] > 1 { last / (output[i] - 1) as f64 } else { 0.0 };
        let sample = F::from(sample);
        let starts = ((&steps + &sample) * alpha).floor() - (sample * alpha).floor();
        let is_last = steps.equals((output[i] - 1) as f64);
        let starts = is_last.pick(last, starts.min(last)).emit(cx, DType::F32)?;
        let starts = cx.cast(starts, DType::I64)?;
        let within = range(cx, &Dim::Const(kernel[i]))?;
        let mut shape = vec![Dim::Const(1); 2 + 2 * n];
        shape[..2].clone_from_slice(&planes);
        shape[2 + i] = Dim::Const(output[i]);
        let starts = cx.reshape(starts, &shape)?;
        let mut shape = vec![Dim::Const(1); 2 + 2 * n];
        shape[2 + n + i] = Dim::Const(kernel[i]);
        let within = cx.reshape(within, &shape)?;
        let here = cx.call("Add", &[starts, within])?;
        places = Some(match places {
            None => here,
            Some(before) => {
                let width = cx.b.scalar(DType::I64, size as f64)?;
                let rows = cx.call("Mul", &[before, width])?;
                cx.call("Add", &[rows, here])?
            }
        });
    }
    let Some(places) = places else { bail!(invalid, "pooling without axes") };
    let (count, window) = (output.iter().product::<i64>(), kernel.iter().product::<i64>());
    let [b, c] = planes.clone();
    let flat = cx.reshape(places, &[b.clone(), c.clone(), Dim::Const(count * window)])?;
    let plane: Dim = dims[2..].iter().cloned().product();
    let x = cx.reshape(x, &[b.clone(), c.clone(), plane])?;
    let values = cx.op("GatherElements", &[x, flat], Attrs::new().with("axis", 2))?;
    let windows = [b.clone(), c.clone(), Dim::Const(count), Dim::Const(window)];
    let values = cx.reshape(values, &windows)?;
    let best = cx.op("ArgMax", &[values], Attrs::new().with("axis", 3).with("keepdims", 1))?;
    let places = cx.reshape(flat, &windows)?;
    let shape: Vec<Dim> =
        planes[if batched { 0 } else { 1 }..].iter().cloned().chain(output.iter().map(|&o| Dim::Const(o))).collect();
    let mut out = Vec::new();
    for v in [values, places] {
        let v = cx.op("GatherElements", &[v, best], Attrs::new().with("axis", 3))?;
        out.push(cx.reshape(v, &shape)?);
    }
    Ok(out)
}
