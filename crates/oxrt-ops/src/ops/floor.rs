//! <https://onnx.ai/onnx/operators/onnx__Floor.html>

use crate::def::OpDef;
use crate::scalar::Unary;
use crate::shape::infer_rounded;
use oxrt_ir::Dim;

pub const OP: OpDef = OpDef::elementwise("Floor", &[1, 6, 13], 1..=1, |e, _, x| Ok(e.un(Unary::Floor, x[0])))
    .infer(|ctx| infer_rounded(ctx, Dim::floor_div))
    .examples(&[("(f32[3] x) { y = Floor(x) } => y", &["x = -1.5 0.5 2"], "-2 0 2")]);
