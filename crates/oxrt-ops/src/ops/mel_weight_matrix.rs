//! <https://onnx.ai/onnx/operators/onnx__MelWeightMatrix.html>

use crate::copy::checked_len;
use crate::def::OpDef;
use crate::eval::{Datum, Eval};
use crate::infer::Infer;
use crate::spectral::output_type;
use oxrt_ir::Dim;
use oxrt_tensor::{Error, Result, Tensor, bail};

/// Weights of mel bands over the bins of a spectrum: [DFT length / 2 + 1, bands].
pub const OP: OpDef = OpDef::new("MelWeightMatrix", &[17], 5..=5, infer, eval).examples(&[(
    "(i64 b) { y = MelWeightMatrix(b, i64{4}, i64{8}, 0.0, 4.0) } => y",
    &["b = 1"],
    "1 0 0",
)]);

fn infer(ctx: &mut Infer) -> Result<()> {
    let one = |i: usize| ctx.contents(i).and_then(|c| c.elements.first().cloned());
    let bands = one(0).unwrap_or_else(|| ctx.fresh());
    let bins = ctx.contents(1).and_then(|c| c.elements.first().cloned());
    let bins = bins.map_or_else(|| ctx.fresh(), |n| n.floor_div(&Dim::Const(2)) + 1);
    ctx.set(0, output_type(ctx.attrs())?, Some(vec![bins, bands]));
    Ok(())
}

fn eval(ctx: &Eval) -> Result<Vec<Datum>> {
    let one = |i: usize| -> Result<f64> {
        let v = ctx.tensor(i)?.to_f64_vec()?;
        v.first().copied().ok_or_else(|| Error::invalid(format!("input {i} is empty")))
    };
    let (bands, length, rate, low, high) = (one(0)?, one(1)?, one(2)?, one(3)?, one(4)?);
    if bands < 0.0 || length < 0.0 || rate <= 0.0 {
        bail!(invalid, "{bands} bands of {length} samples at a rate of {rate}");
    }
    let (bands, bins) = (bands as usize, length as usize / 2 + 1);
    let mut out = vec![0.0; checked_len(&[bins, bands])?];
    let mel = |hertz: f64| 2595.0 * (hertz / 700.0).ln_1p() / 10f64.ln();
    let step = (mel(high) - mel(low)) / (bands + 2) as f64;
    let bin = |i: usize| {
        let hertz = 700.0 * ((i as f64 * step + mel(low)) / 2595.0 * 10f64.ln()).exp_m1();
        ((length + 1.0) * hertz / rate).floor()
    };
    for i in 0..bands {
        let (lower, centre, upper) = (bin(i), bin(i + 1), bin(i + 2));
        for j in 0..bins {
            let f = j as f64;
            let weight = &mut out[j * bands + i];
            if lower == centre && f == centre {
                *weight = 1.0;
            } else if lower < centre && (lower..=centre).contains(&f) {
                *weight = (f - lower) / (centre - lower);
            }
            if centre < upper && (centre..upper).contains(&f) {
                *weight = (upper - f) / (upper - centre);
            }
        }
    }
    Ok(vec![Tensor::from_f64(output_type(ctx.attrs())?, &[bins, bands], &out)?.into()])
}
