//! <https://onnx.ai/onnx/operators/onnx_aionnxml_TreeEnsembleClassifier.html>

use crate::def::OpDef;
use crate::eval::{Datum, Eval};
use crate::ml::{both_classes, Labels, Rows, greatest, infer_classes, post_transform};
use crate::trees::{base_values, classic};
use oxrt_tensor::{DType, Result, Tensor};

/// The class with most votes of the leaves that each row reaches, and the votes.
pub const OP: OpDef = OpDef::new("ai.onnx.ml.TreeEnsembleClassifier", &[1, 3, 5], 1..=1, infer_classes, eval).examples(&[(
    "(f32[2, 1] x) { y, s = ai.onnx.ml.TreeEnsembleClassifier<classlabels_int64s=[3, 5], nodes_treeids=[0, 0, 0],
        nodes_nodeids=[0, 1, 2], nodes_featureids=[0, 0, 0], nodes_modes=[\"BRANCH_LEQ\", \"LEAF\", \"LEAF\"],
        nodes_values=[1.5, 0.0, 0.0], nodes_truenodeids=[1, 0, 0], nodes_falsenodeids=[2, 0, 0], class_treeids=[0, 0],
        class_nodeids=[1, 2], class_ids=[0, 0], class_weights=[0.25, 0.75]>(x) } => s",
    &["x = 1 2"],
    "0.75 0.25 0.25 0.75",
)]);

fn eval(ctx: &Eval) -> Result<Vec<Datum>> {
    let (x, attrs) = (Rows::of(ctx.tensor(0)?)?, ctx.attrs());
    let labels = Labels::of(attrs)?;
    let n = labels.len().max(1);
    let forest = classic(attrs, "class", n)?;
    let mut scores = forest.scores(&x, "SUM", &base_values(attrs)?)?;
    let name = attrs.string_or("post_transform", "NONE")?;
    let transform = post_transform(name)?;
    // Votes for one of two classes are those for the second; the first gets the rest.
    if n == 2 && forest.votes_for_one() {
        let probabilities = forest.all_positive();
        let mut best = Vec::new();
        for row in scores.chunks_mut(2) {
            let s = row[0] + row[1];
            best.push((if probabilities { s > 0.5 } else { s > 0.0 }) as usize);
            row.copy_from_slice(&both_classes(s, name, !probabilities));
            if name == "PROBIT" {
                transform(row);
            }
        }
        return Ok(vec![labels.pick(&best)?.into(), Tensor::from_f64(DType::F32, &[x.rows, 2], &scores)?.into()]);
    }
    let best: Vec<usize> = scores.chunks(n).map(greatest).collect();
    scores.chunks_mut(n).for_each(transform);
    Ok(vec![labels.pick(&best)?.into(), Tensor::from_f64(DType::F32, &[x.rows, n], &scores)?.into()])
}
