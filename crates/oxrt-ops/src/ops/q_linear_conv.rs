//! <https://onnx.ai/onnx/operators/onnx__QLinearConv.html>

use crate::conv::{Operand, conv, infer_as};
use crate::def::OpDef;
use crate::eval::{Datum, Eval};
use crate::quant::{centred_maps, round_to, to_int};
use oxrt_tensor::{Result, Tensor, bail};

/// Inputs: x, its scale and zero point, w likewise (perhaps per map), scale and zero point of the result, bias.
pub const OP: OpDef = OpDef::new(
    "QLinearConv",
    &[10],
    8..=9,
    |ctx| {
        let dtype = ctx.dtype(7)?;
        infer_as(ctx, dtype, 0, 3, false, false)
    },
    eval,
)
.examples(&[(
    "(u8[1, 1, 2] x, u8[1, 1, 1] w) { y = QLinearConv(x, 0.5, u8{1}, w, 2.0, u8{0}, 2.0, u8{3}, i32[1]{4}) } => y",
    &["x = 1 3", "w = 2"],
    "5 7",
)]);

fn eval(ctx: &Eval) -> Result<Vec<Datum>> {
    let (x, w) = (ctx.tensor(0)?, ctx.tensor(3)?);
    let x = Operand { shape: x.shape().to_vec(), data: centred_maps(x, ctx.opt(2)?)? };
    let w = Operand { shape: w.shape().to_vec(), data: centred_maps(w, ctx.opt(5)?)? };
    let bias = ctx.opt(8)?.map(Tensor::to_f64_vec).transpose()?;
    let y = conv(&x, &w, bias.as_deref(), ctx.attrs())?;
    let one = |i: usize| -> Result<f64> {
        match ctx.tensor(i)?.to_f64_vec()?[..] {
            [v] => Ok(v),
            _ => bail!(invalid, "input {i} should be one number"),
        }
    };
    let (x_scale, y_scale, zero) = (one(1)?, one(6)?, one(7)? as i64);
    let w_scale = ctx.tensor(4)?.to_f64_vec()?;
    let maps = y.shape[1];
    if w_scale.len() != 1 && w_scale.len() != maps {
        bail!(invalid, "{} scales for {maps} maps", w_scale.len());
    }
    let plane: usize = y.shape[2..].iter().product();
    let (precision, dtype) = (ctx.dtype(1)?, ctx.dtype(7)?);
    let scale = |i: usize| {
        let w = w_scale[if w_scale.len() == 1 { 0 } else { i / plane % maps }];
        round_to(precision, round_to(precision, x_scale * w) / y_scale)
    };
    let out: Vec<i64> = y.data.iter().enumerate().map(|(i, v)| to_int(dtype, v * scale(i), zero)).collect();
    Ok(vec![Tensor::from_i64(dtype, &y.shape, &out)?.into()])
}
