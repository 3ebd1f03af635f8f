//! <https://onnx.ai/onnx/operators/onnx__NonZero.html>

use crate::def::OpDef;
use crate::eval::{Datum, Eval};
use crate::infer::Infer;
use oxrt_ir::Dim;
use oxrt_tensor::{DType, Result, Tensor};

/// Coordinates of the elements that are not zero: [rank, count].
pub const OP: OpDef = OpDef::new("NonZero", &[9, 13], 1..=1, infer, eval).examples(&[(
    "(f32[2, 2] x) { y = NonZero(x) } => y",
    &["x = 1 0 0 4"],
    "0 1 0 1",
)]);

fn infer(ctx: &mut Infer) -> Result<()> {
    let rank = ctx.rank(0).map_or_else(|| ctx.fresh(), Dim::from);
    let count = match ctx.constant(0) {
        Some(x) => Dim::from(found(x)?.len()),
        None => ctx.fresh(),
    };
    ctx.set(0, DType::I64, Some(vec![rank, count]));
    Ok(())
}

fn eval(ctx: &Eval) -> Result<Vec<Datum>> {
    let x = ctx.tensor(0)?;
    let mut rest: Vec<i64> = found(x)?;
    let (rank, n) = (x.rank(), rest.len());
    let mut out = Tensor::try_zeros(DType::I64, &[rank, n])?;
    for d in (0..rank).rev() {
        let size = x.shape()[d] as i64;
        let to = &mut out.as_mut_slice::<i64>()[d * n..(d + 1) * n];
        if d == 0 {
            to.copy_from_slice(&rest);
            break;
        }
        // Offsets rise, so that a quotient holds for many of them.
        let (mut quotient, mut base) = (0, 0);
        for (to, at) in to.iter_mut().zip(&mut rest) {
            if *at - base >= size {
                quotient = *at / size;
                base = quotient * size;
            }
            (*to, *at) = (*at - base, quotient);
        }
    }
    Ok(vec![out.into()])
}

/// Offsets of the elements that are not zero, read as they are stored: this runs in front of every detection head.
pub(super) fn found(x: &Tensor) -> Result<Vec<i64>> {
    /// Counted first, so that nothing depends on chance while they are written.
    fn of<T>(data: &[T], is: impl Fn(&T) -> bool) -> Vec<i64> {
        let count = data.iter().filter(|v| is(v)).count();
        let (mut places, mut len) = (vec![0; count + 1], 0);
        // Most masks are mostly empty.
        for (i, run) in data.chunks(16).enumerate() {
            if run.iter().fold(false, |any, v| any | is(v)) {
                for (j, v) in run.iter().enumerate() {
                    places[len] = (16 * i + j) as i64;
                    len += usize::from(is(v));
                }
            }
        }
        places.truncate(count);
        places
    }
    Ok(match x.dtype() {
        DType::Bool | DType::U8 | DType::I8 => of(x.bytes(), |&v| v != 0),
        DType::F32 => of(x.as_slice::<f32>(), |&v| v != 0.0),
        DType::I32 => of(x.as_slice::<i32>(), |&v| v != 0),
        DType::I64 => of(x.as_slice::<i64>(), |&v| v != 0),
        _ => of(&x.to_f64_vec()?, |&v| v != 0.0),
    })
}
