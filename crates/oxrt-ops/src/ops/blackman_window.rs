//! <https://onnx.ai/onnx/operators/onnx__BlackmanWindow.html>

use crate::def::OpDef;
use crate::spectral::{eval_window, infer_window};

pub const OP: OpDef = OpDef::new("BlackmanWindow", &[17], 1..=1, infer_window, |ctx| eval_window(ctx, [0.42, 0.5, 0.08]))
    .examples(&[("(i64 n) { y = BlackmanWindow<periodic=0>(n) } => y", &["n = 3"], "0 1 0")]);
