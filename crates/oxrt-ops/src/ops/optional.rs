//! <https://onnx.ai/onnx/operators/onnx__Optional.html>

use crate::def::OpDef;
use crate::eval::Datum;
use crate::infer::Infer;
use oxrt_ir::ValueType;
use oxrt_tensor::{Error, Result};

/// Wraps a value, or makes an empty optional of the attribute `type`.
pub const OP: OpDef = OpDef::new("Optional", &[15, 28], 0..=1, infer, |ctx| {
    Ok(vec![Datum::Optional(ctx.datum(0).map(|d| Box::new(d.clone())))])
})
.examples(&[("(f32[1] x) { o = Optional(x); y = OptionalGetElement(o) } => y", &["x = 1"], "1")]);

fn infer(ctx: &mut Infer) -> Result<()> {
    let inner = match (ctx.value_type(0), ctx.attrs().get_type("type")?) {
        (Some(t), _) => t,
        (None, Some(t)) => t,
        _ => return Err(Error::invalid("an empty optional needs the attribute `type`")),
    };
    ctx.set_type(0, ValueType::Optional(Box::new(inner.clone())));
    Ok(())
}
