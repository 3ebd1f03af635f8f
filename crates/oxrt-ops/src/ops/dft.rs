//! <https://onnx.ai/onnx/operators/onnx__DFT.html>

use crate::copy::checked_len;
use crate::def::OpDef;
use crate::eval::{Datum, Eval};
use crate::fft32;
use crate::infer::Infer;
use crate::reduce::Groups;
use crate::shape::axis;
use crate::spectral::transform;
use oxrt_ir::Dim;
use oxrt_tensor::{DType, Result, Tensor, bail};

/// Fourier transform along an axis (input 2) of real […, 1] or complex […, 2] numbers; input 1 is the length.
/// `onesided` keeps the first half of a real signal's spectrum, and with `inverse` starts from it.
pub const OP: OpDef = OpDef::new("DFT", &[17, 20], 1..=3, infer, eval).examples(&[
    ("(f32[1, 4, 1] x) { y = DFT(x) } => y", &["x = 1 2 3 4"], "10 0 -2 2 -2 0 -2 -2"),
    ("(f32[1, 4, 1] x) { y = DFT<onesided=1>(x) } => y", &["x = 1 2 3 4"], "10 0 -2 2 -2 0"),
    ("(f32[1, 3, 2] x) { y = DFT<onesided=1, inverse=1>(x) } => y", &["x = 10 0 -2 2 -2 0"], "1 2 3 4"),
]);

fn infer(ctx: &mut Infer) -> Result<()> {
    let (inverse, half) = (ctx.attrs().bool_or("inverse", false)?, ctx.attrs().bool_or("onesided", false)?);
    let at = if ctx.has(2) { ctx.const_ints(2).and_then(|a| a.first().copied()) } else { Some(-2) };
    let dims = match ctx.dims(0) {
        Some(d) if d.len() < 2 => bail!(invalid, "a signal of shape {d:?}"),
        Some(d) => {
            let mut dims = d.to_vec();
            let last = d.len() - 1;
            match at {
                Some(a) => {
                    let at = axis(a, d.len())?;
                    let length = match ctx.contents(1).and_then(|c| c.elements.first().cloned()) {
                        Some(n) => n,
                        None if ctx.has(1) => ctx.fresh(),
                        None if inverse && half => (d[at].clone() - 1) * 2,
                        None => d[at].clone(),
                    };
                    dims[at] = if half && !inverse { length.floor_div(&Dim::Const(2)) + 1 } else { length };
                }
                None => (0..last).for_each(|i| dims[i] = ctx.fresh()),
            }
            dims[last] = Dim::Const(if inverse && half { 1 } else { 2 });
            Some(dims)
        }
        None => None,
    };
    ctx.set(0, ctx.dtype(0)?, dims);
    Ok(())
}

fn eval(ctx: &Eval) -> Result<Vec<Datum>> {
    let x = ctx.tensor(0)?;
    let (inverse, half) = (ctx.attrs().bool_or("inverse", false)?, ctx.attrs().bool_or("onesided", false)?);
    let one = |i: usize| -> Result<Option<i64>> { Ok(ctx.ints(i)?.and_then(|v| v.first().copied())) };
    let at = axis(one(2)?.unwrap_or(-2), x.rank())?;
    let parts = match x.shape().last() {
        Some(&p @ (1 | 2)) if at + 1 < x.rank() => p,
        _ => bail!(invalid, "a signal of shape {:?} along axis {at}", x.shape()),
    };
    let given = x.shape()[at];
    let default = if inverse && half { 2 * given.saturating_sub(1) } else { given };
    let n = match one(1)? {
        Some(n) => match usize::try_from(n) {
            Ok(n) if n > 0 => n,
            _ => bail!(invalid, "a transform of length {n}"),
        },
        None => default,
    };
    let kept = if half && !inverse { n / 2 + 1 } else { n };
    let width = if inverse && half { 1 } else { 2 };
    let signal = &x.shape()[..x.rank() - 1];
    let mut shape = signal.to_vec();
    shape[at] = kept;
    let to = Groups::new(&shape, &[at], true)?;
    let from = Groups::new(signal, &[at], true)?;
    shape.push(width);
    let mut out = vec![0.0; checked_len(&shape)?];
    let data = x.to_f64_vec()?;
    for (&start, &end) in from.starts.iter().zip(&to.starts) {
        let value = |i: usize| {
            let o = (start + from.steps[i]) * parts;
            (data[o], if parts == 2 { data[o + 1] } else { 0.0 })
        };
        let mut line: Vec<(f64, f64)> = (0..n).map(|i| if i < given { value(i) } else { (0.0, 0.0) }).collect();
        if inverse && half {
            // The other half mirrors the first; frequency 0 and the middle one are real.
            for i in 0..n {
                let k = i.min(n - i);
                let (re, im) = if k < given { value(k) } else { (0.0, 0.0) };
                let im = if i == 0 || 2 * i == n { 0.0 } else { im };
                line[i] = (re, if i <= n / 2 { im } else { -im });
            }
        }
        let narrow = || line.iter().map(|v| (v.0 as f32, v.1 as f32)).collect::<Vec<_>>();
        let single = if x.dtype() == DType::F32 && parts == 2 && !half { fft32::transform(&narrow(), inverse) } else { None };
        let result = match single {
            Some(list) => list.into_iter().map(|(re, im)| (re as f64, im as f64)).collect(),
            None => transform(&line, inverse),
        };
        for (&step, (re, im)) in to.steps.iter().zip(result) {
            let o = (end + step) * width;
            out[o] = re;
            if width == 2 {
                out[o + 1] = im;
            }
        }
    }
    Ok(vec![Tensor::from_f64(x.dtype(), &shape, &out)?.into()])
}
