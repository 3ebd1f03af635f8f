//! <https://onnx.ai/onnx/operators/onnx__SequenceEmpty.html>

use crate::def::OpDef;
use crate::eval::Datum;
use oxrt_ir::{TensorType, ValueType};
use oxrt_tensor::{DType, Error};

pub const OP: OpDef = OpDef::new(
    "SequenceEmpty",
    &[11],
    0..=0,
    |ctx| {
        let number = ctx.attrs().int_or("dtype", 1)?;
        let dtype = i32::try_from(number).ok().and_then(DType::from_onnx);
        let dtype = dtype.ok_or_else(|| Error::invalid(format!("{number} is not an element type")))?;
        ctx.set_type(0, ValueType::Sequence(Box::new(TensorType { dtype, dims: None }.into())));
        Ok(())
    },
    |_| Ok(vec![Datum::Sequence(vec![])]),
)
.examples(&[("(f32 x) { s = SequenceEmpty(); y = SequenceLength(s) } => y", &["x = 0"], "0")]);
