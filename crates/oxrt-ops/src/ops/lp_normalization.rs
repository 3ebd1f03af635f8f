//! <https://onnx.ai/onnx/operators/onnx__LpNormalization.html>

use crate::def::OpDef;
use crate::eval::{Datum, Eval};
use crate::reduce::change_lanes;
use crate::shape::{axis, same_as_input};
use oxrt_tensor::{Result, Tensor, bail};

/// Divides each lane along `axis` by its norm of order 1 or 2; lanes of zeros stay.
pub const OP: OpDef = OpDef::new("LpNormalization", &[1, 22], 1..=1, same_as_input, eval)
    .examples(&[("(f32[2, 2] x) { y = LpNormalization(x) } => y", &["x = 3 4 0 0"], "0.6 0.8 0 0")]);

fn eval(ctx: &Eval) -> Result<Vec<Datum>> {
    let x = ctx.tensor(0)?;
    let at = axis(ctx.attrs().int_or("axis", -1)?, x.rank())?;
    let norm: fn(&[f64]) -> f64 = match ctx.attrs().int_or("p", 2)? {
        1 => |l| l.iter().map(|v| v.abs()).sum(),
        2 => |l| l.iter().map(|v| v * v).sum::<f64>().sqrt(),
        p => bail!(invalid, "a norm of order {p}"),
    };
    let mut data = x.to_f64_vec()?;
    change_lanes(&mut data, x.shape(), at, |lane| {
        let n = norm(lane);
        lane.iter_mut().for_each(|v| *v = if n == 0.0 { 0.0 } else { *v / n });
    })?;
    Ok(vec![Tensor::from_f64(x.dtype(), x.shape(), &data)?.into()])
}
