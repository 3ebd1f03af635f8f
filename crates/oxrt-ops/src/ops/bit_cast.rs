//! <https://onnx.ai/onnx/operators/onnx__BitCast.html>

use crate::def::OpDef;
use oxrt_ir::Attrs;
use oxrt_tensor::{DType, Error, Result, Tensor, bail};

/// The same bits as another element type of the same width.
pub const OP: OpDef = OpDef::new(
    "BitCast",
    &[26],
    1..=1,
    |ctx| {
        ctx.set(0, target(ctx.attrs())?, ctx.ty(0)?.dims.clone());
        Ok(())
    },
    |ctx| {
        let (x, to) = (ctx.tensor(0)?, target(ctx.attrs())?);
        if x.dtype().bits() != to.bits() || to == DType::String {
            bail!(invalid, "the bits of {} do not make {to}", x.dtype());
        }
        Ok(vec![Tensor::from_bytes(to, x.shape(), x.bytes())?.into()])
    },
)
.examples(&[("(f32[2] x) { y = BitCast<to=6>(x) } => y", &["x = 1 0"], "1065353216 0")]);

fn target(attrs: &Attrs) -> Result<DType> {
    let to = attrs.get_int("to")?.ok_or_else(|| Error::invalid("the attribute `to` is missing"))?;
    let dtype = i32::try_from(*to).ok().and_then(DType::from_onnx);
    dtype.ok_or_else(|| Error::invalid(format!("{to} is not an element type")))
}
