//! Results that are made of their places: Trilu, OneHot, Range, EyeLike, ConstantOfShape.

use super::each::{Each, only, strict};
use super::{Entry, axis_of, c_type, counts, dtype, holds, makes, output_dtype, require};
use crate::backend::Ctx;
use crate::gpu::Params;
use crate::text::{Number, raw, stored};
use oxrt_backend::{BindArgs, Kernel, NodeView, Packing, kernel};
use oxrt_tensor::{DType, Error, Result, Tensor, bail};

const TEXT: &str = include_str!("../text/fill.cuh");

pub(super) const TRILU: Entry = strict("trilu", &["Trilu"], trilu_supports, pack_trilu, trilu);
pub(super) const ONE_HOT: Entry = strict("one_hot", &["OneHot"], one_hot_supports, pack_one_hot, one_hot);
pub(super) const RANGE: Entry = strict("range", &["Range"], range_supports, pack_range, range);
pub(super) const EYE: Entry = strict("eye", &["EyeLike"], eye_supports, pack_eye, eye);
pub(super) const CONSTANT: Entry = strict("fill", &["ConstantOfShape"], constant_supports, pack_constant, constant);

fn element(node: &NodeView) -> Result<&'static str> {
    raw(output_dtype(node, 0)?).ok_or_else(|| Error::bug("elements without a size"))
}

fn trilu_supports(_: &Ctx, node: &NodeView) -> Option<()> {
    raw(node.dtype(0)?)?;
    require(!node.has(1) || matches!(node.dtype(1)?, DType::I64 | DType::I32))
}

fn pack_trilu(ctx: &Ctx, node: &NodeView) -> Result<Packing> {
    let k = if node.has(1) { c_type(dtype(node, 1)?)? } else { "i64" };
    let upper = u8::from(node.attrs().bool_or("upper", true)?);
    only(ctx, &format!("#define TRILU 1\n#define UPPER {upper}\ntypedef {} E;\ntypedef {k} K;\n{TEXT}", element(node)?))
}

fn trilu(ctx: &Ctx, _: &NodeView, packed: &[Tensor]) -> Result<Box<dyn Kernel>> {
    let launcher = ctx.function(packed.first(), "fill", 0)?;
    kernel(move |args| {
        let shape = args.shape(0)?;
        let [.., rows, columns] = *shape else { bail!(invalid, "a matrix is needed, found shape {shape:?}") };
        let count = counts(shape.iter().product())?;
        makes(args, count)?;
        holds(args, 1, 1)?;
        let fields = Params::new().dividers(&[columns, rows]);
        Each { launcher: launcher.clone(), inputs: 2, outputs: 1, count, fields }.boxed()
    })
}

fn one_hot_supports(_: &Ctx, node: &NodeView) -> Option<()> {
    stored(node.dtype(0)?)?;
    raw(node.dtype(2)?).map(|_| ())
}

fn pack_one_hot(ctx: &Ctx, node: &NodeView) -> Result<Packing> {
    let indices = dtype(node, 0)?;
    let c = Number::for_types(&[indices], indices).name();
    let types = format!("typedef {} TI;\ntypedef {c} C;\ntypedef {} E;\n", c_type(indices)?, element(node)?);
    only(ctx, &format!("#define ONE_HOT 1\n{types}{TEXT}"))
}

fn one_hot(ctx: &Ctx, node: &NodeView, packed: &[Tensor]) -> Result<Box<dyn Kernel>> {
    let launcher = ctx.function(packed.first(), "fill", 0)?;
    let axis = node.attrs().int_or("axis", -1)?;
    kernel(move |args| {
        let (shape, out) = (args.shape(0)?, args.output(0)?);
        let at = axis_of(axis, shape.len() + 1)?;
        let mut wanted = shape.to_vec();
        wanted.insert(at, out.get(at).copied().unwrap_or(0));
        if wanted != out {
            bail!(invalid, "indices of shape {shape:?} for a result of shape {out:?}");
        }
        holds(args, 2, 2)?;
        let count = counts(out.iter().product())?;
        let fields = Params::new().dividers(&[out[at], out[at + 1..].iter().product()]);
        Each { launcher: launcher.clone(), inputs: 3, outputs: 1, count, fields }.boxed()
    })
}

