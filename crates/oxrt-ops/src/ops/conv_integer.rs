//! <https://onnx.ai/onnx/operators/onnx__ConvInteger.html>

use crate::conv::{Operand, conv, infer_as};
use crate::def::OpDef;
use crate::quant::centred_maps;
use oxrt_tensor::{DType, Tensor};

/// Convolution of (x - zero point) with (w - zero point) in i32; the latter may be per map.
pub const OP: OpDef = OpDef::new(
    "ConvInteger",
    &[10],
    2..=4,
    |ctx| infer_as(ctx, DType::I32, 0, 1, false, false),
    |ctx| {
        let (x, w) = (ctx.tensor(0)?, ctx.tensor(1)?);
        let x = Operand { shape: x.shape().to_vec(), data: centred_maps(x, ctx.opt(2)?)? };
        let w = Operand { shape: w.shape().to_vec(), data: centred_maps(w, ctx.opt(3)?)? };
        let y = conv(&x, &w, None, ctx.attrs())?;
        Ok(vec![Tensor::from_f64(DType::I32, &y.shape, &y.data)?.into()])
    },
)
.examples(&[(
    "(u8[1, 1, 3] x, u8[1, 1, 2] w) { y = ConvInteger(x, w, u8{1}) } => y",
    &["x = 1 2 3", "w = 1 1"],
    "1 3",
)]);
