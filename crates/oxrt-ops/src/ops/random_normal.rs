//! <https://onnx.ai/onnx/operators/onnx__RandomNormal.html>

use crate::def::OpDef;
use crate::random::{eval_shaped, infer_shaped, normal};

pub const OP: OpDef = OpDef::new("RandomNormal", &[1, 22], 0..=0, infer_shaped, |ctx| eval_shaped(ctx, normal))
    .random()
    .examples(&[("(f32 x) { y = RandomNormal<shape=[2], mean=3.0, scale=0.0>() } => y", &["x = 0"], "3 3")]);
