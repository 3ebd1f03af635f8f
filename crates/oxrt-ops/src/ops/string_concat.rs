//! <https://onnx.ai/onnx/operators/onnx__StringConcat.html>

use crate::def::OpDef;
use crate::eval::{Datum, Eval};
use crate::scalar::broadcast_each;
use crate::shape::{broadcast_shapes, infer_elementwise_as};
use crate::text::strings;
use oxrt_tensor::{DType, Result, Tensor};

pub const OP: OpDef = OpDef::new("StringConcat", &[20], 2..=2, |ctx| infer_elementwise_as(ctx, DType::String), eval)
    .examples(&[("(string[2] a, string[1] b) { y = StringConcat(a, b) } => y", &["a = p q", "b = r"], "pr qr")]);

fn eval(ctx: &Eval) -> Result<Vec<Datum>> {
    let (a, b) = (ctx.tensor(0)?, ctx.tensor(1)?);
    let (x, y) = (strings(a)?, strings(b)?);
    let shapes = [a.shape(), b.shape()];
    let shape = broadcast_shapes(&shapes)?;
    let mut out = Vec::new();
    broadcast_each(&shape, &shapes, |at| {
        out.push(format!("{}{}", x[at[0]], y[at[1]]));
        Ok(())
    })?;
    Ok(vec![Tensor::from_strings(&shape, out)?.into()])
}
