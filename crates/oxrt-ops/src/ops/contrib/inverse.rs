//! <https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md#com.microsoft.Inverse>

use crate::def::OpDef;
use crate::eval::{Datum, Eval};
use crate::shape::same_as_input;
use oxrt_tensor::{Result, Tensor, bail};

/// The inverse of each matrix [..., n, n], by elimination with the largest pivot.
pub const OP: OpDef = OpDef::new("com.microsoft.Inverse", &[1], 1..=1, same_as_input, eval).examples(&[(
    "(f32[2, 2] x) { y = com.microsoft.Inverse(x) } => y",
    &["x = 0 2 4 1"],
    "-0.125 0.25 0.5 0",
)]);

fn eval(ctx: &Eval) -> Result<Vec<Datum>> {
    let x = ctx.tensor(0)?;
    let n = match *x.shape() {
        [.., r, c] if r == c => r,
        _ => bail!(invalid, "the inverse of {:?}, which is not square", x.shape()),
    };
    let mut data = x.to_f64_vec()?;
    for matrix in data.chunks_mut((n * n).max(1)) {
        invert(matrix, n)?;
    }
    Ok(vec![Tensor::from_f64(x.dtype(), x.shape(), &data)?.into()])
}

/// Gauss and Jordan, in place beside the identity.
fn invert(matrix: &mut [f64], n: usize) -> Result<()> {
    let mut a = matrix.to_vec();
    matrix.fill(0.0);
    (0..n).for_each(|i| matrix[i * n + i] = 1.0);
    for c in 0..n {
        let best = (c..n).max_by(|&i, &j| a[i * n + c].abs().total_cmp(&a[j * n + c].abs())).unwrap_or(c);
        if a[best * n + c] == 0.0 {
            bail!(invalid, "a singular matrix has no inverse");
        }
        for k in 0..n {
            a.swap(c * n + k, best * n + k);
            matrix.swap(c * n + k, best * n + k);
        }
        let pivot = a[c * n + c];
        for k in 0..n {
            a[c * n + k] /= pivot;
            matrix[c * n + k] /= pivot;
        }
        for r in (0..n).filter(|&r| r != c) {
            let factor = a[r * n + c];
            for k in 0..n {
                a[r * n + k] -= factor * a[c * n + k];
                matrix[r * n + k] -= factor * matrix[c * n + k];
            }
        }
    }
    Ok(())
}
