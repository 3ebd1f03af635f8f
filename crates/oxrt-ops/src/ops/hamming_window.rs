//! <https://onnx.ai/onnx/operators/onnx__HammingWindow.html>

use crate::def::OpDef;
use crate::spectral::{eval_window, infer_window};

pub const OP: OpDef =
    OpDef::new("HammingWindow", &[17], 1..=1, infer_window, |ctx| eval_window(ctx, [25.0 / 46.0, 21.0 / 46.0, 0.0]))
        .examples(&[("(i64 n) { y = HammingWindow<periodic=0>(n) } => y", &["n = 3"], "0.08695652 1 0.08695652")]);
