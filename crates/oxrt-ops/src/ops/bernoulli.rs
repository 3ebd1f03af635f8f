//! <https://onnx.ai/onnx/operators/onnx__Bernoulli.html>

use crate::def::OpDef;
use crate::random::{Random, infer_like, listed_type};
use oxrt_tensor::Tensor;

/// 1 with the probability that the input gives, else 0.
pub const OP: OpDef = OpDef::new("Bernoulli", &[15, 22], 1..=1, infer_like, |ctx| {
    let x = ctx.tensor(0)?;
    let mut random = Random::of(ctx.attrs())?;
    let drawn: Vec<f64> = x.to_f64_vec()?.iter().map(|p| (random.uniform() < *p) as u8 as f64).collect();
    let dtype = listed_type(ctx.attrs())?.unwrap_or(x.dtype());
    Ok(vec![Tensor::from_f64(dtype, x.shape(), &drawn)?.into()])
})
.random()
.examples(&[("(f32[2] x) { y = Bernoulli(x) } => y", &["x = 0 1"], "0 1")]);
