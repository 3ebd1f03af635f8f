//! <https://onnx.ai/onnx/operators/onnx__STFT.html>

use crate::copy::checked_len;
use crate::def::OpDef;
use crate::eval::{Datum, Eval};
use crate::infer::Infer;
use crate::spectral::transform;
use oxrt_ir::Dim;
use oxrt_tensor::{Error, Result, Tensor, bail};

/// Fourier transforms of windows of a signal [batch, length, 1 or 2]: [batch, frames, bins, 2]. Inputs: signal,
/// step, window, window length.
pub const OP: OpDef = OpDef::new("STFT", &[17], 2..=4, infer, eval).examples(&[(
    "(f32[1, 4, 1] x) { y = STFT(x, i64{2}, f32[2]{1}) } => y",
    &["x = 1 2 3 4"],
    "3 0 -1 0 7 0 -1 0",
)]);

fn infer(ctx: &mut Infer) -> Result<()> {
    let one = |i: usize| ctx.contents(i).and_then(|c| c.elements.first().cloned());
    let length = match (one(3), ctx.dims(2)) {
        (Some(n), _) => Some(n),
        (None, Some([n])) if !ctx.has(3) => Some(n.clone()),
        _ => None,
    };
    let half = ctx.attrs().bool_or("onesided", true)?;
    let dims = match (ctx.dims(0), length, one(1)) {
        (Some([b, l] | [b, l, _]), Some(n), Some(step)) => {
            let frames = (l.clone() - n.clone()).floor_div(&step) + 1;
            let bins = if half { n.floor_div(&Dim::Const(2)) + 1 } else { n };
            vec![b.clone(), frames, bins, Dim::Const(2)]
        }
        (d, ..) => {
            let batch = d.and_then(|d| d.first().cloned()).unwrap_or_else(|| ctx.fresh());
            vec![batch, ctx.fresh(), ctx.fresh(), Dim::Const(2)]
        }
    };
    ctx.set(0, ctx.dtype(0)?, Some(dims));
    Ok(())
}

fn eval(ctx: &Eval) -> Result<Vec<Datum>> {
    let x = ctx.tensor(0)?;
    let one = |i: usize| -> Result<Option<i64>> { Ok(ctx.ints(i)?.and_then(|v| v.first().copied())) };
    let (batch, length, parts) = match *x.shape() {
        [b, l] => (b, l, 1),
        [b, l, p @ (1 | 2)] => (b, l, p),
        _ => bail!(invalid, "a signal of shape {:?}", x.shape()),
    };
    let window = ctx.opt(2)?.map(Tensor::to_f64_vec).transpose()?;
    let n = match (one(3)?, &window) {
        (Some(n), _) => usize::try_from(n).unwrap_or(0),
        (None, Some(w)) => w.len(),
        (None, None) => length,
    };
    let step = one(1)?.and_then(|s| usize::try_from(s).ok()).filter(|&s| s > 0);
    let step = step.ok_or_else(|| Error::invalid("the step should be positive"))?;
    if n == 0 || n > length || window.as_ref().is_some_and(|w| w.len() != n) {
        bail!(invalid, "windows of {n} over a signal of {length}");
    }
    let frames = (length - n) / step + 1;
    let bins = if ctx.attrs().bool_or("onesided", true)? { n / 2 + 1 } else { n };
    let shape = [batch, frames, bins, 2];
    let mut out = Vec::with_capacity(checked_len(&shape)?);
    let data = x.to_f64_vec()?;
    for b in 0..batch {
        for f in 0..frames {
            let line: Vec<(f64, f64)> = (0..n)
                .map(|i| {
                    let o = (b * length + f * step + i) * parts;
                    let w = window.as_ref().map_or(1.0, |w| w[i]);
                    (data[o] * w, if parts == 2 { data[o + 1] * w } else { 0.0 })
                })
                .collect();
            out.extend(transform(&line, false).into_iter().take(bins).flat_map(|(re, im)| [re, im]));
        }
    }
    Ok(vec![Tensor::from_f64(x.dtype(), &shape, &out)?.into()])
}
