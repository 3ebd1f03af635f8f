//! <https://onnx.ai/onnx/operators/onnx__Shape.html>

use crate::def::OpDef;
use crate::eval::{Datum, Eval};
use crate::infer::Infer;
use oxrt_ir::{Attrs, Contents, Dim};
use oxrt_tensor::{DType, Result, Tensor};

pub const OP: OpDef = OpDef::new("Shape", &[1, 13, 15, 19, 21, 23, 24, 25], 1..=1, infer, eval)
    .examples(&[("(f32[2, 3] x) { y = Shape<start=-1>(x) } => y", &["x = 1 2 3 4 5 6"], "3")]);

/// The axes that `start` and `end` select, clamped as slices are.
fn range(attrs: &Attrs, rank: usize) -> Result<std::ops::Range<usize>> {
    let r = rank as i64;
    let place = |x: i64| (if x < 0 { x + r } else { x }).clamp(0, r) as usize;
    let start = place(attrs.int_or("start", 0)?);
    let end = place(attrs.int_or("end", r)?);
    Ok(start..end.max(start))
}

fn infer(ctx: &mut Infer) -> Result<()> {
    let Some(dims) = ctx.dims(0) else {
        let n = ctx.fresh();
        ctx.set(0, DType::I64, Some(vec![n]));
        return Ok(());
    };
    let part = dims[range(ctx.attrs(), dims.len())?].to_vec();
    ctx.set(0, DType::I64, Some(vec![Dim::from(part.len())]));
    ctx.set_contents(0, Contents::vector(part));
    Ok(())
}

fn eval(ctx: &Eval) -> Result<Vec<Datum>> {
    let shape = ctx.tensor(0)?.shape();
    let part: Vec<i64> = shape[range(ctx.attrs(), shape.len())?].iter().map(|&d| d as i64).collect();
    Ok(vec![Tensor::from_slice(&[part.len()], &part).into()])
}
