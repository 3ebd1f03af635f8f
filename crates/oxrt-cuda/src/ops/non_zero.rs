//! What holds, in order: places of elements that are not zero (NonZero), slices that a condition picks (Compress).

use super::each::{counted, eight, only, strict};
use super::{Entry, axis_of, c_type, counts, dtype, require};
use crate::backend::Ctx;
use crate::gpu::Params;
use crate::text::{Number, raw, stored};
use oxrt_backend::{Greatest, Io, Kernel, NodeView, Packing, bound, counting};
use oxrt_tensor::{DType, Result, Tensor, bail};

const TEXT: &str = include_str!("../text/non_zero.cuh");
/// Places among what is counted.
pub(super) const SCAN: &str = include_str!("../text/scan.cuh");

pub(super) const NON_ZERO: Entry = counted(strict("non_zero", &["NonZero"], supports, pack, load));
pub(super) const COMPRESS: Entry = counted(strict("compress", &["Compress"], picks, pack_picks, load_picks));

/// Most blocks that count: each reads the counts of all.
const BLOCKS: usize = 1024;

/// Elements of a block, and blocks.
pub(super) fn shares(n: usize) -> (usize, usize) {
    let share = n.div_ceil(BLOCKS).next_multiple_of(256).max(2048);
    (share, n.div_ceil(share).max(1))
}

fn supports(_: &Ctx, node: &NodeView) -> Option<()> {
    stored(node.dtype(0)?)?;
    require(node.rank(0)? <= 8 && node.output_dtype(0)? == DType::I64)
}

/// The head of a text that asks elements of this type.
fn head(asked: DType, moved: &str, compress: bool) -> Result<String> {
    let c = Number::for_types(&[asked], asked).name();
    let compress = u8::from(compress);
    Ok(format!(
        "typedef {} T;\ntypedef {c} C;\ntypedef {moved} E;\n#define COMPRESS {compress}\n{SCAN}{TEXT}",
        c_type(asked)?
    ))
}

fn pack(ctx: &Ctx, node: &NodeView) -> Result<Packing> {
    only(ctx, &head(dtype(node, 0)?, "i64", false)?)
}

/// What all kernels begin with: the input that is asked, where its places are kept, elements asked and taken at most.
fn params(io: &Io, asked: usize, places: *const u8, n: usize, most: usize) -> Params {
    let (share, blocks) = shares(n);
    let p = Params::new().ptr(io.input::<u8>(asked)).ptr(io.input::<u8>(0)).ptr(io.workspace.cast_const()).ptr(places);
    let p = p.ptr(io.output::<u8>(0).cast_const()).ptr(io.output::<u8>(1).cast_const());
    p.u32(n).u32(share).u32(blocks).u32(most)
}

fn load(ctx: &Ctx, _: &NodeView, packed: &[Tensor]) -> Result<Box<dyn Kernel>> {
    let code = packed.first();
    let kernels = [ctx.function(code, "count", 0)?, ctx.function(code, "find", 0)?];
    counting(
        |args| {
            let shape = args.shape(0)?;
            Ok(vec![Greatest { shape: vec![shape.len(), shape.iter().product()], axis: Some(1) }])
        },
        move |args| {
            let shape = args.shape(0)?;
            let n = counts(shape.iter().product())?;
            if args.output(0)? != [shape.len(), n] {
                bail!(invalid, "places among {n} elements as {:?}", args.output(0)?);
            }
            let (rank, dims) = (shape.len(), eight(shape, 1));
            let kernels = kernels.clone();
            let (_, blocks) = shares(n);
            bound(move |io| {
                let p = params(io, 0, std::ptr::null(), n, n);
                let p = p.u32(rank).dividers(&dims).status(&io.device).finish();
                // SAFETY: buffers have the bound sizes; the workspace holds the counts.
                kernels.iter().try_for_each(|k| unsafe { k.run(io, [blocks, 1, 1], 256, 0, &p) })
            })
            .workspace(4 * blocks)
            .boxed()
        },
    )
}

fn picks(_: &Ctx, node: &NodeView) -> Option<()> {
    raw(node.dtype(0)?)?;
    stored(node.dtype(1)?)?;
    node.rank(0)?;
    require(node.output_dtype(0) == node.dtype(0))
}

fn pack_picks(ctx: &Ctx, node: &NodeView) -> Result<Packing> {
    let moved = dtype(node, 0)?;
    c_type(moved)?;
    only(ctx, &head(dtype(node, 1)?, raw(moved).unwrap_or("u8"), true)?)
}

/// The tensor as [outer, slices, inner], and what the condition picks at most.
fn slices(shape: &[usize], condition: &[usize], axis: Option<i64>) -> Result<([usize; 3], Greatest)> {
    let asked: usize = condition.iter().product();
    let Some(axis) = axis else {
        let n: usize = shape.iter().product();
        return Ok(([1, n, 1], Greatest { shape: vec![n.min(asked)], axis: Some(0) }));
    };
    let axis = axis_of(axis, shape.len())?;
    let around = [shape[..axis].iter().product(), shape[axis], shape[axis + 1..].iter().product()];
    let mut most = shape.to_vec();
    most[axis] = most[axis].min(asked);
    Ok((around, Greatest { shape: most, axis: Some(axis) }))
}

fn load_picks(ctx: &Ctx, node: &NodeView, packed: &[Tensor]) -> Result<Box<dyn Kernel>> {
    let code = packed.first();
    let [count, find, take] = ["count", "find", "take"].map(|name| ctx.function(code, name, 0));
    let (count, find, take) = (count?, find?, take?);
    let axis = node.attrs().get_int("axis")?.copied();
    counting(
        move |args| Ok(vec![slices(args.shape(0)?, args.shape(1)?, axis)?.1]),
        move |args| {
            let ([outer, n, inner], most) = slices(args.shape(0)?, args.shape(1)?, axis)?;
            if args.output(0)? != most.shape {
                bail!(invalid, "slices of shape {:?} as {:?}", args.shape(0)?, args.output(0)?);
            }
            let asked = counts(args.shape(1)?.iter().product())?;
            let all = counts(most.shape.iter().product())?;
            counts(outer * n * inner)?;
            let room = n.min(asked);
            let (_, blocks) = shares(asked);
            // Counts, then places.
            let places = (4 * blocks).next_multiple_of(16);
            let (count, find, take) = (count.clone(), find.clone(), take.clone());
            bound(move |io| {
                let list = io.workspace.wrapping_add(places).cast_const();
                let p = params(io, 1, list, asked, room);
                let p = p.u32(all).u32(n).dividers(&[inner, room]).status(&io.device).finish();
                // SAFETY: buffers have the bound sizes; the workspace holds counts and places.
                unsafe {
                    count.run(io, [blocks, 1, 1], 256, 0, &p)?;
                    find.run(io, [blocks, 1, 1], 256, 0, &p)?;
                    take.run(io, [all.div_ceil(256), 1, 1], 256, 0, &p)
                }
            })
            .workspace(places + 4 * room.max(1))
            .boxed()
        },
    )
}