fn range_supports(_: &Ctx, node: &NodeView) -> Option<()> {
    stored(node.dtype(0)?)?;
    require((0..3).all(|i| node.dtype(i) == node.output_dtype(0)))
}

fn pack_range(ctx: &Ctx, node: &NodeView) -> Result<Packing> {
    let ty = dtype(node, 0)?;
    // Places are exact, as in the reference.
    let c = if ty.is_float() { "f64" } else { Number::for_types(&[ty], ty).name() };
    only(ctx, &format!("#define RANGE 1\ntypedef {} T;\ntypedef {c} C;\n{TEXT}", c_type(ty)?))
}

fn range(ctx: &Ctx, _: &NodeView, packed: &[Tensor]) -> Result<Box<dyn Kernel>> {
    let launcher = ctx.function(packed.first(), "fill", 0)?;
    kernel(move |args| {
        (0..3).try_for_each(|i| holds(args, i, 1))?;
        let count = counts(args.output(0)?.iter().product())?;
        Each { launcher: launcher.clone(), inputs: 3, outputs: 1, count, fields: Params::new() }.boxed()
    })
}

/// The bits of one in an element type, as a C number.
fn one_bits(ty: DType) -> Option<u64> {
    let bytes = Tensor::from_f64(ty, &[], &[1.0]).ok()?.bytes().to_vec();
    let mut word = [0u8; 8];
    word.get_mut(..bytes.len())?.copy_from_slice(&bytes);
    Some(u64::from_le_bytes(word))
}

fn eye_supports(_: &Ctx, node: &NodeView) -> Option<()> {
    raw(node.output_dtype(0)?)?;
    one_bits(node.output_dtype(0)?).map(|_| ())
}

fn pack_eye(ctx: &Ctx, node: &NodeView) -> Result<Packing> {
    let one = one_bits(output_dtype(node, 0)?).unwrap_or(1);
    only(ctx, &format!("#define EYE 1\n#define ONE {one}ull\ntypedef {} E;\n{TEXT}", element(node)?))
}

fn eye(ctx: &Ctx, node: &NodeView, packed: &[Tensor]) -> Result<Box<dyn Kernel>> {
    let launcher = ctx.function(packed.first(), "fill", 0)?;
    // A diagonal so far out is out of every matrix.
    let k = node.attrs().int_or("k", 0)?.clamp(-(1 << 31) + 1, (1 << 31) - 1);
    kernel(move |args| {
        let &[rows, columns] = args.output(0)? else {
            bail!(invalid, "a matrix is needed, found {:?}", args.output(0)?)
        };
        let count = counts(rows * columns)?;
        let fields = Params::new().dividers(&[columns]).i32(k);
        Each { launcher: launcher.clone(), inputs: 1, outputs: 1, count, fields }.boxed()
    })
}

fn value(node: &NodeView) -> Result<Tensor> {
    Ok(node.attrs().get_tensor("value")?.cloned().unwrap_or_else(|| Tensor::scalar(0f32)))
}

fn constant_supports(_: &Ctx, node: &NodeView) -> Option<()> {
    let value = value(node).ok()?;
    raw(node.output_dtype(0)?)?;
    require(value.len() == 1 && Some(value.dtype()) == node.output_dtype(0))
}

fn pack_constant(ctx: &Ctx, node: &NodeView) -> Result<Packing> {
    only(ctx, &format!("typedef {} E;\n{TEXT}", element(node)?))
}

fn constant(ctx: &Ctx, node: &NodeView, packed: &[Tensor]) -> Result<Box<dyn Kernel>> {
    let launcher = ctx.function(packed.first(), "fill", 0)?;
    let value = value(node)?;
    let mut word = [0u8; 8];
    let bytes = value.bytes();
    if bytes.len() > 8 {
        bail!(invalid, "one value fills a tensor, found {value:?}");
    }
    word[..bytes.len()].copy_from_slice(bytes);
    let bits = u64::from_le_bytes(word);
    kernel(move |args: &BindArgs| {
        let count = counts(args.output(0)?.iter().product())?;
        let fields = Params::new().u32(bits as u32 as usize).u32((bits >> 32) as usize);
        Each { launcher: launcher.clone(), inputs: 1, outputs: 1, count, fields }.boxed()
    })
}
