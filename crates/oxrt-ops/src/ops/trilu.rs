//! <https://onnx.ai/onnx/operators/onnx__Trilu.html>

use crate::copy::assemble;
use crate::def::OpDef;
use crate::eval::{Datum, Eval};
use crate::shape::same_as_input;
use oxrt_tensor::{Result, Tensor, bail};

/// The upper (or lower) triangle of the last two axes, from the diagonal in input 1; zero elsewhere.
pub const OP: OpDef = OpDef::new("Trilu", &[14], 1..=2, same_as_input, eval).examples(&[
    ("(f32[2, 2] x) { y = Trilu(x) } => y", &["x = 1 2 3 4"], "1 2 0 4"),
    ("(f32[2, 2] x) { y = Trilu<upper=0>(x, i64{-1}) } => y", &["x = 1 2 3 4"], "0 0 3 0"),
]);

fn eval(ctx: &Eval) -> Result<Vec<Datum>> {
    let x = ctx.tensor(0)?;
    let [.., rows, cols] = *x.shape() else { bail!(invalid, "{:?} holds no matrix", x.shape()) };
    let k = ctx.ints(1)?.and_then(|k| k.first().copied()).unwrap_or(0);
    let upper = ctx.attrs().bool_or("upper", true)?;
    let zero = Tensor::zeros(x.dtype(), &[]);
    let place = |i: usize| {
        let ahead = (i % cols) as i64 - (i / cols % rows) as i64;
        let kept = if upper { ahead >= k } else { ahead <= k };
        if kept { (0, i) } else { (1, 0) }
    };
    Ok(vec![assemble(&[x, &zero], x.shape(), (0..x.len()).map(place))?.into()])
}
