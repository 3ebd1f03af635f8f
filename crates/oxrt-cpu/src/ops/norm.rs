//! Softmax and normalisations.

use super::{Entry, activation, axis_of, float, float_or_absent, makes, pack_nothing, require};
use crate::backend::{Ctx, bound, kernel};
use crate::compute::copy::StridedCopy;
use crate::compute::norm::{self, GroupNorm, GroupNormOperands, RowsFn};
use crate::kernels::rows::Norm;
use oxrt_backend::{Kernel, NodeView};
use oxrt_ir::{DType, Tensor};
use oxrt_tensor::{Result, bail};

pub(super) const SOFTMAX: Entry = Entry {
    name: "softmax",
    ops: &["Softmax", "LogSoftmax"],
    supports: |node| float(node, 0),
    pack: pack_nothing,
    load: softmax,
};
/// Half floats whose steps are rounded; other operators on them run in single precision.
pub(super) const SOFTMAX_F16: Entry = Entry {
    name: "softmax_f16",
    ops: &["Softmax"],
    supports: |node| require(node.dtype(0) == Some(DType::F16)),
    pack: pack_nothing,
    load: |ctx, node, _| lines(node, ctx.clone(), ctx.kernels.softmax_f16),
};
pub(super) const ROWS: Entry = Entry {
    name: "row_norm",
    ops: &["LayerNormalization", "RMSNormalization", "SimplifiedLayerNormalization"],
    supports: rows_supports,
    pack: pack_nothing,
    load: rows,
};
pub(super) const GROUPS: Entry = Entry {
    name: "group_norm",
    ops: &["GroupNormalization", "InstanceNormalization", "oxrt.GroupNorm", "oxrt.InstanceNorm"],
    supports: groups_supports,
    pack: pack_nothing,
    load: groups,
};
pub(super) const BATCH: Entry = Entry {
    name: "batch_norm",
    ops: &["BatchNormalization", "oxrt.BatchNorm"],
    supports: batch_supports,
    pack: pack_nothing,
    load: batch,
};

fn softmax(ctx: &Ctx, node: &NodeView, _: &[Tensor]) -> Result<Box<dyn Kernel>> {
    let kernels = ctx.kernels;
    lines(node, ctx.clone(), if node.op() == "LogSoftmax" { kernels.log_softmax } else { kernels.softmax })
}

/// Runs a kernel over the lines along `axis`, turned to be contiguous where they are not.
fn lines<T: Copy + 'static>(node: &NodeView, ctx: Ctx, run: RowsFn<T>) -> Result<Box<dyn Kernel>> {
    let axis = node.attrs().int_or("axis", -1)?;
    kernel(move |args| {
        let shape = args.shape(0)?;
        let len: usize = shape.iter().product();
        makes(args, len)?;
        // A scalar is a line of its own.
        let shape = if shape.is_empty() { &[1][..] } else { shape };
        let axis = axis_of(axis, shape.len())?;
        let n = shape[axis];
        let inner: usize = shape[axis + 1..].iter().product();
        let ctx = ctx.clone();
        let rows = len.checked_div(n).unwrap_or(0);
        if inner == 1 {
            return bound(move |io| {
                // SAFETY: buffers have the bound sizes.
                unsafe { norm::softmax(run, &ctx.pool, io.input(0), io.output(0), rows, n) }
            })
            .in_place(&[0])
            .flops(4 * len)
            .boxed();
        }
        let outer: usize = shape[..axis].iter().product();
        let turn_in = StridedCopy::transpose(&[outer, n, inner], &[0, 2, 1], size_of::<T>());
        let turn_out = StridedCopy::transpose(&[outer, inner, n], &[0, 2, 1], size_of::<T>());
        bound(move |io| {
            // SAFETY: buffers have the bound sizes, the workspace that of the input.
            unsafe {
                turn_in.run(&ctx.pool, io.input(0), io.workspace);
                let rows_at = io.workspace.cast::<T>();
                norm::softmax(run, &ctx.pool, rows_at, rows_at, rows, n);
                turn_out.run(&ctx.pool, io.workspace, io.output(0));
            }
        })
        .workspace(len * size_of::<T>())
        .flops(4 * len)
        .boxed()
    })
}

fn rows_supports(node: &NodeView) -> Option<()> {
    float(node, 0)?;
    float_or_absent(node, 1)?;
    float_or_absent(node, 2)?;
    // Mean and deviation as further results are for training.
    require((1..node.num_outputs()).all(|i| node.node().output(i).is_none()))?;
    let rank = node.rank(0)?;
    let axis = axis_of(node.attrs().int_or("axis", -1).ok()?, rank).ok()?;
    for i in 1..node.num_inputs() {
        let Some(dims) = node.dims(i) else { continue };
        // Vectors over exactly the normalised dimensions.
        require(dims == &node.dims(0)?[axis..])?;
    }
    Some(())
}

