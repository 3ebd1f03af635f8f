//! Pooling of every number type in ONNX's order, with the places of maxima, and by the p-norm.

use super::{Entry, pack_nothing, require, sizes};
use crate::backend::{Ctx, bound, kernel};
use crate::compute::element::Element;
use crate::compute::window::Window;
use crate::compute::{Shared, cut};
use oxrt_backend::{BindArgs, Bound, Kernel, NodeView};
use oxrt_ir::{Attrs, DType, Tensor};
use oxrt_tensor::{Error, Result, bail};

pub(super) const POOL_ANY: Entry =
    Entry { name: "pool_any", ops: &["MaxPool", "AveragePool", "LpPool"], supports, pack: pack_nothing, load };

fn supports(node: &NodeView) -> Option<()> {
    let (dtype, attrs) = (node.dtype(0)?, node.attrs());
    let max = node.op() == "MaxPool";
    require(matches!(dtype, DType::F32 | DType::F64) || (max && matches!(dtype, DType::U8 | DType::I8)))?;
    require((3..=5).contains(&node.rank(0)?))?;
    require(attrs.string_or("auto_pad", "NOTSET").ok()? == "NOTSET")?;
    sizes(attrs.ints("pads").ok()?.unwrap_or(&[]))?;
    sizes(attrs.ints("kernel_shape").ok()??).map(|_| ())
}

/// What is made of a window.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Max,
    Average { padded: bool },
    Norm(f64),
}

fn load(ctx: &Ctx, node: &NodeView, _: &[Tensor]) -> Result<Box<dyn Kernel>> {
    let attrs = node.attrs().clone();
    let kind = match node.op() {
        "MaxPool" => Kind::Max,
        "LpPool" => Kind::Norm(attrs.int_or("p", 2)? as f64),
        _ => Kind::Average { padded: attrs.bool_or("count_include_pad", false)? },
    };
    let bind: fn(&Ctx, Kind, &Attrs, &BindArgs) -> Result<Box<dyn Bound>> = match node.dtype(0) {
        Some(DType::F64) => bind::<f64>,
        Some(DType::F32) => bind::<f32>,
        Some(DType::U8) => bind::<u8>,
        Some(DType::I8) => bind::<i8>,
        other => return Err(Error::bug(format!("pooling of {other:?}"))),
    };
    let ctx = ctx.clone();
    kernel(move |args| bind(&ctx, kind, &attrs, args))
}

fn bind<T: Element>(ctx: &Ctx, kind: Kind, attrs: &Attrs, args: &BindArgs) -> Result<Box<dyn Bound>> {
    let list = |name: &str| -> Result<Vec<usize>> {
        sizes(attrs.ints(name)?.unwrap_or(&[])).ok_or_else(|| Error::invalid(format!("a negative number in `{name}`")))
    };
    let (x, y) = (args.shape(0)?, args.output(0).or_else(|_| args.output(1))?);
    if y.len() != x.len() || y[..2] != x[..2] || args.output(1).is_ok_and(|p| p != y) {
        bail!(invalid, "pooling of shape {x:?} to {y:?}");
    }
    let (kernel, pads) = (list("kernel_shape")?, list("pads")?);
    let window = Window::new(x[0], &x[2..], &kernel, &list("strides")?, &list("dilations")?, &pads, &y[2..])
        .ok_or_else(|| Error::unsupported(format!("pooling over shape {x:?}")))?;
    let mut ends = [0; 3];
    let rank = kernel.len();
    if pads.len() == 2 * rank {
        ends[3 - rank..].copy_from_slice(&pads[rank..]);
    }
    let column_major = attrs.bool_or("storage_order", false)?;
    let (planes, plane, pixels) = (x[0] * x[1], window.input_pixels(), window.output_pixels());
    let flops = planes * pixels * window.taps();
    let units = planes * window.output[0] * window.output[1];
    let parts = ctx.pool.parts(flops / (32 * 1024)).min(units.max(1));
    let ctx = ctx.clone();
    bound(move |io| {
        let (x, y) = (Shared(io.input::<T>(0).cast_mut()), Shared(io.output::<T>(0)));
        let places = Shared(io.output::<i64>(1));
        let width = window.output[2];
        ctx.pool.run(parts, |part| {
            let (start, count) = cut(units, parts, part);
            for unit in start..start + count {
                let rows = window.output[0] * window.output[1];
                let (base, od, oh) = (unit / rows * plane, unit % rows / window.output[1], unit % window.output[1]);
                for ow in 0..width {
                    // SAFETY: windows lie inside the plane; units are disjoint rows of the results.
                    unsafe {
                        let (value, at) = one(&window, kind, ends, x.at(base), [od, oh, ow]);
                        if !y.get().is_null() {
                            *y.at(unit * width + ow) = value;
                        }
                        if !places.get().is_null() {
                            let [_, h, w] = window.input;
                            let d = window.input[0];
                            // Column-major places count the first axis fastest.
                            let (pd, ph, pw) = (at / (h * w).max(1), at / w.max(1) % h.max(1), at % w.max(1));
                            let at = if column_major { pd + d * (ph + h * pw) } else { at };
                            *places.at(unit * width + ow) = (base + at) as i64;
                        }
                    }
                }
            }
        });
    })
    .flops(flops)
    .boxed()
}

/// The result of the window at one output position, and where its maximum lies in the plane.
#[inline(always)]
unsafe fn one<T: Element>(w: &Window, kind: Kind, ends: [usize; 3], x: *const T, at: [usize; 3]) -> (T, usize) {
    let (mut best, mut place, mut found) = (T::LEAST, 0, false);
    let (mut sum, mut inside) = (0.0, 0usize);
    for kd in 0..w.kernel[0] {
        let Some(d) = w.at(0, at[0], kd) else { continue };
        for kh in 0..w.kernel[1] {
            let Some(h) = w.at(1, at[1], kh) else { continue };
            for kw in 0..w.kernel[2] {
                let Some(i) = w.at(2, at[2], kw) else { continue };
                let i = (d * w.input[1] + h) * w.input[2] + i;
                // SAFETY: inside the plane.
                let v = unsafe { *x.add(i) };
                match kind {
                    Kind::Max => {
                        if !found || v > best || (v.is_nan() && !best.is_nan()) {
                            (best, place, found) = (v, i, true);
                        }
                    }
                    Kind::Average { .. } => sum += v.to_f64(),
                    Kind::Norm(1.0) => sum += v.to_f64().abs(),
                    Kind::Norm(2.0) => sum += v.to_f64() * v.to_f64(),
                    Kind::Norm(p) => sum += v.to_f64().abs().powf(p),
                }
                inside += 1;
            }
        }
    }
    match kind {
        Kind::Max => (best, place),
        Kind::Average { padded } => {
            // What lies beyond the padding, where the length was rounded up, does not count.
            let within = |d: usize| {
                let limit = w.input[d] + w.pads[d] + ends[d];
                (0..w.kernel[d]).filter(|k| at[d] * w.strides[d] + k * w.dilations[d] < limit).count()
            };
            let n = if padded { within(0) * within(1) * within(2) } else { inside };
            (T::from_f64(sum / n.max(1) as f64), 0)
        }
        Kind::Norm(1.0) => (T::from_f64(sum), 0),
        Kind::Norm(2.0) => (T::from_f64(sum.sqrt()), 0),
        Kind::Norm(p) => (T::from_f64(sum.powf(1.0 / p)), 0),
    }
}
