//! Operators that pick or place by value: TopK, OneHot, Hardmax.

use super::make::fill;
use super::{Entry, axis_of, makes, pack_nothing, require};
use crate::backend::{Ctx, bound, kernel};
use crate::compute::element::Element;
use crate::compute::fold::Middle;
use crate::compute::select::TopK;
use crate::compute::{Shared, cut, with_number};
use oxrt_backend::{Kernel, NodeView};
use oxrt_ir::{DType, Tensor};
use oxrt_tensor::{Error, Result, bail};

pub(super) const TOP_K: Entry =
    Entry { name: "top_k", ops: &["TopK"], supports: top_k_supports, pack: pack_nothing, load: top_k };
pub(super) const ONE_HOT: Entry =
    Entry { name: "one_hot", ops: &["OneHot"], supports: one_hot_supports, pack: pack_nothing, load: one_hot };
pub(super) const HARDMAX: Entry =
    Entry { name: "hardmax", ops: &["Hardmax"], supports: |node| number(node, 0), pack: pack_nothing, load: hardmax };

/// Input `i` holds numbers that have a Rust type.
pub(super) fn number(node: &NodeView, i: usize) -> Option<()> {
    use DType::*;
    require(matches!(node.dtype(i)?, F64 | F32 | I64 | I32 | I16 | I8 | U64 | U32 | U16 | U8))
}

/// A shape as the lines along one axis.
pub(super) fn lines(shape: &[usize], axis: usize) -> Middle {
    Middle { outer: shape[..axis].iter().product(), n: shape[axis], inner: shape[axis + 1..].iter().product() }
}

fn top_k_supports(node: &NodeView) -> Option<()> {
    number(node, 0)?;
    require(node.dtype(1)? == DType::I64)
}

fn top_k(ctx: &Ctx, node: &NodeView, _: &[Tensor]) -> Result<Box<dyn Kernel>> {
    let dtype = node.dtype(0).ok_or_else(|| Error::bug("elements without a type"))?;
    let axis = node.attrs().int_or("axis", -1)?;
    let largest = node.attrs().bool_or("largest", true)?;
    let ctx = ctx.clone();
    kernel(move |args| {
        let shape = args.shape(0)?;
        let axis = axis_of(axis, shape.len())?;
        let out = args.output(0).or_else(|_| args.output(1))?;
        let same = out.len() == shape.len() && (0..out.len()).all(|d| d == axis || out[d] == shape[d]);
        let (n, k) = (shape[axis], out.get(axis).copied().unwrap_or(0));
        if args.shape(1)?.iter().product::<usize>() != 1 {
            bail!(invalid, "k should be one number, found shape {:?}", args.shape(1)?);
        }
        if !same || k > n || u32::try_from(n).is_err() || args.output(1).is_ok_and(|i| i != out) {
            bail!(invalid, "the first {k} of {n} elements of shape {shape:?} as {out:?}");
        }
        let step = TopK { lines: lines(shape, axis), k, largest };
        macro_rules! workspace {
            ($t:ty) => {
                step.workspace::<$t>(ctx.threads())
            };
        }
        let workspace = with_number!(dtype, workspace, unreachable!("a number by `supports`"));
        let ctx = ctx.clone();
        bound(move |io| {
            // `k` as data must be the one that the result has room for.
            // SAFETY: input 1 is one number of 64 bits.
            let asked = if io.inputs[1].is_null() { k as i64 } else { unsafe { *io.input::<i64>(1) } };
            if asked != k as i64 {
                bail!(invalid, "the first {asked} elements, where {k} were foreseen");
            }
            macro_rules! run {
                ($t:ty) => {
                    // SAFETY: buffers and workspace have the bound sizes.
                    unsafe { step.run::<$t>(&ctx.pool, io.input(0), io.output(0), io.output(1), io.workspace) }
                };
            }
            with_number!(dtype, run, unreachable!("a number by `supports`"));
            Ok(())
        })
        .workspace(workspace)
        .boxed()
    })
}

