//! <https://onnx.ai/onnx/operators/onnx_aionnxpreviewtraining_Adam.html>

use crate::def::OpDef;
use crate::optimizer::{eval, infer};

/// One step of Adam. Inputs: rate, step, then all X, all gradients, all means, all means of squares.
pub const OP: OpDef = OpDef::new("ai.onnx.preview.training.Adam", &[1], 3..=usize::MAX, |ctx| infer(ctx, 4), |ctx| {
    let f = |name: &str, default: f32| ctx.attrs().float_or(name, default).map(f64::from);
    let (alpha, beta, epsilon) = (f("alpha", 0.9)?, f("beta", 0.999)?, f("epsilon", 1e-6)?);
    let (norm, after) = (f("norm_coefficient", 0.0)?, f("norm_coefficient_post", 0.0)?);
    eval(ctx, 4, |rate, step, p| {
        let g = norm * p[0] + p[1];
        let v = alpha * p[2] + (1.0 - alpha) * g;
        let h = beta * p[3] + (1.0 - beta) * g * g;
        let rate = if step > 0.0 { rate * (1.0 - beta.powf(step)).sqrt() / (1.0 - alpha.powf(step)) } else { rate };
        vec![(1.0 - after) * (p[0] - rate * v / (h.sqrt() + epsilon)), v, h]
    })
})
.examples(&[(
    "(f32 r, i64 t, f32[1] x, f32[1] g, f32[1] v, f32[1] h) {
        y, a, b = ai.onnx.preview.training.Adam<alpha=0.5, beta=0.0, epsilon=0.0>(r, t, x, g, v, h) } => y",
    &["r = 0.5", "t = 0", "x = 1", "g = 2", "v = 0", "h = 9"],
    "0.75",
)]);
