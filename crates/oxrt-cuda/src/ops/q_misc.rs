//! Quantised tensors element by element: sums and products, tables, means; and DynamicQuantizeLinear.

use super::each::{Each, eight, only, strict};
use super::gemm::is_float;
use super::map::broadcast;
use super::q_product::{byte, end_text, numbers};
use super::{Entry, c_type, counts, dtype, holds, makes, output_dtype, require};
use crate::backend::Ctx;
use crate::gpu::Params;
use crate::text::{raw, stored};
use oxrt_backend::{Kernel, NodeView, Packing, bound, kernel};
use oxrt_ops::quantised::Linear;
use oxrt_tensor::{DType, Error, Result, Tensor, bail};

const TEXT: &str = include_str!("../text/q_misc.cuh");
const DYNAMIC_TEXT: &str = include_str!("../text/dynamic_quantize.cuh");

pub(super) const BINARY: Entry = strict("q_binary", &["oxrt.QBinary"], binary_supports, pack_binary, binary);
pub(super) const LOOKUP: Entry = strict("lookup", &["oxrt.Lookup"], lookup_supports, pack_lookup, lookup);
pub(super) const GLOBAL: Entry =
    strict("q_global_pool", &["oxrt.QGlobalAveragePool"], global_supports, pack_global, global);
pub(super) const DYNAMIC: Entry =
    strict("dynamic_quantize", &["DynamicQuantizeLinear"], dynamic_supports, pack_dynamic, dynamic);

fn binary_supports(_: &Ctx, node: &NodeView) -> Option<()> {
    require(byte(node.dtype(0)?) && byte(node.dtype(1)?) && byte(node.output_dtype(0)?))?;
    sign(node)?;
    ["a", "b", "y"].into_iter().try_for_each(|name| Linear::from_attrs(node.attrs(), name).ok().map(|_| ()))
}

fn sign(node: &NodeView) -> Option<&'static str> {
    match node.attrs().string_or("op", "add").ok()? {
        "add" => Some("+"),
        "sub" => Some("-"),
        "mul" => Some("*"),
        _ => None,
    }
}

fn pack_binary(ctx: &Ctx, node: &NodeView) -> Result<Packing> {
    only(
        ctx,
        &format!(
            "#define BINARY 1\n#define SIGN {}\ntypedef {} TA;\ntypedef {} TB;\ntypedef {} TY;\n{TEXT}",
            sign(node).unwrap_or("+"),
            c_type(dtype(node, 0)?)?,
            c_type(dtype(node, 1)?)?,
            c_type(output_dtype(node, 0)?)?
        ),
    )
}

fn binary(ctx: &Ctx, node: &NodeView, packed: &[Tensor]) -> Result<Box<dyn Kernel>> {
    let (one_by_one, by_eight) =
        (ctx.function(packed.first(), "each", 0)?, ctx.function(packed.first(), "by_eight", 0)?);
    let linear = |name: &str| Linear::from_attrs(node.attrs(), name);
    let (a, b, y) = (linear("a")?, linear("b")?, linear("y")?);
    kernel(move |args| {
        let out = args.output(0)?;
        let count = counts(out.iter().product())?;
        let steps = |i: usize| -> Result<[i64; 8]> {
            let steps: Vec<i64> = broadcast(args.shape(i)?, out)?.into_iter().map(|s| s as i64).collect();
            Ok(eight(&steps, 0))
        };
        if out.len() > 8 {
            bail!(unsupported, "a quantised operator over {} axes", out.len());
        }
        let fields = Params::new().u32(out.len()).dividers(&eight(out, 1)).i32s(&steps(0)?).i32s(&steps(1)?);
        let fields = fields.i32s(&[a.zero, b.zero, y.zero, y.low, y.high]).f32(a.scale).f32(b.scale).f32(y.scale);
        // Rows of eight at once: of each operand eight neighbours, or one for all.
        let rows = |i: usize| -> Result<bool> {
            let steps = broadcast(args.shape(i)?, out)?;
            let (last, before) = steps.split_last().map_or((0, &[][..]), |(l, b)| (*l, b));
            Ok(last == 0 || before.iter().all(|s| s % 8 == 0))
        };
        let whole = out.last().is_some_and(|n| n % 8 == 0) && rows(0)? && rows(1)?;
        let (launcher, threads) = if whole { (&by_eight, count / 8) } else { (&one_by_one, count) };
        let each = Each { launcher: launcher.clone(), inputs: 2, outputs: 1, count: threads, fields };
        each.bound().flops(4 * count).boxed()
    })
}

fn lookup_supports(_: &Ctx, node: &NodeView) -> Option<()> {
    raw(node.dtype(1)?)?;
    require(byte(node.dtype(0)?))
}

