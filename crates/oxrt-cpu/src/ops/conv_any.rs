//! Convolutions of doubles, and with weights that are known only at run time: windows are gathered panel by panel and
//! multiplied, in ONNX's order of axes.

use super::{Entry, activation, pack_nothing, require, sizes};
use crate::backend::{Ctx, bound, kernel};
use crate::compute::product;
use crate::compute::window::Window;
use crate::compute::{Shared, cut};
use crate::kernels::activation::Act;
use crate::kernels::product::{PANEL, ProductTile, ROWS, Scalar};
use oxrt_backend::{BindArgs, Bound, Kernel, NodeView};
use oxrt_ir::{Attrs, DType};
use oxrt_tensor::{Error, Result, bail};

pub(super) const CONV_ANY: Entry = Entry {
    name: "conv_any",
    ops: &["Conv"],
    supports,
    pack: pack_nothing,
    load: |ctx, node, _| load(ctx, node, false),
};
pub(super) const TRANSPOSED_ANY: Entry = Entry {
    name: "conv_transpose_any",
    ops: &["ConvTranspose"],
    supports: |node| require(!node.attrs().has("output_shape")).and(supports(node)),
    pack: pack_nothing,
    load: |ctx, node, _| load(ctx, node, true),
};

fn supports(node: &NodeView) -> Option<()> {
    let (dtype, attrs) = (node.dtype(0)?, node.attrs());
    require(matches!(dtype, DType::F32 | DType::F64) && node.dtype(1) == Some(dtype) && !node.has(3))?;
    require(!node.has(2) || node.dtype(2) == Some(dtype))?;
    require((3..=5).contains(&node.rank(0)?) && node.rank(0) == node.rank(1))?;
    require(attrs.string_or("auto_pad", "NOTSET").ok()? == "NOTSET" && activation(attrs).ok()? == Act::None)?;
    sizes(attrs.ints("pads").ok()?.unwrap_or(&[])).map(|_| ())
}

fn load(ctx: &Ctx, node: &NodeView, transposed: bool) -> Result<Box<dyn Kernel>> {
    let (attrs, ctx) = (node.attrs().clone(), ctx.clone());
    let double = node.dtype(0) == Some(DType::F64);
    kernel(move |args| match (transposed, double) {
        (false, false) => convolve::<f32>(&ctx, &attrs, args),
        (false, true) => convolve::<f64>(&ctx, &attrs, args),
        (true, false) => spread::<f32>(&ctx, &attrs, args),
        (true, true) => spread::<f64>(&ctx, &attrs, args),
    })
}

/// Sizes of a convolution in either direction.
struct Plan {
    window: Window,
    groups: usize,
    /// Channels and maps of a group.
    cg: usize,
    mg: usize,
}

fn plan(attrs: &Attrs, args: &BindArgs, transposed: bool) -> Result<Plan> {
    let list = |name: &str| -> Result<Vec<usize>> {
        sizes(attrs.ints(name)?.unwrap_or(&[])).ok_or_else(|| Error::invalid(format!("a negative number in `{name}`")))
    };
    let (x, w, y) = (args.shape(0)?, args.shape(1)?, args.output(0)?);
    let groups = usize::try_from(attrs.int_or("group", 1)?).ok().filter(|&g| g > 0);
    let groups = groups.ok_or_else(|| Error::invalid("a convolution's group count must be positive"))?;
    let (cg, mg) = if transposed { (w[0] / groups, w[1]) } else { (w[1], w[0] / groups) };
    let lead = if transposed { w[0] } else { w[0].max(1) };
    let maps = groups * mg;
    if lead % groups != 0 || x[1] != groups * cg || y[..2] != [x[0], maps] {
        bail!(invalid, "weights of shape {w:?} in {groups} groups do not take {x:?} to {y:?}");
    }
    if args.opt_shape(2).is_some_and(|b| b != [maps]) {
        bail!(invalid, "a bias of shape {:?} for {maps} maps", args.shape(2)?);
    }
    let (strides, dilations, pads) = (list("strides")?, list("dilations")?, list("pads")?);
    // A transposed convolution is the plain one run the other way.
    let (from, to) = if transposed { (&y[2..], &x[2..]) } else { (&x[2..], &y[2..]) };
    let window = Window::new(x[0], from, &w[2..], &strides, &dilations, &pads, to)
        .ok_or_else(|| Error::unsupported(format!("a convolution over shape {x:?}")))?;
    Ok(Plan { window, groups, cg, mg })
}

