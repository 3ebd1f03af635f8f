//! <https://onnx.ai/onnx/operators/onnx__ReduceLogSumExp.html>

use crate::def::OpDef;
use crate::reduce;

pub const OP: OpDef = OpDef::new("ReduceLogSumExp", &[1, 11, 13, 18, 28], 1..=2, reduce::infer, |ctx| {
    reduce::eval_f64(ctx, log_sum_exp)
})
.examples(&[("(f32[2, 4] x) { y = ReduceLogSumExp<keepdims=0>(x, i64[1]{-1}) } => y", &["x = 1 2 3 4 5 6 7 8"], "4.44019 8.44019")]);

/// Shifted by the greatest element, so that nothing overflows.
fn log_sum_exp(x: &[f64]) -> f64 {
    let top = x.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    if top.is_infinite() {
        return if x.iter().any(|v| v.is_nan()) { f64::NAN } else { top };
    }
    top + x.iter().map(|v| (v - top).exp()).sum::<f64>().ln()
}
