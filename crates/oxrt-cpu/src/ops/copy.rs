//! Data movement that is a strided copy, for every element type of a whole number of bytes.

use super::{Entry, axis_of, makes, pack_nothing, require};
use crate::backend::{Ctx, bound, kernel};
use crate::compute::copy::{StridedCopy, contiguous};
pub(super) use oxrt_backend::geometry::ints;
use oxrt_backend::geometry::{broadcast, known, sliced};
use oxrt_backend::{Bound, Kernel, NodeView};
use oxrt_ir::Tensor;
use oxrt_tensor::{Error, Result, bail};

pub(super) const TRANSPOSE: Entry =
    Entry { name: "transpose", ops: &["Transpose"], supports: sized, pack: pack_nothing, load: transpose };
pub(super) const CONCAT: Entry =
    Entry { name: "concat", ops: &["Concat"], supports: sized, pack: pack_nothing, load: concat };
pub(super) const SPLIT: Entry =
    Entry { name: "split", ops: &["Split"], supports: sized, pack: pack_nothing, load: split };
pub(super) const SLICE: Entry =
    Entry { name: "slice", ops: &["Slice"], supports: slice_supports, pack: pack_nothing, load: slice };
pub(super) const EXPAND: Entry =
    Entry { name: "expand", ops: &["Expand"], supports: sized, pack: pack_nothing, load: expand };
pub(super) const RESHAPE: Entry = Entry {
    name: "reshape",
    ops: &["Reshape", "Squeeze", "Unsqueeze", "Flatten", "Identity"],
    supports: sized,
    pack: pack_nothing,
    load: reshape,
};

/// Elements of whole bytes, of a size the copy loops know.
pub(super) fn sized(node: &NodeView) -> Option<()> {
    require(matches!(node.dtype(0)?.size()?, 1 | 2 | 4 | 8 | 16))
}

pub(super) fn element_size(node: &NodeView) -> Result<usize> {
    node.dtype(0).and_then(|d| d.size()).ok_or_else(|| Error::bug("elements without a size"))
}

/// One copy of input `input`, from element offset `from` to element offset `to` of output `output`.
pub(super) struct Move {
    pub copy: StridedCopy,
    pub input: usize,
    pub from: isize,
    pub output: usize,
    pub to: usize,
}

pub(super) fn moves(ctx: &Ctx, size: usize, moves: Vec<Move>) -> Result<Box<dyn Bound>> {
    let ctx = ctx.clone();
    bound(move |io| {
        for m in &moves {
            if m.copy.is_empty() || io.outputs[m.output].is_null() {
                continue;
            }
            // SAFETY: offsets and strides were computed from the bound shapes.
            unsafe {
                let from = io.inputs[m.input].offset(m.from * size as isize);
                m.copy.run(&ctx.pool, from, io.outputs[m.output].add(m.to * size));
            }
        }
    })
    .boxed()
}

fn transpose(ctx: &Ctx, node: &NodeView, _: &[Tensor]) -> Result<Box<dyn Kernel>> {
    let size = element_size(node)?;
    let perm = node.attrs().ints("perm")?.map(<[i64]>::to_vec);
    let ctx = ctx.clone();
    kernel(move |args| {
        let shape = args.shape(0)?;
        let perm: Vec<usize> = match &perm {
            Some(p) => p.iter().map(|&a| axis_of(a, shape.len())).collect::<Result<_>>()?,
            None => (0..shape.len()).rev().collect(),
        };
        if perm.len() != shape.len() {
            bail!(invalid, "{} axes for a tensor of shape {shape:?}", perm.len());
        }
        let mut seen = perm.clone();
        seen.sort_unstable();
        if seen.into_iter().ne(0..shape.len()) || args.output(0)?.iter().ne(perm.iter().map(|&p| &shape[p])) {
            bail!(invalid, "axes {perm:?} of shape {shape:?} do not make {:?}", args.output(0)?);
        }
        let copy = StridedCopy::transpose(shape, &perm, size);
        moves(&ctx, size, vec![Move { copy, input: 0, from: 0, output: 0, to: 0 }])
    })
}

