//! <https://onnx.ai/onnx/operators/onnx__Dropout.html>

use crate::def::OpDef;
use crate::eval::{Datum, Eval};
use crate::infer::Infer;
use crate::random::Random;
use oxrt_tensor::{DType, Result, Tensor, bail};

/// Inputs: data, ratio, training mode. Output 1 says what was kept. Outside training nothing is dropped.
pub const OP: OpDef = OpDef::new("Dropout", &[1, 6, 7, 10, 12, 13, 22], 1..=3, infer, eval).random().examples(&[
    ("(f32[2] x) { y, m = Dropout(x) } => y", &["x = 1 2"], "1 2"),
    ("(f32[2] x) { y, m = Dropout(x, 0.0, bool{1}) } => m", &["x = 1 2"], "1 1"),
]);

fn infer(ctx: &mut Infer) -> Result<()> {
    let t = ctx.ty(0)?.clone();
    ctx.set(1, DType::Bool, t.dims.clone());
    ctx.set_type(0, t.into());
    Ok(())
}

fn eval(ctx: &Eval) -> Result<Vec<Datum>> {
    let x = ctx.tensor(0)?;
    let number = |i: usize, default: f64| -> Result<f64> {
        Ok(ctx.opt(i)?.map(Tensor::to_f64_vec).transpose()?.and_then(|v| v.first().copied()).unwrap_or(default))
    };
    let ratio = number(1, 0.5)?;
    if number(2, 0.0)? == 0.0 || ratio == 0.0 {
        let kept = Tensor::from_slice(x.shape(), &vec![true; x.len()]);
        return Ok(vec![x.clone().into(), kept.into()]);
    }
    if !(0.0..1.0).contains(&ratio) {
        bail!(invalid, "a ratio of {ratio}");
    }
    let mut random = match ctx.attrs().get_int("seed")? {
        Some(&s) => Random::seeded(s as u64),
        None => Random::fresh(),
    };
    let kept: Vec<bool> = (0..x.len()).map(|_| random.uniform() >= ratio).collect();
    let data: Vec<f64> =
        x.to_f64_vec()?.iter().zip(&kept).map(|(v, &k)| if k { v / (1.0 - ratio) } else { 0.0 }).collect();
    Ok(vec![
        Tensor::from_f64(x.dtype(), x.shape(), &data)?.into(),
        Tensor::from_slice(x.shape(), &kept).into(),
    ])
}
