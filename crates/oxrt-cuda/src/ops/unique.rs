//! Unique, of elements.

use super::each::{counted, only, strict};
use super::non_zero::{SCAN, shares};
use super::top_k::{Sorter, text};
use super::{Entry, counts, dtype, require};
use crate::backend::Ctx;
use crate::gpu::Params;
use crate::text::stored;
use oxrt_backend::{Greatest, Io, Kernel, NodeView, Packing, bound, counting};
use oxrt_tensor::{DType, Result, Tensor};

const TEXT: &str = include_str!("../text/unique.cuh");

pub(super) const UNIQUE: Entry = counted(strict("unique", &["Unique"], supports, pack, load));

fn supports(_: &Ctx, node: &NodeView) -> Option<()> {
    stored(node.dtype(0)?)?;
    let whole = node.attrs().get_int("axis").ok()?.is_none();
    require(node.dtype(0)? != DType::Bool && (whole || node.rank(0)? == 1))
}

fn pack(ctx: &Ctx, node: &NodeView) -> Result<Packing> {
    only(ctx, &format!("{}\n{SCAN}{TEXT}", text(dtype(node, 0)?, false)?))
}

fn load(ctx: &Ctx, node: &NodeView, packed: &[Tensor]) -> Result<Box<dyn Kernel>> {
    let code = packed.first();
    let sorter = Sorter::new(ctx, code, dtype(node, 0)?)?;
    let (count, group, gather) =
        (ctx.function(code, "count", 0)?, ctx.function(code, "group", 0)?, ctx.function(code, "gather", 0)?);
    let appearing = !node.attrs().bool_or("sorted", true)?;
    let outputs = node.num_outputs();
    counting(
        move |args| {
            let n = args.shape(0)?.iter().product();
            // The third tells of each element.
            let most = |i: usize| Greatest { shape: vec![n], axis: (i != 2).then_some(0) };
            Ok((0..outputs).map(most).collect())
        },
        move |args| {
            let n = counts(args.shape(0)?.iter().product())?;
            for i in 0..args.outputs.len() {
                super::holds_output(args, i, n)?;
            }
            let sorted = sorter.of(1, n, n, 1)?;
            let (share, blocks) = shares(n);
            let items = sorted.bytes().next_multiple_of(256);
            let (list, number) = ((4 * n).next_multiple_of(256), (4 * blocks).next_multiple_of(256));
            let (count, group, gather) = (count.clone(), group.clone(), gather.clone());
            bound(move |io: &Io| {
                let at = |i: usize| io.workspace.wrapping_add(items + number + i * list).cast_const();
                // SAFETY: buffers have the bound sizes; the workspace holds the runs, counts and five lists.
                let sorted = if n > 0 { unsafe { sorted.run(io)? } } else { std::ptr::null() };
                let params = |second: bool| {
                    let marks = |i: usize| if appearing { at(i) } else { std::ptr::null() };
                    let p = Params::new()
                        .ptr(io.input::<u8>(0))
                        .ptr(sorted)
                        .ptr(io.workspace.wrapping_add(items).cast_const());
                    let p = p.ptr(at(0)).ptr(at(1)).ptr(at(2)).ptr(marks(3)).ptr(marks(4));
                    let p = (0..4).fold(p, |p, i| {
                        p.ptr(if i < outputs { io.output::<u8>(i).cast_const() } else { std::ptr::null() })
                    });
                    let p = p.ptr(io.output::<u8>(outputs).cast_const());
                    p.u32(n).u32(share).u32(blocks).u32(usize::from(second)).finish()
                };
                for second in [false, true].into_iter().take(1 + usize::from(appearing)) {
                    let p = params(second);
                    // SAFETY: as above.
                    unsafe {
                        count.run(io, [blocks, 1, 1], 256, 0, &p)?;
                        group.run(io, [blocks, 1, 1], 256, 0, &p)?;
                    }
                }
                // SAFETY: as above.
                unsafe { gather.run(io, [n.div_ceil(256), 1, 1], 256, 0, &params(false)) }
            })
            .workspace(items + number + 5 * list)
            .boxed()
        },
    )
}
