//! What normalises rows: a factor and what is added behind it, for each. Only builds for a device create it.
//!
//! x [..., K]. y [..., 2], in single precision: normalised, a row is `x · y[0] + y[1]`. `norm` is `layer`
//! ((x − mean) / √(variance + `epsilon`)) or `rms` (x / √(mean square + `epsilon`), nothing added).

use crate::def::OpDef;
use crate::eval::{Datum, Eval};
use crate::infer::Infer;
use crate::norm::moments;
use oxrt_ir::Dim;
use oxrt_tensor::{DType, Result, Tensor, bail};

pub const OP: OpDef = OpDef::new("oxrt.NormFactors", &[1], 1..=1, infer, eval).examples(&[
    ("(f32[2, 4] x) { m = oxrt.NormFactors<epsilon=0.0>(x) } => m", &["x = 3 3 1 1 -5 -5 5 5"], "1 -2 0.2 0"),
    ("(f32[1, 2] x) { m = oxrt.NormFactors<norm=\"rms\", epsilon=-9.0>(x) } => m", &["x = 3 5"], "0.35355338 0"),
]);

fn infer(ctx: &mut Infer) -> Result<()> {
    let dims = match ctx.dims(0) {
        Some([lead @ .., _]) => Some(lead.iter().cloned().chain([Dim::Const(2)]).collect()),
        Some([]) => bail!(invalid, "a scalar has no rows"),
        None => None,
    };
    ctx.set(0, DType::F32, dims);
    Ok(())
}

fn eval(ctx: &Eval) -> Result<Vec<Datum>> {
    let x = ctx.tensor(0)?;
    let [lead @ .., k] = x.shape() else { bail!(invalid, "a scalar has no rows") };
    let centred = match ctx.attrs().string_or("norm", "layer")? {
        "layer" => true,
        "rms" => false,
        other => bail!(invalid, "the norm `{other}`: layer and rms are known"),
    };
    let epsilon = ctx.attrs().float_or("epsilon", 1e-5)? as f64;
    let terms = |row: &[f64]| {
        let (mean, variance) = moments(row);
        let factor = 1.0 / (if centred { variance } else { variance + mean * mean } + epsilon).sqrt();
        [factor, if centred { -mean * factor } else { 0.0 }]
    };
    let all: Vec<f64> = x.to_f64_vec()?.chunks((*k).max(1)).flat_map(terms).collect();
    Ok(vec![Tensor::from_f64(DType::F32, &[lead, &[2]].concat(), &all)?.into()])
}
