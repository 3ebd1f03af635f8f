//! Resize: nearest, linear and cubic, over any axes.

use super::copy::{Move, element_size, moves, sized};
use super::{Entry, axis_of, float, pack_nothing, require};
use crate::backend::{Ctx, bound, kernel};
use crate::compute::copy::{StridedCopy, contiguous};
use crate::compute::resample::{AxisTaps, Resample};
use crate::compute::{Shared, cut};
use oxrt_backend::{BindArgs, Kernel, NodeView};
use oxrt_ir::Tensor;
use oxrt_tensor::{Error, Result, bail};

pub(super) const RESIZE: Entry =
    Entry { name: "resize", ops: &["Resize", "oxrt.Resize", "Upsample"], supports, pack: pack_nothing, load };

fn supports(node: &NodeView) -> Option<()> {
    float(node, 0)?;
    options_support(node)
}

fn options_support(node: &NodeView) -> Option<()> {
    let attrs = node.attrs();
    let text = |name: &str, default: &'static str| attrs.string_or(name, default).ok().map(str::to_string);
    let mode = text("mode", "nearest")?;
    require(["nearest", "linear", "cubic"].contains(&mode.as_str()))?;
    let place = text("coordinate_transformation_mode", "half_pixel")?;
    require(
        ["half_pixel", "half_pixel_symmetric", "pytorch_half_pixel", "align_corners", "asymmetric"]
            .contains(&place.as_str()),
    )?;
    require(text("keep_aspect_ratio_policy", "stretch")? == "stretch")?;
    require(attrs.int_or("antialias", 0).ok()? == 0)?;
    // Factors decide where pixels stand, so they must be known when sizes are.
    let scales = if node.op() == "Upsample" { 1 } else { 2 };
    let Some(id) = node.node().input(scales) else { return Some(()) };
    require(node.constant(scales).is_some() || node.graph[id].contents.is_some())
}

