//! <https://onnx.ai/onnx/operators/onnx__RandomNormalLike.html>

use crate::def::OpDef;
use crate::random::{eval_like, infer_like, normal};

pub const OP: OpDef = OpDef::new("RandomNormalLike", &[1, 22], 1..=1, infer_like, |ctx| eval_like(ctx, normal))
    .random()
    .examples(&[("(f32[2] x) { y = RandomNormalLike<mean=3.0, scale=0.0>(x) } => y", &["x = 0 0"], "3 3")]);
