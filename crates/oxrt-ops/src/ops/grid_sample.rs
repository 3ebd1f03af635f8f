//! <https://onnx.ai/onnx/operators/onnx__GridSample.html>

use crate::copy::checked_len;
use crate::def::OpDef;
use crate::eval::{Datum, Eval};
use crate::grid::Sampling;
use crate::infer::Infer;
use crate::matmul::parallel;
use oxrt_ir::Dim;
use oxrt_tensor::{Result, Tensor, bail, strides_of};

/// Samples x [N, C, spatial…] at the points of a grid [N, out…, r], whose coordinates run from -1 to 1, innermost
/// axis first.
pub const OP: OpDef = OpDef::new("GridSample", &[16, 20, 22], 2..=2, infer, eval).examples(&[
    (
        "(f32[1, 1, 1, 2] x, f32[1, 1, 3, 2] g) { y = GridSample<align_corners=1>(x, g) } => y",
        &["x = 1 3", "g = -1 0 0 0 2 0"],
        "1 2 1.5",
    ),
    (
        "(f32[1, 1, 1, 2] x, f32[1, 1, 2, 2] g) {
            y = GridSample<mode=\"nearest\", padding_mode=\"border\">(x, g) } => y",
        &["x = 1 3", "g = -0.9 0 5 0"],
        "1 3",
    ),
]);

fn infer(ctx: &mut Infer) -> Result<()> {
    let dims = match (ctx.dims(0), ctx.dims(1)) {
        (Some(x), Some(g)) if x.len() == g.len() && x.len() > 2 => {
            let mut dims: Vec<Dim> = x[..2].to_vec();
            dims.extend_from_slice(&g[1..g.len() - 1]);
            Some(dims)
        }
        (Some(x), Some(g)) => bail!(invalid, "a grid of shape {g:?} for an input of shape {x:?}"),
        _ => None,
    };
    ctx.set(0, ctx.dtype(0)?, dims);
    Ok(())
}

fn eval(ctx: &Eval) -> Result<Vec<Datum>> {
    let (x, grid, attrs) = (ctx.tensor(0)?, ctx.tensor(1)?, ctx.attrs());
    let r = x.rank().saturating_sub(2);
    if r == 0 || grid.rank() != r + 2 || grid.shape()[0] != x.shape()[0] || grid.shape()[r + 1] != r {
        bail!(invalid, "a grid of shape {:?} for an input of shape {:?}", grid.shape(), x.shape());
    }
    let sampling = Sampling::new(attrs)?;
    let spatial = &x.shape()[2..];
    let out = &grid.shape()[1..=r];
    let shape = [&x.shape()[..2], out].concat();
    let (points, plane): (usize, usize) = (out.iter().product(), spatial.iter().product());
    if plane == 0 {
        if checked_len(&shape)? > 0 {
            bail!(invalid, "an empty input of shape {:?}", x.shape());
        }
        return Ok(vec![Tensor::zeros(x.dtype(), &shape).into()]);
    }
    let (n, c) = (x.shape()[0], x.shape()[1]);
    let strides = strides_of(spatial);
    let (data, grid) = (x.to_f64_vec()?, grid.to_f64_vec()?);
    // The taps of a point are those of its axes, multiplied out.
    let combined = |image: usize, p: usize| -> Vec<(usize, f64)> {
        let at = &grid[(image * points + p) * r..(image * points + p + 1) * r];
        let mut all = vec![(0usize, 1.0)];
        for d in 0..r {
            let (axis, stride) = (sampling.taps(spatial[d], at[r - 1 - d]), strides[d]);
            let axis = &axis[..sampling.count()];
            all = all
                .iter()
                .flat_map(|&(o, w)| axis.iter().filter_map(move |&(i, v)| Some((o + i? * stride, w * v))))
                .collect();
        }
        all
    };
    let images = parallel(n, (n * c).saturating_mul(points * 8), |image| {
        let lists: Vec<_> = (0..points).map(|p| combined(image, p)).collect();
        let mut values = Vec::with_capacity(c * points);
        for k in 0..c {
            let base = (image * c + k) * plane;
            values.extend(lists.iter().map(|l| l.iter().map(|(o, w)| data[base + o] * w).sum::<f64>()));
        }
        values
    });
    Ok(vec![Tensor::from_f64(x.dtype(), &shape, &images.concat())?.into()])
}
