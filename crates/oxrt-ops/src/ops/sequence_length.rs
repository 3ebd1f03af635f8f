//! <https://onnx.ai/onnx/operators/onnx__SequenceLength.html>

use crate::control::sequence;
use crate::def::OpDef;
use oxrt_tensor::{DType, Tensor};

pub const OP: OpDef = OpDef::new(
    "SequenceLength",
    &[11],
    1..=1,
    |ctx| {
        ctx.set(0, DType::I64, Some(vec![]));
        Ok(())
    },
    |ctx| Ok(vec![Tensor::scalar(sequence(ctx, 0)?.len() as i64).into()]),
)
.examples(&[("(f32 a) { s = SequenceConstruct(a, a); y = SequenceLength(s) } => y", &["a = 1"], "2")]);
