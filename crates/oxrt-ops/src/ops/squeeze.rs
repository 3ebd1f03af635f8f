//! <https://onnx.ai/onnx/operators/onnx__Squeeze.html>

use crate::def::OpDef;
use crate::eval::{Datum, Eval};
use crate::infer::Infer;
use crate::shape::axes;
use oxrt_ir::{Contents, Dim};
use oxrt_tensor::{Result, bail};

pub const OP: OpDef = OpDef::new("Squeeze", &[1, 11, 13, 21, 23, 24, 25], 1..=2, infer, eval).examples(&[(
    "(f32[1, 2, 1] x) { y = Squeeze(x, i64[1]{0}) } => y",
    &["x = 1 2"],
    "1 2",
)]);

fn infer(ctx: &mut Infer) -> Result<()> {
    let dtype = ctx.dtype(0)?;
    let Some(dims) = ctx.dims(0) else {
        ctx.set(0, dtype, None);
        return Ok(());
    };
    let gone = match ctx.const_ints(1) {
        Some(list) => axes(&list, dims.len())?,
        None if ctx.has(1) || dims.iter().any(|d| d.as_const().is_none()) => {
            ctx.set(0, dtype, None);
            return Ok(());
        }
        None => (0..dims.len()).filter(|&i| dims[i].is(1)).collect(),
    };
    if let Some(&i) = gone.iter().find(|&&i| dims[i].as_const().is_some_and(|d| d != 1)) {
        bail!(invalid, "axis {i} of {dims:?} is not of size 1");
    }
    let out: Vec<Dim> = (0..dims.len()).filter(|i| !gone.contains(i)).map(|i| dims[i].clone()).collect();
    let rank = out.len();
    ctx.set(0, dtype, Some(out));
    if let Some(c) = ctx.contents(0) {
        ctx.set_contents(0, Contents { scalar: rank == 0, elements: c.elements.clone() });
    }
    Ok(())
}

fn eval(ctx: &Eval) -> Result<Vec<Datum>> {
    let x = ctx.tensor(0)?;
    let gone = match ctx.ints(1)? {
        Some(list) => axes(&list, x.rank())?,
        None => (0..x.rank()).filter(|&i| x.shape()[i] == 1).collect(),
    };
    let shape: Vec<usize> = (0..x.rank()).filter(|i| !gone.contains(i)).map(|i| x.shape()[i]).collect();
    Ok(vec![x.reshaped(&shape)?.into()])
}
