//! <https://onnx.ai/onnx/operators/onnx__Gather.html>

use crate::copy::{around, index, select_runs};
use crate::def::OpDef;
use crate::eval::{Datum, Eval};
use crate::infer::Infer;
use crate::shape::axis;
use oxrt_ir::{Contents, Dim};
use oxrt_tensor::{Result, bail};

pub const OP: OpDef = OpDef::new("Gather", &[1, 11, 13], 2..=2, infer, eval).examples(&[
    ("(f32[2, 3] x, i64[2] i) { y = Gather<axis=1>(x, i) } => y", &["x = 1 2 3 4 5 6", "i = 2 -3"], "3 1 6 4"),
    ("(f32[n, 3] x, i64 i) { s = Shape(x); y = Gather(s, i64{1}) } => y", &["x[1,3] = 1 2 3", "i = 0"], "3"),
]);

fn infer(ctx: &mut Infer) -> Result<()> {
    let dtype = ctx.dtype(0)?;
    let (Some(x), Some(i)) = (ctx.dims(0), ctx.dims(1)) else {
        ctx.set(0, dtype, None);
        return Ok(());
    };
    let at = axis(ctx.attrs().int_or("axis", 0)?, x.len())?;
    ctx.set(0, dtype, Some([&x[..at], i, &x[at + 1..]].concat()));
    if let (Some(data), Some(picks)) = (ctx.contents(0), ctx.contents(1)) {
        let Some(picks_known) = picks.as_consts() else { return Ok(()) };
        let elements = picks_known.iter().map(|&p| Ok(data.elements[index(p, data.elements.len())?].clone()));
        let elements = elements.collect::<Result<Vec<Dim>>>()?;
        ctx.set_contents(0, Contents { scalar: picks.scalar, elements });
    }
    Ok(())
}

fn eval(ctx: &Eval) -> Result<Vec<Datum>> {
    let (x, picks) = (ctx.tensor(0)?, ctx.tensor(1)?);
    if x.rank() == 0 {
        bail!(invalid, "a scalar has no axis to gather from");
    }
    let at = axis(ctx.attrs().int_or("axis", 0)?, x.rank())?;
    let (outer, n, inner) = around(x.shape(), at);
    let shape = [&x.shape()[..at], picks.shape(), &x.shape()[at + 1..]].concat();
    let places = picks.to_i64_vec()?.into_iter().map(|i| index(i, n)).collect::<Result<Vec<_>>>()?;
    let places = &places;
    let starts = (0..outer).flat_map(|o| places.iter().map(move |&p| (o * n + p) * inner));
    Ok(vec![select_runs(x, &shape, starts, inner)?.into()])
}
