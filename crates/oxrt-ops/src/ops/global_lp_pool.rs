//! <https://onnx.ai/onnx/operators/onnx__GlobalLpPool.html>

use crate::def::OpDef;
use crate::pool;

/// (Σ |x|^p)^(1/p) of each plane.
pub const OP: OpDef = OpDef::new("GlobalLpPool", &[1, 2, 22], 1..=1, |ctx| pool::infer_global(ctx, false), |ctx| {
    let p = ctx.attrs().int_or("p", 2)? as f64;
    let norm = |plane: &[f64]| plane.iter().map(|v| v.abs().powf(p)).sum::<f64>().powf(1.0 / p);
    Ok(vec![pool::global(ctx.tensor(0)?, norm)?.into()])
})
.examples(&[("(f32[1, 2, 2] x) { y = GlobalLpPool(x) } => y", &["x = 3 -4 6 8"], "5 10")]);
