//! <https://onnx.ai/onnx/operators/onnx__Compress.html>

use super::non_zero::found;
use crate::copy::{around, checked_len, select_runs};
use crate::def::OpDef;
use crate::eval::{Datum, Eval};
use crate::infer::Infer;
use crate::shape::axis;
use oxrt_ir::Dim;
use oxrt_tensor::{Result, Tensor, bail};

/// The slices along `axis` (or the elements) where the condition holds.
pub const OP: OpDef = OpDef::new("Compress", &[9, 11, 28], 2..=2, infer, eval).examples(&[
    ("(f32[2, 3] x, bool[3] c) { y = Compress<axis=1>(x, c) } => y", &["x = 1 2 3 4 5 6", "c = 1 0 1"], "1 3 4 6"),
    ("(f32[2, 2] x, bool[3] c) { y = Compress(x, c) } => y", &["x = 1 2 3 4", "c = 0 1 1"], "2 3"),
]);

fn infer(ctx: &mut Infer) -> Result<()> {
    let count = match ctx.constant(1) {
        Some(cond) => Dim::from(found(cond)?.len()),
        None => ctx.fresh(),
    };
    let dims = match (ctx.attrs().get_int("axis")?, ctx.dims(0)) {
        (None, _) => Some(vec![count]),
        (Some(&a), Some(d)) => {
            let mut dims = d.to_vec();
            dims[axis(a, d.len())?] = count;
            Some(dims)
        }
        _ => None,
    };
    ctx.set(0, ctx.dtype(0)?, dims);
    Ok(())
}

fn eval(ctx: &Eval) -> Result<Vec<Datum>> {
    let x = ctx.tensor(0)?;
    let cond = ctx.tensor(1)?;
    let (mut shape, at) = match ctx.attrs().get_int("axis")? {
        Some(&a) => (x.shape().to_vec(), axis(a, x.rank())?),
        None => (vec![x.len()], 0),
    };
    let (outer, n, inner) = around(&shape, at);
    let picks = found(cond)?;
    if picks.last().is_some_and(|&i| i as usize >= n) {
        bail!(invalid, "a condition of {} elements for an axis of size {n}", cond.len());
    }
    shape[at] = picks.len();
    if let Some(out) = picked(x, &shape, (outer, n, inner), &picks)? {
        return Ok(vec![out.into()]);
    }
    let picks = &picks;
    let starts = (0..outer).flat_map(|o| picks.iter().map(move |&p| (o * n + p as usize) * inner));
    Ok(vec![select_runs(x, &shape, starts, inner)?.into()])
}

/// The slices of x [outer, n, inner] as they are stored; `None` where they are no whole bytes.
fn picked(
    x: &Tensor,
    shape: &[usize],
    (outer, n, inner): (usize, usize, usize),
    picks: &[i64],
) -> Result<Option<Tensor>> {
    let Some(piece) = x.dtype().size().filter(|_| x.strings().is_none()).map(|size| size * inner) else {
        return Ok(None);
    };
    checked_len(shape)?;
    let mut out = Tensor::try_zeros(x.dtype(), shape)?;
    if piece == 0 || picks.is_empty() {
        return Ok(Some(out));
    }
    fn elements<const N: usize>(from: &[u8], to: &mut [u8], picks: &[i64]) {
        let (from, _) = from.as_chunks::<N>();
        for (to, &i) in to.as_chunks_mut::<N>().0.iter_mut().zip(picks) {
            *to = from[i as usize];
        }
    }
    // Neighbours are copied at once.
    let runs: Vec<(usize, usize)> =
        picks.chunk_by(|a, b| a + 1 == *b).map(|run| (run[0] as usize, run.len())).collect();
    let from = x.bytes().chunks_exact(n * piece);
    for (to, from) in out.bytes_mut().chunks_exact_mut(picks.len() * piece).zip(from).take(outer) {
        match piece {
            1 => elements::<1>(from, to, picks),
            2 => elements::<2>(from, to, picks),
            4 => elements::<4>(from, to, picks),
            8 => elements::<8>(from, to, picks),
            // Rows of three and four numbers: shorter than what a copy of any length costs.
            12 => elements::<12>(from, to, picks),
            16 => elements::<16>(from, to, picks),
            24 => elements::<24>(from, to, picks),
            32 => elements::<32>(from, to, picks),
            _ => {
                let mut at = 0;
                for &(start, count) in &runs {
                    to[at..at + count * piece].copy_from_slice(&from[start * piece..(start + count) * piece]);
                    at += count * piece;
                }
            }
        }
    }
    Ok(Some(out))
}
