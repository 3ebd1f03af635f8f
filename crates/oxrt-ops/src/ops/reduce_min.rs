//! <https://onnx.ai/onnx/operators/onnx__ReduceMin.html>

use crate::def::OpDef;
use crate::eval::{Datum, Eval};
use crate::reduce;
use crate::scalar::{Binary, binary_f64};
use oxrt_tensor::Result;

pub const OP: OpDef = OpDef::new("ReduceMin", &[1, 11, 12, 13, 18, 20], 1..=2, |ctx| reduce::infer_with(ctx, |a, b| a.at_most(&b)), eval)
    .examples(&[("(f32[2, 4] x) { y = ReduceMin(x, i64[1]{1}) } => y", &["x = 1 2 3 4 5 6 7 8"], "1 5")]);

fn eval(ctx: &Eval) -> Result<Vec<Datum>> {
    let x = ctx.tensor(0)?;
    if x.dtype().is_float() {
        return reduce::eval_f64(ctx, |x| x.iter().fold(f64::INFINITY, |a, &b| binary_f64(Binary::Min, a, b)));
    }
    reduce::eval_int_extreme(ctx, false)
}
