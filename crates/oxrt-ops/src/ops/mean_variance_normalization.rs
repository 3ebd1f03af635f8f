//! <https://onnx.ai/onnx/operators/onnx__MeanVarianceNormalization.html>

use crate::def::OpDef;
use crate::eval::{Datum, Eval};
use crate::norm::moments;
use crate::reduce::Groups;
use crate::shape::{axes, same_as_input};
use oxrt_tensor::{Result, Tensor};

/// (x - mean) / (standard deviation + 1e-9) over `axes`.
pub const OP: OpDef = OpDef::new("MeanVarianceNormalization", &[9, 13], 1..=1, same_as_input, eval).examples(&[(
    "(f32[2, 2] x) { y = MeanVarianceNormalization<axes=[1]>(x) } => y",
    &["x = 1 3 5 9"],
    "-1 1 -1 1",
)]);

fn eval(ctx: &Eval) -> Result<Vec<Datum>> {
    let x = ctx.tensor(0)?;
    let gone = axes(&ctx.attrs().ints_or("axes", &[0, 2, 3])?, x.rank())?;
    let mut data = x.to_f64_vec()?;
    let groups = Groups::new(x.shape(), &gone, true)?;
    let stats = groups.map(&data, moments);
    for (&start, (mean, variance)) in groups.starts.iter().zip(stats) {
        groups.steps.iter().for_each(|s| data[start + s] = (data[start + s] - mean) / (variance.sqrt() + 1e-9));
    }
    Ok(vec![Tensor::from_f64(x.dtype(), x.shape(), &data)?.into()])
}
