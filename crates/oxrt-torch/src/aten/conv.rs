//! Convolutions.

use crate::args::Args;
use crate::cx::Cx;
use oxrt_ir::{Attrs, Dim, ValueId};
use oxrt_tensor::{Result, bail};

struct Geometry {
    stride: Vec<i64>,
    /// Begins, then ends.
    pads: Vec<i64>,
    dilation: Vec<i64>,
    groups: i64,
}

/// Runs `f` on a batch: an unbatched input gets an axis for the while.
fn batched(cx: &mut Cx, x: ValueId, n: usize, f: impl FnOnce(&mut Cx, ValueId) -> Result<ValueId>) -> Result<ValueId> {
    let rank = cx.rank(x)?;
    if rank == n + 2 {
        return f(cx, x);
    }
    if rank != n + 1 {
        bail!(invalid, "a convolution in {n} axes over a tensor of rank {rank}");
    }
    let x = cx.b.unsqueeze(x, &[0])?;
    let y = f(cx, x)?;
    cx.b.squeeze(y, &[0])
}

fn conv_op(cx: &mut Cx, x: ValueId, w: ValueId, b: Option<ValueId>, g: Geometry) -> Result<ValueId> {
    let n = g.stride.len();
    batched(cx, x, n, |cx, x| {
        let kernel = (2..2 + n).map(|i| cx.static_size(w, i, "a convolution kernel")).collect::<Result<Vec<_>>>()?;
        let attrs = Attrs::new()
            .with("kernel_shape", kernel)
            .with("strides", g.stride)
            .with("pads", g.pads)
            .with("dilations", g.dilation)
            .with("group", g.groups);
        Ok(cx.b.op_multi("Conv", &[Some(x), Some(w), b], attrs, 1)?[0])
    })
}

fn spatial(cx: &Cx, w: ValueId) -> Result<usize> {
    match cx.rank(w)? {
        r @ 3..=5 => Ok(r - 2),
        r => bail!(invalid, "a convolution weight of rank {r}"),
    }
}

/// `conv2d(Tensor input, Tensor weight, Tensor? bias=None, SymInt[2] stride=1, SymInt[2] padding=0, SymInt[2]
/// dilation=1, SymInt groups=1)`, `conv1d`, `conv3d`
pub fn conv(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let (x, w) = (a.t("input")?, a.t("weight")?);
    let n = spatial(cx, w)?;
    let p = a.ints_n("padding", n)?;
    if a.dim("groups")?.as_const().is_none() {
        let y = ByData::new(cx, a, x, w)?.conv(cx)?;
        return with_bias(cx, a, y, n);
    }
    let g = Geometry {
        stride: a.ints_n("stride", n)?,
        pads: [&p[..], &p[..]].concat(),
        dilation: a.ints_n("dilation", n)?,
        groups: a.int("groups")?,
    };
    conv_op(cx, x, w, a.opt_t("bias")?, g)
}

/// A convolution with as many groups as a dynamic size says, which `Conv` cannot: weights that are made per sample, with the batch in the
/// channels (Karras et al., *Analyzing and improving the image quality of StyleGAN*, 2020). One of one axis is brought to two.
struct ByData {
    /// [N, C, H, W] and [O, C / groups, kh, kw], or, transposed, [C, O / groups, kh, kw].
    x: ValueId,
    w: ValueId,
    groups: Dim,
    grid: super::window::Grid,
    /// [N, O, H, W]
    out: Vec<Dim>,
}

