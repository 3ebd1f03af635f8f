//! What the operators of `ai.onnx.ml` share: rows of features, class labels, transforms of scores.

use crate::infer::Infer;
use oxrt_ir::{Attrs, Dim};
use oxrt_tensor::{DType, Result, Tensor, bail};

/// A matrix of features; a vector is one row.
pub struct Rows {
    pub rows: usize,
    pub columns: usize,
    pub data: Vec<f64>,
}

impl Rows {
    pub fn of(x: &Tensor) -> Result<Rows> {
        let (rows, columns) = match *x.shape() {
            [c] => (1, c),
            [r, c] => (r, c),
            _ => bail!(invalid, "features of shape {:?}", x.shape()),
        };
        Ok(Rows { rows, columns, data: x.to_f64_vec()? })
    }

    pub fn row(&self, i: usize) -> &[f64] {
        &self.data[i * self.columns..(i + 1) * self.columns]
    }
}

/// The input's shape, in f32.
pub fn infer_rows(ctx: &mut Infer) -> Result<()> {
    ctx.set(0, DType::F32, ctx.ty(0)?.dims.clone());
    Ok(())
}

/// Labels [N] and scores [N, classes].
pub fn infer_classes(ctx: &mut Infer) -> Result<()> {
    let labels = Labels::of(ctx.attrs())?;
    let rows = match ctx.dims(0) {
        Some([r, _]) => r.clone(),
        Some([_]) => Dim::Const(1),
        _ => ctx.fresh(),
    };
    ctx.set(0, labels.0.dtype(), Some(vec![rows.clone()]));
    ctx.set(1, DType::F32, Some(vec![rows, Dim::from(labels.len())]));
    Ok(())
}

/// A list of floats with one element for all columns or one each.
pub fn per_column(attrs: &Attrs, name: &str, columns: usize, default: f64) -> Result<Vec<f64>> {
    match attrs.get_floats(name)?.map(Vec::as_slice) {
        None => Ok(vec![default; columns]),
        Some([v]) => Ok(vec![*v as f64; columns]),
        Some(list) if list.len() == columns => Ok(list.iter().map(|&v| v as f64).collect()),
        Some(list) => bail!(invalid, "`{name}` has {} elements for {columns} columns", list.len()),
    }
}

/// x · coefficients + intercepts: [rows, targets].
pub fn linear(x: &Rows, attrs: &Attrs, targets: usize) -> Result<Vec<f64>> {
    let coefficients = attrs.get_floats("coefficients")?.cloned().unwrap_or_default();
    let intercepts = attrs.get_floats("intercepts")?.cloned().unwrap_or_default();
    if Some(coefficients.len()) != targets.checked_mul(x.columns) {
        bail!(invalid, "{} coefficients for {targets} targets of {} columns", coefficients.len(), x.columns);
    }
    if !intercepts.is_empty() && intercepts.len() != targets {
        bail!(invalid, "{} intercepts for {targets} targets", intercepts.len());
    }
    let mut out = Vec::with_capacity(x.rows * targets);
    for i in 0..x.rows {
        for t in 0..targets {
            let weights = &coefficients[t * x.columns..(t + 1) * x.columns];
            let sum: f64 = x.row(i).iter().zip(weights).map(|(a, &b)| a * b as f64).sum();
            out.push(sum + intercepts.get(t).map_or(0.0, |&v| v as f64));
        }
    }
    Ok(out)
}

/// Place of the greatest score.
pub fn greatest(scores: &[f64]) -> usize {
    (1..scores.len()).fold(0, |best, i| if scores[i] > scores[best] { i } else { best })
}

/// Names or numbers of classes.
pub struct Labels(Tensor);

impl Labels {
    pub fn of(attrs: &Attrs) -> Result<Labels> {
        for name in ["classlabels_int64s", "classlabels_ints"] {
            if let Some(list) = attrs.ints(name)?.filter(|l| !l.is_empty()) {
                return Ok(Labels(Tensor::from_slice(&[list.len()], list)));
            }
        }
        match attrs.get_strings("classlabels_strings")? {
            Some(list) => Ok(Labels(Tensor::from_strings(&[list.len()], list.clone())?)),
            None => bail!(invalid, "the class labels are missing"),
        }
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn dtype(&self) -> DType {
        self.0.dtype()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The labels at these places.
    pub fn pick(&self, places: &[usize]) -> Result<Tensor> {
        if self.is_empty() {
            bail!(invalid, "there are no class labels");
        }
        crate::copy::select(&self.0, &[places.len()], places.iter().copied())
    }
}

/// Scores of two classes from the one score of the second, as onnxruntime gives them: logistic ones are those of ±s,
/// others add up to 1, or to 0 when `mixed` (weights of both signs).
pub fn both_classes(s: f64, transform: &str, mixed: bool) -> [f64; 2] {
    let logistic = |v: f64| 1.0 / (1.0 + (-v).exp());
    match transform {
        "LOGISTIC" => [logistic(-s), logistic(s)],
        _ if mixed => [-s, s],
        _ => [1.0 - s, s],
    }
}

/// A change of the scores of one row.
pub fn post_transform(name: &str) -> Result<fn(&mut [f64])> {
    Ok(match name {
        "NONE" => |_| {},
        "LOGISTIC" => |row| row.iter_mut().for_each(|v| *v = 1.0 / (1.0 + (-*v).exp())),
        "SOFTMAX" => |row| softmax(row, false),
        "SOFTMAX_ZERO" => |row| softmax(row, true),
        "PROBIT" => |row| row.iter_mut().for_each(|v| *v = std::f64::consts::SQRT_2 * inverse_erf(2.0 * *v - 1.0)),
        other => bail!(invalid, "the transform `{other}` is unknown"),
    })
}

/// With `keep_zero`, scores of zero stay what they are.
fn softmax(row: &mut [f64], keep_zero: bool) {
    let top = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let counts = |v: f64| !keep_zero || v != 0.0;
    let sum: f64 = row.iter().filter(|&&v| counts(v)).map(|v| (v - top).exp()).sum();
    row.iter_mut().filter(|v| counts(**v)).for_each(|v| *v = (*v - top).exp() / sum);
}

/// Winitzki's formula, then two steps of Newton's method.
fn inverse_erf(x: f64) -> f64 {
    let log = (1.0 - x * x).ln();
    let a = 2.0 / (std::f64::consts::PI * 0.147) + log / 2.0;
    let mut y = ((a * a - log / 0.147).sqrt() - a).sqrt().copysign(x);
    for _ in 0..2 {
        y -= (crate::scalar::erf(y) - x) / (std::f64::consts::FRAC_2_SQRT_PI * (-y * y).exp());
    }
    y
}
