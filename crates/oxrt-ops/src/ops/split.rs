//! <https://onnx.ai/onnx/operators/onnx__Split.html>

use crate::copy::{around, select};
use crate::def::OpDef;
use crate::eval::{Datum, Eval};
use crate::infer::Infer;
use crate::shape::{axis, sizes};
use oxrt_ir::{Contents, Dim};
use oxrt_tensor::{Result, bail};

/// Parts along `axis`: sizes from input 1, else equal ones, of which the last may be smaller.
pub const OP: OpDef = OpDef::new("Split", &[1, 2, 11, 13, 18], 1..=2, infer, eval).examples(&[
    ("(f32[5] x) { y, z = Split<num_outputs=2>(x) } => y", &["x = 1 2 3 4 5"], "1 2 3"),
    ("(f32[2, 3] x) { y, z = Split<axis=1>(x, i64[2]{1, 2}) } => z", &["x = 1 2 3 4 5 6"], "2 3 5 6"),
]);

fn infer(ctx: &mut Infer) -> Result<()> {
    let dtype = ctx.dtype(0)?;
    let parts = ctx.num_outputs();
    let Some(x) = ctx.dims(0) else {
        (0..parts).for_each(|i| ctx.set(i, dtype, None));
        return Ok(());
    };
    let at = axis(ctx.attrs().int_or("axis", 0)?, x.len())?;
    let list: Vec<Dim> = match ctx.contents(1) {
        Some(c) if c.elements.len() != parts => {
            bail!(invalid, "{} sizes for {parts} outputs", c.elements.len())
        }
        Some(c) => c.elements.clone(),
        None if ctx.has(1) => ctx.fresh_dims(parts),
        None => {
            let chunk = x[at].ceil_div(&Dim::from(parts));
            let mut list = vec![chunk.clone(); parts];
            list[parts - 1] = x[at].clone() - chunk * Dim::from(parts - 1);
            list
        }
    };
    let total: Dim = list.iter().fold(Dim::Const(0), |sum, d| sum + d.clone());
    if let (Some(total), Some(n)) = (total.as_const(), x[at].as_const())
        && total != n
    {
        bail!(invalid, "the sizes {list:?} do not split an axis of size {n}");
    }
    let mut start = Some(0usize);
    for (i, size) in list.into_iter().enumerate() {
        let mut dims = x.to_vec();
        let known = size.as_size();
        dims[at] = size;
        ctx.set(i, dtype, Some(dims));
        if let (Some(s), Some(n), Some(c)) = (start, known, ctx.contents(0))
            && let Some(part) = s.checked_add(n).and_then(|e| c.elements.get(s..e)) {
                ctx.set_contents(i, Contents::vector(part.to_vec()));
            }
        start = start.zip(known).and_then(|(s, n): (usize, usize)| s.checked_add(n));
    }
    Ok(())
}

fn eval(ctx: &Eval) -> Result<Vec<Datum>> {
    let x = ctx.tensor(0)?;
    let at = axis(ctx.attrs().int_or("axis", 0)?, x.rank())?;
    let (outer, n, inner) = around(x.shape(), at);
    let parts = ctx.num_outputs();
    let list = match ctx.ints(1)? {
        Some(list) => sizes(&list)?,
        None => {
            let chunk = n.div_ceil(parts.max(1));
            (0..parts).map(|i| chunk.min(n.saturating_sub(i * chunk))).collect()
        }
    };
    if list.len() != parts || list.iter().try_fold(0usize, |a, &b| a.checked_add(b)) != Some(n) {
        bail!(invalid, "the sizes {list:?} do not split an axis of size {n} into {parts}");
    }
    let mut start = 0;
    let cut = list.into_iter().map(|size| {
        let mut shape = x.shape().to_vec();
        shape[at] = size;
        let first = start;
        start += size;
        let offsets = (0..outer).flat_map(|o| {
            let row = (o * n + first) * inner;
            row..row + size * inner
        });
        Ok(select(x, &shape, offsets)?.into())
    });
    cut.collect()
}
