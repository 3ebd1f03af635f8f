//! Any elementwise expression over broadcast inputs. Only passes create it.
//!
//! Attributes: `expr`, the text of a [`crate::scalar::Program`], and `dtype`, the element type of the result as
//! ONNX numbers it.

use crate::def::OpDef;
use crate::scalar::{Instr, Program, eval_node_as};
use crate::shape::infer_elementwise_as;
use oxrt_ir::Attrs;
use oxrt_tensor::{DType, Error, Result, bail};

pub const OP: OpDef = OpDef::elementwise("oxrt.Elementwise", &[1], 1..=usize::MAX, |e, attrs, x| {
    let text = attrs.get_string("expr")?.ok_or_else(|| Error::invalid("the attribute `expr` is missing"))?;
    let program: Program = text.parse()?;
    let inputs = program.instrs.iter().filter_map(|i| if let Instr::Input(i) = i { Some(*i as usize) } else { None });
    match inputs.max() {
        Some(i) if i >= x.len() => bail!(invalid, "`expr` reads input {i} of {}", x.len()),
        _ => Ok(e.inline(&program, x)),
    }
})
.infer(|ctx| infer_elementwise_as(ctx, dtype(ctx.attrs())?))
.eval(|ctx| eval_node_as(ctx, Some(dtype(ctx.attrs())?)))
.examples(&[(
    "(f32[2] a, f32[1] b) { y = oxrt.Elementwise<expr=\"in 0; in 1; add 0 1; const 0; max 2 3\", dtype=1>(a, b) } => y",
    &["a = 1 -3", "b = 2"],
    "3 0",
)]);

fn dtype(attrs: &Attrs) -> Result<DType> {
    let number = attrs.int_or("dtype", 1)?;
    let dtype = i32::try_from(number).ok().and_then(DType::from_onnx);
    dtype.ok_or_else(|| Error::invalid(format!("{number} is not an element type")))
}
