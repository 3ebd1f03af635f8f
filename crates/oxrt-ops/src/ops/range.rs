//! <https://onnx.ai/onnx/operators/onnx__Range.html>

use crate::copy::checked_len;
use crate::def::OpDef;
use crate::eval::{Datum, Eval};
use crate::infer::Infer;
use oxrt_ir::{Contents, Dim};
use oxrt_tensor::{Result, Tensor, bail};

/// start, start + delta … below limit.
pub const OP: OpDef = OpDef::new("Range", &[11, 27], 3..=3, infer, eval).examples(&[
    ("(i64 a, i64 b, i64 d) { y = Range(a, b, d) } => y", &["a = 3", "b = 9", "d = 3"], "3 6"),
    ("(f32 a, f32 b, f32 d) { y = Range(a, b, d) } => y", &["a = 10", "b = 4", "d = -2"], "10 8 6"),
]);

fn infer(ctx: &mut Infer) -> Result<()> {
    let dtype = ctx.dtype(0)?;
    let one = |i: usize| ctx.whole(i).and_then(|c| c.elements.first().cloned());
    let (Some(start), Some(limit), Some(delta)) = (one(0), one(1), one(2)) else {
        let n = ctx.fresh();
        ctx.set(0, dtype, Some(vec![n]));
        return Ok(());
    };
    if delta.is(0) {
        bail!(invalid, "the step is 0");
    }
    let Some(step) = delta.as_const() else {
        let n = ctx.fresh();
        ctx.set(0, dtype, Some(vec![n]));
        return Ok(());
    };
    let mut count = match step {
        s if s > 0 => (limit - start.clone()).ceil_div(&Dim::Const(s)),
        s => (start.clone() - limit).ceil_div(&Dim::Const(s.saturating_neg())),
    };
    if ctx.bounds(&count).0 < 0 {
        count = count.at_least(&Dim::Const(0));
    }
    let n = count.as_size();
    ctx.set(0, dtype, Some(vec![count]));
    if let Some(n) = n.filter(|&n| n <= 64) {
        let elements = (0..n).map(|i| start.clone() + Dim::Const(step.saturating_mul(i as i64))).collect();
        ctx.set_contents(0, Contents::vector(elements));
    }
    Ok(())
}

fn eval(ctx: &Eval) -> Result<Vec<Datum>> {
    let dtype = ctx.dtype(0)?;
    if dtype.is_int() {
        let one = |i: usize| -> Result<i128> {
            match ctx.tensor(i)?.to_i64_vec()?[..] {
                [x] => Ok(x as i128),
                _ => bail!(invalid, "input {i} should be one number"),
            }
        };
        let (start, limit, delta) = (one(0)?, one(1)?, one(2)?);
        if delta == 0 {
            bail!(invalid, "the step is 0");
        }
        let span = limit - start;
        let count = if (span > 0) == (delta > 0) { (span.abs() + delta.abs() - 1) / delta.abs() } else { 0 };
        let n = checked_len(&[usize::try_from(count).unwrap_or(usize::MAX)])?;
        let values: Vec<i64> = (0..n).map(|i| (start + i as i128 * delta) as i64).collect();
        return Ok(vec![Tensor::from_i64(dtype, &[n], &values)?.into()]);
    }
    let one = |i: usize| -> Result<f64> {
        match ctx.tensor(i)?.to_f64_vec()?[..] {
            [x] => Ok(x),
            _ => bail!(invalid, "input {i} should be one number"),
        }
    };
    let (start, limit, delta) = (one(0)?, one(1)?, one(2)?);
    let count = ((limit - start) / delta).ceil().max(0.0);
    if !count.is_finite() {
        bail!(invalid, "the range from {start} to {limit} by {delta} has no end");
    }
    let n = checked_len(&[count as usize])?;
    let values: Vec<f64> = (0..n).map(|i| start + i as f64 * delta).collect();
    Ok(vec![Tensor::from_f64(dtype, &[n], &values)?.into()])
}
