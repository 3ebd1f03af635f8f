//! <https://onnx.ai/onnx/operators/onnx_aionnxml_Binarizer.html>

use crate::def::OpDef;
use crate::scalar::Binary;

/// 1 above the threshold, else 0.
pub const OP: OpDef = OpDef::elementwise("ai.onnx.ml.Binarizer", &[1], 1..=1, |e, attrs, x| {
    Ok(e.bin_c(Binary::Gt, x[0], attrs.float_or("threshold", 0.0)? as f64))
})
.examples(&[("(f32[3] x) { y = ai.onnx.ml.Binarizer<threshold=1.0>(x) } => y", &["x = 0 1 2"], "0 0 1")]);
