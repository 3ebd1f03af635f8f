//! <https://onnx.ai/onnx/operators/onnx__Constant.html>

use crate::def::OpDef;
use oxrt_ir::{Attr, Attrs, Contents, TensorType};
use oxrt_tensor::{Result, Tensor, bail};

/// A value in one of the attributes `value`, `value_int`, `value_floats` and so on.
pub const OP: OpDef = OpDef::new(
    "Constant",
    &[1, 9, 11, 12, 13, 19, 21, 23, 24, 25],
    0..=0,
    |ctx| {
        let t = value(ctx.attrs())?;
        ctx.set_type(0, TensorType::of(&t).into());
        if let Some(c) = Contents::of(&t) {
            ctx.set_contents(0, c);
        }
        Ok(())
    },
    |ctx| Ok(vec![value(ctx.attrs())?.into()]),
)
.examples(&[("(f32 x) { c = Constant<value_ints=[1, 2]>(); y = Identity(c) } => y", &["x = 0"], "1 2")]);

fn value(attrs: &Attrs) -> Result<Tensor> {
    for (name, attr) in attrs.iter() {
        return Ok(match (name, attr) {
            ("value", Attr::Tensor(t)) => t.clone(),
            ("value_int", Attr::Int(x)) => Tensor::scalar(*x),
            ("value_ints", Attr::Ints(x)) => Tensor::from_slice(&[x.len()], x),
            ("value_float", Attr::Float(x)) => Tensor::scalar(*x),
            ("value_floats", Attr::Floats(x)) => Tensor::from_slice(&[x.len()], x),
            // An empty list does not say what it is a list of.
            ("value_floats", Attr::Ints(x)) if x.is_empty() => Tensor::from_slice::<f32>(&[0], &[]),
            ("value_string", Attr::String(s)) => Tensor::from_strings(&[], vec![s.clone()])?,
            ("value_strings", Attr::Strings(s)) => Tensor::from_strings(&[s.len()], s.clone())?,
            _ => continue,
        });
    }
    bail!(unsupported, "a Constant without a dense value")
}
