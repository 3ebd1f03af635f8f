//! Depthwise convolutions, maximum pooling and means over pixels, channels last, between tensors of bfloat16: so that no step of
//! a convolutional network widens what its neighbours keep narrow.

use super::conv::{self, Geometry};
use super::pool::{Windows, has_plain_windows};
use super::reduce::{Layout, axes_known};
use super::{Entry, activation, known_shape, pack_nothing, packed_floats, packed_tensor, require, static_shape};
use crate::backend::{Ctx, bound, kernel};
use crate::compute::fold::Middle;
use crate::compute::reduce;
use crate::compute::taps_bf16::{self, Step};
use crate::kernels::bf16::Bf16Unit;
use oxrt_backend::{Kernel, NodeView, Packing};
use oxrt_ir::{DType, Tensor};
use oxrt_tensor::{Error, Result, bail};

/// `oxrt.Conv` with a filter per channel.
pub(super) const DEPTHWISE: Entry = Entry {
    name: "depthwise_bf16",
    ops: &["oxrt.Conv"],
    supports: depthwise_supports,
    pack: depthwise_pack,
    load: depthwise_load,
};

pub(super) const MAX_POOL: Entry = Entry {
    name: "max_pool_bf16",
    ops: &["oxrt.MaxPool"],
    supports: |node| {
        narrow(node)?;
        has_plain_windows(node)?;
        let kernel = node.attrs().ints("kernel_shape").ok()??;
        require(taps_bf16::fits(kernel.iter().map(|&k| k.max(0) as usize).product()))
    },
    pack: pack_nothing,
    load: max_pool,
};

/// Means over dimensions before the last, which stays.
pub(super) const MEAN: Entry =
    Entry { name: "mean_bf16", ops: &["ReduceMean"], supports: mean_supports, pack: pack_nothing, load: mean };

/// Input and result are bfloat16.
fn narrow(node: &NodeView) -> Option<()> {
    Bf16Unit::best()?;
    require(node.dtype(0) == Some(DType::BF16) && node.output_dtype(0) == Some(DType::BF16))
}

fn unit() -> Result<&'static Bf16Unit> {
    super::bf16::unit()
}

fn depthwise_supports(node: &NodeView) -> Option<()> {
    narrow(node)?;
    conv::has_constant_filter(node)?;
    require(node.dtype(1) == Some(DType::F32) && !node.has(3))?;
    super::float_or_absent(node, 2)?;
    let filter = conv::filter(node, &static_shape(node, 1)?).ok()?;
    require(filter.is_depthwise() && taps_bf16::fits(filter.taps))
}

fn depthwise_pack(ctx: &Ctx, node: &NodeView) -> Result<Packing> {
    let w = node.constant(1).ok_or_else(|| Error::bug("the weights are not constant"))?;
    let filter = conv::filter(node, w.shape())?;
    let packed = taps_bf16::pack(ctx.kernels, &filter, &w.to_f32_cow()?);
    Ok(Packing { tensors: vec![packed_tensor(&packed)], consumed: vec![1] })
}

fn depthwise_load(ctx: &Ctx, node: &NodeView, packed: &[Tensor]) -> Result<Box<dyn Kernel>> {
    let unit = unit()?;
    let shape = known_shape(node, 1)?;
    let filter = conv::filter(node, &shape)?;
    let w = packed_floats(packed, 0, filter.packed_len(ctx.kernels))?;
    let geometry = Geometry::of(node, filter, &shape, true)?;
    let act = activation(node.attrs())?;
    let ctx = ctx.clone();
    kernel(move |args| {
        let window = geometry.window(args)?;
        let flops = 2 * args.output(0)?.iter().product::<usize>() * filter.taps;
        let (ctx, w) = (ctx.clone(), w.clone());
        bound(move |io| {
            let step = Step::Depthwise(w.as_slice::<f32>().as_ptr(), io.input(2), act);
            // SAFETY: buffers have the bound sizes, the weights were packed for this filter.
            unsafe {
                let (x, y) = (io.input(0), io.output(0));
                taps_bf16::run(ctx.kernels, unit, &ctx.pool, step, &window, filter.cout, x, y)
            }
        })
        .flops(flops)
        .boxed()
    })
}

fn max_pool(ctx: &Ctx, node: &NodeView, _: &[Tensor]) -> Result<Box<dyn Kernel>> {
    let unit = unit()?;
    let windows = Windows::of(node)?;
    let ctx = ctx.clone();
    kernel(move |args| {
        let (window, channels) = windows.bind(args, true)?;
        let flops = args.output(0)?.iter().product::<usize>() * window.taps();
        let ctx = ctx.clone();
        bound(move |io| {
            let (x, y) = (io.input(0), io.output(0));
            // SAFETY: buffers have the bound sizes.
            unsafe { taps_bf16::run(ctx.kernels, unit, &ctx.pool, Step::Max, &window, channels, x, y) }
        })
        .flops(flops)
        .boxed()
    })
}

fn mean_supports(node: &NodeView) -> Option<()> {
    Bf16Unit::best()?;
    require(node.dtype(0) == Some(DType::BF16))?;
    require(matches!(node.output_dtype(0)?, DType::F32 | DType::BF16))?;
    axes_known(node)?;
    // Neighbouring dimensions before the last: their means are those of columns.
    let rank = node.rank(0)? as i64;
    let axes = match node.constant(1) {
        Some(axes) => axes.to_i64_vec().ok()?,
        None => node.attrs().ints("axes").ok()??.to_vec(),
    };
    let mut axes: Vec<i64> = axes.iter().map(|&a| if a < 0 { a + rank } else { a }).collect();
    axes.sort_unstable();
    require(!axes.is_empty() && *axes.last()? + 1 < rank && axes.windows(2).all(|w| w[0] + 1 == w[1]))
}

fn mean(ctx: &Ctx, node: &NodeView, _: &[Tensor]) -> Result<Box<dyn Kernel>> {
    let unit = unit()?;
    let half = node.output_dtype(0) == Some(DType::BF16);
    let (attrs, ctx) = (node.attrs().clone(), ctx.clone());
    kernel(move |args| {
        let layout = Layout::new(args, &attrs, 2, false)?;
        let Middle { outer, n, inner } = layout.middle;
        if layout.workspace() != 0 {
            bail!(unsupported, "means over dimensions that lie apart, in bfloat16");
        }
        let parts = reduce::row_parts(&ctx.pool, outer, n, inner);
        let ctx = ctx.clone();
        bound(move |io| {
            let results = io.workspace.cast::<f32>();
            let y = if half { results } else { io.output(0) };
            // SAFETY: buffers have the bound sizes, the workspace holds the results and those of the parts.
            unsafe {
                let scratch = results.add(outer * inner);
                taps_bf16::means(ctx.kernels, &ctx.pool, io.input(0), y, [outer, n, inner], parts, scratch);
                if half {
                    (unit.narrow)(y, outer * inner, io.output(0));
                }
            }
        })
        .workspace(4 * (outer * inner + parts * inner))
        .flops(layout.len)
        .boxed()
    })
}
