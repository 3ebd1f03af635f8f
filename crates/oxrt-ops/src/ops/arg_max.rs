//! <https://onnx.ai/onnx/operators/onnx__ArgMax.html>

use crate::def::OpDef;
use crate::reduce::{arg_extremum, infer_arg};

pub const OP: OpDef = OpDef::new("ArgMax", &[1, 11, 12, 13], 1..=1, infer_arg, |ctx| arg_extremum(ctx, true)).examples(&[
    ("(f32[2, 3] x) { y = ArgMax<axis=1, keepdims=0>(x) } => y", &["x = 1 3 3 6 5 4"], "1 0"),
    ("(f32[3] x) { y = ArgMax<select_last_index=1>(x) } => y", &["x = 1 3 3"], "2"),
]);
