//! Gathering and scattering by index, for every element type of a whole number of bytes.

use super::copy::{element_size, sized};
use super::select::number;
use super::{Entry, axis_of, pack_nothing, require};
use crate::backend::{Ctx, bound, kernel};
use crate::compute::copy::contiguous;
use crate::compute::element::Element;
use crate::compute::{Shared, cut, with_number};
use oxrt_backend::{Io, Kernel, NodeView};
use oxrt_ir::{DType, Tensor};
use oxrt_tensor::{Error, Result, bail};
use std::sync::atomic::{AtomicBool, Ordering};

pub(super) const GATHER: Entry =
    Entry { name: "gather", ops: &["Gather"], supports: indexed, pack: pack_nothing, load: gather };
pub(super) const GATHER_ELEMENTS: Entry = Entry {
    name: "gather_elements",
    ops: &["GatherElements"],
    supports: indexed,
    pack: pack_nothing,
    load: |ctx, node, _| elements(ctx, node, false),
};
pub(super) const GATHER_ND: Entry =
    Entry { name: "gather_nd", ops: &["GatherND"], supports: indexed, pack: pack_nothing, load: gather_nd };
pub(super) const SCATTER_ELEMENTS: Entry = Entry {
    name: "scatter_elements",
    ops: &["ScatterElements", "Scatter"],
    supports: scatters,
    pack: pack_nothing,
    load: |ctx, node, _| elements(ctx, node, true),
};
pub(super) const SCATTER_ND: Entry =
    Entry { name: "scatter_nd", ops: &["ScatterND"], supports: scatters, pack: pack_nothing, load: scatter_nd };

fn indexed(node: &NodeView) -> Option<()> {
    sized(node)?;
    require(matches!(node.dtype(1)?, DType::I64 | DType::I32))
}

/// What a scatter does to the element that is there.
#[derive(Clone, Copy, PartialEq)]
enum Reduction {
    Replace,
    Add,
    Mul,
    Max,
    Min,
}

fn reduction(node: &NodeView) -> Result<Reduction> {
    Ok(match node.attrs().string_or("reduction", "none")? {
        "none" => Reduction::Replace,
        "add" => Reduction::Add,
        "mul" => Reduction::Mul,
        "max" => Reduction::Max,
        "min" => Reduction::Min,
        other => bail!(invalid, "the reduction `{other}` is unknown"),
    })
}

fn scatters(node: &NodeView) -> Option<()> {
    indexed(node)?;
    require(reduction(node).ok()? == Reduction::Replace || number(node, 0).is_some())?;
    require(node.dtype(0) == node.dtype(2))
}

/// Joins `count` elements into those that are there.
///
/// # Safety
/// Both sides have them, and do not overlap.
unsafe fn join(dtype: DType, how: Reduction, from: *const u8, to: *mut u8, count: usize) {
    macro_rules! run {
        ($t:ty) => {{
            let f: fn($t, $t) -> $t = match how {
                Reduction::Add => <$t>::plus,
                Reduction::Mul => <$t>::times,
                Reduction::Max => <$t>::greater,
                Reduction::Min => <$t>::lesser,
                Reduction::Replace => |_, new| new,
            };
            for i in 0..count {
                // SAFETY: as the caller promises.
                unsafe {
                    let at = to.cast::<$t>().add(i);
                    *at = f(*at, *from.cast::<$t>().add(i));
                }
            }
        }};
    }
    with_number!(dtype, run, unreachable!("a number by `supports`"))
}

/// The indices of input 1.
#[derive(Clone, Copy)]
pub(super) struct Indices {
    data: *const u8,
    wide: bool,
}

// SAFETY: only read.
unsafe impl Sync for Indices {}

impl Indices {
    pub(super) fn of(io: &Io, wide: bool) -> Indices {
        Indices { data: io.inputs[1], wide }
    }

    /// Index `i` into `n` places, counted from the end when negative; `None` when out of range.
    ///
    /// # Safety
    /// Input 1 has more than `i` elements.
    #[inline]
    pub(super) unsafe fn at(self, i: usize, n: usize) -> Option<usize> {
        // SAFETY: as the caller promises.
        let index = unsafe {
            if self.wide { *self.data.cast::<i64>().add(i) } else { i64::from(*self.data.cast::<i32>().add(i)) }
        };
        let index = if index < 0 { index + n as i64 } else { index };
        usize::try_from(index).ok().filter(|&i| i < n)
    }
}

