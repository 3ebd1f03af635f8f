//! NonMaxSuppression: candidates sorted by score, a block for each batch and class.

use super::each::{counted, only, strict};
use super::non_zero::SCAN;
use super::{Entry, counts, require};
use crate::backend::Ctx;
use crate::gpu::Params;
use oxrt_backend::{BindArgs, Greatest, Io, Kernel, NodeView, Packing, bound, counting};
use oxrt_tensor::{DType, Result, Tensor, bail};

const TEXT: &str = include_str!("../text/non_max_suppression.cuh");

pub(super) const NON_MAX_SUPPRESSION: Entry =
    counted(strict("non_max_suppression", &["NonMaxSuppression"], supports, pack, load));

/// Boxes of a run that a block sorts.
const RUN: usize = 1024;

fn supports(_: &Ctx, node: &NodeView) -> Option<()> {
    let is = |i: usize, ty: DType| !node.has(i) || node.dtype(i) == Some(ty);
    require(is(2, DType::I64) && [0, 1, 3, 4].into_iter().all(|i| is(i, DType::F32)))
}

fn pack(ctx: &Ctx, node: &NodeView) -> Result<Packing> {
    only(ctx, &format!("#define CENTRED {}\n{SCAN}{TEXT}", u8::from(node.attrs().bool_or("center_point_box", false)?)))
}

/// Batches, classes, boxes, and how many of a batch and class are kept at most.
fn sizes(args: &BindArgs) -> Result<[usize; 4]> {
    let (boxes, scores) = (args.shape(0)?, args.shape(1)?);
    let (&[batches, n, 4], &[b, classes, m]) = (boxes, scores) else {
        bail!(invalid, "boxes {boxes:?} and scores {scores:?}");
    };
    if (batches, n) != (b, m) {
        bail!(invalid, "boxes {boxes:?} and scores {scores:?}");
    }
    let most = match (args.opt_shape(2), args.value(2)) {
        (None, _) => 0,
        (Some(_), None) => n,
        (Some(_), Some(t)) => t.to_i64_vec()?.first().map_or(0, |&k| usize::try_from(k).unwrap_or(0)).min(n),
    };
    Ok([batches, classes, n, most])
}

fn load(ctx: &Ctx, _: &NodeView, packed: &[Tensor]) -> Result<Box<dyn Kernel>> {
    let code = packed.first();
    let [sort, merge, suppress, finish] =
        ["sort", "merge", "suppress", "finish"].map(|name| ctx.function(code, name, 0));
    let (sort, merge, suppress, finish) = (sort?, merge?, suppress?, finish?);
    counting(
        |args| {
            let [batches, classes, _, most] = sizes(args)?;
            Ok(vec![Greatest { shape: vec![batches * classes * most, 3], axis: Some(0) }])
        },
        move |args| {
            let [batches, classes, n, most] = sizes(args)?;
            let lines = batches * classes;
            if args.output(0)? != [lines * most, 3] {
                bail!(invalid, "the {most} best of {lines} times {n} boxes as {:?}", args.output(0)?);
            }
            counts(lines * most * 3)?;
            let candidates = counts(lines * n)?;
            for (i, len) in [(2, 1), (3, 1), (4, 1)] {
                super::holds(args, i, len)?;
            }
            // Runs of each level, to one; at least one, which may be empty.
            let mut levels = vec![n.div_ceil(RUN).max(1)];
            while levels[levels.len() - 1] > 1 {
                levels.push(levels[levels.len() - 1].div_ceil(2));
            }
            // The workspace: candidates and lengths of runs, twice each; places kept and their numbers.
            let parts =
                [8 * candidates, 8 * candidates, 4 * lines * levels[0], 4 * lines * levels[0], 4 * lines * most];
            let starts: Vec<usize> = parts
                .iter()
                .scan(0, |end, bytes| {
                    let start = *end;
                    *end += bytes.next_multiple_of(256);
                    Some(start)
                })
                .collect();
            let numbers = starts[4] + parts[4].next_multiple_of(256);
            let [sort, merge, suppress, finish] = [&sort, &merge, &suppress, &finish].map(Clone::clone);
            bound(move |io: &Io| {
                let at = |offset: usize| io.workspace.wrapping_add(offset).cast_const();
                // A level reads what the one before it left.
                let params = |level: usize, runs: usize, new_runs: usize, pitch: usize, blocks: usize| {
                    let p = (0..2).fold(Params::new(), |p, i| p.ptr(io.input::<u8>(i)));
                    let p = (2..5).fold(p, |p, i| p.ptr(io.input::<u8>(i)));
                    let (from, to) = ((level + 1) % 2, level % 2);
                    let p =
                        p.ptr(at(starts[from])).ptr(at(starts[to])).ptr(at(starts[2 + from])).ptr(at(starts[2 + to]));
                    let p = p.ptr(at(starts[4])).ptr(at(numbers));
                    let p = p.ptr(io.output::<u8>(0).cast_const()).ptr(io.output::<u8>(1).cast_const());
                    let p = p.u32(n).u32(classes.max(1)).u32(lines).u32(pitch).u32(runs).u32(new_runs);
                    p.divider(blocks.max(1)).finish()
                };
                let runs = levels[0];
                // SAFETY: buffers have the bound sizes; the workspace holds all parts.
                unsafe { sort.run(io, [lines * runs, 1, 1], 256, 0, &params(0, 0, runs, 0, runs))? };
                for (level, pair) in levels.windows(2).enumerate() {
                    let (span, blocks) = (RUN << level, n.div_ceil(256));
                    let p = params(level + 1, pair[0], pair[1], span, blocks);
                    // SAFETY: as above.
                    unsafe { merge.run(io, [lines * blocks, 1, 1], 256, 0, &p)? };
                }
                let p = params(levels.len(), 1, 1, most, 1);
                // SAFETY: as above.
                unsafe {
                    suppress.run(io, [lines, 1, 1], 512, 0, &p)?;
                    finish.run(io, [lines.max(1), 1, 1], 256, 0, &p)
                }
            })
            .workspace(numbers + 4 * lines.max(1))
            .boxed()
        },
    )
}
