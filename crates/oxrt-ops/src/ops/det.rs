//! <https://onnx.ai/onnx/operators/onnx__Det.html>

use crate::def::OpDef;
use crate::eval::{Datum, Eval};
use crate::infer::Infer;
use oxrt_tensor::{Result, Tensor, bail};

/// Determinants of the matrices in the last two axes.
pub const OP: OpDef = OpDef::new("Det", &[11, 22], 1..=1, infer, eval)
    .examples(&[("(f32[2, 2, 2] x) { y = Det(x) } => y", &["x = 1 2 3 4 0 1 1 0"], "-2 -1")]);

fn infer(ctx: &mut Infer) -> Result<()> {
    let dims = match ctx.dims(0) {
        Some(d) if d.len() < 2 => bail!(invalid, "{d:?} holds no matrix"),
        Some(d) => Some(d[..d.len() - 2].to_vec()),
        None => None,
    };
    ctx.set(0, ctx.dtype(0)?, dims);
    Ok(())
}

fn eval(ctx: &Eval) -> Result<Vec<Datum>> {
    let x = ctx.tensor(0)?;
    let [outer @ .., rows, n] = x.shape() else { bail!(invalid, "{:?} holds no matrix", x.shape()) };
    if rows != n {
        bail!(invalid, "matrices of {rows} by {n} have no determinant");
    }
    let data = x.to_f64_vec()?;
    let count: usize = outer.iter().product();
    let dets: Vec<f64> = (0..count).map(|i| det(&mut data[i * n * n..(i + 1) * n * n].to_vec(), *n)).collect();
    Ok(vec![Tensor::from_f64(x.dtype(), outer, &dets)?.into()])
}

/// By elimination with the greatest pivot of each column.
fn det(m: &mut [f64], n: usize) -> f64 {
    let mut result = 1.0;
    for k in 0..n {
        let pivot = (k..n).max_by(|&a, &b| m[a * n + k].abs().total_cmp(&m[b * n + k].abs())).unwrap_or(k);
        if m[pivot * n + k] == 0.0 {
            return 0.0;
        }
        if pivot != k {
            (0..n).for_each(|j| m.swap(k * n + j, pivot * n + j));
            result = -result;
        }
        result *= m[k * n + k];
        for row in k + 1..n {
            let factor = m[row * n + k] / m[k * n + k];
            (k..n).for_each(|j| m[row * n + j] -= factor * m[k * n + j]);
        }
    }
    result
}
