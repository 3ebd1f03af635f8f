//! <https://onnx.ai/onnx/operators/onnx__EyeLike.html>

use crate::copy::checked_len;
use crate::def::OpDef;
use crate::eval::{Datum, Eval};
use crate::infer::Infer;
use oxrt_ir::Attrs;
use oxrt_tensor::{DType, Error, Result, Tensor, bail};

/// Ones on the diagonal `k` of a matrix of the input's shape.
pub const OP: OpDef = OpDef::new("EyeLike", &[9, 22], 1..=1, infer, eval)
    .examples(&[("(f32[2, 3] x) { y = EyeLike<k=1>(x) } => y", &["x = 0 0 0 0 0 0"], "0 1 0 0 0 1")]);

fn dtype(attrs: &Attrs, input: DType) -> Result<DType> {
    let Some(&n) = attrs.get_int("dtype")? else { return Ok(input) };
    let dtype = i32::try_from(n).ok().and_then(DType::from_onnx);
    dtype.ok_or_else(|| Error::invalid(format!("{n} is not an element type")))
}

fn infer(ctx: &mut Infer) -> Result<()> {
    let dims = match ctx.dims(0) {
        Some([n]) => Some(vec![n.clone(), n.clone()]),
        Some(d) => Some(d.to_vec()),
        None => Some(ctx.fresh_dims(2)),
    };
    ctx.set(0, dtype(ctx.attrs(), ctx.dtype(0)?)?, dims);
    Ok(())
}

fn eval(ctx: &Eval) -> Result<Vec<Datum>> {
    let x = ctx.tensor(0)?;
    let (rows, cols) = match *x.shape() {
        [n] => (n, n),
        [r, c] => (r, c),
        _ => bail!(invalid, "{:?} is no matrix", x.shape()),
    };
    let k = ctx.attrs().int_or("k", 0)?;
    let n = checked_len(&[rows, cols])?;
    let ones: Vec<i64> = (0..n).map(|i| ((i % cols) as i64 - (i / cols) as i64 == k) as i64).collect();
    Ok(vec![Tensor::from_i64(dtype(ctx.attrs(), x.dtype())?, &[rows, cols], &ones)?.into()])
}
