//! An activation behind a fused operator happens in its registers.

use crate::driver::{Rewrite, Rule};
use crate::query::{only_user, scalar};
use oxrt_ir::{Attrs, Graph, NodeId};
use oxrt_tensor::{DType, Result};

pub(crate) const RULE: Rule = Rule {
    name: "fuse-activation",
    ops: &["Relu", "Clip", "LeakyRelu", "Sigmoid", "Swish", "HardSigmoid", "HardSwish", "Gelu", "Tanh"],
    apply,
};

fn apply(rw: &mut Rewrite, id: NodeId) -> Result<bool> {
    let g = &mut rw.model.graph;
    let (Some(x), Some(y)) = (g[id].input(0), g[id].output(0)) else { return Ok(false) };
    let Some((target, 0)) = g[x].producer() else { return Ok(false) };
    // Of products of quantised operands those of floats; a rounding takes the limits of an activation in with the others.
    let floats = matches!(&*g[target].op, "oxrt.QGemm" | "oxrt.QConv")
        && g[target].input(0).and_then(|x| g[x].ty.dtype()).is_some_and(DType::is_float)
        && g[x].ty.dtype() == Some(DType::F32)
        && g[target].input(4).is_none();
    let fused = matches!(&*g[target].op, "oxrt.Conv" | "oxrt.ConvTranspose" | "oxrt.Gemm" | "oxrt.GroupNorm");
    if !(fused || floats) || only_user(g, x) != Some(id) || g[target].attrs.has("activation") {
        return Ok(false);
    }
    let Some(attrs) = activation(g, id)? else { return Ok(false) };
    for (k, v) in attrs.0 {
        g[target].attrs.set(&k, v);
    }
    g.remove_node(id);
    g.replace_value(y, x);
    Ok(true)
}

/// Attributes `activation`, `act_alpha`, `act_beta` for the node.
fn activation(g: &Graph, id: NodeId) -> Result<Option<Attrs>> {
    let node = &g[id];
    let named = |name: &str| Some(Attrs::new().with("activation", name));
    Ok(match &*node.op {
        "Relu" => named("relu"),
        "Sigmoid" => named("sigmoid"),
        "HardSwish" => named("hard_swish"),
        "Tanh" => named("tanh"),
        "Swish" if node.attrs.float_or("alpha", 1.0)? == 1.0 => named("silu"),
        "Gelu" if node.attrs.string_or("approximate", "none")? == "tanh" => named("gelu_tanh"),
        "Gelu" => named("gelu"),
        "LeakyRelu" => {
            named("leaky_relu").map(|a| a.with("act_alpha", node.attrs.float_or("alpha", 0.01).unwrap_or(0.01)))
        }
        "HardSigmoid" => {
            let (alpha, beta) = (node.attrs.float_or("alpha", 0.2)?, node.attrs.float_or("beta", 0.5)?);
            named("hard_sigmoid").map(|a| a.with("act_alpha", alpha).with("act_beta", beta))
        }
        "Clip" => {
            let bound = |i: usize, open: f64| match node.input(i) {
                None => Some(open),
                Some(v) => scalar(g, v),
            };
            let (Some(lo), Some(hi)) = (bound(1, f64::NEG_INFINITY), bound(2, f64::INFINITY)) else { return Ok(None) };
            named("clip").map(|a| a.with("act_alpha", lo as f32).with("act_beta", hi as f32))
        }
        _ => None,
    })
}
