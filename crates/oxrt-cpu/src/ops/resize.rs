//! Resize: nearest, linear and cubic, over any axes.

use super::copy::{Move, element_size, moves, sized};
use super::{Entry, float, pack_nothing, require};
use crate::backend::{Ctx, bound, kernel};
use crate::compute::copy::{StridedCopy, contiguous};
use crate::compute::element::Element;
use crate::compute::resample::{AxisTaps, Resample, Separable};
use crate::compute::{Shared, cut, with_number};
use oxrt_backend::geometry::{axis_of, known};
use oxrt_backend::{BindArgs, Bound, Kernel, NodeView};
use oxrt_ir::{Attrs, DType, Tensor};
use oxrt_ops::resample::taps_as_laid;
use oxrt_tensor::{Error, Result, bail};

pub(super) const RESIZE: Entry =
    Entry { name: "resize", ops: &["Resize", "oxrt.Resize"], supports, pack: pack_nothing, load };

fn supports(node: &NodeView) -> Option<()> {
    float(node, 0)?;
    options_support(node)
}

fn options_support(node: &NodeView) -> Option<()> {
    let attrs = node.attrs();
    let text = |name: &str, default: &'static str| attrs.string_or(name, default).ok().map(str::to_string);
    require(["nearest", "linear", "cubic"].contains(&text("mode", "nearest")?.as_str()))?;
    let place = text("coordinate_transformation_mode", "half_pixel")?;
    require(
        ["half_pixel", "half_pixel_symmetric", "pytorch_half_pixel", "align_corners", "asymmetric"]
            .contains(&place.as_str()),
    )?;
    if text("keep_aspect_ratio_policy", "stretch")? != "stretch" {
        known(node, 3)?;
    }
    // Factors decide where pixels stand, so they must be known when sizes are.
    known(node, 2)
}

/// The nearest element, of any type: elements are moved, not computed.
pub(super) const NEAREST: Entry = Entry {
    name: "resize_nearest",
    ops: &["Resize", "oxrt.Resize"],
    supports: nearest_supports,
    pack: pack_nothing,
    load: nearest_load,
};

fn nearest_supports(node: &NodeView) -> Option<()> {
    require(node.attrs().string_or("mode", "nearest").ok()? == "nearest")?;
    sized(node)?;
    options_support(node)
}

fn nearest_load(ctx: &Ctx, node: &NodeView, _: &[Tensor]) -> Result<Box<dyn Kernel>> {
    let spec = Spec::of(node);
    let size = element_size(node)?;
    let ctx = ctx.clone();
    kernel(move |args| {
        let (x, y) = (args.shape(0)?, args.output(0)?.to_vec());
        let axes = spec.axes(args)?;
        let strides = contiguous(x);
        // Offsets in bytes of every position along each axis.
        let places: Vec<Vec<usize>> =
            (0..x.len()).map(|d| axes[d].index.iter().map(|i| i * strides[d] as usize * size).collect()).collect();
        let Some(last) = x.len().checked_sub(1) else {
            let copy = StridedCopy::new(&[], &[], &[], size);
            return moves(&ctx, size, vec![Move { copy, input: 0, from: 0, output: 0, to: 0 }]);
        };
        let (n, total) = (y[last], y.iter().product::<usize>());
        let rows = total.checked_div(n).unwrap_or(0);
        let ctx = ctx.clone();
        bound(move |io| {
            let (from, to) = (Shared(io.inputs[0].cast_mut()), Shared(io.outputs[0]));
            let parts = ctx.pool.parts(total * size / (64 * 1024)).min(rows.max(1));
            ctx.pool.run(parts, |part| {
                let (start, count) = cut(rows, parts, part);
                for row in start..start + count {
                    let (mut rest, mut base) = (row, 0);
                    for d in (0..last).rev() {
                        base += places[d][rest % y[d]];
                        rest /= y[d];
                    }
                    macro_rules! run {
                        ($t:ty) => {
                            // SAFETY: places lie inside the input, rows of the output are disjoint.
                            unsafe {
                                let to = to.at(row * n * size).cast::<$t>();
                                for (i, place) in places[last].iter().enumerate() {
                                    *to.add(i) = *from.at(base + place).cast::<$t>();
                                }
                            }
                        };
                    }
                    match size {
                        1 => run!(u8),
                        2 => run!(u16),
                        4 => run!(u32),
                        8 => run!(u64),
                        _ => run!([u64; 2]),
                    }
                }
            });
        })
        .boxed()
    })
}

/// The nearest elements of channels-last bytes: whole pixels are copied.
pub(super) const BYTES: Entry = Entry {
    name: "resize_bytes",
    ops: &["oxrt.Resize"],
    supports: bytes_support,
    pack: pack_nothing,
    load: bytes_load,
};

fn bytes_support(node: &NodeView) -> Option<()> {
    require(super::quantised::is_byte(node.dtype(0)) && (3..=5).contains(&node.rank(0)?))?;
    require(node.attrs().string_or("mode", "nearest").ok()? == "nearest")?;
    options_support(node)
}

