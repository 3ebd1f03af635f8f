//! QuantizeLinear and DequantizeLinear between floats and integers, by one scale or one per slice of an axis.

use super::{Entry, axis_of, float, makes, pack_nothing, require};
use crate::backend::{Ctx, bound, kernel};
use crate::compute::{Shared, cut};
use crate::kernels::dot_i8::Rounding;
use oxrt_backend::{BindArgs, Kernel, NodeView};
use oxrt_ir::{DType, Tensor};
use oxrt_tensor::{Error, Result, bail};

pub(super) const QUANTIZE: Entry = Entry {
    name: "quantize",
    ops: &["QuantizeLinear"],
    supports: quantize_supports,
    pack: pack_nothing,
    load: quantize,
};
pub(super) const DEQUANTIZE: Entry = Entry {
    name: "dequantize",
    ops: &["DequantizeLinear"],
    supports: dequantize_supports,
    pack: pack_nothing,
    load: dequantize,
};

/// Elements that a task converts at least.
const MIN_PER_TASK: usize = 16 * 1024;

/// Runs from this length on go to the kernels on bytes.
const LONG: usize = 16;

/// An integer that stands for a float.
trait Quantized: Copy + Send + Sync + 'static {
    /// It is one byte.
    const BYTE: bool = size_of::<Self>() == 1;

    /// From a whole number that is far inside i32, saturated.
    fn saturated(v: i32) -> Self;
    fn wide(self) -> i32;
}

macro_rules! quantized {
    ($($t:ty),*) => {$(
        impl Quantized for $t {
            #[inline(always)]
            fn saturated(v: i32) -> $t {
                v.clamp(<$t>::MIN as i32, <$t>::MAX as i32) as $t
            }
            #[inline(always)]
            fn wide(self) -> i32 {
                self as i32
            }
        }
    )*};
}
quantized!(u8, i8, u16, i16);

fn small_int(dtype: DType) -> Option<()> {
    require(matches!(dtype, DType::U8 | DType::I8 | DType::U16 | DType::I16))
}

/// An attribute that names an element type is absent, or names f32.
fn float_or_unset(node: &NodeView, name: &str) -> Option<()> {
    require([0, DType::F32.to_onnx() as i64].contains(&node.attrs().int_or(name, 0).ok()?))
}

/// What both directions ask of scales and zero points: one, or a vector of them.
fn parameters_support(node: &NodeView) -> Option<()> {
    float(node, 1)?;
    require(node.attrs().int_or("block_size", 0).ok()? == 0)?;
    require(node.rank(1)? <= 1 && (!node.has(2) || node.rank(2)? <= 1))
}

fn quantize_supports(node: &NodeView) -> Option<()> {
    float(node, 0)?;
    parameters_support(node)?;
    float_or_unset(node, "precision")?;
    let out = node.output_dtype(0)?;
    small_int(out)?;
    require(!node.has(2) || node.dtype(2)? == out)
}

fn dequantize_supports(node: &NodeView) -> Option<()> {
    parameters_support(node)?;
    float_or_unset(node, "output_dtype")?;
    small_int(node.dtype(0)?)?;
    require(!node.has(2) || node.dtype(2) == node.dtype(0))
}

/// The data as [outer, slices, inner], where each slice has its own scale.
#[derive(Clone, Copy)]
struct Layout {
    outer: usize,
    slices: usize,
    inner: usize,
}

fn layout(args: &BindArgs, axis: i64) -> Result<Layout> {
    let shape = args.shape(0)?;
    let count: usize = args.shape(1)?.iter().product();
    if let Some(zero) = args.opt_shape(2)
        && zero.iter().product::<usize>() != count
    {
        bail!(invalid, "{count} scales and zero points of shape {zero:?}");
    }
    if count == 1 {
        return Ok(Layout { outer: 1, slices: 1, inner: shape.iter().product() });
    }
    let at = axis_of(axis, shape.len())?;
    if shape[at] != count {
        bail!(invalid, "{count} scales for axis {at} of {shape:?}");
    }
    Ok(Layout { outer: shape[..at].iter().product(), slices: count, inner: shape[at + 1..].iter().product() })
}

impl Layout {
    /// Calls `f(first element, elements, slice)` for pieces that share a slice, spread over the threads.
    fn each(self, ctx: &Ctx, f: impl Fn(usize, usize, usize) + Sync) {
        let Layout { outer, slices, inner } = self;
        let most = ctx.pool.parts(outer * slices * inner / MIN_PER_TASK);
        if slices == 1 {
            let parts = most.min(inner.max(1));
            return ctx.pool.run(parts, |part| {
                let (start, count) = cut(inner, parts, part);
                f(start, count, 0);
            });
        }
        let rows = outer * slices;
        let parts = most.min(rows.max(1));
        ctx.pool.run(parts, |part| {
            let (start, count) = cut(rows, parts, part);
            (start..start + count).for_each(|row| f(row * inner, inner, row % slices));
        });
    }
}

