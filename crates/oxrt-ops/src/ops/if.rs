//! <https://onnx.ai/onnx/operators/onnx__If.html>

use crate::def::OpDef;
use crate::eval::{Datum, Eval};
use crate::infer::Infer;
use oxrt_ir::{Attrs, Graph};
use oxrt_tensor::{Error, Result, bail};

/// Runs one of two graphs, both without inputs: `then_branch` or `else_branch`.
pub const OP: OpDef = OpDef::new("If", &[1, 11, 13, 16, 19, 21, 23, 24, 25], 1..=1, infer, eval).examples(&[(
    "(bool c) { y = If<then_branch={() { } => f32[1]{1}}, else_branch={() { } => f32[1]{2}}>(c) } => y",
    &["c = 0"],
    "2",
)]);

fn branch<'a>(attrs: &'a Attrs, name: &str) -> Result<&'a Graph> {
    attrs.get_graph(name)?.ok_or_else(|| Error::invalid(format!("the attribute `{name}` is missing")))
}

fn infer(ctx: &mut Infer) -> Result<()> {
    let (yes, no) = (branch(ctx.attrs(), "then_branch")?, branch(ctx.attrs(), "else_branch")?);
    let n = ctx.num_outputs();
    if yes.outputs.len() < n || no.outputs.len() < n {
        bail!(invalid, "{n} outputs of branches with {} and {}", yes.outputs.len(), no.outputs.len());
    }
    // A known condition needs one branch only.
    let known = ctx.const_ints(0).and_then(|c| c.first().map(|&c| c != 0));
    for i in 0..n {
        let (a, b) = (&yes[yes.outputs[i]], &no[no.outputs[i]]);
        let ty = match known {
            Some(true) => a.ty.clone(),
            Some(false) => b.ty.clone(),
            None => ctx.join(&a.ty, &b.ty),
        };
        ctx.set_type(i, ty);
        let contents = match known {
            Some(true) => &a.contents,
            Some(false) => &b.contents,
            None if a.contents == b.contents => &a.contents,
            None => &None,
        };
        if let Some(c) = contents {
            ctx.set_contents(i, c.clone());
        }
    }
    Ok(())
}

fn eval(ctx: &Eval) -> Result<Vec<Datum>> {
    let cond = ctx.ints(0)?.and_then(|c| c.first().copied()).ok_or_else(|| Error::invalid("no condition"))?;
    let name = if cond != 0 { "then_branch" } else { "else_branch" };
    ctx.run_subgraph(branch(ctx.attrs(), name)?, vec![])
}
