//! <https://onnx.ai/onnx/operators/onnx__SequenceAt.html>

use crate::control::{place, sequence, sequence_type};
use crate::def::OpDef;
use crate::eval::{Datum, Eval};
use oxrt_tensor::Result;

pub const OP: OpDef = OpDef::new(
    "SequenceAt",
    &[11],
    2..=2,
    |ctx| {
        ctx.set_type(0, sequence_type(ctx, 0)?.clone());
        Ok(())
    },
    eval,
)
.examples(&[(
    "(f32[1] a, f32[2] b) { s = SequenceConstruct(a, b); y = SequenceAt(s, i64{0}) } => y",
    &["a = 1", "b = 2 3"],
    "1",
)]);

fn eval(ctx: &Eval) -> Result<Vec<Datum>> {
    let items = sequence(ctx, 0)?;
    let at = place(ctx, 1, items.len())?.unwrap_or(0);
    Ok(vec![items[at].clone()])
}
