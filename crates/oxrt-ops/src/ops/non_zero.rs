//! <https://onnx.ai/onnx/operators/onnx__NonZero.html>

use crate::def::OpDef;
use crate::eval::{Datum, Eval};
use crate::infer::Infer;
use oxrt_ir::Dim;
use oxrt_tensor::{DType, Result, Tensor};

/// Coordinates of the elements that are not zero: [rank, count].
pub const OP: OpDef = OpDef::new("NonZero", &[9, 13], 1..=1, infer, eval)
    .examples(&[("(f32[2, 2] x) { y = NonZero(x) } => y", &["x = 1 0 0 4"], "0 1 0 1")]);

fn infer(ctx: &mut Infer) -> Result<()> {
    let rank = ctx.rank(0).map_or_else(|| ctx.fresh(), Dim::from);
    let count = ctx.fresh();
    ctx.set(0, DType::I64, Some(vec![rank, count]));
    Ok(())
}

fn eval(ctx: &Eval) -> Result<Vec<Datum>> {
    let x = ctx.tensor(0)?;
    let found = found(x)?;
    let (rank, n) = (x.rank(), found.len());
    let mut out = vec![0i64; rank * n];
    let mut rest = found;
    for d in (0..rank).rev() {
        let size = x.shape()[d];
        for (to, at) in out[d * n..(d + 1) * n].iter_mut().zip(&mut rest) {
            *to = (*at % size) as i64;
            *at /= size;
        }
    }
    Ok(vec![Tensor::from_slice(&[rank, n], &out).into()])
}

/// Offsets of the elements that are not zero, read as they are stored: this runs in front of every detection head.
fn found(x: &Tensor) -> Result<Vec<usize>> {
    fn of<T>(data: &[T], is: impl Fn(&T) -> bool) -> Vec<usize> {
        data.iter().enumerate().filter(|(_, v)| is(v)).map(|(i, _)| i).collect()
    }
    Ok(match x.dtype() {
        DType::Bool | DType::U8 | DType::I8 => {
            // Eight at a time: most masks are mostly empty.
            let mut found = Vec::new();
            for (i, eight) in x.bytes().chunks(8).enumerate() {
                if eight.iter().fold(0, |a, b| a | b) != 0 {
                    found.extend(eight.iter().enumerate().filter(|(_, v)| **v != 0).map(|(k, _)| 8 * i + k));
                }
            }
            found
        }
        DType::F32 => of(x.as_slice::<f32>(), |&v| v != 0.0),
        DType::I32 => of(x.as_slice::<i32>(), |&v| v != 0),
        DType::I64 => of(x.as_slice::<i64>(), |&v| v != 0),
        _ => of(&x.to_f64_vec()?, |&v| v != 0.0),
    })
}