pub(super) fn out_of_range() -> Error {
    Error::invalid("an index is out of range")
}

/// Copies one piece of `bytes` bytes.
///
/// # Safety
/// Both sides have them, and do not overlap.
#[inline]
unsafe fn copy(from: *const u8, to: *mut u8, bytes: usize) {
    // SAFETY: as the caller promises; elements of these sizes are the common case of single ones.
    unsafe {
        match bytes {
            4 => to.cast::<[u8; 4]>().write(from.cast::<[u8; 4]>().read()),
            8 => to.cast::<[u8; 8]>().write(from.cast::<[u8; 8]>().read()),
            16 => to.cast::<[u8; 16]>().write(from.cast::<[u8; 16]>().read()),
            _ => core::ptr::copy_nonoverlapping(from, to, bytes),
        }
    }
}

fn gather(ctx: &Ctx, node: &NodeView, _: &[Tensor]) -> Result<Box<dyn Kernel>> {
    let size = element_size(node)?;
    let axis = node.attrs().int_or("axis", 0)?;
    let wide = node.dtype(1) == Some(DType::I64);
    let ctx = ctx.clone();
    kernel(move |args| {
        let shape = args.shape(0)?;
        let axis = axis_of(axis, shape.len())?;
        let outer: usize = shape[..axis].iter().product();
        let n = shape[axis];
        let piece = shape[axis + 1..].iter().product::<usize>() * size;
        let count: usize = args.shape(1)?.iter().product();
        if args.output(0)?.iter().product::<usize>() * size != outer * count * piece {
            bail!(invalid, "a result of shape {:?} for {count} places in shape {shape:?}", args.output(0)?);
        }
        let ctx = ctx.clone();
        bound(move |io| {
            let indices = Indices::of(io, wide);
            let (from, to) = (Shared(io.inputs[0].cast_mut()), Shared(io.outputs[0]));
            let sound = AtomicBool::new(true);
            let parts = ctx.pool.parts(outer * count * piece / (128 * 1024)).min((outer * count).max(1));
            ctx.pool.run(parts, |part| {
                let (start, len) = cut(outer * count, parts, part);
                for i in start..start + len {
                    // SAFETY: indices are checked; pieces of the output are disjoint.
                    unsafe {
                        match indices.at(i % count, n) {
                            Some(index) => copy(from.at((i / count * n + index) * piece), to.at(i * piece), piece),
                            None => sound.store(false, Ordering::Relaxed),
                        }
                    }
                }
            });
            if sound.into_inner() { Ok(()) } else { Err(out_of_range()) }
        })
        .boxed()
    })
}

/// GatherElements, or ScatterElements: every index stands at its own position, and names the place along the axis.
/// The way along indices of the shape `picked` into data of the shape `shape`, line by line of the last dimension.
struct Walk {
    axis: usize,
    shape: Vec<usize>,
    picked: Vec<usize>,
    /// Of the data.
    strides: Vec<usize>,
}

impl Walk {
    fn line_len(&self) -> usize {
        self.picked.last().copied().unwrap_or(1)
    }

    fn lines(&self) -> usize {
        self.picked.iter().rev().skip(1).product()
    }

    /// The first index of a line, and where the data of its first element would lie at place 0 of the axis.
    fn line(&self, line: usize) -> (usize, usize) {
        let (mut rest, mut base) = (line, 0);
        for d in (0..self.picked.len().saturating_sub(1)).rev() {
            if d != self.axis {
                base += rest % self.picked[d] * self.strides[d];
            }
            rest /= self.picked[d];
        }
        (line * self.line_len(), base)
    }

    /// How far element `j` of a line lies behind the line's base, at a place of the axis.
    #[inline(always)]
    fn offset(&self, place: usize, j: usize) -> usize {
        if self.axis + 1 == self.picked.len() { place } else { place * self.strides[self.axis] + j }
    }

