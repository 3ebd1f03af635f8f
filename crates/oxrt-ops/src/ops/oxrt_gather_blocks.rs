//! Rows of a table of few bits in blocks along its columns. Only passes create it.
//!
//! w `u2`, `u4` or `u8` [N, K], ids (`i32` or `i64`), scale [N, blocks], zero [N, blocks] (reals; absent: 0), with `block_size`
//! columns to a block, fewer in the last. y = ((w - zero) · scale)[ids], […ids, K], of the type of the scales.

use crate::def::OpDef;
use crate::eval::{Datum, Eval};
use crate::infer::Infer;
use crate::quant::block_reals;
use oxrt_tensor::{Result, Tensor, bail};

pub const OP: OpDef = OpDef::new("oxrt.GatherBlocks", &[1], 3..=4, infer, eval).examples(&[(
    "(i64[2] i) { w = Cast<to=21>(f32[2, 3]{1, 2, 3, 4, 5, 6})
        y = oxrt.GatherBlocks<block_size=2>(w, i, f32[2, 2]{1, 10, 1, 2}, f32[2, 2]{0, 1, 4, 6}) } => y",
    &["i = 1 -2"],
    "0 1 0 1 2 20",
)]);

fn infer(ctx: &mut Infer) -> Result<()> {
    let dims = match (ctx.dims(0), ctx.dims(1)) {
        (Some([_, k]), Some(ids)) => Some([ids, std::slice::from_ref(k)].concat()),
        (Some(w), _) if w.len() != 2 => bail!(invalid, "the table should be a matrix, found {w:?}"),
        _ => None,
    };
    ctx.set(0, ctx.dtype(2)?, dims);
    Ok(())
}

fn eval(ctx: &Eval) -> Result<Vec<Datum>> {
    let (w, ids, scale) = (ctx.tensor(0)?, ctx.tensor(1)?, ctx.tensor(2)?);
    let &[n, k] = w.shape() else { bail!(invalid, "the table should be a matrix, found {:?}", w.shape()) };
    let reals = block_reals(w, scale, ctx.opt(3)?, ctx.attrs().int_or("block_size", 0)?)?;
    let mut out = Vec::new();
    for id in ids.to_i64_vec()? {
        let row = if id < 0 { id + n as i64 } else { id };
        let Some(row) = usize::try_from(row).ok().filter(|&r| r < n) else {
            bail!(invalid, "index {id} is outside a table of {n} rows");
        };
        out.extend_from_slice(&reals[row * k..(row + 1) * k]);
    }
    let shape = [ids.shape(), &[k]].concat();
    Ok(vec![Tensor::from_f64(scale.dtype(), &shape, &out)?.into()])
}
