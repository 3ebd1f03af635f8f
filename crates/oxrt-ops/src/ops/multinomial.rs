//! <https://onnx.ai/onnx/operators/onnx__Multinomial.html>

use crate::copy::checked_len;
use crate::def::OpDef;
use crate::eval::{Datum, Eval};
use crate::infer::Infer;
use crate::random::{Random, listed_type};
use oxrt_ir::Dim;
use oxrt_tensor::{DType, Result, Tensor, bail};

/// Draws classes from rows of unnormalised log-probabilities: [batch, sample_size].
pub const OP: OpDef = OpDef::new("Multinomial", &[7, 22], 1..=1, infer, eval).random().examples(&[(
    "(f32[1, 2] x) { y = Multinomial<sample_size=3>(x) } => y",
    &["x = -1000 0"],
    "1 1 1",
)]);

fn infer(ctx: &mut Infer) -> Result<()> {
    let batch = ctx.dims(0).and_then(|d| d.first().cloned()).unwrap_or_else(|| ctx.fresh());
    let samples = Dim::Const(ctx.attrs().int_or("sample_size", 1)?);
    ctx.set(0, listed_type(ctx.attrs())?.unwrap_or(DType::I32), Some(vec![batch, samples]));
    Ok(())
}

fn eval(ctx: &Eval) -> Result<Vec<Datum>> {
    let x = ctx.tensor(0)?;
    let [batch, classes] = *x.shape() else { bail!(invalid, "the input should be [batch, classes]") };
    let Ok(samples) = usize::try_from(ctx.attrs().int_or("sample_size", 1)?) else { bail!(invalid, "a negative `sample_size`") };
    let mut out = Vec::with_capacity(checked_len(&[batch, samples])?);
    if classes == 0 && !out.is_empty() {
        bail!(invalid, "no class to draw");
    }
    let mut random = Random::of(ctx.attrs())?;
    for row in x.to_f64_vec()?.chunks(classes.max(1)) {
        let top = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let weights: Vec<f64> = row.iter().map(|v| (v - top).exp()).collect();
        let sum: f64 = weights.iter().sum();
        for _ in 0..samples {
            let mut left = random.uniform() * sum;
            let drawn = weights.iter().position(|w| {
                left -= w;
                left < 0.0
            });
            out.push(drawn.unwrap_or(classes - 1) as i64);
        }
    }
    let dtype = listed_type(ctx.attrs())?.unwrap_or(DType::I32);
    Ok(vec![Tensor::from_i64(dtype, &[batch, samples], &out)?.into()])
}
