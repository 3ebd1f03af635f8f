//! Sliding windows.

use crate::alias::{Shown, View};
use crate::args::Args;
use crate::cx::Cx;
use oxrt_ir::{Attrs, DType, Dim, ValueId};
use oxrt_tensor::{Result, bail};

/// `unfold(Tensor self, int dimension, int size, int step)`
pub fn unfold_view(cx: &mut Cx, a: &Args) -> Result<Shown> {
    let x = a.t("self")?;
    if cx.rank(x)? == 0 {
        return Ok(View::Reshape(a.out_dims()?).into());
    }
    let axis = cx.axis(x, a.int("dimension")?)?;
    let (size, step) = (a.int("size")?, a.int("step")?);
    let windows = a.out_dims()?.get(axis).cloned().unwrap_or(Dim::Const(1));
    Ok(View::Unfold { axis, size, step, windows }.into())
}

/// Places `outer·step + inner·stride` as an `outer × inner` matrix.
fn places(cx: &mut Cx, outer: &Dim, step: i64, inner: &Dim, stride: i64) -> Result<ValueId> {
    let (rows, columns) = (super::create::range(cx, outer)?, super::create::range(cx, inner)?);
    let (step, stride) = (cx.b.scalar(DType::I64, step as f64)?, cx.b.scalar(DType::I64, stride as f64)?);
    let rows = cx.call("Mul", &[rows, step])?;
    let columns = cx.call("Mul", &[columns, stride])?;
    let rows = cx.b.unsqueeze(rows, &[1])?;
    cx.call("Add", &[rows, columns])
}

pub(crate) fn unfold(cx: &mut Cx, x: ValueId, axis: usize, size: i64, step: i64, windows: &Dim) -> Result<ValueId> {
    let index = places(cx, windows, step, &Dim::Const(size), 1)?;
    let y = cx.op("Gather", &[x, index], Attrs::new().with("axis", axis as i64))?;
    let rank = cx.rank(y)?;
    let mut perm: Vec<usize> = (0..rank).filter(|&i| i != axis + 1).collect();
    perm.push(axis + 1);
    cx.b.transpose(y, &perm)
}

/// `im2col(Tensor self, int[2] kernel_size, int[2] dilation, int[2] padding, int[2] stride)`
pub fn im2col(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let x = a.t("self")?;
    let k = a.ints_n("kernel_size", 2)?;
    let g = Grid {
        kernel: [k[0], k[1]],
        dilation: a.ints_n("dilation", 2)?,
        padding: a.ints_n("padding", 2)?,
        stride: a.ints_n("stride", 2)?,
    };
    let batched = cx.rank(x)? == 4;
    let x = if batched { x } else { cx.b.unsqueeze(x, &[0])? };
    let y = windows(cx, x, &g)?;
    cx.reshape(y, &a.out_dims()?)
}

/// Where the windows of an image lie.
pub(crate) struct Grid {
    pub kernel: [i64; 2],
    pub dilation: Vec<i64>,
    pub padding: Vec<i64>,
    pub stride: Vec<i64>,
}

/// The windows of x [N, C, H, W]: [N, C, kh, kw, rows, columns].
pub(crate) fn windows(cx: &mut Cx, x: ValueId, g: &Grid) -> Result<ValueId> {
    let Grid { kernel: k, dilation: d, padding: p, stride: s } = g;
    let pads: Vec<Dim> = [p[1], p[1], p[0], p[0]].into_iter().map(Dim::Const).collect();
    let x = super::resize::pad_values(cx, x, &pads, "constant", None)?;
    let dims = cx.dims(x)?;
    let count = |n: &Dim, i: usize| (n.clone() - d[i] * (k[i] - 1) - 1).floor_div(&Dim::Const(s[i])) + 1;
    let (oh, ow) = (count(&dims[2], 0), count(&dims[3], 1));
    // [N, C, H, W] → [N, C, kh, oh, W] → [N, C, kh, oh, kw, ow]
    let rows = places(cx, &Dim::Const(k[0]), d[0], &oh, s[0])?;
    let columns = places(cx, &Dim::Const(k[1]), d[1], &ow, s[1])?;
    let y = cx.op("Gather", &[x, rows], Attrs::new().with("axis", 2))?;
    let y = cx.op("Gather", &[y, columns], Attrs::new().with("axis", 4))?;
    cx.b.transpose(y, &[0, 1, 2, 4, 3, 5])
}

/// `col2im(Tensor self, SymInt[2] output_size, int[2] kernel_size, int[2] dilation, int[2] padding, int[2] stride)`
pub fn col2im(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let x = a.t("self")?;
    let (p, batched) = (a.ints_n("padding", 2)?, cx.rank(x)? == 3);
    let x = if batched { x } else { cx.b.unsqueeze(x, &[0])? };
    let image = a.dim_list("output_size")?;
    if image.len() != 2 {
        bail!(invalid, "col2im to {} axes", image.len());
    }
    let image = cx.shape(&image)?;
    let kernel = a.ints_n("kernel_size", 2)?;
    let block = cx.b.ints(&kernel);
    let attrs = Attrs::new()
        .with("dilations", a.ints_n("dilation", 2)?)
        .with("pads", [p[0], p[1], p[0], p[1]])
        .with("strides", a.ints_n("stride", 2)?);
    let y = cx.op("Col2Im", &[x, image, block], attrs)?;
    if batched { Ok(y) } else { cx.b.squeeze(y, &[0]) }
}
