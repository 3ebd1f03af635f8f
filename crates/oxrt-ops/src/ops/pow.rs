//! <https://onnx.ai/onnx/operators/onnx__Pow.html>

use crate::def::OpDef;
use crate::scalar::{Binary, eval_node_as};
use crate::shape::infer_elementwise_as;

/// The result has the type of the base.
pub const OP: OpDef = OpDef::elementwise("Pow", &[1, 7, 12, 13, 15], 2..=2, |e, _, x| Ok(e.bin(Binary::Pow, x[0], x[1])))
    .infer(|ctx| infer_elementwise_as(ctx, ctx.dtype(0)?))
    .eval(|ctx| eval_node_as(ctx, Some(ctx.dtype(0)?)))
    .examples(&[
        ("(f32[3] a) { y = Pow(a, 2.0) } => y", &["a = 1 2 3"], "1 4 9"),
        ("(i32[2] a) { y = Pow(a, f32[2]{0.5, 3}) } => y", &["a = 4 2"], "2 8"),
    ]);
