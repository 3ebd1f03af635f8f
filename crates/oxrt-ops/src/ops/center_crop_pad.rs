//! <https://onnx.ai/onnx/operators/onnx__CenterCropPad.html>

use crate::copy::{checked_len, remap};
use crate::def::OpDef;
use crate::eval::{Datum, Eval};
use crate::infer::Infer;
use crate::shape::{axis, sizes};
use oxrt_ir::Attrs;
use oxrt_tensor::{Error, Result, Tensor, bail};

/// Cuts or fills with zeros around the middle, to the sizes in input 1.
pub const OP: OpDef = OpDef::new("CenterCropPad", &[18], 2..=2, infer, eval).examples(&[(
    "(f32[1, 4] x) { y = CenterCropPad(x, i64[2]{2, 3}) } => y",
    &["x = 1 2 3 4"],
    "1 2 3 0 0 0",
)]);

fn listed(attrs: &Attrs, rank: usize) -> Result<Vec<usize>> {
    match attrs.ints("axes")? {
        Some(l) => l.iter().map(|&a| axis(a, rank)).collect(),
        None => Ok((0..rank).collect()),
    }
}

fn infer(ctx: &mut Infer) -> Result<()> {
    let dims = match ctx.dims(0) {
        Some(x) => {
            let axes = listed(ctx.attrs(), x.len())?;
            let mut dims = x.to_vec();
            match ctx.contents(1) {
                Some(c) if c.elements.len() == axes.len() => {
                    axes.iter().zip(&c.elements).for_each(|(&a, d)| dims[a] = d.clone());
                }
                Some(c) => bail!(invalid, "{} sizes for {} axes", c.elements.len(), axes.len()),
                None => {
                    for &a in &axes {
                        dims[a] = ctx.fresh();
                    }
                }
            }
            Some(dims)
        }
        None => None,
    };
    ctx.set(0, ctx.dtype(0)?, dims);
    Ok(())
}

fn eval(ctx: &Eval) -> Result<Vec<Datum>> {
    let x = ctx.tensor(0)?;
    let target = sizes(&ctx.ints(1)?.ok_or_else(|| Error::invalid("the sizes are missing"))?)?;
    let axes = listed(ctx.attrs(), x.rank())?;
    if target.len() != axes.len() {
        bail!(invalid, "{} sizes for {} axes", target.len(), axes.len());
    }
    let mut shape = x.shape().to_vec();
    axes.iter().zip(&target).for_each(|(&a, &size)| shape[a] = size);
    // The maps of the axes are as long as the result at least.
    checked_len(&shape)?;
    let room = shape.iter().all(|&n| Vec::<Option<usize>>::new().try_reserve_exact(n).is_ok());
    if !room {
        bail!(invalid, "no memory for axes of shape {shape:?}");
    }
    let mut maps: Vec<Vec<Option<usize>>> = x.shape().iter().map(|&n| (0..n).map(Some).collect()).collect();
    for (&a, &size) in axes.iter().zip(&target) {
        let n = x.shape()[a];
        maps[a] = if size <= n {
            (0..size).map(|i| Some(i + (n - size) / 2)).collect()
        } else {
            (0..size).map(|i| i.checked_sub((size - n) / 2).filter(|&i| i < n)).collect()
        };
    }
    Ok(vec![remap(x, &Tensor::zeros(x.dtype(), &[]), &maps)?.into()])
}
