//! <https://onnx.ai/onnx/operators/onnx__MaxPool.html>

use crate::def::OpDef;
use crate::eval::{Datum, Eval};
use crate::pool;
use oxrt_tensor::{Result, Tensor};

/// Output 1 holds the place of each maximum in the flattened input.
pub const OP: OpDef = OpDef::new("MaxPool", &[1, 8, 10, 11, 12, 22], 1..=1, |ctx| pool::infer(ctx, false), eval).examples(&[
    (
        "(f32[1, 1, 3, 3] x) { y, i = MaxPool<kernel_shape=[2, 2], ceil_mode=1, strides=[2, 2]>(x) } => y",
        &["x = 0 1 2 3 4 5 6 7 8"],
        "4 5 7 8",
    ),
    (
        "(f32[1, 1, 2, 2] x) { y, i = MaxPool<kernel_shape=[1, 2], storage_order=1>(x) } => i",
        &["x = 0 1 3 2"],
        "2 1",
    ),
]);

fn eval(ctx: &Eval) -> Result<Vec<Datum>> {
    let x = ctx.tensor(0)?;
    let (y, mut places) = pool::max(x, ctx.attrs())?;
    if ctx.attrs().bool_or("storage_order", false)? {
        // Column-major within each plane.
        let spatial = &x.shape()[2..];
        let plane: usize = spatial.iter().product();
        for p in &mut places {
            let (base, mut rest) = (*p as usize / plane.max(1) * plane, *p as usize % plane.max(1));
            let mut at = 0;
            for d in (0..spatial.len()).rev() {
                let below: usize = spatial[..d].iter().product();
                at += rest % spatial[d] * below;
                rest /= spatial[d];
            }
            *p = (base + at) as i64;
        }
    }
    let indices = Tensor::from_slice(y.shape(), &places);
    Ok(vec![y.into(), indices.into()])
}
