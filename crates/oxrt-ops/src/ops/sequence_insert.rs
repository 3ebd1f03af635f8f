//! <https://onnx.ai/onnx/operators/onnx__SequenceInsert.html>

use crate::control::{element, sequence, sequence_type};
use crate::def::OpDef;
use crate::eval::{Datum, Eval};
use crate::infer::Infer;
use oxrt_ir::ValueType;
use oxrt_tensor::{Result, bail};

/// Inserts input 1 before the position in input 2, or at the end.
pub const OP: OpDef = OpDef::new("SequenceInsert", &[11], 2..=3, infer, eval).examples(&[(
    "(f32[1] a, f32[1] b) { s = SequenceConstruct(a, a); t = SequenceInsert(s, b, i64{0}); y = SequenceAt(t, i64{0}) } => y",
    &["a = 1", "b = 2"],
    "2",
)]);

fn infer(ctx: &mut Infer) -> Result<()> {
    let inner = sequence_type(ctx, 0)?.clone();
    let new = ctx.value_type(1).cloned().unwrap_or_default();
    let ty = ctx.join(&inner, &new);
    ctx.set_type(0, ValueType::Sequence(Box::new(ty)));
    Ok(())
}

fn eval(ctx: &Eval) -> Result<Vec<Datum>> {
    let mut items = sequence(ctx, 0)?.to_vec();
    let at = match ctx.ints(2)?.and_then(|p| p.first().copied()) {
        Some(p) => {
            let at = if p < 0 { p.saturating_add(items.len() as i64) } else { p };
            match usize::try_from(at) {
                Ok(at) if at <= items.len() => at,
                _ => bail!(invalid, "the position {p} is outside a sequence of {}", items.len()),
            }
        }
        None => items.len(),
    };
    items.insert(at, element(ctx, 1)?);
    Ok(vec![Datum::Sequence(items)])
}
