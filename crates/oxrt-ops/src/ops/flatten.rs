//! <https://onnx.ai/onnx/operators/onnx__Flatten.html>

use crate::def::OpDef;
use crate::eval::{Datum, Eval};
use crate::infer::Infer;
use oxrt_ir::{Attrs, Dim};
use oxrt_tensor::{Result, bail};

/// Two dimensions: the product of the axes before `axis`, and of the rest.
pub const OP: OpDef = OpDef::new("Flatten", &[1, 9, 11, 13, 21, 23, 24, 25], 1..=1, infer, eval)
    .examples(&[("(f32[1, 2, 1] x) { y = Flatten<axis=2>(x) } => y", &["x = 1 2"], "1 2")]);

/// Unlike other axes, this one may equal the rank.
fn place(attrs: &Attrs, rank: usize) -> Result<usize> {
    let (a, r) = (attrs.int_or("axis", 1)?, rank as i64);
    if a < -r || a > r {
        bail!(invalid, "axis {a} is outside a tensor of rank {rank}");
    }
    Ok(if a < 0 { a + r } else { a } as usize)
}

fn infer(ctx: &mut Infer) -> Result<()> {
    let dims = match ctx.dims(0) {
        Some(d) => {
            let (before, after) = d.split_at(place(ctx.attrs(), d.len())?);
            vec![before.iter().cloned().product::<Dim>(), after.iter().cloned().product()]
        }
        None => ctx.fresh_dims(2),
    };
    ctx.set(0, ctx.dtype(0)?, Some(dims));
    Ok(())
}

fn eval(ctx: &Eval) -> Result<Vec<Datum>> {
    let x = ctx.tensor(0)?;
    let (before, after) = x.shape().split_at(place(ctx.attrs(), x.rank())?);
    Ok(vec![x.reshaped(&[before.iter().product(), after.iter().product()])?.into()])
}
