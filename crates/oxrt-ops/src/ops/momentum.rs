//! <https://onnx.ai/onnx/operators/onnx_aionnxpreviewtraining_Momentum.html>

use crate::def::OpDef;
use crate::optimizer::{eval, infer};
use oxrt_tensor::bail;

/// One step of gradient descent with momentum. Inputs: rate, step, then all X, all gradients, all momenta.
pub const OP: OpDef = OpDef::new("ai.onnx.preview.training.Momentum", &[1], 3..=usize::MAX, |ctx| infer(ctx, 3), |ctx| {
    let f = |name: &str, default: f32| ctx.attrs().float_or(name, default).map(f64::from);
    let (alpha, beta, norm) = (f("alpha", 0.0)?, f("beta", 0.0)?, f("norm_coefficient", 0.0)?);
    let nesterov = match ctx.attrs().string_or("mode", "standard")? {
        "standard" => false,
        "nesterov" => true,
        other => bail!(invalid, "the mode `{other}` is unknown"),
    };
    eval(ctx, 3, |rate, step, p| {
        let g = norm * p[0] + p[1];
        let v = alpha * p[2] + if step > 0.0 { beta } else { 1.0 } * g;
        vec![p[0] - rate * if nesterov { g + alpha * v } else { v }, v]
    })
})
.examples(&[(
    "(f32 r, i64 t, f32[1] x, f32[1] g, f32[1] v) {
        y, m = ai.onnx.preview.training.Momentum<alpha=0.5, beta=1.0, mode=\"standard\">(r, t, x, g, v) } => y",
    &["r = 0.5", "t = 0", "x = 1", "g = 1", "v = 2"],
    "0",
)]);
