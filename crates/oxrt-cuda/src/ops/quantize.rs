//! QuantizeLinear and DequantizeLinear between floats and integers of 8 to 32 bits, or floats of 8 bits.

use super::each::{Each, only, strict};
use super::{Entry, axis_of, c_type, counts, dtype, makes, output_dtype, require};
use crate::backend::Ctx;
use crate::gpu::Params;
use oxrt_backend::{BindArgs, Kernel, NodeView, Packing, kernel};
use oxrt_tensor::{DType, Result, Tensor, bail};

const TEXT: &str = include_str!("../text/quantize.cuh");

pub(super) const QUANTIZE: Entry = strict("quantize", &["QuantizeLinear"], quantize_supports, pack, load);
pub(super) const DEQUANTIZE: Entry = strict("dequantize", &["DequantizeLinear"], dequantize_supports, pack, load);

fn float(d: DType) -> bool {
    super::gemm::is_float(d) || d == DType::F64
}

fn integer(d: DType) -> bool {
    matches!(d, DType::U8 | DType::I8 | DType::U16 | DType::I16 | DType::I32 | DType::U32)
}

/// Floats of 8 bits, which saturate.
fn small_float(node: &NodeView, out: DType) -> bool {
    out == DType::F8E4M3FN && node.attrs().bool_or("saturate", true).unwrap_or(false)
}

fn quantize_supports(_: &Ctx, node: &NodeView) -> Option<()> {
    let out = node.output_dtype(0)?;
    require(
        (float(node.dtype(0)?) || node.dtype(0)? == DType::I32)
            && float(node.dtype(1)?)
            && (integer(out) || small_float(node, out)),
    )?;
    require(!node.has(2) || node.dtype(2)? == out)?;
    precision(node).map(|_| ())
}

fn dequantize_supports(_: &Ctx, node: &NodeView) -> Option<()> {
    require(
        (integer(node.dtype(0)?) || node.dtype(0)? == DType::F8E4M3FN)
            && float(node.dtype(1)?)
            && float(node.output_dtype(0)?),
    )?;
    require(!node.has(2) || node.dtype(2) == node.dtype(0))
}

/// The type that quotients are rounded to.
fn precision(node: &NodeView) -> Option<DType> {
    let named = i32::try_from(node.attrs().int_or("precision", 0).ok()?).ok()?;
    let ty = if named == 0 { node.dtype(1)? } else { DType::from_onnx(named)? };
    float(ty).then_some(ty)
}

fn pack(ctx: &Ctx, node: &NodeView) -> Result<Packing> {
    let (x, scale, y) = (dtype(node, 0)?, dtype(node, 1)?, output_dtype(node, 0)?);
    let back = node.op() == "DequantizeLinear";
    let zero = node.dtype(2).unwrap_or(if back { x } else { y });
    let wide = |d: DType| matches!(d, DType::F64 | DType::I32 | DType::U32);
    let c = if [x, scale, y].into_iter().any(wide) { "f64" } else { "f32" };
    let (low, high): (i64, i64) = match y {
        DType::I8 => (-128, 127),
        DType::U8 => (0, 255),
        DType::I16 => (-32768, 32767),
        DType::U16 => (0, 65535),
        DType::U32 => (0, u32::MAX.into()),
        _ => (i32::MIN.into(), i32::MAX.into()),
    };
    let types = format!(
        "typedef {} TX;\ntypedef {} TS;\ntypedef {} TZ;\ntypedef {} TY;\ntypedef {} TP;\ntypedef {c} C;\n",
        c_type(x)?,
        c_type(scale)?,
        c_type(zero)?,
        c_type(y)?,
        c_type(precision(node).unwrap_or(DType::F32))?
    );
    let limits = format!(
        "#define LOWEST {low}ll\n#define HIGHEST {high}ll\n#define DEQUANTIZE {}\n#define SMALL {}\n#define FLOATS {}\n",
        u8::from(back),
        u8::from(c == "f32" && high <= 65535),
        u8::from(y == DType::F8E4M3FN)
    );
    only(ctx, &format!("{types}{limits}{TEXT}"))
}

/// The fields of the parameter struct: how the data is cut, and how far parameters lie apart.
fn layout(args: &BindArgs, axis: i64, block: i64) -> Result<Params> {
    let (shape, scale) = (args.shape(0)?, args.shape(1)?);
    let count: usize = scale.iter().product();
    if let Some(zero) = args.opt_shape(2)
        && zero.iter().product::<usize>() != count
    {
        bail!(invalid, "scales of shape {scale:?} and zero points of shape {zero:?}");
    }
    let fields = |inner: usize, slices: usize, block: usize, steps: [usize; 3]| {
        let p = Params::new().dividers(&[inner, slices, block]);
        steps.into_iter().fold(p, |p, s| p.i32(s as i64))
    };
    if count == 1 {
        return Ok(fields(1, 1, 1, [0; 3]));
    }
    let at = axis_of(axis, shape.len())?;
    let (n, inner) = (shape[at], shape[at + 1..].iter().product::<usize>());
    if *scale == [n] {
        return Ok(fields(inner, n, 1, [0, 1, 0]));
    }
    let same = scale.len() == shape.len() && (0..shape.len()).all(|d| d == at || scale[d] == shape[d]);
    let block = match usize::try_from(block) {
        Ok(0) if same && scale[at] > 0 => n.div_ceil(scale[at]).max(1),
        Ok(b) if b > 0 => b,
        _ => bail!(invalid, "scales of shape {scale:?} for a tensor of shape {shape:?}"),
    };
    if !same || scale[at] != n.div_ceil(block) {
        bail!(invalid, "scales of shape {scale:?} for blocks of {block} along axis {at} of shape {shape:?}");
    }
    Ok(fields(inner, n, block, [scale[at] * inner, inner, 1]))
}

fn load(ctx: &Ctx, node: &NodeView, packed: &[Tensor]) -> Result<Box<dyn Kernel>> {
    let [one, four] = ["convert", "convert_four"].map(|name| ctx.function(packed.first(), name, 0));
    let (one, four) = (one?, four?);
    let (axis, block) = (node.attrs().int_or("axis", 1)?, node.attrs().int_or("block_size", 0)?);
    kernel(move |args| {
        let count = counts(args.shape(0)?.iter().product())?;
        makes(args, count)?;
        let fields = layout(args, axis, block)?;
        let whole = args.shape(1)?.iter().product::<usize>() == 1 && count.is_multiple_of(4);
        let (launcher, threads) = if whole { (&four, count / 4) } else { (&one, count) };
        let each = Each { launcher: launcher.clone(), inputs: 3, outputs: 1, count: threads, fields };
        each.bound().flops(2 * count).boxed()
    })
}
