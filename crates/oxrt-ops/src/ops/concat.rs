//! <https://onnx.ai/onnx/operators/onnx__Concat.html>

use crate::def::OpDef;
use crate::eval::{Datum, Eval};
use crate::infer::Infer;
use crate::shape::axis;
use oxrt_ir::{Contents, Dim};
use oxrt_tensor::{Error, Result, Tensor, bail};

pub const OP: OpDef = OpDef::new("Concat", &[4, 11, 13], 1..=usize::MAX, infer, eval).examples(&[(
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
    let mut shape = first.shape().to_vec();
    shape[at] = 0;
    for t in &inputs {
        let fits = t.rank() == shape.len() && (0..shape.len()).all(|k| k == at || t.shape()[k] == shape[k]);
        if !fits || t.dtype() != first.dtype() {
            bail!(invalid, "{:?} {} does not join {:?} on axis {at}", t.shape(), t.dtype(), first.shape());
        }
        shape[at] += t.shape()[at];
    }
    let outer: usize = shape[..at].iter().product();
    if first.strings().is_some() {
        let mut out = Vec::new();
        for o in 0..outer {
            for t in &inputs {
                let run = t.len() / outer.max(1);
                out.extend_from_slice(&t.strings().unwrap_or_default()[o * run..(o + 1) * run]);
            }
        }
        return Ok(vec![Tensor::from_strings(&shape, out)?.into()]);
    }
    let Some(_) = first.dtype().size() else {
        bail!(unsupported, "Concat of packed {} elements", first.dtype());
    };
    let mut bytes = Vec::new();
    for o in 0..outer {
        for t in &inputs {
            let run = t.bytes().len() / outer.max(1);
            bytes.extend_from_slice(&t.bytes()[o * run..(o + 1) * run]);
        }
    }
    Ok(vec![Tensor::from_bytes(first.dtype(), &shape, &bytes)?.into()])
}
