//! <https://onnx.ai/onnx/operators/onnx__LRN.html>

use crate::def::OpDef;
use crate::eval::{Datum, Eval};
use crate::shape::same_as_input;
use oxrt_tensor::{Result, Tensor, bail};

/// x / (bias + alpha/size · Σ x²)^beta, the sum over `size` neighbouring channels.
pub const OP: OpDef = OpDef::new("LRN", &[1, 13], 1..=1, same_as_input, eval).examples(&[(
    "(f32[1, 3, 1] x) { y = LRN<size=2, alpha=2.0, beta=1.0>(x) } => y",
    &["x = 1 2 3"],
    "0.16666667 0.14285715 0.3",
)]);

fn eval(ctx: &Eval) -> Result<Vec<Datum>> {
    let (x, attrs) = (ctx.tensor(0)?, ctx.attrs());
    if x.rank() < 2 {
        bail!(invalid, "{:?} has no channels", x.shape());
    }
    let size = match usize::try_from(attrs.int_or("size", 0)?) {
        Ok(s) if s > 0 => s,
        _ => bail!(invalid, "`size` should be positive"),
    };
    let (alpha, beta) = (attrs.float_or("alpha", 1e-4)? as f64, attrs.float_or("beta", 0.75)? as f64);
    let bias = attrs.float_or("bias", 1.0)? as f64;
    let (n, c) = (x.shape()[0], x.shape()[1]);
    let plane: usize = x.shape()[2..].iter().product();
    let data = x.to_f64_vec()?;
    let mut y = data.clone();
    let (before, after) = ((size - 1) / 2, size / 2);
    for (i, v) in y.iter_mut().enumerate() {
        let (image, k, p) = (i / (c * plane), i / plane % c, i % plane);
        let near = k.saturating_sub(before)..(k.saturating_add(after).saturating_add(1)).min(c);
        let sum: f64 = near.map(|j| data[(image * c + j) * plane + p].powi(2)).sum();
        *v /= (bias + alpha / size as f64 * sum).powf(beta);
    }
    debug_assert_eq!(y.len(), n * c * plane);
    Ok(vec![Tensor::from_f64(x.dtype(), x.shape(), &y)?.into()])
}