fn bytes_load(ctx: &Ctx, node: &NodeView, _: &[Tensor]) -> Result<Box<dyn Kernel>> {
    let spec = Spec::of(node);
    let ctx = ctx.clone();
    kernel(move |args| {
        let (x, y) = (args.shape(0)?, args.output(0)?);
        let last = x.len() - 1;
        let axes = spec.axes(args)?;
        if x[last] != y[last] {
            bail!(unsupported, "resizing the channels of shape {x:?} to {y:?}");
        }
        let channels = x[last];
        // For every output pixel, its input pixel.
        let mut from = vec![0usize];
        for (axis, &n) in axes[..last].iter().zip(x) {
            from = from.iter().flat_map(|&base| axis.index.iter().map(move |&i| base * n + i)).collect();
        }
        let ctx = ctx.clone();
        bound(move |io| {
            let (x, y) = (Shared(io.input::<u8>(0).cast_mut()), Shared(io.output::<u8>(0)));
            let parts = (from.len() * channels / (32 * 1024)).clamp(1, 2 * ctx.threads()).min(from.len().max(1));
            ctx.pool.run(parts, |part| {
                let (start, count) = cut(from.len(), parts, part);
                for (o, &i) in from[start..start + count].iter().enumerate() {
                    // SAFETY: pixels lie inside the bound shapes; parts are disjoint.
                    unsafe {
                        core::ptr::copy_nonoverlapping(x.at(i * channels), y.at((start + o) * channels), channels);
                    }
                }
            });
        })
        .boxed()
    })
}

/// How positions and weights are found.
struct Spec {
    attrs: Attrs,
    /// The data is [N, spatial…, C]; factors and `axes` keep ONNX's order [N, C, spatial…] all the same.
    channels_last: bool,
}

impl Spec {
    fn of(node: &NodeView) -> Spec {
        Spec { attrs: node.attrs().clone(), channels_last: node.op() == "oxrt.Resize" }
    }

    /// The inputs of every output along each axis.
    fn axes(&self, args: &BindArgs) -> Result<Vec<AxisTaps>> {
        let (x, y) = (args.shape(0)?, args.output(0)?);
        let given = |i: usize| args.opt_shape(i).is_some_and(|s| s.iter().product::<usize>() > 0);
        let value =
            |i: usize| args.value(i).ok_or_else(|| Error::bug(format!("the elements of input {i} are not known")));
        let sizes = match (given(3), args.value(3)) {
            (false, _) => None,
            (true, Some(t)) => Some(oxrt_ops::shape::sizes(&t.to_i64_vec()?)?),
            // Sizes that only the run knows are those of the result.
            (true, None) => {
                let place = |axis: usize| match (self.channels_last, axis) {
                    (true, 1) => y.len() - 1,
                    (true, 2..) => axis - 1,
                    _ => axis,
                };
                let all: Vec<i64> = (0..y.len() as i64).collect();
                let axes = self.attrs.ints("axes")?.unwrap_or(&all);
                let size = |&a: &i64| axis_of(a, y.len()).map(|a| y[place(a)]);
                Some(axes.iter().map(size).collect::<Result<_>>()?)
            }
        };
        let scales = if sizes.is_none() && given(2) { Some(value(2)?.to_f64_vec()?) } else { None };
        let lists = taps_as_laid(&self.attrs, x, self.channels_last, scales, sizes)?;
        let axes: Vec<AxisTaps> = lists.iter().zip(x).map(|(list, &n)| AxisTaps::new(list.as_ref(), n)).collect();
        if x.len() != y.len() || axes.iter().zip(y).any(|(a, &n)| a.outputs() != n) {
            bail!(invalid, "resizing shape {x:?} to {y:?}");
        }
        Ok(axes)
    }
}

fn load(ctx: &Ctx, node: &NodeView, _: &[Tensor]) -> Result<Box<dyn Kernel>> {
    let spec = Spec::of(node);
    let ctx = ctx.clone();
    kernel(move |args| {
        let (x, y) = (args.shape(0)?, args.output(0)?);
        let axes = spec.axes(args)?;
        let Some(step) = Resample::new(x, axes.clone()) else { return separable::<f32>(&ctx, x, axes) };
        let flops = 2 * y.iter().product::<usize>();
        let ctx = ctx.clone();
        // SAFETY: buffers have the bound sizes.
        bound(move |io| unsafe { step.run(ctx.kernels, &ctx.pool, io.input(0), io.output(0)) }).flops(flops).boxed()
    })
}

/// Linear and cubic resizing of doubles and integers, axis by axis in double precision as the definition has it.
pub(super) const ANY: Entry = Entry {
    name: "resize_any",
    ops: &["Resize", "oxrt.Resize"],
    supports: any_supports,
    pack: pack_nothing,
    load: any_load,
};

fn any_supports(node: &NodeView) -> Option<()> {
    let dtype = node.dtype(0)?;
    let number = dtype.bits() >= 8 && (dtype.is_int() || dtype == DType::F64);
    require(number && node.output_dtype(0)? == dtype)?;
    options_support(node)
}

fn any_load(ctx: &Ctx, node: &NodeView, _: &[Tensor]) -> Result<Box<dyn Kernel>> {
    let (spec, ctx) = (Spec::of(node), ctx.clone());
    let dtype = node.dtype(0).ok_or_else(|| Error::bug("elements without a type"))?;
    kernel(move |args| {
        let (x, axes) = (args.shape(0)?, spec.axes(args)?);
        macro_rules! run {
            ($t:ty) => {
                separable::<$t>(&ctx, x, axes)
            };
        }
        with_number!(dtype, run, Err(Error::bug("not a number")))
    })
}

fn separable<E: Element>(ctx: &Ctx, x: &[usize], axes: Vec<AxisTaps>) -> Result<Box<dyn Bound>> {
    let step = Separable::new(x, axes);
    let (workspace, ctx) = (step.workspace_len() * 8, ctx.clone());
    // SAFETY: buffers have the bound sizes.
    bound(move |io| unsafe { step.run::<E>(&ctx.pool, io.input(0), io.output(0), io.workspace.cast()) })
        .workspace(workspace)
        .boxed()
}
