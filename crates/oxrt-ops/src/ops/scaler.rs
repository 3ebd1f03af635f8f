//! <https://onnx.ai/onnx/operators/onnx_aionnxml_Scaler.html>

use crate::def::OpDef;
use crate::eval::{Datum, Eval};
use crate::ml::{Rows, infer_rows, per_column};
use oxrt_tensor::{DType, Result, Tensor};

/// (x - offset) · scale, per column.
pub const OP: OpDef = OpDef::new("ai.onnx.ml.Scaler", &[1], 1..=1, infer_rows, eval).examples(&[(
    "(f32[1, 2] x) { y = ai.onnx.ml.Scaler<offset=[1.0, 0.5], scale=[2.0, 0.5]>(x) } => y",
    &["x = 3 1"],
    "4 0.25",
)]);

fn eval(ctx: &Eval) -> Result<Vec<Datum>> {
    let mut x = Rows::of(ctx.tensor(0)?)?;
    let offset = per_column(ctx.attrs(), "offset", x.columns, 0.0)?;
    let scale = per_column(ctx.attrs(), "scale", x.columns, 1.0)?;
    let n = x.columns.max(1);
    x.data.iter_mut().enumerate().for_each(|(i, v)| *v = (*v - offset[i % n]) * scale[i % n]);
    Ok(vec![Tensor::from_f64(DType::F32, ctx.tensor(0)?.shape(), &x.data)?.into()])
}
