//! <https://onnx.ai/onnx/operators/onnx_aionnxpreviewtraining_Adagrad.html>

use crate::def::OpDef;
use crate::optimizer::{eval, infer};

/// One step of Adagrad. Inputs: rate, step, then all X, all gradients, all sums of squares.
pub const OP: OpDef = OpDef::new("ai.onnx.preview.training.Adagrad", &[1], 3..=usize::MAX, |ctx| infer(ctx, 3), |ctx| {
    let a = ctx.attrs();
    let (decay, epsilon) = (a.float_or("decay_factor", 0.0)? as f64, a.float_or("epsilon", 1e-6)? as f64);
    let norm = a.float_or("norm_coefficient", 0.0)? as f64;
    eval(ctx, 3, |rate, step, p| {
        let g = norm * p[0] + p[1];
        let h = p[2] + g * g;
        vec![p[0] - rate / (1.0 + step * decay) * g / (h.sqrt() + epsilon), h]
    })
})
.examples(&[(
    "(f32 r, i64 t, f32[1] x, f32[1] g, f32[1] h) { y, n = ai.onnx.preview.training.Adagrad<epsilon=0.0>(r, t, x, g, h) } => y",
    &["r = 0.5", "t = 0", "x = 1", "g = 3", "h = 16"],
    "0.7",
)]);