fn rows(ctx: &Ctx, node: &NodeView, _: &[Tensor]) -> Result<Box<dyn Kernel>> {
    let axis = node.attrs().int_or("axis", -1)?;
    let epsilon = node.attrs().float_or("epsilon", 1e-5)?;
    let center = node.op() == "LayerNormalization";
    let ctx = ctx.clone();
    kernel(move |args| {
        let shape = args.shape(0)?;
        let axis = axis_of(axis, shape.len())?;
        let n: usize = shape[axis..].iter().product();
        for i in 1..args.inputs.len() {
            if args.opt_shape(i).is_some_and(|s| s.iter().product::<usize>() != n) {
                bail!(unsupported, "a vector of shape {:?} for rows of {n}", args.shape(i)?);
            }
        }
        let rows: usize = shape[..axis].iter().product();
        makes(args, rows * n)?;
        let ctx = ctx.clone();
        bound(move |io| {
            let with = Norm { scale: io.input(1), bias: io.input(2), epsilon, center };
            // SAFETY: buffers have the bound sizes.
            unsafe { norm::rows(ctx.kernels, &ctx.pool, io.input(0), io.output(0), rows, n, with) }
        })
        .in_place(&[0])
        .flops(6 * rows * n)
        .boxed()
    })
}

fn groups_supports(node: &NodeView) -> Option<()> {
    for i in 0..3 {
        float_or_absent(node, i)?;
    }
    activation(node.attrs()).ok()?;
    require(node.rank(0)? >= 2)
}

fn groups(ctx: &Ctx, node: &NodeView, _: &[Tensor]) -> Result<Box<dyn Kernel>> {
    let attrs = node.attrs();
    let epsilon = attrs.float_or("epsilon", 1e-5)?;
    let act = activation(attrs)?;
    let last = node.op().starts_with("oxrt.");
    let instance = node.op().contains("Instance");
    let groups = attrs.int_or("num_groups", 1)?;
    let ctx = ctx.clone();
    kernel(move |args| {
        let shape = args.shape(0)?;
        let channels = if last { shape[shape.len() - 1] } else { shape[1] };
        let groups = if instance { channels } else { usize::try_from(groups).unwrap_or(0) };
        if groups == 0 || channels % groups != 0 {
            bail!(invalid, "{channels} channels in {groups} groups");
        }
        for i in 1..3 {
            if args.opt_shape(i).is_some_and(|s| s.iter().product::<usize>() != channels) {
                bail!(unsupported, "a vector of shape {:?} for {channels} channels", args.shape(i)?);
            }
        }
        let len: usize = shape.iter().product();
        makes(args, len)?;
        let pixels = len.checked_div(shape[0] * channels).unwrap_or(0);
        let step = GroupNorm { batch: shape[0], channels, groups, pixels, epsilon, act };
        let workspace = if last { step.workspace_len(ctx.threads()) * 4 } else { 0 };
        let ctx = ctx.clone();
        bound(move |io| {
            let op = GroupNormOperands { x: io.input(0), scale: io.input(1), bias: io.input(2), y: io.output(0) };
            // SAFETY: buffers have the bound sizes.
            unsafe {
                if last {
                    step.run_channels_last(ctx.kernels, &ctx.pool, &op, io.workspace.cast());
                } else {
                    step.run_channels_first(ctx.kernels, &ctx.pool, &op);
                }
            }
        })
        .in_place(&[0])
        .workspace(workspace)
        .flops(6 * len)
        .boxed()
    })
}

fn batch_supports(node: &NodeView) -> Option<()> {
    for i in 0..5 {
        float(node, i)?;
    }
    require((1..node.num_outputs()).all(|i| node.node().output(i).is_none()))?;
    require(node.attrs().int_or("training_mode", 0).ok()? == 0 && node.rank(0)? >= 2)
}

fn batch(ctx: &Ctx, node: &NodeView, _: &[Tensor]) -> Result<Box<dyn Kernel>> {
    let epsilon = node.attrs().float_or("epsilon", 1e-5)?;
    let last = node.op().starts_with("oxrt.");
    let ctx = ctx.clone();
    kernel(move |args| {
        let shape = args.shape(0)?;
        let axis = if last { shape.len() - 1 } else { 1 };
        let channels = shape[axis];
        let outer: usize = shape[..axis].iter().product();
        let inner: usize = shape[axis + 1..].iter().product();
        if (1..5).any(|i| args.shape(i).map_or(true, |s| s.iter().product::<usize>() != channels)) {
            bail!(invalid, "batch normalisation of {channels} channels with vectors of another length");
        }
        makes(args, outer * channels * inner)?;
        let ctx = ctx.clone();
        bound(move |io| {
            let factors = io.workspace.cast::<f32>();
            // SAFETY: buffers have the bound sizes, the workspace two floats per channel.
            unsafe {
                let get = |i: usize, c: usize| *io.input::<f32>(i).add(c);
                for c in 0..channels {
                    let factor = get(1, c) / (get(4, c) + epsilon).sqrt();
                    *factors.add(c) = factor;
                    *factors.add(channels + c) = get(2, c) - get(3, c) * factor;
                }
                let shift = factors.add(channels);
                let (x, y) = (io.input(0), io.output(0));
                norm::per_channel(ctx.kernels, &ctx.pool, x, y, outer, channels, inner, factors, shift);
            }
        })
        .in_place(&[0])
        .workspace(2 * channels * 4)
        .flops(2 * outer * channels * inner)
        .boxed()
    })
}
