//! <https://onnx.ai/onnx/operators/onnx__ArgMin.html>

use crate::def::OpDef;
use crate::reduce::{arg_extremum, infer_arg};

pub const OP: OpDef = OpDef::new("ArgMin", &[1, 11, 12, 13], 1..=1, infer_arg, |ctx| arg_extremum(ctx, false))
    .examples(&[("(f32[2, 3] x) { y = ArgMin<axis=1>(x) } => y", &["x = 3 1 1 6 5 4"], "1 2")]);
