//! <https://onnx.ai/onnx/operators/onnx__SequenceConstruct.html>

use crate::control::element;
use crate::def::OpDef;
use crate::eval::Datum;
use crate::infer::Infer;
use oxrt_ir::ValueType;
use oxrt_tensor::Result;

pub const OP: OpDef = OpDef::new("SequenceConstruct", &[11], 1..=usize::MAX, infer, |ctx| {
    let items = (0..ctx.inputs.len()).map(|i| element(ctx, i)).collect::<Result<_>>()?;
    Ok(vec![Datum::Sequence(items)])
})
.examples(&[(
    "(f32[1] a, f32[2] b) { s = SequenceConstruct(a, b); y = SequenceAt(s, i64{-1}) } => y",
    &["a = 1", "b = 2 3"],
    "2 3",
)]);

fn infer(ctx: &mut Infer) -> Result<()> {
    let mut ty = ValueType::Unknown;
    for i in 0..ctx.num_inputs() {
        let next = ctx.value_type(i).cloned().unwrap_or_default();
        ty = ctx.join(&ty, &next);
    }
    ctx.set_type(0, ValueType::Sequence(Box::new(ty)));
    Ok(())
}
