//! <https://onnx.ai/onnx/operators/onnx__OptionalGetElement.html>

use crate::def::OpDef;
use crate::eval::{Datum, Eval};
use crate::infer::Infer;
use oxrt_ir::ValueType;
use oxrt_tensor::{Result, bail};

pub const OP: OpDef = OpDef::new("OptionalGetElement", &[15, 18, 28], 1..=1, infer, eval)
    .examples(&[("(f32[1] x) { o = Optional(x); y = OptionalGetElement(o) } => y", &["x = 1"], "1")]);

fn infer(ctx: &mut Infer) -> Result<()> {
    match ctx.value_type(0) {
        Some(ValueType::Optional(inner)) => ctx.set_type(0, (**inner).clone()),
        Some(other) => ctx.set_type(0, other.clone()),
        None => bail!(invalid, "input 0 is missing"),
    }
    Ok(())
}

fn eval(ctx: &Eval) -> Result<Vec<Datum>> {
    match ctx.datum(0) {
        Some(Datum::Optional(Some(d))) => Ok(vec![(**d).clone()]),
        Some(Datum::Optional(None)) | None => bail!(invalid, "the optional is empty"),
        Some(other) => Ok(vec![other.clone()]),
    }
}
