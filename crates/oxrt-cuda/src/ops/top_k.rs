//! TopK: the first k of each line in order, by sorted runs that are merged.

use super::each::{only, strict};
use super::{Entry, axis_of, c_type, counts, dtype, require};
use crate::backend::Ctx;
use crate::gpu::Params;
use crate::text::stored;
use oxrt_backend::{Io, Kernel, NodeView, Packing, bound, kernel};
use oxrt_tensor::{DType, Result, Tensor, bail};

const TEXT: &str = include_str!("../text/top_k.cuh");

pub(super) const TOP_K: Entry = strict("top_k", &["TopK"], supports, pack, load);

/// Elements of a run that a block sorts.
const RUN: usize = 1024;

fn supports(_: &Ctx, node: &NodeView) -> Option<()> {
    stored(node.dtype(0)?)?;
    require(node.dtype(0)? != DType::Bool && node.rank(0)? >= 1)?;
    require(node.node().output(1).is_none() || node.output_dtype(1) == Some(DType::I64))
}

/// Whether keys take 64 bits.
fn is_wide(ty: DType) -> bool {
    matches!(ty, DType::F64 | DType::I64 | DType::U64)
}

fn pack(ctx: &Ctx, node: &NodeView) -> Result<Packing> {
    let ty = dtype(node, 0)?;
    let wide = is_wide(ty);
    let signed = matches!(ty, DType::I8 | DType::I16 | DType::I32 | DType::I64);
    let (c, key) = match (ty.is_float(), wide, signed) {
        (true, false, _) => ("f32", "u32"),
        (true, true, _) => ("f64", "u64"),
        (false, false, true) => ("i32", "u32"),
        (false, true, true) => ("i64", "u64"),
        (false, false, false) => ("u32", "u32"),
        (false, true, false) => ("u64", "u64"),
    };
    let flip = match (signed, wide) {
        (false, _) => "0",
        (true, false) => "0x80000000u",
        (true, true) => "0x8000000000000000ull",
    };
    let bits =
        if wide { "DEVICE u64 bits_of(f64 x) { union { f64 f; u64 u; } v; v.f = x; return v.u; }\n" } else { "" };
    only(
        ctx,
        &format!(
            "{bits}typedef {} T;\ntypedef {c} C;\ntypedef {key} K;\n#define FLOAT {}\n#define BITS bits_of\n#define FLIP {flip}\n\
             #define LARGEST {}\n{TEXT}",
            c_type(ty)?,
            u8::from(ty.is_float()),
            u8::from(node.attrs().bool_or("largest", true)?)
        ),
    )
}

/// What is left of a line after some merging: runs of `span` elements, `pitch` kept of each.
#[derive(Clone, Copy, Debug)]
struct Level {
    runs: usize,
    span: usize,
    pitch: usize,
}

impl Level {
    fn line(&self) -> usize {
        self.runs * self.pitch
    }
}

/// From sorted runs to one.
fn levels(n: usize, k: usize) -> Vec<Level> {
    let mut all = vec![Level { runs: n.div_ceil(RUN).max(1), span: RUN, pitch: k.min(RUN) }];
    while let Some(&last) = all.last().filter(|l| l.runs > 1) {
        let span = last.span * 2;
        all.push(Level { runs: last.runs.div_ceil(2), span, pitch: k.min(span) });
    }
    all
}

fn load(ctx: &Ctx, node: &NodeView, packed: &[Tensor]) -> Result<Box<dyn Kernel>> {
    let code = packed.first();
    let kernels = [ctx.function(code, "sort", 0)?, ctx.function(code, "merge", 0)?, ctx.function(code, "finish", 0)?];
    let axis = node.attrs().int_or("axis", -1)?;
    let item = if is_wide(dtype(node, 0)?) { 16 } else { 8 };
    kernel(move |args| {
        let shape = args.shape(0)?;
        let len = counts(shape.iter().product())?;
        let axis = axis_of(axis, shape.len())?;
        let (n, inner) = (shape[axis], shape[axis + 1..].iter().product::<usize>());
        let outputs: Vec<&[usize]> = args.outputs.iter().flatten().copied().collect();
        let k = outputs.first().and_then(|s| s.get(axis).copied()).unwrap_or(0);
        let mut wanted = shape.to_vec();
        wanted[axis] = k;
        if k > n || outputs.iter().any(|s| *s != &wanted[..]) {
            bail!(invalid, "the first {k} of shape {shape:?} along axis {axis} as {outputs:?}");
        }
        let lines = len.checked_div(n).unwrap_or(0);
        if lines > 65535 && levels(n, k).len() > 1 {
            bail!(unsupported, "{lines} lines of more than {RUN} elements");
        }
        let levels = levels(n, k);
        let half = counts(lines * levels.iter().map(Level::line).max().unwrap_or(0))? * item;
        let half = half.next_multiple_of(16);
        let kernels = kernels.clone();
        bound(move |io: &Io| {
            if lines * k == 0 {
                return Ok(());
            }
            let buffer = |i: usize| io.workspace.wrapping_add(i % 2 * half).cast_const();
            let params = |from: *const u8, to: *const u8, now: Level, next: Level| {
                let p = Params::new().ptr(io.input::<u8>(0)).ptr(from).ptr(to);
                let p = p.ptr(io.output::<u8>(0).cast_const()).ptr(io.output::<u8>(1).cast_const());
                let p = p.u32(lines).u32(n).u32(k).dividers(&[inner, now.runs]);
                p.u32(now.span).u32(now.pitch).u32(next.pitch).u32(now.line()).u32(next.line()).finish()
            };
            let [sort, merge, finish] = &kernels;
            let p = params(std::ptr::null(), buffer(0), levels[0], levels[0]);
            // SAFETY: buffers have the bound sizes; the workspace holds the runs of each level.
            unsafe { sort.run(io, [lines * levels[0].runs, 1, 1], 256, 0, &p)? };
            for (i, pair) in levels.windows(2).enumerate() {
                let p = params(buffer(i), buffer(i + 1), pair[0], pair[1]);
                // SAFETY: as above.
                unsafe { merge.run(io, [pair[0].line().div_ceil(256), lines, 1], 256, 0, &p)? };
            }
            let last = levels[levels.len() - 1];
            let p = params(buffer(levels.len() - 1), std::ptr::null(), last, last);
            // SAFETY: as above.
            unsafe { finish.run(io, [(lines * k).div_ceil(256), 1, 1], 256, 0, &p) }
        })
        .workspace(2 * half)
        .boxed()
    })
}
