//! `Resize` of x [N, spatial…, C]. Region, scales, sizes and `axes` keep ONNX's order [N, C, spatial…], so
//! that a change of layout leaves shape arithmetic alone. Only passes create it.

use crate::conv::reorder;
use crate::copy::{to_channels_first, to_channels_last};
use crate::def::OpDef;
use crate::infer::Infer;
use crate::{pool, resample};
use oxrt_tensor::Result;

pub const OP: OpDef = OpDef::new("oxrt.Resize", &[1], 1..=4, infer, |ctx| {
    Ok(vec![pool::channels_last(ctx.tensor(0)?, |x| resample::resize(ctx, x))?.into()])
})
.examples(&[(
    "(f32[1, 2, 2] x) { y = oxrt.Resize(x, _, f32[3]{1, 1, 2}) } => y",
    &["x = 1 2 3 4"],
    "1 2 1 2 3 4 3 4",
)]);

fn infer(ctx: &mut Infer) -> Result<()> {
    let dims = match ctx.dims(0) {
        Some(x) => {
            let y = resample::dims(ctx, &reorder(x, &to_channels_first(x.len())))?;
            Some(reorder(&y, &to_channels_last(y.len())))
        }
        None => None,
    };
    ctx.set(0, ctx.dtype(0)?, dims);
    Ok(())
}
