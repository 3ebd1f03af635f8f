//! Assertions of the program: nodes that check when the model runs (`docs/decisions/0013-assertions.md`).

use crate::args::{Arg, Args, Scalar};
use crate::cx::{Cx, Val, real_dtype};
use crate::promote::scalar_value;
use oxrt_ir::{Attrs, DType, Dim, Symbol, Tensor, ValueId};
use oxrt_tensor::{Result, bail};

/// A check that every element of `condition` is true.
pub(crate) fn check(cx: &mut Cx, condition: ValueId, message: &str) -> Result<()> {
    let condition = cx.cast(condition, DType::Bool)?;
    // The message may come from a file of any making.
    let message: String = message.chars().take(1000).collect();
    let name = cx.b.name("Assert");
    let id = cx.b.graph.add_node("oxrt.Assert", &name, &[Some(condition)], Attrs::new().with("message", message), 0);
    cx.b.graph[id].source = cx.b.source.clone();
    Ok(())
}

fn not_checked(cx: &mut Cx, message: &str, why: &str) {
    let place = cx.b.source.as_ref().map_or(String::new(), |s| format!(" ({})", s.location));
    cx.warn(format!("an assertion is not checked: {message}{place}: {why}"));
}

fn check_scalar(cx: &mut Cx, a: &Args, message: &str) -> Result<()> {
    // What the ranges of sizes that the data tells decide is what the assertion is there to assure.
    let assumed = a.first_name.and_then(|n| cx.assumed.get(n)).copied();
    let condition = match (a.get("self"), assumed) {
        (_, Some(v)) => v,
        (Some(Arg::Other(Val::Unusable(why))), _) => {
            not_checked(cx, message, &why);
            return Ok(());
        }
        _ => match a.scalar("self")? {
            Scalar::Bool(true) => return Ok(()),
            Scalar::Bool(false) => cx.b.constant(Tensor::scalar(false)),
            other => scalar_value(cx, &other, DType::Bool)?,
        },
    };
    check(cx, condition, message)
}

/// torch says `Runtime assertion failed for expression u0 >= 3 on node 'ge_2'`.
fn shorter(message: &str) -> &str {
    let inner = message.strip_prefix("Runtime assertion failed for expression ");
    inner.map_or(message, |m| m.rsplit_once(" on node ").map_or(m, |(m, _)| m))
}

/// `_assert_scalar(Scalar self, str assert_msg)`
pub fn assert_scalar<'a>(cx: &mut Cx<'a, '_>, a: &Args<'a>) -> Result<Vec<Val<'a>>> {
    let message = a.text("assert_msg")?;
    let name = |s: &Symbol| cx.symbols.names.get(s.as_str()).map(|s| s.clone().into());
    let message = oxrt_ir::substitute_in(shorter(&message), &name);
    check_scalar(cx, a, &message)?;
    Ok(Vec::new())
}

/// `_assert_async(Tensor self)`, `_assert_async.msg(Tensor self, str assert_msg)`
pub fn assert_async<'a>(cx: &mut Cx<'a, '_>, a: &Args<'a>) -> Result<Vec<Val<'a>>> {
    let message = if a.has("assert_msg") { a.text("assert_msg")? } else { String::new() };
    let condition = a.t("self")?;
    check(cx, condition, &message)?;
    Ok(Vec::new())
}

/// `_functional_assert_async.msg(Tensor self, str assert_msg, Tensor dep_token)`: gives the token on
pub fn functional_assert_async<'a>(cx: &mut Cx<'a, '_>, a: &Args<'a>) -> Result<Vec<Val<'a>>> {
    assert_async(cx, a)?;
    let token = a.t("dep_token")?;
    Ok(vec![Val::Tensor(cx.new_tensor(token))])
}

/// `_assert_tensor_metadata(Tensor a, SymInt[]? size=None, SymInt[]? stride=None, ScalarType? dtype=None, …)`: types
/// and ranks are known here
pub fn assert_tensor_metadata<'a>(cx: &mut Cx<'a, '_>, a: &Args<'a>) -> Result<Vec<Val<'a>>> {
    let x = a.t("a")?;
    let (have, complex) = (cx.dtype(x)?, cx.is_complex(x));
    if let Some(want) = a.dtype("dtype")?
        && (real_dtype(want) != have || want.is_complex() != complex)
    {
        bail!(invalid, "the program asserts that a tensor has {want} elements; it has {have}");
    }
    if a.has("size") {
        let (want, have) = (a.dim_list("size")?, cx.dims(x)?);
        let differ = |(w, h): (&Dim, &Dim)| matches!((w.as_const(), h.as_const()), (Some(w), Some(h)) if w != h);
        if want.len() + complex as usize != have.len() || want.iter().zip(&have).any(differ) {
            bail!(invalid, "the program asserts that a tensor has shape {want:?}; it has {have:?}");
        }
    }
    Ok(Vec::new())
}

/// `sym_constrain_range(Scalar size, *, int? min=None, int? max=None)`, `sym_constrain_range_for_size`
pub fn constrain_range<'a>(cx: &mut Cx<'a, '_>, a: &Args<'a>) -> Result<Vec<Val<'a>>> {
    let size = match a.get("size") {
        Some(Arg::Other(Val::Unusable(why))) => {
            not_checked(cx, "the range of a number", &why);
            return Ok(Vec::new());
        }
        _ => a.scalar("size")?,
    };
    let least = if a.target.contains("for_size") { Some(0) } else { None };
    let (min, max) = (a.opt_int("min")?.or(least), a.opt_int("max")?.filter(|&m| m < i64::MAX / 2));
    for (op, bound, sign) in [("GreaterOrEqual", min, "at least"), ("LessOrEqual", max, "at most")] {
        let Some(bound) = bound else { continue };
        let x = scalar_value(cx, &size, DType::I64)?;
        let limit = cx.b.constant(Tensor::scalar(bound));
        let condition = cx.call(op, &[x, limit])?;
        let what = match &size {
            Scalar::Int(d) => d.to_string(),
            _ => "a number".to_string(),
        };
        check(cx, condition, &format!("{what} must be {sign} {bound}"))?;
    }
    Ok(Vec::new())
}

#[cfg(test)]
mod tests {
    use super::shorter;

    #[test]
    fn messages_name_the_expression() {
        assert_eq!(shorter("Runtime assertion failed for expression u0 >= 3 on node 'ge_2'"), "u0 >= 3");
        assert_eq!(shorter("k is too large on node x"), "k is too large on node x");
    }
}
