//! <https://onnx.ai/onnx/operators/onnx__DeformConv.html>

use crate::conv;
use crate::copy::checked_len;
use crate::def::OpDef;
use crate::eval::{Datum, Eval};
use crate::window::Window;
use oxrt_tensor::{Result, Tensor, bail};

/// Convolution whose taps are moved by offsets (input 2) and weighted by a mask (input 4), in the plane.
pub const OP: OpDef = OpDef::new("DeformConv", &[19, 22], 3..=5, |ctx| {
        let dtype = ctx.dtype(0)?;
        conv::infer_as(ctx, dtype, 0, 1, false, false)
    }, eval).examples(&[(
    "(f32[1, 1, 2, 2] x, f32[1, 2, 2, 2] o) { y = DeformConv(x, f32[1, 1, 1, 1]{2}, o) } => y",
    &["x = 1 2 3 4", "o = 0 0 0 -1 0.5 0 0 0"],
    "3 4 6 4",
)]);

fn eval(ctx: &Eval) -> Result<Vec<Datum>> {
    let (x, w, offset, attrs) = (ctx.tensor(0)?, ctx.tensor(1)?, ctx.tensor(2)?, ctx.attrs());
    let (&[n, c, height, width], &[m, cg, kh, kw]) = (x.shape(), w.shape()) else {
        bail!(unsupported, "DeformConv of {:?} with {:?}", x.shape(), w.shape());
    };
    let positive = |name: &str| -> Result<usize> {
        match usize::try_from(attrs.int_or(name, 1)?) {
            Ok(v) if v > 0 => Ok(v),
            _ => bail!(invalid, "`{name}` should be positive"),
        }
    };
    let (group, shifts) = (positive("group")?, positive("offset_group")?);
    let window = Window::new(attrs, &[kh as i64, kw as i64])?;
    let placed = window.place(&[height, width])?;
    let (oh, ow) = (placed.out[0], placed.out[1]);
    let taps = kh * kw;
    if cg * group != c || m % group != 0 || c % shifts != 0 || offset.shape() != [n, shifts * taps * 2, oh, ow] {
        bail!(invalid, "an input of {:?}, weights of {:?} and offsets of {:?}", x.shape(), w.shape(), offset.shape());
    }
    let mask = ctx.opt(4)?;
    if mask.is_some_and(|t| t.shape() != [n, shifts * taps, oh, ow]) {
        bail!(invalid, "a mask of {:?}", mask.map(Tensor::shape));
    }
    let bias = ctx.opt(3)?.map(Tensor::to_f64_vec).transpose()?;
    if bias.as_ref().is_some_and(|b| b.len() != m) {
        bail!(invalid, "the bias should have {m} elements");
    }
    let mask = mask.map(Tensor::to_f64_vec).transpose()?;
    let (x_data, w_data, moved) = (x.to_f64_vec()?, w.to_f64_vec()?, offset.to_f64_vec()?);
    // Between the pixels; zero outside.
    let sample = |plane: &[f64], y: f64, x: f64| -> f64 {
        let (y0, x0) = (y.floor(), x.floor());
        let mut sum = 0.0;
        for (dy, dx) in [(0.0, 0.0), (0.0, 1.0), (1.0, 0.0), (1.0, 1.0)] {
            let (py, px) = (y0 + dy, x0 + dx);
            if py >= 0.0 && px >= 0.0 && py < height as f64 && px < width as f64 {
                let weight = (1.0 - (y - py).abs()) * (1.0 - (x - px).abs());
                sum += weight * plane[py as usize * width + px as usize];
            }
        }
        sum
    };
    let shape = [n, m, oh, ow];
    let mut out = vec![0.0; checked_len(&shape)?];
    let positions = oh * ow;
    let mg = m / group;
    for image in 0..n {
        for channel in 0..c {
            let plane = &x_data[(image * c + channel) * height * width..][..height * width];
            let shift = image * shifts + channel / (c / shifts);
            for (k, p) in (0..taps).flat_map(|k| (0..positions).map(move |p| (k, p))) {
                let at = |part: usize| moved[((shift * taps + k) * 2 + part) * positions + p];
                let origin = placed.origin(&[p / ow, p % ow], &[k / kw, k % kw]);
                let mut v = sample(plane, origin[0] as f64 + at(0), origin[1] as f64 + at(1));
                if let Some(mask) = &mask {
                    v *= mask[(shift * taps + k) * positions + p];
                }
                for map in channel / cg * mg..(channel / cg + 1) * mg {
                    out[(image * m + map) * positions + p] += v * w_data[(map * cg + channel % cg) * taps + k];
                }
            }
        }
    }
    if let Some(b) = &bias {
        out.iter_mut().enumerate().for_each(|(i, v)| *v += b[i / positions % m]);
    }
    Ok(vec![Tensor::from_f64(x.dtype(), &shape, &out)?.into()])
}
