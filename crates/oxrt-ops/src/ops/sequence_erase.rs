//! <https://onnx.ai/onnx/operators/onnx__SequenceErase.html>

use crate::control::{place, sequence, sequence_type};
use crate::def::OpDef;
use crate::eval::{Datum, Eval};
use oxrt_ir::ValueType;
use oxrt_tensor::{Result, bail};

/// Takes out the element at the position in input 1, or the last.
pub const OP: OpDef = OpDef::new(
    "SequenceErase",
    &[11],
    1..=2,
    |ctx| {
        let inner = sequence_type(ctx, 0)?.clone();
        ctx.set_type(0, ValueType::Sequence(Box::new(inner)));
        Ok(())
    },
    eval,
)
.examples(&[(
    "(f32[1] a, f32[1] b) { s = SequenceConstruct(a, b); t = SequenceErase(s, i64{0}); y = SequenceAt(t, i64{0}) } => y",
    &["a = 1", "b = 2"],
    "2",
)]);

fn eval(ctx: &Eval) -> Result<Vec<Datum>> {
    let mut items = sequence(ctx, 0)?.to_vec();
    match place(ctx, 1, items.len())?.or(items.len().checked_sub(1)) {
        Some(at) => items.remove(at),
        None => bail!(invalid, "the sequence is empty"),
    };
    Ok(vec![Datum::Sequence(items)])
}
