//! <https://onnx.ai/onnx/operators/onnx_aionnxml_TreeEnsembleRegressor.html>

use crate::def::OpDef;
use crate::eval::{Datum, Eval};
use crate::infer::Infer;
use crate::ml::{Rows, post_transform};
use crate::trees::{base_values, classic};
use oxrt_ir::Dim;
use oxrt_tensor::{DType, Error, Result, Tensor};

pub const OP: OpDef = OpDef::new("ai.onnx.ml.TreeEnsembleRegressor", &[1, 3, 5], 1..=1, infer, eval).examples(&[(
    "(f32[2, 1] x) { y = ai.onnx.ml.TreeEnsembleRegressor<n_targets=1, nodes_treeids=[0, 0, 0], nodes_nodeids=[0, 1, 2],
        nodes_featureids=[0, 0, 0], nodes_modes=[\"BRANCH_LEQ\", \"LEAF\", \"LEAF\"], nodes_values=[1.5, 0.0, 0.0],
        nodes_truenodeids=[1, 0, 0], nodes_falsenodeids=[2, 0, 0], target_treeids=[0, 0], target_nodeids=[1, 2],
        target_ids=[0, 0], target_weights=[10.0, 20.5]>(x) } => y",
    &["x = 1 2"],
    "10 20.5",
)]);

fn infer(ctx: &mut Infer) -> Result<()> {
    let rows = ctx.dims(0).and_then(|d| d.first().cloned()).unwrap_or_else(|| ctx.fresh());
    let targets = Dim::Const(ctx.attrs().int_or("n_targets", 1)?);
    ctx.set(0, DType::F32, Some(vec![rows, targets]));
    Ok(())
}

fn eval(ctx: &Eval) -> Result<Vec<Datum>> {
    let (x, attrs) = (Rows::of(ctx.tensor(0)?)?, ctx.attrs());
    let targets = attrs.int_or("n_targets", 1)?;
    let targets = usize::try_from(targets).map_err(|_| Error::invalid(format!("{targets} targets")))?;
    let forest = classic(attrs, "target", targets)?;
    let mut scores = forest.scores(&x, attrs.string_or("aggregate_function", "SUM")?, &base_values(attrs)?)?;
    let transform = post_transform(attrs.string_or("post_transform", "NONE")?)?;
    scores.chunks_mut(targets.max(1)).for_each(transform);
    Ok(vec![Tensor::from_f64(DType::F32, &[x.rows, targets], &scores)?.into()])
}