    /// Reads an element for every index.
    ///
    /// # Safety
    /// `x` has the data's shape, `y` and the indices that of `picked`.
    unsafe fn gather<T: Copy>(&self, ctx: &Ctx, indices: &Indices, x: *const T, y: *mut T) -> Result<()> {
        let (lines, len, n) = (self.lines(), self.line_len(), self.shape[self.axis]);
        let parts = ctx.pool.parts(lines * len / (16 * 1024)).min(lines.max(1));
        let (x, y, wrong) = (Shared(x.cast_mut()), Shared(y), AtomicBool::new(false));
        ctx.pool.run(parts, |part| {
            let (start, count) = cut(lines, parts, part);
            for line in start..start + count {
                let (first, base) = self.line(line);
                for j in 0..len {
                    // SAFETY: the index lies inside the data; parts are disjoint lines of the result.
                    unsafe {
                        let Some(place) = indices.at(first + j, n) else {
                            wrong.store(true, Ordering::Relaxed);
                            return;
                        };
                        *y.at(first + j) = *x.at(base + self.offset(place, j));
                    }
                }
            }
        });
        if wrong.into_inner() { Err(out_of_range()) } else { Ok(()) }
    }
}

fn elements(ctx: &Ctx, node: &NodeView, scatter: bool) -> Result<Box<dyn Kernel>> {
    let size = element_size(node)?;
    let axis = node.attrs().int_or("axis", 0)?;
    let wide = node.dtype(1) == Some(DType::I64);
    let dtype = node.dtype(0).ok_or_else(|| Error::bug("elements without a type"))?;
    let how = if scatter { reduction(node)? } else { Reduction::Replace };
    let ctx = ctx.clone();
    kernel(move |args| {
        let (shape, picked) = (args.shape(0)?.to_vec(), args.shape(1)?.to_vec());
        let axis = axis_of(axis, shape.len())?;
        if picked.len() != shape.len() || (0..shape.len()).any(|d| d != axis && picked[d] > shape[d]) {
            bail!(invalid, "indices of shape {picked:?} for data of shape {shape:?}");
        }
        if scatter && args.shape(2)? != picked {
            bail!(invalid, "updates of shape {:?} for indices of shape {picked:?}", args.shape(2)?);
        }
        if args.output(0)? != if scatter { &shape } else { &picked } {
            bail!(invalid, "a result of shape {:?} for indices of shape {picked:?}", args.output(0)?);
        }
        let strides: Vec<usize> = contiguous(&shape).iter().map(|&s| s as usize).collect();
        let total = shape.iter().product::<usize>();
        let walk = Walk { axis, shape, picked, strides };
        let ctx = ctx.clone();
        let made = bound(move |io| {
            let indices = Indices::of(io, wide);
            let Walk { shape, .. } = &walk;
            // SAFETY: buffers have the bound sizes, indices are checked.
            unsafe {
                if !scatter {
                    macro_rules! gather {
                        ($t:ty) => {
                            walk.gather::<$t>(&ctx, &indices, io.input(0), io.output(0))
                        };
                    }
                    return match size {
                        1 => gather!(u8),
                        2 => gather!(u16),
                        4 => gather!(u32),
                        8 => gather!(u64),
                        _ => gather!([u64; 2]),
                    };
                }
                if !std::ptr::eq(io.inputs[0], io.outputs[0]) {
                    core::ptr::copy_nonoverlapping(io.inputs[0], io.outputs[0], total * size);
                }
                for line in 0..walk.lines() {
                    let (first, base) = walk.line(line);
                    for j in 0..walk.line_len() {
                        let place = indices.at(first + j, shape[axis]).ok_or_else(out_of_range)?;
                        let at = base + walk.offset(place, j);
                        let (from, to) = (io.inputs[2].add((first + j) * size), io.outputs[0].add(at * size));
                        if how != Reduction::Replace {
                            join(dtype, how, from, to, 1);
                        } else {
                            copy(from, to, size);
                        }
                    }
                }
            }
            Ok(())
        });
        if scatter { made.in_place(&[0]).boxed() } else { made.boxed() }
    })
}

/// The place that one tuple of indices names: leading dimensions `from` on, one index each.
///
/// # Safety
/// Input 1 has the tuple.
unsafe fn place(
    indices: Indices,
    tuple: usize,
    depth: usize,
    shape: &[usize],
    strides: &[usize],
    from: usize,
) -> Option<usize> {
    let mut at = 0;
    for d in 0..depth {
        // SAFETY: as the caller promises.
        at += unsafe { indices.at(tuple * depth + d, shape[from + d])? } * strides[from + d];
    }
    Some(at)
}