/// Offsets, in a plane of the window's input, of the taps of up to [`PANEL`] output pixels from `first`.
#[inline]
fn offsets(w: &Window, first: usize, count: usize, tap: usize) -> [Option<usize>; PANEL] {
    let [_, kh, kw] = w.kernel;
    let (kd, kh, kw) = (tap / (kh * kw), tap / kw % kh, tap % kw);
    let mut out = [None; PANEL];
    for (j, to) in out[..count].iter_mut().enumerate() {
        let p = first + j;
        let (od, oh, ow) = (p / (w.output[1] * w.output[2]), p / w.output[2] % w.output[1], p % w.output[2]);
        let at = w.at(0, od, kd).zip(w.at(1, oh, kh)).zip(w.at(2, ow, kw));
        *to = at.map(|((d, h), x)| (d * w.input[1] + h) * w.input[2] + x);
    }
    out
}

fn convolve<T: Scalar>(ctx: &Ctx, attrs: &Attrs, args: &BindArgs) -> Result<Box<dyn Bound>> {
    let Plan { window, groups, cg, mg } = plan(attrs, args, false)?;
    let (taps, pixels, plane) = (window.taps(), window.output_pixels(), window.input_pixels());
    let (k, panels) = (cg * taps, pixels.div_ceil(PANEL));
    let units = window.batch * groups * panels;
    let parts = ctx.pool.parts(units * PANEL * k * mg / (64 * 1024)).min(units.max(1));
    let ctx = ctx.clone();
    bound(move |io| {
        let scratch = Shared(io.workspace.cast::<T>());
        let (x, w) = (Shared(io.input::<T>(0).cast_mut()), Shared(io.input::<T>(1).cast_mut()));
        let (bias, y) = (Shared(io.input::<T>(2).cast_mut()), Shared(io.output::<T>(0)));
        ctx.pool.run(parts, |part| {
            let (start, count) = cut(units, parts, part);
            for unit in start..start + count {
                let (image, g, first) = (unit / (groups * panels), unit / panels % groups, unit % panels * PANEL);
                let columns = PANEL.min(pixels - first);
                // SAFETY: each part has a panel of its own; offsets lie inside the planes, tiles inside the result.
                unsafe {
                    let panel = scratch.at(part * PANEL * k);
                    let from = x.at((image * groups + g) * cg * plane);
                    for tap in 0..taps {
                        let at = offsets(&window, first, columns, tap);
                        for c in 0..cg {
                            let to = panel.add((c * taps + tap) * PANEL);
                            for (j, at) in at.iter().enumerate() {
                                *to.add(j) = at.map_or(T::default(), |at| *from.add(c * plane + at));
                            }
                        }
                    }
                    for row in (0..mg).step_by(ROWS) {
                        let (m, rows) = (g * mg + row, ROWS.min(mg - row));
                        let c = y.at((image * groups * mg + m) * pixels + first);
                        let a = w.at(m * k);
                        T::kernel(ctx.kernels)(&ProductTile { k, a, b: panel, c, stride: pixels, rows, columns });
                        if !bias.get().is_null() {
                            for i in 0..rows * columns {
                                let to = c.add(i / columns * pixels + i % columns);
                                *to = (*to).more(*bias.at(m + i / columns));
                            }
                        }
                    }
                }
            }
        });
    })
    .workspace(parts * PANEL * k * size_of::<T>())
    .flops(2 * units * PANEL * k * mg)
    .boxed()
}

