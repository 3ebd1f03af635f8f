//! <https://onnx.ai/onnx/operators/onnx__Less.html>

use crate::def::OpDef;
use crate::scalar::Binary;

pub const OP: OpDef = OpDef::predicate("Less", &[1, 7, 9, 13], 2..=2, |e, _, x| Ok(e.bin(Binary::Lt, x[0], x[1])))
    .examples(&[("(f32[3] a) { y = Less(a, 2.0) } => y", &["a = 1 2 3"], "1 0 0")]);