impl ByData {
    fn new(cx: &mut Cx, a: &Args, mut x: ValueId, mut w: ValueId) -> Result<ByData> {
        let n = spatial(cx, w)?;
        if n > 2 {
            bail!(unsupported, "a dynamic number of groups in more than two axes");
        }
        let mut out = a.out_dims()?;
        if cx.rank(x)? == n + 1 {
            x = cx.b.unsqueeze(x, &[0])?;
            out.insert(0, Dim::Const(1));
        }
        let plane = |mut sizes: Vec<i64>, none: i64| {
            if n == 1 {
                sizes.insert(0, none);
            }
            sizes
        };
        if n == 1 {
            (x, w) = (cx.b.unsqueeze(x, &[2])?, cx.b.unsqueeze(w, &[2])?);
            out.insert(2, Dim::Const(1));
        }
        let kernel = [cx.static_size(w, 2, "a convolution kernel")?, cx.static_size(w, 3, "a convolution kernel")?];
        let grid = super::window::Grid {
            kernel,
            dilation: plane(a.ints_n("dilation", n)?, 1),
            padding: plane(a.ints_n("padding", n)?, 0),
            stride: plane(a.ints_n("stride", n)?, 1),
        };
        Ok(ByData { x, w, groups: a.dim("groups")?, grid, out })
    }

    fn taps(&self) -> Dim {
        Dim::Const(self.grid.kernel[0] * self.grid.kernel[1])
    }

    /// A product per group of its windows.
    fn conv(self, cx: &mut Cx) -> Result<ValueId> {
        let (have, weight) = (cx.dims(self.x)?, cx.dims(self.w)?);
        let taps = self.taps() * weight[1].clone();
        let places = self.out[2].clone() * self.out[3].clone();
        let x = super::window::windows(cx, self.x, &self.grid)?;
        let x = cx.reshape(x, &[have[0].clone(), self.groups.clone(), taps.clone(), places])?;
        let w = cx.reshape(self.w, &[self.groups.clone(), weight[0].floor_div(&self.groups), taps])?;
        cx.call("MatMul", &[w, x])
    }

    /// The windows that a product per group gives are added where they overlap.
    fn transposed(self, cx: &mut Cx) -> Result<ValueId> {
        let (have, weight) = (cx.dims(self.x)?, cx.dims(self.w)?);
        let (taps, depth) = (self.taps() * weight[1].clone(), weight[0].floor_div(&self.groups));
        let places = have[2].clone() * have[3].clone();
        let x = cx.reshape(self.x, &[have[0].clone(), self.groups.clone(), depth.clone(), places.clone()])?;
        let w = cx.reshape(self.w, &[self.groups.clone(), depth, taps.clone()])?;
        let w = cx.b.transpose(w, &[0, 2, 1])?;
        let y = cx.call("MatMul", &[w, x])?;
        let y = cx.reshape(y, &[have[0].clone(), self.groups * taps, places])?;
        let (image, block, p) = (cx.shape(&self.out[2..])?, cx.b.ints(&self.grid.kernel), &self.grid.padding);
        let attrs = Attrs::new()
            .with("dilations", self.grid.dilation)
            .with("pads", [p[0], p[1], p[0], p[1]])
            .with("strides", self.grid.stride);
        cx.op("Col2Im", &[y, image, block], attrs)
    }
}

/// The result of `ByData` in the shape that the program says, with the bias.
fn with_bias(cx: &mut Cx, a: &Args, y: ValueId, n: usize) -> Result<ValueId> {
    let y = cx.reshape(y, &a.out_dims()?)?;
    let Some(b) = a.opt_t("bias")? else { return Ok(y) };
    let b = cx.b.unsqueeze(b, &(1..=n as i64).collect::<Vec<_>>())?;
    cx.call("Add", &[y, b])
}

/// `conv2d.padding(Tensor input, Tensor weight, Tensor? bias=None, SymInt[2] stride=1, str padding="valid", …)`
pub fn conv_named_padding(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let (x, w) = (a.t("input")?, a.t("weight")?);
    let n = spatial(cx, w)?;
    let dilation = a.ints_n("dilation", n)?;
    let mut pads = vec![0; 2 * n];
    match &*a.text("padding")? {
        "valid" => {}
        "same" => {
            for i in 0..n {
                // The odd one goes to the end.
                let total = dilation[i] * (cx.static_size(w, 2 + i, "a convolution kernel")? - 1);
                (pads[i], pads[n + i]) = (total / 2, total - total / 2);
            }
        }
        other => bail!(unsupported, "the padding {other}"),
    }
    let g = Geometry { stride: a.ints_n("stride", n)?, pads, dilation, groups: a.int("groups")? };
    conv_op(cx, x, w, a.opt_t("bias")?, g)
}

