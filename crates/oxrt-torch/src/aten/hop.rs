//! Higher-order operators: wrappers are inlined.

use crate::args::{Arg, Args};
use crate::cx::{Cx, Val};
use crate::lower::inline;
use oxrt_tensor::{Result, bail};

fn operand<'a>(arg: &Arg<'a>) -> Val<'a> {
    match arg {
        Arg::Tensor(id, _) => Val::Tensor(*id),
        Arg::List(items) => Val::List(items.iter().map(operand).collect()),
        Arg::Other(v) => v.clone(),
    }
}

/// The body (the first graph among the arguments) and what follows it.
fn body<'a>(a: &Args<'a>) -> Result<(&'a crate::schema::Graph, Vec<Val<'a>>)> {
    let at = a.named.iter().position(|(_, arg)| matches!(arg, Arg::Other(Val::Graph(_))));
    let Some(at) = at else { bail!(invalid, "a wrapper without a body") };
    let Arg::Other(Val::Graph(graph)) = &a.named[at].1 else { bail!(bug, "just found") };
    Ok((graph, a.named[at + 1..].iter().map(|(_, arg)| operand(arg)).collect()))
}

/// `wrap_with_set_grad_enabled(enabled, body, *operands)`: gradients do not concern inference
pub fn set_grad<'a>(cx: &mut Cx<'a, '_>, a: &Args<'a>) -> Result<Vec<Val<'a>>> {
    let (graph, operands) = body(a)?;
    inline(cx, graph, operands)
}

/// `wrap_with_autocast(device, dtype, enabled, cache_enabled, body, *operands)`
pub fn autocast<'a>(cx: &mut Cx<'a, '_>, a: &Args<'a>) -> Result<Vec<Val<'a>>> {
    let (graph, operands) = body(a)?;
    let enabled = matches!(a.at(2)?, Arg::Other(Val::Bool(true)));
    let dtype = match a.at(1)? {
        Arg::Other(Val::DType(d)) => Some(*d),
        // CPU autocast without a type means bfloat16.
        _ => Some(oxrt_ir::DType::BF16),
    };
    let outer = std::mem::replace(&mut cx.autocast, dtype.filter(|_| enabled));
    let result = inline(cx, graph, operands);
    cx.autocast = outer;
    result
}
