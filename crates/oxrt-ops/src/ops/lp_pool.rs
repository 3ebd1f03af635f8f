//! <https://onnx.ai/onnx/operators/onnx__LpPool.html>

use crate::def::OpDef;
use crate::pool;
use oxrt_tensor::Tensor;

/// (Σ |x|^p)^(1/p) of each window.
pub const OP: OpDef = OpDef::new("LpPool", &[1, 2, 11, 18, 22], 1..=1, |ctx| pool::infer(ctx, false), |ctx| {
    let x = ctx.tensor(0)?;
    let p = ctx.attrs().int_or("p", 2)? as f64;
    let (shape, y) = pool::over_windows(x, ctx.attrs(), |_, taps| {
        taps.inside.iter().map(|t| t.1.abs().powf(p)).sum::<f64>().powf(1.0 / p)
    })?;
    Ok(vec![Tensor::from_f64(x.dtype(), &shape, &y)?.into()])
})
.examples(&[("(f32[1, 1, 3] x) { y = LpPool<kernel_shape=[2]>(x) } => y", &["x = 3 -4 3"], "5 5")]);
