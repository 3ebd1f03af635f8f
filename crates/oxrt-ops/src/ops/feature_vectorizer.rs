//! <https://onnx.ai/onnx/operators/onnx_aionnxml_FeatureVectorizer.html>

use crate::copy::concat;
use crate::def::OpDef;
use crate::eval::{Datum, Eval};
use crate::infer::Infer;
use crate::ml::Rows;
use oxrt_ir::Dim;
use oxrt_tensor::{DType, Result, Tensor};

/// Columns of all inputs side by side; vectors are one row.
pub const OP: OpDef = OpDef::new("ai.onnx.ml.FeatureVectorizer", &[1], 1..=usize::MAX, infer, eval).examples(&[(
    "(f32[1, 2] a, i64[1, 1] b) { y = ai.onnx.ml.FeatureVectorizer<inputdimensions=[2, 1]>(a, b) } => y",
    &["a = 1 2", "b = 3"],
    "1 2 3",
)]);

fn infer(ctx: &mut Infer) -> Result<()> {
    let mut rows = Dim::Const(1);
    let mut columns = Dim::Const(0);
    for i in 0..ctx.num_inputs() {
        columns = columns
            + match ctx.dims(i) {
                Some([c]) => c.clone(),
                Some([r, c]) => {
                    rows = r.clone();
                    c.clone()
                }
                _ => ctx.fresh(),
            };
    }
    ctx.set(0, DType::F32, Some(vec![rows, columns]));
    Ok(())
}

fn eval(ctx: &Eval) -> Result<Vec<Datum>> {
    let parts: Vec<Tensor> = (0..ctx.inputs.len())
        .map(|i| {
            let x = Rows::of(ctx.tensor(i)?)?;
            Tensor::from_f64(DType::F32, &[x.rows, x.columns], &x.data)
        })
        .collect::<Result<_>>()?;
    Ok(vec![concat(&parts.iter().collect::<Vec<_>>(), 1)?.into()])
}
