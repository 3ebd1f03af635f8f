//! <https://onnx.ai/onnx/operators/onnx__GlobalMaxPool.html>

use crate::def::OpDef;
use crate::pool;
use crate::scalar::{Binary, binary_f64};

pub const OP: OpDef = OpDef::new(
    "GlobalMaxPool",
    &[1, 22],
    1..=1,
    |ctx| pool::infer_global(ctx, false),
    |ctx| {
        let greatest = |plane: &[f64]| plane.iter().fold(f64::NEG_INFINITY, |a, &b| binary_f64(Binary::Max, a, b));
        Ok(vec![pool::global(ctx.tensor(0)?, greatest)?.into()])
    },
)
.examples(&[("(f32[1, 2, 2] x) { y = GlobalMaxPool(x) } => y", &["x = 1 2 3 4"], "2 4")]);
