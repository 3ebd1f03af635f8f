//! <https://onnx.ai/onnx/operators/onnx__Identity.html>

use crate::def::OpDef;
use crate::infer::Infer;
use oxrt_tensor::{Error, Result};

/// Any value: tensors, sequences and optionals alike.
pub const OP: OpDef = OpDef::new("Identity", &[1, 13, 14, 16, 19, 21, 23, 24, 25], 1..=1, infer, |ctx| {
    let x = ctx.datum(0).ok_or_else(|| Error::invalid("input 0 is missing"))?;
    Ok(vec![x.clone()])
})
.examples(&[("(f32[2] x) { y = Identity(x) } => y", &["x = 1 2"], "1 2")]);

fn infer(ctx: &mut Infer) -> Result<()> {
    let ty = ctx.value_type(0).ok_or_else(|| Error::invalid("input 0 is missing"))?.clone();
    ctx.set_type(0, ty);
    if let Some(c) = ctx.contents(0) {
        ctx.set_contents(0, c.clone());
    }
    Ok(())
}