fn pack_lookup(ctx: &Ctx, node: &NodeView) -> Result<Packing> {
    let element = raw(dtype(node, 1)?).ok_or_else(|| Error::bug("elements without a size"))?;
    only(ctx, &format!("#define LOOKUP 1\ntypedef {element} E;\n{TEXT}"))
}

fn lookup(ctx: &Ctx, _: &NodeView, packed: &[Tensor]) -> Result<Box<dyn Kernel>> {
    let launcher = ctx.function(packed.first(), "each", 0)?;
    kernel(move |args| {
        let count = counts(args.shape(0)?.iter().product())?;
        makes(args, count)?;
        holds(args, 1, 256)?;
        Each { launcher: launcher.clone(), inputs: 2, outputs: 1, count, fields: Params::new() }.boxed()
    })
}

/// A mean has neither residual nor table.
const NO_ENDS: [usize; 5] = [8; 5];

fn global_supports(_: &Ctx, node: &NodeView) -> Option<()> {
    require(byte(node.dtype(0)?) && node.rank(0)? >= 2 && stored(node.output_dtype(0)?).is_some())?;
    Linear::from_attrs(node.attrs(), "x").ok()?;
    numbers(node, NO_ENDS).ok().map(|_| ())
}

fn pack_global(ctx: &Ctx, node: &NodeView) -> Result<Packing> {
    let types = format!("typedef {} TX;\ntypedef {} TY;\n", c_type(dtype(node, 0)?)?, c_type(output_dtype(node, 0)?)?);
    only(ctx, &format!("{types}{}{TEXT}", end_text(ctx, node, NO_ENDS)?))
}

fn global(ctx: &Ctx, node: &NodeView, packed: &[Tensor]) -> Result<Box<dyn Kernel>> {
    let launcher = ctx.function(packed.first(), "each", 256 * 8)?;
    let from = Linear::from_attrs(node.attrs(), "x")?;
    let (whole, number) = numbers(node, NO_ENDS)?;
    kernel(move |args| {
        let x = args.shape(0)?;
        let [images, ref spatial @ .., channels] = *x else { bail!(invalid, "an image of shape {x:?}") };
        let count = counts(images * channels)?;
        counts(x.iter().product())?;
        makes(args, count)?;
        let fields = Params::new().u32(count).dividers(&[channels]).u32(spatial.iter().product());
        let fields = fields.f32(from.scale).i32(from.zero).i32s(&whole);
        let fields = number.into_iter().fold(fields, Params::f32);
        let launcher = launcher.clone();
        bound(move |io| {
            let p = Params::new().ptr(io.input::<u8>(0)).ptr(io.output::<u8>(0).cast_const()).join(&fields);
            let p = p.status(&io.device).finish();
            // SAFETY: buffers have the bound sizes; the shared memory holds a sum for each thread.
            unsafe { launcher.run(io, [count.div_ceil(32), 1, 1], 256, 256 * 8, &p) }
        })
        .boxed()
    })
}

fn dynamic_supports(_: &Ctx, node: &NodeView) -> Option<()> {
    require(is_float(node.dtype(0)?) && node.output_dtype(0).is_none_or(|d| d == DType::U8))
}

fn pack_dynamic(ctx: &Ctx, node: &NodeView) -> Result<Packing> {
    only(ctx, &format!("typedef {} TX;\ntypedef u8 TY;\n{DYNAMIC_TEXT}", c_type(dtype(node, 0)?)?))
}

fn dynamic(ctx: &Ctx, _: &NodeView, packed: &[Tensor]) -> Result<Box<dyn Kernel>> {
    let range = ctx.function(packed.first(), "range", 0)?;
    let quantise = ctx.function(packed.first(), "quantise", 0)?;
    kernel(move |args| {
        let count = counts(args.shape(0)?.iter().product())?;
        let blocks = count.div_ceil(2048).clamp(1, 256);
        let (range, quantise) = (range.clone(), quantise.clone());
        bound(move |io| {
            let p = Params::new().ptr(io.input::<u8>(0));
            let p = (0..3).fold(p, |p, i| p.ptr(io.output::<u8>(i).cast_const()));
            let p = p.ptr(io.workspace.cast_const()).u32(count).u32(blocks).finish();
            // SAFETY: buffers have the bound sizes, the workspace two numbers per block.
            unsafe {
                range.run(io, [blocks, 1, 1], 256, 0, &p)?;
                quantise.run(io, [count.div_ceil(256).max(1), 1, 1], 256, 0, &p)
            }
        })
        .workspace(blocks * 8)
        .flops(3 * count)
        .boxed()
    })
}
