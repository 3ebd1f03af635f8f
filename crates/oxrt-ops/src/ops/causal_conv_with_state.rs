//! <https://onnx.ai/onnx/operators/onnx__CausalConvWithState.html>

use crate::activation;
use crate::conv::{Operand, conv};
use crate::copy::{concat, signed_strides, walk};
use crate::def::OpDef;
use crate::eval::{Datum, Eval};
use crate::infer::Infer;
use oxrt_ir::{Attrs, Dim};
use oxrt_tensor::{Result, Tensor, bail};

/// Depthwise convolution of x [batch, channels, length] that looks at the past only. Inputs: x, weights
/// [channels, 1, k], bias, past state [batch, channels, k - 1]. Output 1 is the next state.
pub const OP: OpDef = OpDef::new("CausalConvWithState", &[27], 2..=4, infer, eval).examples(&[(
    "(f32[1, 1, 3] x) { y, s = CausalConvWithState(x, f32[1, 1, 2]{1, 10}) } => y",
    &["x = 1 2 3"],
    "10 21 32",
)]);

fn infer(ctx: &mut Infer) -> Result<()> {
    let dtype = ctx.dtype(0)?;
    let state = match (ctx.dims(0), ctx.dims(1)) {
        (Some([b, c, _]), Some([_, _, k])) => Some(vec![b.clone(), c.clone(), k.clone() - Dim::Const(1)]),
        _ => None,
    };
    ctx.set(0, dtype, ctx.ty(0)?.dims.clone());
    ctx.set(1, dtype, state);
    Ok(())
}

fn eval(ctx: &Eval) -> Result<Vec<Datum>> {
    let (x, w) = (ctx.tensor(0)?, ctx.tensor(1)?);
    let (&[b, c, length], &[channels, 1, k]) = (x.shape(), w.shape()) else {
        bail!(invalid, "an input of {:?} and weights of {:?}", x.shape(), w.shape());
    };
    if c != channels || k == 0 {
        bail!(invalid, "weights of {:?} for {c} channels", w.shape());
    }
    let zeros = Tensor::zeros(x.dtype(), &[b, c, k - 1]);
    let past = ctx.opt(3)?.unwrap_or(&zeros);
    if past.shape() != zeros.shape() {
        bail!(invalid, "a past state of {:?}, not {:?}", past.shape(), zeros.shape());
    }
    let padded = concat(&[past, x], 2)?;
    let bias = ctx.opt(2)?.map(Tensor::to_f64_vec).transpose()?;
    let attrs = Attrs::new().with("group", c as i64);
    let mut y = conv(&Operand::of(&padded)?, &Operand::of(w)?, bias.as_deref(), &attrs)?;
    let name = match ctx.attrs().string_or("activation", "none")? {
        "swish" => "silu",
        name @ ("none" | "silu") => name,
        other => bail!(invalid, "the activation `{other}` is unknown"),
    };
    activation::epilogue(&mut y.data, None, &y.shape, &Attrs::new().with("activation", name))?;
    let state = walk(&[b, c, k - 1], &signed_strides(padded.shape()), length)?;
    Ok(vec![
        Tensor::from_f64(x.dtype(), &y.shape, &y.data)?.into(),
        crate::copy::select(&padded, &[b, c, k - 1], state)?.into(),
    ])
}
