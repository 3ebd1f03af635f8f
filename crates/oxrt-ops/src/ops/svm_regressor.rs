//! <https://onnx.ai/onnx/operators/onnx_aionnxml_SVMRegressor.html>

use crate::def::OpDef;
use crate::eval::{Datum, Eval};
use crate::infer::Infer;
use crate::ml::{Rows, post_transform};
use crate::svm::{Kernel, floats};
use oxrt_ir::Dim;
use oxrt_tensor::{DType, Result, Tensor, bail};

/// Σ coefficient · kernel(x, support vector) + rho, or its sign for `one_class`: [N, 1].
pub const OP: OpDef = OpDef::new("ai.onnx.ml.SVMRegressor", &[1], 1..=1, infer, eval).examples(&[
    (
        "(f32[1, 2] x) { y = ai.onnx.ml.SVMRegressor<n_supports=2, support_vectors=[1.0, 0.0, 0.0, 1.0], coefficients=[2.0, -1.0], rho=[0.5]>(x) } => y",
        &["x = 3 4"],
        "2.5",
    ),
    ("(f32[1, 2] x) { y = ai.onnx.ml.SVMRegressor<coefficients=[2.0, -1.0], rho=[0.5], one_class=1>(x) } => y", &["x = 1 4"], "-1"),
]);

fn infer(ctx: &mut Infer) -> Result<()> {
    let rows = match ctx.dims(0) {
        Some([r, _]) => r.clone(),
        Some([_]) => Dim::Const(1),
        _ => ctx.fresh(),
    };
    ctx.set(0, DType::F32, Some(vec![rows, Dim::Const(1)]));
    Ok(())
}

fn eval(ctx: &Eval) -> Result<Vec<Datum>> {
    let (x, attrs) = (Rows::of(ctx.tensor(0)?)?, ctx.attrs());
    let (coefficients, rho) = (floats(attrs, "coefficients")?, floats(attrs, "rho")?);
    let offset = rho.first().map_or(0.0, |&v| v as f64);
    let supports = usize::try_from(attrs.int_or("n_supports", 0)?).unwrap_or(0);
    let vectors = floats(attrs, "support_vectors")?;
    let kernel = if supports > 0 { Kernel::of(attrs)? } else { Kernel::linear() };
    let fits = if supports > 0 {
        coefficients.len() == supports && Some(vectors.len()) == supports.checked_mul(x.columns)
    } else {
        coefficients.len() == x.columns
    };
    if !fits {
        bail!(invalid, "{} coefficients and {} vector elements for {} columns", coefficients.len(), vectors.len(), x.columns);
    }
    let one_class = attrs.bool_or("one_class", false)?;
    let transform = post_transform(attrs.string_or("post_transform", "NONE")?)?;
    let mut out = Vec::with_capacity(x.rows);
    for i in 0..x.rows {
        let row = x.row(i);
        let sum = offset
            + if supports > 0 {
                let values = vectors.chunks(x.columns.max(1)).zip(coefficients);
                values.map(|(v, &c)| c as f64 * kernel.value(row, v)).sum::<f64>()
            } else {
                kernel.value(row, coefficients)
            };
        let mut score = [if !one_class { sum } else if sum > 0.0 { 1.0 } else { -1.0 }];
        transform(&mut score);
        out.push(score[0]);
    }
    Ok(vec![Tensor::from_f64(DType::F32, &[x.rows, 1], &out)?.into()])
}