fn one_hot_supports(node: &NodeView) -> Option<()> {
    require(matches!(node.dtype(0)?, DType::I64 | DType::I32))?;
    require(matches!(node.dtype(2)?.size()?, 1 | 2 | 4 | 8 | 16) && node.dtype(2) == node.output_dtype(0))
}

fn one_hot(ctx: &Ctx, node: &NodeView, _: &[Tensor]) -> Result<Box<dyn Kernel>> {
    let size = node.dtype(2).and_then(|d| d.size()).ok_or_else(|| Error::bug("elements without a size"))?;
    let wide = node.dtype(0) == Some(DType::I64);
    let axis = node.attrs().int_or("axis", -1)?;
    let ctx = ctx.clone();
    kernel(move |args| {
        let (shape, out) = (args.shape(0)?, args.output(0)?);
        let axis = axis_of(axis, shape.len() + 1)?;
        let places = args.shape(2)?;
        let mut rest = out.to_vec();
        if out.len() != shape.len() + 1 || places.iter().product::<usize>() != 2 {
            bail!(invalid, "indices of shape {shape:?} and values of shape {places:?} for a result of {out:?}");
        }
        let depth = rest.remove(axis);
        if rest != shape {
            bail!(invalid, "indices of shape {shape:?} for a result of shape {out:?}");
        }
        let (count, total) = (rest.iter().product::<usize>(), out.iter().product::<usize>());
        let inner: usize = out[axis + 1..].iter().product();
        let ctx = ctx.clone();
        bound(move |io| {
            // SAFETY: buffers have the bound sizes; indices are checked.
            unsafe {
                let (values, y) = (io.inputs[2], io.outputs[0]);
                fill(&ctx.pool, y, total, values, size);
                let on = values.add(size);
                for i in 0..count {
                    let at = if wide { *io.input::<i64>(0).add(i) } else { i64::from(*io.input::<i32>(0).add(i)) };
                    let at = if at < 0 { at.saturating_add(depth as i64) } else { at };
                    let Some(at) = usize::try_from(at).ok().filter(|&at| at < depth) else { continue };
                    let to = (i / inner * depth + at) * inner + i % inner;
                    core::ptr::copy_nonoverlapping(on, y.add(to * size), size);
                }
            }
        })
        .boxed()
    })
}

fn hardmax(ctx: &Ctx, node: &NodeView, _: &[Tensor]) -> Result<Box<dyn Kernel>> {
    let dtype = node.dtype(0).ok_or_else(|| Error::bug("elements without a type"))?;
    let axis = node.attrs().int_or("axis", -1)?;
    let ctx = ctx.clone();
    kernel(move |args| {
        // A scalar is a line of its own.
        let shape = if args.shape(0)?.is_empty() { &[1][..] } else { args.shape(0)? };
        let m = lines(shape, axis_of(axis, shape.len())?);
        makes(args, m.outer * m.n * m.inner)?;
        let ctx = ctx.clone();
        bound(move |io| {
            macro_rules! run {
                ($t:ty) => {{
                    let (x, y) = (Shared(io.input::<$t>(0).cast_mut()), Shared(io.output::<$t>(0)));
                    let count = m.outer * m.inner;
                    let parts = ctx.pool.parts(count * m.n / (16 * 1024)).min(count.max(1));
                    ctx.pool.run(parts, |part| {
                        let (first, count) = cut(count, parts, part);
                        for line in first..first + count {
                            let at = |i: usize| (line / m.inner * m.n + i) * m.inner + line % m.inner;
                            // SAFETY: lines are disjoint, and lie inside both sides.
                            unsafe {
                                let mut best = 0;
                                for i in 1..m.n {
                                    if *x.at(at(i)) > *x.at(at(best)) {
                                        best = i;
                                    }
                                }
                                for i in 0..m.n {
                                    *y.at(at(i)) = <$t>::from_wide(i64::from(i == best));
                                }
                            }
                        }
                    });
                }};
            }
            with_number!(dtype, run, unreachable!("a number by `supports`"));
        })
        .boxed()
    })
}
