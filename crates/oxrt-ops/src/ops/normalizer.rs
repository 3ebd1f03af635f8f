//! <https://onnx.ai/onnx/operators/onnx_aionnxml_Normalizer.html>

use crate::def::OpDef;
use crate::eval::{Datum, Eval};
use crate::ml::{Rows, infer_rows};
use oxrt_tensor::{DType, Result, Tensor, bail};

/// Divides each row by its greatest element, or its L1 or L2 norm.
pub const OP: OpDef = OpDef::new("ai.onnx.ml.Normalizer", &[1], 1..=1, infer_rows, eval).examples(&[(
    "(f32[1, 2] x) { y = ai.onnx.ml.Normalizer<norm=\"L2\">(x) } => y",
    &["x = 3 4"],
    "0.6 0.8",
)]);

fn eval(ctx: &Eval) -> Result<Vec<Datum>> {
    let mut x = Rows::of(ctx.tensor(0)?)?;
    let norm: fn(&[f64]) -> f64 = match ctx.attrs().string_or("norm", "MAX")? {
        "MAX" => |r| r.iter().copied().fold(f64::NEG_INFINITY, f64::max),
        "L1" => |r| r.iter().map(|v| v.abs()).sum(),
        "L2" => |r| r.iter().map(|v| v * v).sum::<f64>().sqrt(),
        other => bail!(invalid, "the norm `{other}` is unknown"),
    };
    for row in x.data.chunks_mut(x.columns.max(1)) {
        let n = norm(row);
        if n != 0.0 {
            row.iter_mut().for_each(|v| *v /= n);
        }
    }
    Ok(vec![Tensor::from_f64(DType::F32, ctx.tensor(0)?.shape(), &x.data)?.into()])
}
