//! <https://onnx.ai/onnx/operators/onnx__NonZero.html>

use crate::def::OpDef;
use crate::eval::{Datum, Eval};
use crate::infer::Infer;
use oxrt_ir::Dim;
use oxrt_tensor::{DType, Result, Tensor, strides_of};

/// Coordinates of the elements that are not zero: [rank, count].
pub const OP: OpDef = OpDef::new("NonZero", &[9, 13], 1..=1, infer, eval)
    .examples(&[("(f32[2, 2] x) { y = NonZero(x) } => y", &["x = 1 0 0 4"], "0 1 0 1")]);

fn infer(ctx: &mut Infer) -> Result<()> {
    let rank = ctx.rank(0).map_or_else(|| ctx.fresh(), Dim::from);
    let count = ctx.fresh();
    ctx.set(0, DType::I64, Some(vec![rank, count]));
    Ok(())
}

fn eval(ctx: &Eval) -> Result<Vec<Datum>> {
    let x = ctx.tensor(0)?;
    let found: Vec<usize> =
        x.to_f64_vec()?.iter().enumerate().filter(|(_, v)| **v != 0.0).map(|(i, _)| i).collect();
    let strides = strides_of(x.shape());
    let rows = (0..x.rank()).flat_map(|d| found.iter().map(move |i| (d, *i)));
    let out: Vec<i64> = rows.map(|(d, i)| (i / strides[d] % x.shape()[d]) as i64).collect();
    Ok(vec![Tensor::from_slice(&[x.rank(), found.len()], &out).into()])
}
