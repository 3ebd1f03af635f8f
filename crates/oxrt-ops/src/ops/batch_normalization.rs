//! <https://onnx.ai/onnx/operators/onnx__BatchNormalization.html>

use crate::def::OpDef;
use crate::eval::{Datum, Eval};
use crate::infer::Infer;
use crate::norm::{affine_channels, moments};
use oxrt_tensor::{Result, Tensor, bail};

/// Per channel (x - mean) / √(variance + epsilon) · scale + bias; in training mode with the statistics of
/// the batch, and outputs 1 and 2 are the running ones.
pub const OP: OpDef = OpDef::new("BatchNormalization", &[1, 6, 7, 9, 14, 15], 5..=5, infer, eval).examples(&[(
    "(f32[1, 2, 2] x) { y = BatchNormalization<epsilon=0.0>(x, f32[2]{1, 2}, f32[2]{10, 20}, f32[2]{1, 2}, f32[2]{4, 1}) } => y",
    &["x = 1 3 4 5"],
    "10 11 24 26",
)]);

fn infer(ctx: &mut Infer) -> Result<()> {
    ctx.set_type(0, ctx.ty(0)?.clone().into());
    for (output, input) in [(1, 3), (2, 4)] {
        ctx.set_type(output, ctx.ty(input)?.clone().into());
    }
    Ok(())
}

fn eval(ctx: &Eval) -> Result<Vec<Datum>> {
    let x = ctx.tensor(0)?;
    let epsilon = ctx.attrs().float_or("epsilon", 1e-5)? as f64;
    if x.rank() == 0 {
        bail!(invalid, "a scalar has no channels");
    }
    // A vector is a batch of one channel.
    let (n, c) = (x.shape()[0], *x.shape().get(1).unwrap_or(&1));
    let plane: usize = x.shape().iter().skip(2).product();
    let mut data = x.to_f64_vec()?;
    let list = |i: usize| -> Result<Vec<f64>> {
        let v = ctx.tensor(i)?.to_f64_vec()?;
        if v.len() == c { Ok(v) } else { bail!(invalid, "input {i} should have {c} elements, found {}", v.len()) }
    };
    let (scale, bias, mut mean, mut variance) = (list(1)?, list(2)?, list(3)?, list(4)?);
    let mut running = Vec::new();
    if ctx.attrs().bool_or("training_mode", false)? {
        let momentum = ctx.attrs().float_or("momentum", 0.9)? as f64;
        for k in 0..c {
            let channel: Vec<f64> =
                (0..n).flat_map(|i| data[(i * c + k) * plane..(i * c + k + 1) * plane].iter().copied()).collect();
            let (m, v) = moments(&channel);
            running.push((mean[k] * momentum + m * (1.0 - momentum), variance[k] * momentum + v * (1.0 - momentum)));
            (mean[k], variance[k]) = (m, v);
        }
    }
    let factor: Vec<f64> = scale.iter().zip(&variance).map(|(s, v)| s / (v + epsilon).sqrt()).collect();
    let shift: Vec<f64> = (0..c).map(|k| bias[k] - mean[k] * factor[k]).collect();
    affine_channels(&mut data, n, c, plane, &factor, &shift)?;
    let mut out = vec![Tensor::from_f64(x.dtype(), x.shape(), &data)?.into()];
    if ctx.num_outputs() > 1 && !running.is_empty() {
        let (means, variances): (Vec<f64>, Vec<f64>) = running.into_iter().unzip();
        out.push(Tensor::from_f64(ctx.dtype(3)?, &[c], &means)?.into());
        out.push(Tensor::from_f64(ctx.dtype(4)?, &[c], &variances)?.into());
    }
    Ok(out)
}
