//! <https://onnx.ai/onnx/operators/onnx__Equal.html>

use crate::def::OpDef;
use crate::eval::{Datum, Eval};
use crate::scalar::{Binary, broadcast_each, eval_predicate};
use crate::shape::broadcast_shapes;
use oxrt_tensor::{Result, Tensor};

pub const OP: OpDef =
    OpDef::predicate("Equal", &[1, 7, 11, 13, 19], 2..=2, |e, _, x| Ok(e.bin(Binary::Eq, x[0], x[1]))).eval(eval).examples(&[
        ("(i64[3] a) { y = Equal(a, i64[1]{2}) } => y", &["a = 1 2 3"], "0 1 0"),
        ("(string[2] a, string[2] b) { y = Equal(a, b) } => y", &["a = p q", "b = p r"], "1 0"),
    ]);

fn eval(ctx: &Eval) -> Result<Vec<Datum>> {
    let (a, b) = (ctx.tensor(0)?, ctx.tensor(1)?);
    let (Some(x), Some(y)) = (a.strings(), b.strings()) else { return eval_predicate(ctx) };
    let shapes = [a.shape(), b.shape()];
    let shape = broadcast_shapes(&shapes)?;
    let mut out = Vec::new();
    broadcast_each(&shape, &shapes, |at| {
        out.push(x[at[0]] == y[at[1]]);
        Ok(())
    })?;
    Ok(vec![Tensor::from_slice(&shape, &out).into()])
}
