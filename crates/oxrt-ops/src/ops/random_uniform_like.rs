//! <https://onnx.ai/onnx/operators/onnx__RandomUniformLike.html>

use crate::def::OpDef;
use crate::random::{eval_like, infer_like, uniform};

pub const OP: OpDef = OpDef::new("RandomUniformLike", &[1, 22], 1..=1, infer_like, |ctx| eval_like(ctx, uniform))
    .random()
    .examples(&[("(f32[2] x) { y = RandomUniformLike<low=3.0, high=3.0>(x) } => y", &["x = 0 0"], "3 3")]);