fn concat(ctx: &Ctx, node: &NodeView, _: &[Tensor]) -> Result<Box<dyn Kernel>> {
    let size = element_size(node)?;
    let axis = node.attrs().int_or("axis", 0)?;
    let (ctx, inputs) = (ctx.clone(), node.num_inputs());
    kernel(move |args| {
        let out = args.output(0)?;
        let axis = axis_of(axis, out.len())?;
        let strides = contiguous(out);
        let mut at = 0;
        let mut list = Vec::new();
        for i in 0..inputs {
            let shape = args.shape(i)?;
            let fits = shape.len() == out.len() && (0..out.len()).all(|d| d == axis || shape[d] == out[d]);
            if !fits {
                bail!(invalid, "a part of shape {shape:?} for a result of shape {out:?}");
            }
            let copy = StridedCopy::new(shape, &contiguous(shape), &strides, size);
            list.push(Move { copy, input: i, from: 0, output: 0, to: at * strides[axis] as usize });
            at += shape[axis];
        }
        if at != out[axis] {
            bail!(invalid, "parts of {at} elements in all for an axis of {}", out[axis]);
        }
        moves(&ctx, size, list)
    })
}

fn split(ctx: &Ctx, node: &NodeView, _: &[Tensor]) -> Result<Box<dyn Kernel>> {
    let size = element_size(node)?;
    let axis = node.attrs().int_or("axis", 0)?;
    let ctx = ctx.clone();
    kernel(move |args| {
        let shape = args.shape(0)?;
        let axis = axis_of(axis, shape.len())?;
        let strides = contiguous(shape);
        let mut at = 0;
        let mut list = Vec::new();
        for i in 0..args.outputs.len() {
            let out = args.output(i)?;
            if out.len() != shape.len() || (0..out.len()).any(|d| d != axis && out[d] != shape[d]) {
                bail!(invalid, "a part of shape {out:?} of an operand of shape {shape:?}");
            }
            let copy = StridedCopy::new(out, &strides, &contiguous(out), size);
            list.push(Move { copy, input: 0, from: at * strides[axis], output: i, to: 0 });
            at += out[axis] as isize;
        }
        if at != shape[axis] as isize {
            bail!(invalid, "parts of {at} elements in all for an axis of {}", shape[axis]);
        }
        moves(&ctx, size, list)
    })
}

/// Starts, axes and steps must be known when sizes are.
fn slice_supports(node: &NodeView) -> Option<()> {
    sized(node)?;
    // Ends do not matter: the output's shape says how much is taken.
    [1, 3, 4].iter().try_for_each(|&i| known(node, i))
}

fn slice(ctx: &Ctx, node: &NodeView, _: &[Tensor]) -> Result<Box<dyn Kernel>> {
    let size = element_size(node)?;
    let ctx = ctx.clone();
    kernel(move |args| {
        let out = args.output(0)?;
        let (strides, from) = sliced(args)?;
        let copy = StridedCopy::new(out, &strides, &contiguous(out), size);
        moves(&ctx, size, vec![Move { copy, input: 0, from, output: 0, to: 0 }])
    })
}

fn expand(ctx: &Ctx, node: &NodeView, _: &[Tensor]) -> Result<Box<dyn Kernel>> {
    let size = element_size(node)?;
    let ctx = ctx.clone();
    kernel(move |args| {
        let (shape, out) = (args.shape(0)?, args.output(0)?);
        let strides = broadcast(shape, out)?;
        let copy = StridedCopy::new(out, &strides, &contiguous(out), size);
        moves(&ctx, size, vec![Move { copy, input: 0, from: 0, output: 0, to: 0 }])
    })
}

/// The same bytes under another shape: nothing to do when the output shares the input's buffer.
fn reshape(ctx: &Ctx, node: &NodeView, _: &[Tensor]) -> Result<Box<dyn Kernel>> {
    let size = element_size(node)?;
    let ctx = ctx.clone();
    kernel(move |args| {
        let n: usize = args.shape(0)?.iter().product();
        makes(args, n)?;
        let copy = StridedCopy::new(&[n], &[1], &[1], size);
        let ctx = ctx.clone();
        bound(move |io| {
            let (from, to) = (io.inputs[0], io.outputs[0]);
            if !std::ptr::eq(from, to) {
                // SAFETY: both sides have the elements of the bound shape.
                unsafe { copy.run(&ctx.pool, from, to) }
            }
        })
        .in_place(&[0])
        .boxed()
    })
}
