//! <https://onnx.ai/onnx/operators/onnx__LayerNormalization.html>

use crate::def::OpDef;
use crate::eval::{Datum, Eval};
use crate::infer::Infer;
use crate::norm::{affine, normalise};
use crate::shape::axis;
use oxrt_ir::Dim;
use oxrt_tensor::{DType, Result, Tensor};

/// Normalises over the axes from `axis` on. Outputs 1 and 2: mean and 1/√(variance + epsilon).
pub const OP: OpDef = OpDef::new("LayerNormalization", &[17], 2..=3, infer, eval).examples(&[(
    "(f32[2, 2] x) { y, m = LayerNormalization<epsilon=0.0>(x, f32[2]{1, 2}, f32[2]{0, 10}) } => y",
    &["x = 1 3 5 9"],
    "-1 12 -1 12",
)]);

fn infer(ctx: &mut Infer) -> Result<()> {
    let t = ctx.ty(0)?.clone();
    let dims = match &t.dims {
        Some(d) => {
            let at = axis(ctx.attrs().int_or("axis", -1)?, d.len())?;
            Some(d.iter().enumerate().map(|(i, d)| if i < at { d.clone() } else { Dim::Const(1) }).collect::<Vec<_>>())
        }
        None => None,
    };
    ctx.set_type(0, t.into());
    ctx.set(1, DType::F32, dims.clone());
    ctx.set(2, DType::F32, dims);
    Ok(())
}

fn eval(ctx: &Eval) -> Result<Vec<Datum>> {
    let x = ctx.tensor(0)?;
    let at = axis(ctx.attrs().int_or("axis", -1)?, x.rank())?;
    let mut data = x.to_f64_vec()?;
    let len: usize = x.shape()[at..].iter().product();
    let stats = normalise(&mut data, len, ctx.attrs().float_or("epsilon", 1e-5)? as f64);
    affine(&mut data, x.shape(), Some(ctx.tensor(1)?), ctx.opt(2)?)?;
    let shape: Vec<usize> = (0..x.rank()).map(|i| if i < at { x.shape()[i] } else { 1 }).collect();
    let (mut means, mut scales): (Vec<f64>, Vec<f64>) = stats.into_iter().unzip();
    let rows = shape.iter().product();
    means.resize(rows, f64::NAN);
    scales.resize(rows, f64::NAN);
    Ok(vec![
        Tensor::from_f64(x.dtype(), x.shape(), &data)?.into(),
        Tensor::from_f64(DType::F32, &shape, &means)?.into(),
        Tensor::from_f64(DType::F32, &shape, &scales)?.into(),
    ])
}
