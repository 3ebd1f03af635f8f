//! <https://onnx.ai/onnx/operators/onnx_aionnxml_TreeEnsemble.html>

use crate::def::OpDef;
use crate::eval::{Datum, Eval};
use crate::infer::Infer;
use crate::ml::{Rows, post_transform};
use crate::trees::{Forest, modern};
use oxrt_ir::Dim;
use oxrt_tensor::{Result, Tensor, bail};

/// Sums (or means, least, greatest) of the leaves that each row reaches, per target.
pub const OP: OpDef = OpDef::new("ai.onnx.ml.TreeEnsemble", &[5], 1..=1, infer, eval).examples(&[(
    "(f32[2, 1] x) { y = ai.onnx.ml.TreeEnsemble<n_targets=1, tree_roots=[0], nodes_featureids=[0], nodes_modes=u8[1]{0},
        nodes_splits=f32[1]{1.5}, nodes_truenodeids=[0], nodes_trueleafs=[1], nodes_falsenodeids=[1], nodes_falseleafs=[1],
        leaf_targetids=[0, 0], leaf_weights=f32[2]{10, 20}>(x) } => y",
    &["x = 1 2"],
    "10 20",
)]);

fn infer(ctx: &mut Infer) -> Result<()> {
    let rows = ctx.dims(0).and_then(|d| d.first().cloned()).unwrap_or_else(|| ctx.fresh());
    let targets = Dim::Const(ctx.attrs().int_or("n_targets", 1)?);
    ctx.set(0, ctx.dtype(0)?, Some(vec![rows, targets]));
    Ok(())
}

fn eval(ctx: &Eval) -> Result<Vec<Datum>> {
    let x = Rows::of(ctx.tensor(0)?)?;
    let forest: Forest = modern(ctx.attrs())?;
    let combine = match ctx.attrs().int_or("aggregate_function", 1)? {
        0 => "AVERAGE",
        1 => "SUM",
        2 => "MIN",
        3 => "MAX",
        other => bail!(invalid, "aggregate_function {other}"),
    };
    let names = ["NONE", "SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO", "PROBIT"];
    let Some(name) = usize::try_from(ctx.attrs().int_or("post_transform", 0)?).ok().and_then(|i| names.get(i)) else {
        bail!(invalid, "an unknown post_transform");
    };
    let transform = post_transform(name)?;
    let mut scores = forest.scores(&x, combine, &[])?;
    scores.chunks_mut(forest.targets.max(1)).for_each(transform);
    Ok(vec![Tensor::from_f64(ctx.dtype(0)?, &[x.rows, forest.targets], &scores)?.into()])
}
