//! <https://onnx.ai/onnx/operators/onnx__Where.html>

use crate::copy::assemble;
use crate::def::OpDef;
use crate::eval::{Datum, Eval};
use crate::scalar::broadcast_each;
use crate::shape::broadcast_shapes;
use oxrt_tensor::Result;

pub const OP: OpDef =
    OpDef::elementwise("Where", &[9, 16], 3..=3, |e, _, x| Ok(e.select(x[0], x[1], x[2]))).eval(eval).examples(&[(
        "(bool[2] c, f32[2, 1] a) { y = Where(c, a, 0.0) } => y",
        &["c = 1 0", "a = 3 4"],
        "3 0 4 0",
    )]);

fn eval(ctx: &Eval) -> Result<Vec<Datum>> {
    let (c, a, b) = (ctx.tensor(0)?, ctx.tensor(1)?, ctx.tensor(2)?);
    let shapes = [c.shape(), a.shape(), b.shape()];
    let shape = broadcast_shapes(&shapes)?;
    let cond = c.to_i64_vec()?;
    let mut places = Vec::new();
    broadcast_each(&shape, &shapes, |at| {
        places.push(if cond[at[0]] != 0 { (0, at[1]) } else { (1, at[2]) });
        Ok(())
    })?;
    Ok(vec![assemble(&[a, b], &shape, places)?.into()])
}
