//! <https://onnx.ai/onnx/operators/onnx__NegativeLogLikelihoodLoss.html>

use crate::def::OpDef;
use crate::loss;

/// -weight · x[target] per element, then none, sum or mean. Inputs: log-probabilities [N, C, …], targets, weights.
pub const OP: OpDef = OpDef::new(
    "NegativeLogLikelihoodLoss",
    &[12, 13, 22],
    2..=3,
    loss::infer,
    |ctx| Ok(vec![loss::nll(ctx, ctx.tensor(0)?)?.into()]),
)
.examples(&[
    (
        "(f32[2, 2] x, i64[2] t) { y = NegativeLogLikelihoodLoss(x, t) } => y",
        &["x = -1 -2 -3 -4", "t = 1 0"],
        "2.5",
    ),
    (
        "(f32[2, 2] x, i64[2] t) {
            y = NegativeLogLikelihoodLoss<reduction=\"none\", ignore_index=0>(x, t, f32[2]{1, 3}) } => y",
        &["x = -1 -2 -3 -4", "t = 1 0"],
        "6 0",
    ),
]);
