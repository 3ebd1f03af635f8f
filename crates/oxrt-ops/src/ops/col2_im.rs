//! <https://onnx.ai/onnx/operators/onnx__Col2Im.html>

use crate::copy::checked_len;
use crate::def::OpDef;
use crate::eval::{Datum, Eval};
use crate::infer::Infer;
use crate::shape::sizes;
use crate::window::Window;
use oxrt_ir::Dim;
use oxrt_tensor::{Error, Result, Tensor, bail};

/// Adds columns [N, C · block, L] back into images [N, C, image…]. Inputs: columns, image shape, block shape.
pub const OP: OpDef = OpDef::new("Col2Im", &[18], 3..=3, infer, eval).examples(&[(
    "(f32[1, 2, 2] x) { y = Col2Im(x, i64[2]{1, 3}, i64[2]{1, 2}) } => y",
    &["x = 1 2 3 4"],
    "1 5 4",
)]);

fn infer(ctx: &mut Infer) -> Result<()> {
    let block = ctx.contents(2).map(|c| c.elements.iter().cloned().product::<Dim>());
    let batch = ctx.dims(0).and_then(|d| d.first().cloned()).unwrap_or_else(|| ctx.fresh());
    let channels = match (ctx.dims(0).and_then(|d| d.get(1)), block) {
        (Some(c), Some(b)) => c.floor_div(&b),
        _ => ctx.fresh(),
    };
    let image = match ctx.contents(1) {
        Some(c) => Some(c.elements.clone()),
        None => ctx.length_of(1).map(|n| ctx.fresh_dims(n)),
    };
    ctx.set(0, ctx.dtype(0)?, image.map(|i| [vec![batch, channels], i].concat()));
    Ok(())
}

fn eval(ctx: &Eval) -> Result<Vec<Datum>> {
    let x = ctx.tensor(0)?;
    let image = sizes(&ctx.ints(1)?.ok_or_else(|| Error::invalid("the image shape is missing"))?)?;
    let block = ctx.ints(2)?.ok_or_else(|| Error::invalid("the block shape is missing"))?;
    checked_len(&image)?;
    let placed = Window::new(ctx.attrs(), &block)?.place(&image)?;
    let (taps, positions) = (placed.taps_per_output(), placed.num_outputs());
    let [n, rows, length] = *x.shape() else { bail!(invalid, "columns of shape {:?}", x.shape()) };
    if rows % taps.max(1) != 0 || length != positions {
        bail!(invalid, "columns of shape {:?} for {positions} blocks of {taps}", x.shape());
    }
    let table = placed.taps(&image, &placed.out)?;
    let size: usize = image.iter().product();
    let channels = rows / taps;
    let shape = [&[n, channels], &image[..]].concat();
    let mut out = vec![0.0; checked_len(&shape)?];
    for (row, line) in x.to_f64_vec()?.chunks(length.max(1)).enumerate() {
        let plane = &mut out[row / taps * size..(row / taps + 1) * size];
        for (v, &tap) in line.iter().zip(&table[row % taps * positions..]) {
            if tap >= 0 {
                plane[tap as usize] += v;
            }
        }
    }
    Ok(vec![Tensor::from_f64(x.dtype(), &shape, &out)?.into()])
}
