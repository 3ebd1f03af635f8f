//! <https://onnx.ai/onnx/operators/onnx__Reshape.html>

use crate::def::OpDef;
use crate::eval::{Datum, Eval};
use crate::infer::Infer;
use oxrt_ir::{Contents, Dim};
use oxrt_tensor::{Error, Result, bail};

pub const OP: OpDef = OpDef::new("Reshape", &[1, 5, 13, 14, 19, 21, 23, 24, 25], 2..=2, infer, eval).examples(&[(
    "(f32[2, 3] x) { y = Reshape(x, i64[2]{-1, 2}) } => y",
    &["x = 1 2 3 4 5 6"],
    "1 2 3 4 5 6",
)]);

fn infer(ctx: &mut Infer) -> Result<()> {
    let dtype = ctx.dtype(0)?;
    let allow_zero = ctx.attrs().bool_or("allowzero", false)?;
    let Some(target) = ctx.contents(1).map(|c| c.elements.clone()) else {
        let rank = ctx.dims(1).and_then(|d| d.first()?.as_size()).filter(|&r| r <= 64);
        let dims = rank.map(|r| ctx.fresh_dims(r));
        ctx.set(0, dtype, dims);
        return Ok(());
    };
    let mut out = Vec::with_capacity(target.len());
    for (i, d) in target.iter().enumerate() {
        out.push(match d.as_const() {
            Some(0) if !allow_zero => match ctx.dims(0) {
                Some(x) if i < x.len() => x[i].clone(),
                Some(x) => bail!(invalid, "the 0 at {i} copies an axis that rank {} lacks", x.len()),
                None => ctx.fresh(),
            },
            _ => d.clone(),
        });
    }
    let unknown: Vec<usize> = (0..out.len()).filter(|&i| out[i].is(-1)).collect();
    match (unknown[..].as_ref(), ctx.dims(0)) {
        ([], Some(x)) => {
            let (total, want): (Dim, Dim) = (x.iter().cloned().product(), out.iter().cloned().product());
            if let (Some(a), Some(b)) = (total.as_const(), want.as_const())
                && a != b {
                    bail!(invalid, "cannot reshape {x:?} ({a} elements) to {out:?} ({b} elements)");
                }
        }
        ([at], Some(x)) => {
            let rest: Dim = (0..out.len()).filter(|i| i != at).map(|i| out[i].clone()).product();
            let total: Dim = x.iter().cloned().product();
            out[*at] = match (total.as_const(), rest.as_const()) {
                (Some(t), Some(r)) if r != 0 && t % r != 0 => bail!(invalid, "cannot reshape {x:?} to {target:?}"),
                _ => total.floor_div(&rest),
            };
        }
        ([at], None) => out[*at] = ctx.fresh(),
        ([], None) => {}
        _ => bail!(invalid, "the shape {target:?} holds more than one -1"),
    }
    let rank = out.len();
    ctx.set(0, dtype, Some(out));
    if rank <= 1 {
        let rows = || ctx.rows_of(ctx.node().input(0)?).map(|rows| rows.concat());
        if let Some(elements) = ctx.contents(0).map(|c| c.elements.clone()).or_else(rows) {
            ctx.set_contents(0, Contents { scalar: rank == 0, elements });
        }
    }
    Ok(())
}

fn eval(ctx: &Eval) -> Result<Vec<Datum>> {
    let x = ctx.tensor(0)?;
    let target = ctx.ints(1)?.ok_or_else(|| Error::invalid("the shape is missing"))?;
    let allow_zero = ctx.attrs().bool_or("allowzero", false)?;
    let mut shape = Vec::with_capacity(target.len());
    for (i, &d) in target.iter().enumerate() {
        shape.push(match d {
            0 if !allow_zero => *x.shape().get(i).ok_or_else(|| Error::invalid("a 0 copies an axis that is not there"))?,
            -1 => usize::MAX,
            d => usize::try_from(d).map_err(|_| Error::invalid(format!("the size {d} is negative")))?,
        });
    }
    if let Some(at) = shape.iter().position(|&d| d == usize::MAX) {
        shape[at] = 1;
        let rest = oxrt_tensor::num_elements(&shape)?;
        if rest == 0 || x.len() % rest != 0 {
            bail!(invalid, "cannot reshape {:?} to {target:?}", x.shape());
        }
        shape[at] = x.len() / rest;
    }
    Ok(vec![x.reshaped(&shape)?.into()])
}
