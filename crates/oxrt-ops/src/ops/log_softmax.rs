//! <https://onnx.ai/onnx/operators/onnx__LogSoftmax.html>

use crate::def::OpDef;
use crate::reduce::eval_lanes;
use crate::shape::same_as_input;

/// x - log Σ exp(x) along `axis`.
pub const OP: OpDef = OpDef::new("LogSoftmax", &[1, 11, 13], 1..=1, same_as_input, |ctx| eval_lanes(ctx, -1, log_softmax))
    .examples(&[("(f32[1, 3] x) { y = LogSoftmax(x) } => y", &["x = 0 1 2"], "-2.407606 -1.407606 -0.407606")]);

pub(super) fn log_softmax(lane: &mut [f64]) {
    let top = lane.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let log = lane.iter().map(|v| (v - top).exp()).sum::<f64>().ln();
    lane.iter_mut().for_each(|v| *v -= top + log);
}
