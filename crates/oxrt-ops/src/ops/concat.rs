//! <https://onnx.ai/onnx/operators/onnx__Concat.html>

use crate::copy::concat;
use crate::def::OpDef;
use crate::eval::{Datum, Eval};
use crate::infer::Infer;
use crate::shape::axis;
use oxrt_ir::{Contents, Dim};
use oxrt_tensor::{Error, Result, Tensor, bail};

pub const OP: OpDef = OpDef::new("Concat", &[1, 4, 11, 13], 1..=usize::MAX, infer, eval).examples(&[(
    "(f32[1, 2] a, f32[1, 1] b) { y = Concat<axis=-1>(a, b) } => y",
    &["a = 1 2", "b = 3"],
    "1 2 3",
)]);

fn infer(ctx: &mut Infer) -> Result<()> {
    let dtype = ctx.dtype(0)?;
    let n = ctx.num_inputs();
    let Some(mut dims) = (0..n).find_map(|i| ctx.dims(i)).map(<[Dim]>::to_vec) else {
        ctx.set(0, dtype, None);
        return Ok(());
    };
    let at = axis(ctx.attrs().int_or("axis", 0)?, dims.len())?;
    let mut total = Dim::Const(0);
    for i in 0..n {
        let Some(d) = ctx.dims(i) else {
            total = ctx.fresh();
            break;
        };
        if d.len() != dims.len() {
            bail!(invalid, "input {i} has rank {}, the first has {}", d.len(), dims.len());
        }
        for (k, (have, new)) in dims.iter_mut().zip(d).enumerate() {
            match (have.as_const(), new.as_const()) {
                (Some(a), Some(b)) if a != b && k != at => {
                    bail!(invalid, "input {i} has size {b} on axis {k}, the others {a}")
                }
                (None, Some(_)) if k != at => *have = new.clone(),
                _ => {}
            }
        }
        total = total + d[at].clone();
    }
    dims[at] = total;
    ctx.set(0, dtype, Some(dims));
    let parts: Option<Vec<&Contents>> = (0..n).map(|i| ctx.contents(i)).collect();
    if let Some(parts) = parts {
        ctx.set_contents(0, Contents::vector(parts.into_iter().flat_map(|c| c.elements.clone()).collect()));
    }
    Ok(())
}

fn eval(ctx: &Eval) -> Result<Vec<Datum>> {
    let inputs: Vec<&Tensor> = (0..ctx.inputs.len()).map(|i| ctx.tensor(i)).collect::<Result<_>>()?;
    let first = inputs.first().ok_or_else(|| Error::invalid("nothing to concatenate"))?;
    let at = axis(ctx.attrs().int_or("axis", 0)?, first.rank())?;
    Ok(vec![concat(&inputs, at)?.into()])
}
