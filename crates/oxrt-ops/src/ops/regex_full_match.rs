//! <https://onnx.ai/onnx/operators/onnx__RegexFullMatch.html>

use crate::def::OpDef;
use crate::regex::Regex;
use crate::text::strings;
use oxrt_tensor::{DType, Error, Tensor};

/// Whether the whole of each string matches `pattern`.
pub const OP: OpDef = OpDef::new(
    "RegexFullMatch",
    &[20],
    1..=1,
    |ctx| {
        ctx.set(0, DType::Bool, ctx.ty(0)?.dims.clone());
        Ok(())
    },
    |ctx| {
        let pattern = ctx.attrs().get_string("pattern")?.ok_or_else(|| Error::invalid("`pattern` is missing"))?;
        let regex = Regex::new(pattern)?;
        let x = ctx.tensor(0)?;
        let found: Vec<bool> = strings(x)?.iter().map(|s| regex.matches(s)).collect();
        Ok(vec![Tensor::from_slice(x.shape(), &found).into()])
    },
)
.examples(&[(
    "(string[3] x) { y = RegexFullMatch<pattern=\"[a-c]+\\.(com|org)\">(x) } => y",
    &["x = ab.com abcom b.net"],
    "1 0 0",
)]);
