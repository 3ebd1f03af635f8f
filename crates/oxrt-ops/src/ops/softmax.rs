//! <https://onnx.ai/onnx/operators/onnx__Softmax.html>

use crate::def::OpDef;
use crate::reduce::eval_lanes;
use crate::shape::same_as_input;
use oxrt_tensor::{DType, f16_from_f64};

/// exp(x) / Σ exp(x) along `axis`.
///
/// The function body of the standard (ReduceMax, Sub, Exp, ReduceSum, Div) has every step in the type of x. Half floats are
/// rounded so, as the official cases of attention in steps expect; bfloat16, which would lose three of its eight bits, is
/// rounded once, as PyTorch and onnxruntime do.
pub const OP: OpDef = OpDef::new("Softmax", &[1, 11, 13], 1..=1, same_as_input, |ctx| {
    let half = ctx.tensor(0)?.dtype() == DType::F16;
    eval_lanes(ctx, -1, if half { softmax_f16 } else { softmax })
})
.examples(&[
    ("(f32[1, 3] x) { y = Softmax(x) } => y", &["x = 0 1 2"], "0.09003057 0.24472848 0.66524094"),
    // Σ = 1 + 0.36791992 + 0.13537598 is 1.5029297 in half precision; rounded once, the last would be 0.09003.
    ("(f16[1, 3] x) { y = Softmax(x) } => y", &["x = 0 1 2"], "0.09008789 0.24475098 0.66552734"),
]);

pub(super) fn softmax(lane: &mut [f64]) {
    let top = lane.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    lane.iter_mut().for_each(|v| *v = (*v - top).exp());
    let sum: f64 = lane.iter().sum();
    lane.iter_mut().for_each(|v| *v /= sum);
}

/// With every step rounded to half precision; a sum beyond its range stays as it is.
fn softmax_f16(lane: &mut [f64]) {
    let round = |v: f64| f16_from_f64(v).to_f64();
    let top = lane.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    lane.iter_mut().for_each(|v| *v = round(round(*v - top).exp()));
    let sum: f64 = lane.iter().sum();
    let sum = if round(sum).is_finite() { round(sum) } else { sum };
    lane.iter_mut().for_each(|v| *v /= sum);
}
