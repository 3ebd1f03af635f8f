//! <https://onnx.ai/onnx/operators/onnx__Gemm.html>

use crate::copy::permute;
use crate::def::OpDef;
use crate::eval::{Datum, Eval};
use crate::infer::Infer;
use crate::matmul::matmul;
use crate::scalar::{Binary, Emit, eval_program};
use oxrt_ir::Dim;
use oxrt_tensor::{DType, Result, Tensor, bail};

/// alpha · A · B + beta · C, with A and B transposed where asked.
pub const OP: OpDef = OpDef::new("Gemm", &[1, 6, 7, 9, 11, 13], 2..=3, infer, eval).examples(&[(
    "(f32[1, 2] a, f32[2, 2] b, f32[2] c) { y = Gemm<alpha=2.0, beta=0.5, transB=1>(a, b, c) } => y",
    &["a = 1 2", "b = 1 2 3 4", "c = 10 20"],
    "15 32",
)]);

fn infer(ctx: &mut Infer) -> Result<()> {
    let side = |i: usize, transposed: bool| -> Result<Option<(Dim, Dim)>> {
        match ctx.dims(i) {
            Some([a, b]) => Ok(Some(if transposed { (b.clone(), a.clone()) } else { (a.clone(), b.clone()) })),
            Some(other) => bail!(invalid, "input {i} should be a matrix, found {other:?}"),
            None => Ok(None),
        }
    };
    let a = side(0, ctx.attrs().bool_or("transA", false)?)?;
    let b = side(1, ctx.attrs().bool_or("transB", false)?)?;
    if let (Some((_, x)), Some((y, _))) = (&a, &b) {
        crate::shape::unify(x, y)?;
    }
    let m = a.map_or_else(|| ctx.fresh(), |a| a.0);
    let n = b.map_or_else(|| ctx.fresh(), |b| b.1);
    ctx.set(0, ctx.dtype(0)?, Some(vec![m, n]));
    Ok(())
}

fn eval(ctx: &Eval) -> Result<Vec<Datum>> {
    let side = |i: usize, name: &str| -> Result<Tensor> {
        let t = ctx.tensor(i)?;
        if t.rank() != 2 {
            bail!(invalid, "input {i} should be a matrix, found {:?}", t.shape());
        }
        if ctx.attrs().bool_or(name, false)? { permute(t, &[1, 0]) } else { Ok(t.clone()) }
    };
    let (a, b, dtype) = (side(0, "transA")?, side(1, "transB")?, ctx.dtype(0)?);
    let (alpha, beta) = (ctx.attrs().float_or("alpha", 1.0)? as f64, ctx.attrs().float_or("beta", 1.0)? as f64);
    let product = matmul(&a, &b, if dtype.is_int() { dtype } else { DType::F64 })?;
    let mut e = Emit::default();
    let x = e.input(0);
    let mut y = if alpha == 1.0 { x } else { e.bin_c(Binary::Mul, x, alpha) };
    let mut inputs = vec![&product];
    if let Some(c) = ctx.opt(2)? {
        let c_in = e.input(1);
        let scaled = if beta == 1.0 { c_in } else { e.bin_c(Binary::Mul, c_in, beta) };
        y = e.bin(Binary::Add, y, scaled);
        inputs.push(c);
    }
    Ok(vec![eval_program(&e.finish(y), &inputs, Some(dtype))?.into()])
}
