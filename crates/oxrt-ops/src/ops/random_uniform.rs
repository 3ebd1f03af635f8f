//! <https://onnx.ai/onnx/operators/onnx__RandomUniform.html>

use crate::def::OpDef;
use crate::random::{eval_shaped, infer_shaped, uniform};

pub const OP: OpDef = OpDef::new("RandomUniform", &[1, 22], 0..=0, infer_shaped, |ctx| eval_shaped(ctx, uniform))
    .random()
    .examples(&[("(f32 x) { y = RandomUniform<shape=[2], low=3.0, high=3.0>() } => y", &["x = 0"], "3 3")]);
