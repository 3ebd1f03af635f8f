//! <https://onnx.ai/onnx/operators/onnx__Resize.html>

use crate::def::OpDef;
use crate::infer::Infer;
use crate::resample;
use oxrt_tensor::Result;

pub const OP: OpDef = OpDef::new("Resize", &[10, 11, 13, 18, 19], 1..=4, infer, |ctx| {
    Ok(vec![resample::resize(ctx, ctx.tensor(0)?)?.into()])
})
.examples(&[
    (
        "(f32[1, 1, 2] x) { y = Resize(x, _, f32[3]{1, 1, 2}) } => y",
        &["x = 1 2"],
        "1 1 2 2",
    ),
    (
        "(f32[1, 1, 2] x) { y = Resize<mode=\"linear\">(x, _, _, i64[3]{1, 1, 4}) } => y",
        &["x = 1 2"],
        "1 1.25 1.75 2",
    ),
    (
        "(f32[4] x) { y = Resize<mode=\"linear\", antialias=1>(x, _, f32[1]{0.5}) } => y",
        &["x = 1 2 3 4"],
        "1.625 3.375",
    ),
    (
        "(f32[4] x) { y = Resize<mode=\"cubic\", coordinate_transformation_mode=\"align_corners\">(x, _, _, i64[1]{7}) } => y",
        &["x = 1 2 4 8"],
        "1 1.3125 2 2.71875 4 6.1875 8",
    ),
]);

fn infer(ctx: &mut Infer) -> Result<()> {
    let dims = match ctx.dims(0) {
        Some(x) => Some(resample::dims(ctx, x)?),
        None => None,
    };
    ctx.set(0, ctx.dtype(0)?, dims);
    Ok(())
}
