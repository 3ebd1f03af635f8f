//! <https://onnx.ai/onnx/operators/onnx__ConstantOfShape.html>

use crate::copy::fill;
use crate::def::OpDef;
use crate::eval::{Datum, Eval};
use crate::infer::Infer;
use crate::shape::sizes;
use oxrt_ir::{Attrs, Contents};
use oxrt_tensor::{Error, Result, Tensor};

pub const OP: OpDef = OpDef::new("ConstantOfShape", &[9, 20, 21, 23, 24, 25], 1..=1, infer, eval).examples(&[(
    "(i64[2] s) { y = ConstantOfShape<value=i64[1]{7}>(s) } => y",
    &["s = 1 3"],
    "7 7 7",
)]);

fn value(attrs: &Attrs) -> Result<Tensor> {
    Ok(attrs.get_tensor("value")?.cloned().unwrap_or_else(|| Tensor::scalar(0f32)))
}

fn infer(ctx: &mut Infer) -> Result<()> {
    let value = value(ctx.attrs())?;
    let dims = match ctx.contents(0) {
        Some(c) => Some(c.elements.clone()),
        None => ctx.length_of(0).map(|n| ctx.fresh_dims(n)),
    };
    let known = dims.as_deref().and_then(|d| match d {
        [] => Some((true, 1)),
        [n] => Some((false, n.as_size().filter(|&n| n <= 64)?)),
        _ => None,
    });
    ctx.set(0, value.dtype(), dims);
    if let (Some((scalar, n)), Some(c)) = (known, Contents::of(&value))
        && let Some(d) = c.elements.first() {
            ctx.set_contents(0, Contents { scalar, elements: vec![d.clone(); n] });
        }
    Ok(())
}

fn eval(ctx: &Eval) -> Result<Vec<Datum>> {
    let shape = ctx.ints(0)?.ok_or_else(|| Error::invalid("the shape is missing"))?;
    let value = value(ctx.attrs())?;
    Ok(vec![fill(&value, &sizes(&shape)?)?.into()])
}
