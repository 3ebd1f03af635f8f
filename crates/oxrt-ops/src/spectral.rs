//! Fourier transforms and window functions.

use crate::copy::checked_len;
use crate::eval::{Datum, Eval};
use crate::infer::Infer;
use oxrt_ir::Attrs;
use oxrt_tensor::{DType, Error, Result, Tensor, bail};
use std::f64::consts::TAU;

type Complex = (f64, f64);

/// The discrete Fourier transform, or with `inverse` its inverse (divided by the length).
pub fn transform(x: &[Complex], inverse: bool) -> Vec<Complex> {
    let n = x.len();
    let sign = if inverse { 1.0 } else { -1.0 };
    let roots: Vec<Complex> = (0..n)
        .map(|k| {
            let angle = sign * TAU * k as f64 / n as f64;
            (angle.cos(), angle.sin())
        })
        .collect();
    let mut out = recurse(x, &roots, 1);
    if inverse {
        out.iter_mut().for_each(|c| *c = (c.0 / n as f64, c.1 / n as f64));
    }
    out
}

/// Cooley and Tukey while the length is even, then the definition. `roots` are those of the whole
/// length, of which this part takes every `step`th.
fn recurse(x: &[Complex], roots: &[Complex], step: usize) -> Vec<Complex> {
    let n = x.len();
    let multiply = |a: Complex, b: Complex| (a.0 * b.0 - a.1 * b.1, a.0 * b.1 + a.1 * b.0);
    if n > 1 && n.is_multiple_of(2) {
        let part = |odd: usize| x.iter().skip(odd).step_by(2).copied().collect::<Vec<_>>();
        let (even, odd) = (recurse(&part(0), roots, 2 * step), recurse(&part(1), roots, 2 * step));
        let turned = |k: usize| multiply(odd[k], roots[k * step]);
        let low = (0..n / 2).map(|k| (even[k].0 + turned(k).0, even[k].1 + turned(k).1));
        let high = (0..n / 2).map(|k| (even[k].0 - turned(k).0, even[k].1 - turned(k).1));
        return low.chain(high).collect();
    }
    let term = |k: usize| {
        x.iter().enumerate().fold((0.0, 0.0), |sum: Complex, (i, &v)| {
            let p = multiply(v, roots[i * k % n * step]);
            (sum.0 + p.0, sum.1 + p.1)
        })
    };
    (0..n).map(term).collect()
}

/// The element type in `output_datatype`.
pub fn output_type(attrs: &Attrs) -> Result<DType> {
    let number = attrs.int_or("output_datatype", 1)?;
    let dtype = i32::try_from(number).ok().and_then(DType::from_onnx);
    dtype.ok_or_else(|| Error::invalid(format!("{number} is not an element type")))
}

/// Shape rule of the window functions, whose input is their length.
pub fn infer_window(ctx: &mut Infer) -> Result<()> {
    let length = ctx.contents(0).and_then(|c| c.elements.first().cloned()).unwrap_or_else(|| ctx.fresh());
    ctx.set(0, output_type(ctx.attrs())?, Some(vec![length]));
    Ok(())
}

/// a - b·cos(2πi/N) + c·cos(4πi/N), with N the length, or one less unless `periodic`.
pub fn eval_window(ctx: &Eval, [a, b, c]: [f64; 3]) -> Result<Vec<Datum>> {
    let length = ctx.ints(0)?.and_then(|l| l.first().copied()).unwrap_or(-1);
    let Ok(n) = usize::try_from(length) else { bail!(invalid, "a window of length {length}") };
    checked_len(&[n])?;
    let period = if ctx.attrs().bool_or("periodic", true)? { n } else { n.saturating_sub(1) };
    let value = |i: usize| {
        let angle = TAU * i as f64 / period.max(1) as f64;
        a - b * angle.cos() + c * (2.0 * angle).cos()
    };
    let values: Vec<f64> = (0..n).map(value).collect();
    Ok(vec![Tensor::from_f64(output_type(ctx.attrs())?, &[n], &values)?.into()])
}