fn gather_nd(_: &Ctx, node: &NodeView, _: &[Tensor]) -> Result<Box<dyn Kernel>> {
    let size = element_size(node)?;
    let batch_dims = usize::try_from(node.attrs().int_or("batch_dims", 0)?).unwrap_or(usize::MAX);
    let wide = node.dtype(1) == Some(DType::I64);
    kernel(move |args| {
        let (shape, tuples) = (args.shape(0)?.to_vec(), args.shape(1)?);
        let depth = tuples.last().copied().unwrap_or(0);
        if batch_dims >= tuples.len() || batch_dims + depth > shape.len() || depth == 0 {
            bail!(invalid, "index tuples of shape {tuples:?} for data of shape {shape:?}");
        }
        let strides: Vec<usize> = contiguous(&shape).iter().map(|&s| s as usize).collect();
        let batches: usize = tuples[..batch_dims].iter().product();
        let per_batch: usize = tuples[batch_dims..tuples.len() - 1].iter().product();
        let batch_step: usize = shape[batch_dims..].iter().product();
        let piece = shape[batch_dims + depth..].iter().product::<usize>() * size;
        if args.output(0)?.iter().product::<usize>() * size != batches * per_batch * piece
            || shape[..batch_dims] != tuples[..batch_dims]
        {
            bail!(invalid, "a result of shape {:?} for tuples {tuples:?} in shape {shape:?}", args.output(0)?);
        }
        bound(move |io| {
            let indices = Indices::of(io, wide);
            for i in 0..batches * per_batch {
                // SAFETY: buffers have the bound sizes, indices are checked.
                unsafe {
                    let at = place(indices, i, depth, &shape, &strides, batch_dims).ok_or_else(out_of_range)?;
                    let from = io.inputs[0].add((i / per_batch * batch_step + at) * size);
                    copy(from, io.outputs[0].add(i * piece), piece);
                }
            }
            Ok(())
        })
        .boxed()
    })
}

fn scatter_nd(_: &Ctx, node: &NodeView, _: &[Tensor]) -> Result<Box<dyn Kernel>> {
    let size = element_size(node)?;
    let dtype = node.dtype(0).ok_or_else(|| Error::bug("elements without a type"))?;
    let how = reduction(node)?;
    let wide = node.dtype(1) == Some(DType::I64);
    kernel(move |args| {
        let (shape, tuples) = (args.shape(0)?.to_vec(), args.shape(1)?);
        let depth = tuples.last().copied().unwrap_or(0);
        if depth > shape.len() || tuples.is_empty() {
            bail!(invalid, "index tuples of shape {tuples:?} for data of shape {shape:?}");
        }
        let count: usize = tuples[..tuples.len() - 1].iter().product();
        let strides: Vec<usize> = contiguous(&shape).iter().map(|&s| s as usize).collect();
        let total = shape.iter().product::<usize>() * size;
        let piece = shape[depth..].iter().product::<usize>() * size;
        let given = args.shape(2)?;
        if given.iter().product::<usize>() * size != count * piece {
            bail!(invalid, "{count} places for updates of shape {given:?}");
        }
        if args.output(0)? != shape {
            bail!(invalid, "a result of shape {:?} for data of shape {shape:?}", args.output(0)?);
        }
        bound(move |io| {
            let indices = Indices::of(io, wide);
            // SAFETY: buffers have the bound sizes, indices are checked.
            unsafe {
                if !std::ptr::eq(io.inputs[0], io.outputs[0]) {
                    core::ptr::copy_nonoverlapping(io.inputs[0], io.outputs[0], total);
                }
                for i in 0..count {
                    let at = place(indices, i, depth, &shape, &strides, 0).ok_or_else(out_of_range)?;
                    let (from, to) = (io.inputs[2].add(i * piece), io.outputs[0].add(at * size));
                    match how {
                        Reduction::Replace => copy(from, to, piece),
                        _ => join(dtype, how, from, to, piece / size),
                    }
                }
            }
            Ok(())
        })
        .in_place(&[0])
        .boxed()
    })
}
