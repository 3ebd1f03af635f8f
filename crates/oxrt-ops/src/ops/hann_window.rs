//! <https://onnx.ai/onnx/operators/onnx__HannWindow.html>

use crate::def::OpDef;
use crate::spectral::{eval_window, infer_window};

pub const OP: OpDef = OpDef::new("HannWindow", &[17], 1..=1, infer_window, |ctx| eval_window(ctx, [0.5, 0.5, 0.0]))
    .examples(&[("(i64 n) { y = HannWindow(n) } => y", &["n = 4"], "0 0.5 1 0.5")]);