fn transposed_op(cx: &mut Cx, a: &Args, x: ValueId, w: ValueId) -> Result<ValueId> {
    let n = spatial(cx, w)?;
    if a.dim("groups")?.as_const().is_none() {
        let y = ByData::new(cx, a, x, w)?.transposed(cx)?;
        return with_bias(cx, a, y, n);
    }
    let p = a.ints_n("padding", n)?;
    let (stride, output_padding) = (a.ints_n("stride", n)?, a.ints_n("output_padding", n)?);
    let (dilation, groups) = (a.ints_n("dilation", n)?, a.int("groups")?);
    let b = a.opt_t("bias")?;
    // Output padding that is not below the stride, which torch allows with a dilation and ONNX does not: less is cut off at the end,
    // and what lies beyond the last window is zero (and the bias).
    let beyond = output_padding.iter().zip(&stride).any(|(p, s)| p >= s);
    let cut: Vec<i64> = p.iter().zip(&output_padding).map(|(p, o)| if beyond { (p - o).max(0) } else { *p }).collect();
    let missing: Vec<i64> =
        p.iter().zip(&output_padding).map(|(p, o)| if beyond { (o - p).max(0) } else { 0 }).collect();
    let late_bias = missing.iter().any(|&m| m > 0);
    batched(cx, x, n, |cx, x| {
        let kernel = (2..2 + n).map(|i| cx.static_size(w, i, "a convolution kernel")).collect::<Result<Vec<_>>>()?;
        let mut attrs = Attrs::new()
            .with("kernel_shape", kernel)
            .with("strides", stride)
            .with("pads", [&p[..], &cut[..]].concat())
            .with("dilations", dilation)
            .with("group", groups);
        if !beyond && output_padding.iter().any(|&p| p != 0) {
            attrs.set("output_padding", output_padding);
        }
        let early_bias = b.filter(|_| !late_bias);
        let y = cx.b.op_multi("ConvTranspose", &[Some(x), Some(w), early_bias], attrs, 1)?[0];
        if !late_bias {
            return Ok(y);
        }
        let pads: Vec<i64> = [vec![0; n + 4], missing].concat();
        let pads = cx.b.ints(&pads);
        let y = cx.call("Pad", &[y, pads])?;
        let Some(b) = b else { return Ok(y) };
        let b = cx.b.unsqueeze(b, &(1..=n as i64).collect::<Vec<_>>())?;
        cx.call("Add", &[y, b])
    })
}

/// `conv_transpose2d.input(Tensor input, Tensor weight, Tensor? bias=None, SymInt[2] stride=1, SymInt[2]
/// padding=0, SymInt[2] output_padding=0, SymInt groups=1, SymInt[2] dilation=1)`, `conv_transpose1d`, `3d`
pub fn conv_transpose(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    transposed_op(cx, a, a.t("input")?, a.t("weight")?)
}

/// `convolution(Tensor input, Tensor weight, Tensor? bias, SymInt[] stride, SymInt[] padding, SymInt[] dilation,
/// bool transposed, SymInt[] output_padding, SymInt groups)`
pub fn convolution(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    if a.bool("transposed")? { conv_transpose(cx, a) } else { conv(cx, a) }
}

/// `conv_tbc(Tensor self, Tensor weight, Tensor bias, int pad=0)`: time, batch, channels; the kernel's channels come last
pub fn conv_tbc(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let (x, w) = (a.t("self")?, a.t("weight")?);
    let (x, w) = (cx.b.transpose(x, &[1, 2, 0])?, cx.b.transpose(w, &[2, 1, 0])?);
    let pad = a.int("pad")?;
    let g = Geometry { stride: vec![1], pads: vec![pad, pad], dilation: vec![1], groups: 1 };
    let y = conv_op(cx, x, w, a.opt_t("bias")?, g)?;
    cx.b.transpose(y, &[2, 0, 1])
}
