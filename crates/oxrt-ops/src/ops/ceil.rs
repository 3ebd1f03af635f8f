//! <https://onnx.ai/onnx/operators/onnx__Ceil.html>

use crate::def::OpDef;
use crate::scalar::Unary;
use crate::shape::infer_rounded;
use oxrt_ir::Dim;

pub const OP: OpDef = OpDef::elementwise("Ceil", &[1, 6, 13], 1..=1, |e, _, x| Ok(e.un(Unary::Ceil, x[0])))
    .infer(|ctx| infer_rounded(ctx, Dim::ceil_div))
    .examples(&[("(f32[3] x) { y = Ceil(x) } => y", &["x = -1.5 0.5 2"], "-1 1 2")]);