/// The nearest element, of any type: elements are moved, not computed.
pub(super) const NEAREST: Entry = Entry {
    name: "resize_nearest",
    ops: &["Resize", "oxrt.Resize", "Upsample"],
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
    let spec = spec(node)?;
    let size = element_size(node)?;
    let ctx = ctx.clone();
    kernel(move |args| {
        let (x, y) = (args.shape(0)?, args.output(0)?.to_vec());
        if x.len() != y.len() || (x.contains(&0) && !y.contains(&0)) {
            bail!(invalid, "resizing shape {x:?} to {y:?}");
        }
        let scales = scales(&spec, args)?;
        let strides = contiguous(x);
        // Offsets in bytes of every position along each axis.
        let places: Vec<Vec<usize>> = (0..x.len())
            .map(|d| taps(&spec, x[d], y[d], scales[d]).index.iter().map(|i| i * strides[d] as usize * size).collect())
            .collect();
        let Some(last) = x.len().checked_sub(1) else {
            let copy = StridedCopy::new(&[], &[], &[], size);
            return moves(&ctx, size, vec![Move { copy, input: 0, from: 0, output: 0, to: 0 }]);
        };
        let (n, total) = (y[last], y.iter().product::<usize>());
        let rows = total.checked_div(n).unwrap_or(0);
        let ctx = ctx.clone();
        bound(move |io| {
            let (from, to) = (Shared(io.inputs[0].cast_mut()), Shared(io.outputs[0]));
            let parts = (total * size / (64 * 1024)).clamp(1, 4 * ctx.threads()).min(rows.max(1));
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
    let spec = spec(node)?;
    let ctx = ctx.clone();
    kernel(move |args| {
        let (x, y) = (args.shape(0)?, args.output(0)?);
        let last = x.len() - 1;
        let scales = scales(&spec, args)?;
        let axes: Vec<AxisTaps> = (0..last).map(|d| taps(&spec, x[d], y[d], scales[d])).collect();
        if x[last] != y[last] {
            bail!(unsupported, "resizing the channels of shape {x:?} to {y:?}");
        }
        let channels = x[last];
        // For every output pixel, its input pixel.
        let mut from = vec![0usize];
        for (axis, &n) in axes.iter().zip(x) {
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
    mode: String,
    place: String,
    nearest: String,
    cubic: f64,
    exclude_outside: bool,
    axes: Option<Vec<i64>>,
    scales: usize,
    /// The data is [N, spatial…, C]; factors and `axes` keep ONNX's order [N, C, spatial…] all the same.
    channels_last: bool,
}

fn spec(node: &NodeView) -> Result<Spec> {
    let attrs = node.attrs();
    let upsample = node.op() == "Upsample";
    Ok(Spec {
        mode: attrs.string_or("mode", "nearest")?.to_string(),
        place: attrs
            .string_or("coordinate_transformation_mode", if upsample { "asymmetric" } else { "half_pixel" })?
            .to_string(),
        nearest: attrs.string_or("nearest_mode", if upsample { "floor" } else { "round_prefer_floor" })?.to_string(),
        cubic: attrs.float_or("cubic_coeff_a", -0.75)?.into(),
        exclude_outside: attrs.bool_or("exclude_outside", false)?,
        axes: attrs.ints("axes")?.map(<[i64]>::to_vec),
        scales: if upsample { 1 } else { 2 },
        channels_last: node.op() == "oxrt.Resize",
    })
}

fn load(ctx: &Ctx, node: &NodeView, _: &[Tensor]) -> Result<Box<dyn Kernel>> {
    let spec = spec(node)?;
    let ctx = ctx.clone();
    kernel(move |args| {
        let (x, y) = (args.shape(0)?, args.output(0)?);
        let scales = scales(&spec, args)?;
        let axes: Vec<AxisTaps> = (0..x.len()).map(|d| taps(&spec, x[d], y[d], scales[d])).collect();
        let step =
            Resample::new(x, axes).ok_or_else(|| Error::unsupported(format!("resizing shape {x:?} to {y:?}")))?;
        let flops = 2 * y.iter().product::<usize>();
        let ctx = ctx.clone();
        // SAFETY: buffers have the bound sizes.
        bound(move |io| unsafe { step.run(ctx.kernels, &ctx.pool, io.input(0), io.output(0)) }).flops(flops).boxed()
    })
}

/// How much longer an axis gets.
#[derive(Clone, Copy)]
struct Scale {
    factor: f64,
    /// The length that was asked for, before it was rounded to a whole one.
    length: f64,
}

/// The factor of every axis: as given, or what the sizes say.
fn scales(spec: &Spec, args: &BindArgs) -> Result<Vec<Scale>> {
    let (x, y) = (args.shape(0)?, args.output(0)?);
    let ratio = |i: usize, o: usize| if i == o { 1.0 } else { o as f64 / i as f64 };
    let pairs = x.iter().zip(y);
    let mut scales: Vec<Scale> = pairs.map(|(&i, &o)| Scale { factor: ratio(i, o), length: o as f64 }).collect();
    let Some(shape) = args.opt_shape(spec.scales) else { return Ok(scales) };
    if shape.iter().product::<usize>() == 0 {
        return Ok(scales);
    }
    let value = args.value(spec.scales).ok_or_else(|| Error::bug("the factors of a resize are not known"))?;
    let given = value.to_f64_vec()?;
    let axes: Vec<i64> = spec.axes.clone().unwrap_or_else(|| (0..x.len() as i64).collect());
    if given.len() != axes.len() {
        bail!(invalid, "{} factors for {} axes", given.len(), axes.len());
    }
    for (scale, axis) in given.into_iter().zip(axes) {
        let axis = axis_of(axis, x.len())?;
        let place = match (spec.channels_last, axis) {
            (true, 1) => x.len() - 1,
            (true, a) if a > 1 => a - 1,
            (_, a) => a,
        };
        scales[place] = Scale { factor: scale, length: scale * x[place] as f64 };
    }
    Ok(scales)
}

/// The inputs of every output along one axis of `n` inputs.
fn taps(spec: &Spec, n: usize, outputs: usize, scale: Scale) -> AxisTaps {
    if n == outputs && scale.factor == 1.0 {
        return AxisTaps::identity(n);
    }
    let count = match spec.mode.as_str() {
        "nearest" => 1,
        "linear" => 2,
        _ => 4,
    };
    let mut axis = AxisTaps { taps: count, index: Vec::new(), weight: Vec::new() };
    for o in 0..outputs {
        let at = position(&spec.place, o as f64, n as f64, outputs as f64, scale);
        let (first, mut weights): (f64, Vec<f64>) = match count {
            // Positions are rounded to f32, as factors are: 8 / 1.6 is 5, not a little less.
            1 => (nearest(&spec.nearest, at as f32 as f64), vec![1.0]),
            2 => {
                let f = at - at.floor();
                (at.floor(), vec![1.0 - f, f])
            }
            _ => (at.floor() - 1.0, cubic(at - at.floor(), spec.cubic).to_vec()),
        };
        let inside = |i: usize| (0.0..n as f64).contains(&(first + i as f64));
        if spec.exclude_outside {
            weights.iter_mut().enumerate().for_each(|(i, w)| *w = if inside(i) { *w } else { 0.0 });
            let total: f64 = weights.iter().sum();
            weights.iter_mut().for_each(|w| *w /= total);
        }
        for (i, weight) in weights.into_iter().enumerate() {
            axis.index.push((first + i as f64).clamp(0.0, n.max(1) as f64 - 1.0) as usize);
            axis.weight.push(weight as f32);
        }
    }
    axis
}

/// Where output `o` lies among `n` inputs.
fn position(place: &str, o: f64, n: f64, outputs: f64, scale: Scale) -> f64 {
    let Scale { factor: scale, length } = scale;
    match place {
        "asymmetric" => o / scale,
        "align_corners" if length == 1.0 => 0.0,
        "align_corners" => o * (n - 1.0) / (length - 1.0),
        "pytorch_half_pixel" if length <= 1.0 => 0.0,
        "half_pixel_symmetric" => {
            // The output's true length may be fractional; the rest is shared between both ends.
            let adjustment = outputs / length;
            let center = n / 2.0;
            center * (1.0 - adjustment) + (o + 0.5) / scale - 0.5
        }
        _ => (o + 0.5) / scale - 0.5,
    }
}

fn nearest(mode: &str, at: f64) -> f64 {
    match mode {
        "floor" => at.floor(),
        "ceil" => at.ceil(),
        "round_prefer_ceil" => (at + 0.5).floor(),
        _ => (at - 0.5).ceil(),
    }
}

/// Weights of the four neighbours at distance `f` behind the second (Keys, with coefficient `a`).
fn cubic(f: f64, a: f64) -> [f64; 4] {
    let near = |x: f64| ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0;
    let far = |x: f64| ((a * x - 5.0 * a) * x + 8.0 * a) * x - 4.0 * a;
    [far(1.0 + f), near(f), near(1.0 - f), far(2.0 - f)]
}
