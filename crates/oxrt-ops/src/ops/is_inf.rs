//! <https://onnx.ai/onnx/operators/onnx__IsInf.html>

use crate::def::OpDef;
use crate::scalar::{Binary, Unary};

pub const OP: OpDef = OpDef::predicate("IsInf", &[10, 20], 1..=1, |e, attrs, x| {
    let (negative, positive) = (attrs.bool_or("detect_negative", true)?, attrs.bool_or("detect_positive", true)?);
    let infinite = e.un(Unary::IsInf, x[0]);
    let below = e.bin_c(Binary::Lt, x[0], 0.0);
    let (yes, no) = (e.c(negative as u8 as f64), e.c(positive as u8 as f64));
    let wanted = e.select(below, yes, no);
    Ok(e.bin(Binary::And, infinite, wanted))
})
.examples(&[("(f32[3] x) { y = IsInf<detect_negative=0>(x) } => y", &["x = NaN -inf inf"], "0 0 1")]);
