//! Operators that make tensors: Range, ConstantOfShape, EyeLike.

use super::select::number;
use super::{Entry, pack_nothing, require};
use crate::backend::{Ctx, bound, kernel};
use crate::compute::element::Element;
use crate::compute::{Shared, cut, with_number};
use crate::pool::ThreadPool;
use oxrt_backend::{Kernel, NodeView};
use oxrt_ir::{DType, Tensor};
use oxrt_tensor::{Error, Result, bail};

pub(super) const RANGE: Entry =
    Entry { name: "range", ops: &["Range"], supports: |node| number(node, 0), pack: pack_nothing, load: range };
pub(super) const CONSTANT: Entry = Entry {
    name: "fill",
    ops: &["ConstantOfShape"],
    supports: |node| require(matches!(node.output_dtype(0)?.size()?, 1 | 2 | 4 | 8 | 16)),
    pack: pack_nothing,
    load: constant,
};
pub(super) const EYE: Entry = Entry {
    name: "eye",
    ops: &["EyeLike"],
    supports: |node| require(matches!(node.output_dtype(0)?, DType::Bool) || has_rust_type(node.output_dtype(0)?)),
    pack: pack_nothing,
    load: eye,
};

fn has_rust_type(dtype: DType) -> bool {
    use DType::*;
    matches!(dtype, F64 | F32 | I64 | I32 | I16 | I8 | U64 | U32 | U16 | U8)
}

/// Writes `n` copies of one element.
///
/// # Safety
/// `to` has room for `n` elements of `size` bytes, which `value` points to one of.
pub(super) unsafe fn fill(pool: &ThreadPool, to: *mut u8, n: usize, value: *const u8, size: usize) {
    let parts = pool.parts(n * size / (128 * 1024));
    let to = Shared(to);
    macro_rules! run {
        ($t:ty) => {{
            // SAFETY: the element has this size; it need not be aligned.
            let value = unsafe { value.cast::<$t>().read_unaligned() };
            pool.run(parts, |part| {
                let (start, count) = cut(n, parts, part);
                // SAFETY: parts are disjoint pieces of the result, which is aligned to its elements.
                unsafe { core::slice::from_raw_parts_mut(to.get().cast::<$t>().add(start), count).fill(value) };
            });
        }};
    }
    if n == 0 {
        return;
    }
    match size {
        1 => run!(u8),
        2 => run!(u16),
        4 => run!(u32),
        8 => run!(u64),
        _ => run!([u64; 2]),
    }
}

fn range(ctx: &Ctx, node: &NodeView, _: &[Tensor]) -> Result<Box<dyn Kernel>> {
    let dtype = node.dtype(0).ok_or_else(|| Error::bug("elements without a type"))?;
    let ctx = ctx.clone();
    kernel(move |args| {
        let &[n] = args.output(0)? else { bail!(invalid, "a range of shape {:?}", args.output(0)?) };
        for i in 0..3 {
            if args.shape(i)?.iter().product::<usize>() != 1 {
                bail!(invalid, "input {i} should be one number, found shape {:?}", args.shape(i)?);
            }
        }
        let ctx = ctx.clone();
        bound(move |io| {
            let parts = ctx.pool.parts(n / (16 * 1024));
            macro_rules! run {
                ($t:ty) => {{
                    // SAFETY: start and step are one number each.
                    let (start, step) = unsafe { (*io.input::<$t>(0), *io.input::<$t>(2)) };
                    let y = Shared(io.output::<$t>(0));
                    ctx.pool.run(parts, |part| {
                        let (first, count) = cut(n, parts, part);
                        for i in first..first + count {
                            let value = if <$t>::LEAST.to_f64().is_infinite() {
                                <$t>::from_f64(start.to_f64() + i as f64 * step.to_f64())
                            } else {
                                start.plus(<$t>::from_wide(i as i64).times(step))
                            };
                            // SAFETY: parts are disjoint pieces of the result.
                            unsafe { *y.at(i) = value };
                        }
                    });
                }};
            }
            with_number!(dtype, run, unreachable!("a number by `supports`"));
        })
        .boxed()
    })
}

fn constant(ctx: &Ctx, node: &NodeView, _: &[Tensor]) -> Result<Box<dyn Kernel>> {
    let value = node.attrs().get_tensor("value")?.cloned().unwrap_or_else(|| Tensor::scalar(0f32));
    let size = value.dtype().size().ok_or_else(|| Error::bug("elements without a size"))?;
    if value.len() != 1 || Some(value.dtype()) != node.output_dtype(0) {
        bail!(invalid, "one value fills a tensor, found {value:?}");
    }
    let ctx = ctx.clone();
    kernel(move |args| {
        let n: usize = args.output(0)?.iter().product();
        let (ctx, value) = (ctx.clone(), value.clone());
        // SAFETY: the result has the bound size.
        bound(move |io| unsafe { fill(&ctx.pool, io.outputs[0], n, value.bytes().as_ptr(), size) }).boxed()
    })
}

fn eye(ctx: &Ctx, node: &NodeView, _: &[Tensor]) -> Result<Box<dyn Kernel>> {
    let dtype = node.output_dtype(0).ok_or_else(|| Error::bug("elements without a type"))?;
    let k = node.attrs().int_or("k", 0)?;
    let size = dtype.size().ok_or_else(|| Error::bug("elements without a size"))?;
    let ctx = ctx.clone();
    kernel(move |args| {
        let &[rows, cols] = args.output(0)? else { bail!(invalid, "a matrix is needed, found {:?}", args.output(0)?) };
        let ctx = ctx.clone();
        bound(move |io| {
            // SAFETY: the result has the bound size; columns are checked.
            unsafe {
                fill(&ctx.pool, io.outputs[0], rows * cols, [0u8; 16].as_ptr(), size);
                for r in 0..rows {
                    let c = (r as i64).saturating_add(k);
                    let Some(c) = usize::try_from(c).ok().filter(|&c| c < cols) else { continue };
                    macro_rules! one {
                        ($t:ty) => {
                            *io.output::<$t>(0).add(r * cols + c) = <$t>::from_wide(1)
                        };
                    }
                    with_number!(dtype, one, unreachable!("a number by `supports`"));
                }
            }
        })
        .boxed()
    })
}
