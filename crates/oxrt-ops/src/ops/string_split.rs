//! <https://onnx.ai/onnx/operators/onnx__StringSplit.html>

use crate::def::OpDef;
use crate::eval::{Datum, Eval};
use crate::infer::Infer;
use crate::text::strings;
use oxrt_tensor::{DType, Result, Tensor};

/// Parts of each string along a new last axis, filled up with empty ones; output 1 counts them.
pub const OP: OpDef = OpDef::new("StringSplit", &[20], 1..=1, infer, eval).examples(&[
    ("(string[2] x) { y, n = StringSplit<delimiter=\".\">(x) } => n", &["x = a.b.c d"], "3 1"),
    ("(string[1] x) { y, n = StringSplit<delimiter=\".\", maxsplit=1>(x) } => y", &["x = a.b.c"], "a b.c"),
]);

fn infer(ctx: &mut Infer) -> Result<()> {
    let dims = ctx.ty(0)?.dims.clone();
    ctx.set(1, DType::I64, dims.clone());
    // Of no strings there are no parts.
    let empty = dims.as_ref().is_some_and(|d| d.iter().any(|d| d.is(0)));
    let most = if empty { 0i64.into() } else { ctx.fresh() };
    ctx.set(
        0,
        DType::String,
        dims.map(|mut d| {
            d.push(most);
            d
        }),
    );
    Ok(())
}

/// Without a delimiter at runs of white space, "and leading or trailing whitespace is removed".
fn split(text: &str, delimiter: &str, most: usize) -> Vec<String> {
    if !delimiter.is_empty() {
        return text.splitn(most.saturating_add(1), delimiter).map(str::to_string).collect();
    }
    let mut parts = Vec::new();
    let mut rest = text.trim();
    while !rest.is_empty() {
        match rest.find(char::is_whitespace) {
            Some(end) if parts.len() < most => {
                parts.push(rest[..end].to_string());
                rest = rest[end..].trim_start();
            }
            _ => {
                parts.push(rest.to_string());
                rest = "";
            }
        }
    }
    parts
}

fn eval(ctx: &Eval) -> Result<Vec<Datum>> {
    let x = ctx.tensor(0)?;
    let delimiter = ctx.attrs().string_or("delimiter", "")?;
    let most = ctx.attrs().get_int("maxsplit")?.and_then(|&m| usize::try_from(m).ok()).unwrap_or(usize::MAX);
    let parts: Vec<Vec<String>> = strings(x)?.iter().map(|s| split(s, delimiter, most)).collect();
    let counts: Vec<i64> = parts.iter().map(|p| p.len() as i64).collect();
    let width = parts.iter().map(Vec::len).max().unwrap_or(0);
    let mut shape = x.shape().to_vec();
    shape.push(width);
    let filled = parts.into_iter().flat_map(|mut p| {
        p.resize(width, String::new());
        p
    });
    Ok(vec![Tensor::from_strings(&shape, filled.collect())?.into(), Tensor::from_slice(x.shape(), &counts).into()])
}

#[cfg(test)]
mod tests {
    use super::split;

    #[test]
    fn white_space_at_either_end_goes() {
        assert_eq!(split("  a  b c  ", "", 1), ["a", "b c"]);
        assert_eq!(split("  a  b c  ", "", usize::MAX), ["a", "b", "c"]);
        assert_eq!(split("   ", "", 1), [""; 0]);
        assert_eq!(split(" a b ", " ", 1), ["", "a b "]);
    }
}