fn spread<T: Scalar>(ctx: &Ctx, attrs: &Attrs, args: &BindArgs) -> Result<Box<dyn Bound>> {
    let Plan { window, groups, cg, mg } = plan(attrs, args, true)?;
    let (taps, pixels, plane) = (window.taps(), window.output_pixels(), window.input_pixels());
    let panels = pixels.div_ceil(PANEL);
    // Weights as [group][map][tap][channel], then the input's panels of all images and groups.
    let weights = groups * mg * taps * cg;
    let packed_len = product::packed_len(cg, pixels);
    let (jobs, units) = (window.batch * groups * panels, window.batch * groups * mg);
    let flops = 2 * units * taps * cg * pixels;
    let ctx = ctx.clone();
    bound(move |io| {
        let turned = Shared(io.workspace.cast::<T>());
        let packed = Shared(io.workspace.wrapping_add((weights * size_of::<T>()).next_multiple_of(64)).cast::<T>());
        let (x, w) = (Shared(io.input::<T>(0).cast_mut()), Shared(io.input::<T>(1).cast_mut()));
        let (bias, y) = (Shared(io.input::<T>(2).cast_mut()), Shared(io.output::<T>(0)));
        let rows = groups * mg * taps;
        let parts = ctx.pool.parts(weights / (16 * 1024)).min(rows.max(1));
        ctx.pool.run(parts, |part| {
            let (start, count) = cut(rows, parts, part);
            for row in start..start + count {
                let (g, rest) = (row / (mg * taps), row % (mg * taps));
                // SAFETY: rows are disjoint; element (c, map, tap) lies at `c * mg * taps + map * taps + tap` of its group.
                (0..cg).for_each(|c| unsafe {
                    *turned.at(row * cg + c) = *w.at((g * cg + c) * mg * taps + rest);
                });
            }
        });
        let parts = ctx.pool.parts(jobs * PANEL * cg / 4096).min(jobs.max(1));
        ctx.pool.run(parts, |part| {
            let (start, count) = cut(jobs, parts, part);
            for job in start..start + count {
                // SAFETY: every panel is packed once; pixels lie inside the operand.
                unsafe {
                    let from = x.at(job / panels * cg * pixels);
                    let to = packed.at(job / panels * packed_len + job % panels * PANEL * cg);
                    product::pack_panel(cg, pixels, job % panels, to, |c, p| *from.add(c * pixels + p));
                }
            }
        });
        let parts = ctx.pool.parts(flops / (128 * 1024)).min(units.max(1));
        ctx.pool.run(parts, |part| {
            let (start, count) = cut(units, parts, part);
            for unit in start..start + count {
                let (image_group, m) = (unit / mg, unit % mg);
                let map = image_group % groups * mg + m;
                // SAFETY: units are disjoint maps of the result, which the taps' offsets stay inside.
                unsafe {
                    let out = y.at(unit * plane);
                    let start = if bias.get().is_null() { T::default() } else { *bias.at(map) };
                    (0..plane).for_each(|i| *out.add(i) = start);
                    for panel in 0..panels {
                        let columns = PANEL.min(pixels - panel * PANEL);
                        let b = packed.at(image_group * packed_len + panel * PANEL * cg);
                        for first in (0..taps).step_by(ROWS) {
                            let rows = ROWS.min(taps - first);
                            let mut tile = [T::default(); ROWS * PANEL];
                            let a = turned.at((map * taps + first) * cg);
                            let c = tile.as_mut_ptr();
                            T::kernel(ctx.kernels)(&ProductTile { k: cg, a, b, c, stride: PANEL, rows, columns });
                            for r in 0..rows {
                                let at = offsets(&window, panel * PANEL, columns, first + r);
                                for (j, at) in at.iter().enumerate() {
                                    let Some(at) = *at else { continue };
                                    *out.add(at) = (*out.add(at)).more(tile[r * PANEL + j]);
                                }
                            }
                        }
                    }
                }
            }
        });
    })
    .workspace(((weights * size_of::<T>()).next_multiple_of(64)) + window.batch * groups * packed_len * size_of::<T>())
    .flops(flops)
    .boxed()
}
