//! <https://onnx.ai/onnx/operators/onnx__Softmax.html>

use crate::def::OpDef;
use crate::reduce::eval_lanes;
use crate::shape::same_as_input;

/// exp(x) / Σ exp(x) along `axis`.
pub const OP: OpDef = OpDef::new("Softmax", &[1, 11, 13], 1..=1, same_as_input, |ctx| eval_lanes(ctx, -1, softmax))
    .examples(&[("(f32[1, 3] x) { y = Softmax(x) } => y", &["x = 0 1 2"], "0.09003057 0.24472848 0.66524094")]);

pub(super) fn softmax(lane: &mut [f64]) {
    let top = lane.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    lane.iter_mut().for_each(|v| *v = (*v - top).exp());
    let sum: f64 = lane.iter().sum();
    lane.iter_mut().for_each(|v| *v /= sum);
}
