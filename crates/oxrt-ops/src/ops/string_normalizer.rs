//! <https://onnx.ai/onnx/operators/onnx__StringNormalizer.html>

use crate::def::OpDef;
use crate::eval::{Datum, Eval};
use crate::infer::Infer;
use crate::text::strings;
use oxrt_ir::Dim;
use oxrt_tensor::{DType, Result, Tensor, bail};

/// Drops stop words from [C] or [1, C] and changes the case of the rest.
pub const OP: OpDef = OpDef::new("StringNormalizer", &[10], 1..=1, infer, eval).examples(&[(
    "(string[3] x) { y = StringNormalizer<case_change_action=\"UPPER\", stopwords=[\"b\"], is_case_sensitive=1>(x) } => y",
    &["x = a b c"],
    "A C",
)]);

fn infer(ctx: &mut Infer) -> Result<()> {
    let stops = ctx.attrs().get_strings("stopwords")?.is_some_and(|s| !s.is_empty());
    let count = match ctx.dims(0).and_then(<[Dim]>::last) {
        // Nothing at all becomes one empty string.
        Some(d) if !stops => d.at_least(&Dim::Const(1)),
        _ => ctx.fresh(),
    };
    let dims = match ctx.rank(0) {
        Some(1) => Some(vec![count]),
        Some(2) => Some(vec![Dim::Const(1), count]),
        Some(r) => bail!(invalid, "the strings should be [C] or [1, C], found rank {r}"),
        None => None,
    };
    ctx.set(0, DType::String, dims);
    Ok(())
}

fn eval(ctx: &Eval) -> Result<Vec<Datum>> {
    let (x, attrs) = (ctx.tensor(0)?, ctx.attrs());
    let sensitive = attrs.bool_or("is_case_sensitive", false)?;
    let fold = |s: &str| if sensitive { s.to_string() } else { s.to_lowercase() };
    let stops: Vec<String> = attrs.get_strings("stopwords")?.into_iter().flatten().map(|s| fold(s)).collect();
    let action = attrs.string_or("case_change_action", "NONE")?;
    let change: fn(&str) -> String = match action {
        "NONE" => str::to_string,
        "LOWER" => str::to_lowercase,
        "UPPER" => str::to_uppercase,
        other => bail!(invalid, "the case change `{other}` is unknown"),
    };
    let mut out: Vec<String> = strings(x)?.iter().filter(|s| !stops.contains(&fold(s))).map(|s| change(s)).collect();
    if out.is_empty() {
        out.push(String::new());
    }
    let shape = match *x.shape() {
        [_] => vec![out.len()],
        [1, _] => vec![1, out.len()],
        _ => bail!(invalid, "the strings should be [C] or [1, C], found {:?}", x.shape()),
    };
    Ok(vec![Tensor::from_strings(&shape, out)?.into()])
}
