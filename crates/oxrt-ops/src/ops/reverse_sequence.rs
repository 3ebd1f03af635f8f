//! <https://onnx.ai/onnx/operators/onnx__ReverseSequence.html>

use crate::copy::select;
use crate::def::OpDef;
use crate::eval::{Datum, Eval};
use crate::shape::{axis, same_as_input};
use oxrt_tensor::{Error, Result, bail, strides_of};

/// Turns the first `lengths[b]` steps of each batch around.
pub const OP: OpDef = OpDef::new("ReverseSequence", &[10, 28], 2..=2, same_as_input, eval).examples(&[(
    "(f32[2, 3] x, i64[2] l) { y = ReverseSequence<batch_axis=0, time_axis=1>(x, l) } => y",
    &["x = 1 2 3 4 5 6", "l = 2 3"],
    "2 1 3 6 5 4",
)]);

fn eval(ctx: &Eval) -> Result<Vec<Datum>> {
    let x = ctx.tensor(0)?;
    let lengths = ctx.ints(1)?.ok_or_else(|| Error::invalid("the lengths are missing"))?;
    let batch = axis(ctx.attrs().int_or("batch_axis", 1)?, x.rank())?;
    let time = axis(ctx.attrs().int_or("time_axis", 0)?, x.rank())?;
    let steps = x.shape()[time];
    if lengths.len() != x.shape()[batch] || lengths.iter().any(|&l| l < 0 || l as usize > steps) {
        bail!(invalid, "the lengths {lengths:?} do not fit {:?}", x.shape());
    }
    let strides = strides_of(x.shape());
    let place = |i: usize| {
        let (b, t) = (i / strides[batch] % x.shape()[batch], i / strides[time] % steps);
        let n = lengths[b] as usize;
        if t < n { i - t * strides[time] + (n - 1 - t) * strides[time] } else { i }
    };
    Ok(vec![select(x, x.shape(), (0..x.len()).map(place))?.into()])
}
