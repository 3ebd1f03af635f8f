//! <https://onnx.ai/onnx/operators/onnx_aionnxml_LinearClassifier.html>

use crate::def::OpDef;
use crate::eval::{Datum, Eval};
use crate::ml::{both_classes, Labels, Rows, infer_classes, linear, post_transform};
use oxrt_tensor::{DType, Result, Tensor};

/// The class of the greatest x · coefficients + intercept, and all of them.
pub const OP: OpDef = OpDef::new("ai.onnx.ml.LinearClassifier", &[1], 1..=1, infer_classes, eval).examples(&[(
    "(f32[1, 2] x) { y, s = ai.onnx.ml.LinearClassifier<classlabels_ints=[3, 5], coefficients=[1.0, 0.0, 0.0, 1.5]>(x) } => y",
    &["x = 3 4"],
    "5",
)]);

fn eval(ctx: &Eval) -> Result<Vec<Datum>> {
    let x = Rows::of(ctx.tensor(0)?)?;
    let labels = Labels::of(ctx.attrs())?;
    let given = ctx.attrs().get_floats("coefficients")?.map_or(0, |c| c.len() / x.columns.max(1));
    let mut scores = linear(&x, ctx.attrs(), given)?;
    let n = labels.len().max(1);
    let name = ctx.attrs().string_or("post_transform", "NONE")?;
    let transform = post_transform(name)?;
    let best: Vec<usize>;
    if given == 1 && n == 2 {
        // One row of coefficients for two classes speaks of the second.
        best = scores.iter().map(|&s| (s > 0.0) as usize).collect();
        scores = scores.into_iter().flat_map(|s| both_classes(s, name, false)).collect();
        if name == "PROBIT" {
            scores.chunks_mut(n).for_each(transform);
        }
    } else {
        best = scores.chunks(n).map(crate::ml::greatest).collect();
        scores.chunks_mut(n).for_each(transform);
    }
    let rows = scores.len() / n;
    Ok(vec![labels.pick(&best)?.into(), Tensor::from_f64(DType::F32, &[rows, n], &scores)?.into()])
}