fn quantize(ctx: &Ctx, node: &NodeView, _: &[Tensor]) -> Result<Box<dyn Kernel>> {
    match node.output_dtype(0) {
        Some(DType::U8) => quantize_to::<u8>(ctx, node),
        Some(DType::I8) => quantize_to::<i8>(ctx, node),
        Some(DType::U16) => quantize_to::<u16>(ctx, node),
        Some(DType::I16) => quantize_to::<i16>(ctx, node),
        other => Err(Error::bug(format!("quantizing to {other:?}"))),
    }
}

fn quantize_to<Q: Quantized>(ctx: &Ctx, node: &NodeView) -> Result<Box<dyn Kernel>> {
    let axis = node.attrs().int_or("axis", 1)?;
    let (ctx, bytes) = (ctx.clone(), super::quantised::kernels(ctx));
    kernel(move |args| {
        let layout = layout(args, axis)?;
        makes(args, args.shape(0)?.iter().product())?;
        let ctx = ctx.clone();
        bound(move |io| {
            let (x, y) = (Shared(io.input::<f32>(0).cast_mut()), Shared(io.output::<Q>(0)));
            let (scales, zeros) = (Shared(io.input::<f32>(1).cast_mut()), Shared(io.input::<Q>(2).cast_mut()));
            layout.each(&ctx, |start, count, slice| {
                if Q::BYTE && count >= LONG {
                    // SAFETY: as below; the elements are bytes.
                    return unsafe {
                        let zero = if zeros.get().is_null() { 0 } else { (*zeros.at(slice)).wide() };
                        let (low, high) = (Q::saturated(i32::MIN).wide(), Q::saturated(i32::MAX).wide());
                        let rounding =
                            Rounding { inverse: 0.0, low: (low - zero) as f32, high: (high - zero) as f32, zero };
                        (bytes.quantise)(x.at(start), y.at(start).cast(), count, *scales.at(slice), &rounding)
                    };
                }
                // SAFETY: pieces are disjoint parts of the bound buffers; a slice has a scale and, if any, a zero point.
                unsafe {
                    let scale = *scales.at(slice);
                    let zero = if zeros.get().is_null() { 0 } else { (*zeros.at(slice)).wide() };
                    for i in start..start + count {
                        *y.at(i) = Q::saturated(rounded(*x.at(i) / scale) + zero);
                    }
                }
            });
        })
        .boxed()
    })
}

/// The nearest whole number, halves to even; 0 for NaN. Beyond any small integer it saturates.
#[inline(always)]
fn rounded(v: f32) -> i32 {
    const FAR: f32 = 131072.0;
    // Adding 1.5 · 2²³ leaves no room for a fraction, so the sum is rounded as the mode says: to even.
    const SHIFT: f32 = 12582912.0;
    ((v.clamp(-FAR, FAR) + SHIFT) - SHIFT) as i32
}

fn dequantize(ctx: &Ctx, node: &NodeView, _: &[Tensor]) -> Result<Box<dyn Kernel>> {
    match node.dtype(0) {
        Some(DType::U8) => dequantize_from::<u8>(ctx, node),
        Some(DType::I8) => dequantize_from::<i8>(ctx, node),
        Some(DType::U16) => dequantize_from::<u16>(ctx, node),
        Some(DType::I16) => dequantize_from::<i16>(ctx, node),
        other => Err(Error::bug(format!("dequantizing {other:?}"))),
    }
}

fn dequantize_from<Q: Quantized>(ctx: &Ctx, node: &NodeView) -> Result<Box<dyn Kernel>> {
    let axis = node.attrs().int_or("axis", 1)?;
    let (ctx, bytes) = (ctx.clone(), super::quantised::kernels(ctx));
    kernel(move |args| {
        let layout = layout(args, axis)?;
        makes(args, args.shape(0)?.iter().product())?;
        let ctx = ctx.clone();
        bound(move |io| {
            let (x, y) = (Shared(io.input::<Q>(0).cast_mut()), Shared(io.output::<f32>(0)));
            let (scales, zeros) = (Shared(io.input::<f32>(1).cast_mut()), Shared(io.input::<Q>(2).cast_mut()));
            layout.each(&ctx, |start, count, slice| {
                if Q::BYTE && count >= LONG {
                    // SAFETY: as below; the elements are bytes.
                    return unsafe {
                        let zero = if zeros.get().is_null() { 0 } else { (*zeros.at(slice)).wide() };
                        let (flip, up) = if Q::saturated(i32::MIN).wide() < 0 { (0x80, 128) } else { (0, 0) };
                        (bytes.dequantise)(x.at(start).cast(), y.at(start), count, flip, zero + up, *scales.at(slice))
                    };
                }
                // SAFETY: as above.
                unsafe {
                    let scale = *scales.at(slice);
                    let zero = if zeros.get().is_null() { 0 } else { (*zeros.at(slice)).wide() };
                    // Differences of small integers are exact in f32.
                    for i in start..start + count {
                        *y.at(i) = ((*x.at(i)).wide() - zero) as f32 * scale;
                    }
                }
            });
        })
        .boxed()
    })
}
