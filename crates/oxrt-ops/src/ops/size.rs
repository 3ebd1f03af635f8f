//! <https://onnx.ai/onnx/operators/onnx__Size.html>

use crate::def::OpDef;
use oxrt_ir::Contents;
use oxrt_tensor::{DType, Tensor};

pub const OP: OpDef = OpDef::new(
    "Size",
    &[1, 13, 19, 21, 23, 24, 25],
    1..=1,
    |ctx| {
        ctx.set(0, DType::I64, Some(vec![]));
        if let Some(d) = ctx.dims(0) {
            ctx.set_contents(0, Contents::scalar(d.iter().cloned().product()));
        }
        Ok(())
    },
    |ctx| Ok(vec![Tensor::scalar(ctx.tensor(0)?.len() as i64).into()]),
)
.examples(&[("(f32[2, 3] x) { y = Size(x) } => y", &["x = 1 2 3 4 5 6"], "6")]);
