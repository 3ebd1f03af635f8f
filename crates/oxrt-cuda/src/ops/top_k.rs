//! TopK: the first k of each line in order, by sorted runs that are merged.

use super::each::{only, strict};
use super::{Entry, axis_of, c_type, counts, dtype, require};
use crate::backend::{Ctx, Launcher};
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
    only(ctx, &text(dtype(node, 0)?, node.attrs().bool_or("largest", true)?)?)
}

/// Kernels that sort elements of a type.
pub(super) fn text(ty: DType, largest: bool) -> Result<String> {
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
    Ok(format!(
        "{bits}typedef {} T;\ntypedef {c} C;\ntypedef {key} K;\n#define FLOAT {}\n#define BITS bits_of\n#define FLIP {flip}\n\
         #define LARGEST {}\n{TEXT}",
        c_type(ty)?,
        u8::from(ty.is_float()),
        u8::from(largest)
    ))
}

/// What is left of a line after some merging: runs of `span` elements, `pitch` kept of each.
#[derive(Clone, Copy, Debug)]
pub(super) struct Level {
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

/// Kernels of [`text`] that sort lines.
#[derive(Clone)]
pub(super) struct Sorter {
    sort: Launcher,
    merge: Launcher,
    /// Bytes of a key and its place.
    item: usize,
}

/// Lines of `n` elements that lie `inner` apart, of which the first `k` are wanted in order.
#[derive(Clone)]
pub(super) struct Sorted {
    sorter: Sorter,
    lines: usize,
    n: usize,
    k: usize,
    inner: usize,
    levels: Vec<Level>,
    /// Bytes of the runs of a level.
    half: usize,
}

impl Sorter {
    pub fn new(ctx: &Ctx, code: Option<&Tensor>, ty: DType) -> Result<Sorter> {
        let item = if is_wide(ty) { 16 } else { 8 };
        Ok(Sorter { sort: ctx.function(code, "sort", 0)?, merge: ctx.function(code, "merge", 0)?, item })
    }

    pub fn of(&self, lines: usize, n: usize, k: usize, inner: usize) -> Result<Sorted> {
        let levels = levels(n, k);
        if lines > 65535 && levels.len() > 1 {
            bail!(unsupported, "{lines} lines of more than {RUN} elements");
        }
        let half = counts(lines * levels.iter().map(Level::line).max().unwrap_or(0))? * self.item;
        let half = half.next_multiple_of(16);
        Ok(Sorted { sorter: self.clone(), lines, n, k, inner, levels, half })
    }
}

impl Sorted {
    /// Bytes at the start of the workspace.
    pub fn bytes(&self) -> usize {
        2 * self.half
    }

    fn params(&self, io: &Io, from: *const u8, to: *const u8, now: Level, next: Level) -> Vec<u8> {
        let p = Params::new().ptr(io.input::<u8>(0)).ptr(from).ptr(to);
        let p = p.ptr(io.output::<u8>(0).cast_const()).ptr(io.output::<u8>(1).cast_const());
        let p = p.u32(self.lines).u32(self.n).u32(self.k).dividers(&[self.inner, now.runs]);
        p.u32(now.span).u32(now.pitch).u32(next.pitch).u32(now.line()).u32(next.line()).finish()
    }

    /// Sorts; gives where the items lie in order.
    ///
    /// # Safety
    /// Input 0 has the lines' elements, and the workspace is large enough.
    pub unsafe fn run(&self, io: &Io) -> Result<*const u8> {
        let buffer = |i: usize| io.workspace.wrapping_add(i % 2 * self.half).cast_const();
        let levels = &self.levels;
        let p = self.params(io, std::ptr::null(), buffer(0), levels[0], levels[0]);
        // SAFETY: the caller's promise.
        unsafe { self.sorter.sort.run(io, [self.lines * levels[0].runs, 1, 1], 256, 0, &p)? };
        for (i, pair) in levels.windows(2).enumerate() {
            let p = self.params(io, buffer(i), buffer(i + 1), pair[0], pair[1]);
            // SAFETY: as above.
            unsafe { self.sorter.merge.run(io, [pair[0].line().div_ceil(256), self.lines, 1], 256, 0, &p)? };
        }
        Ok(buffer(levels.len() - 1))
    }
}

fn load(ctx: &Ctx, node: &NodeView, packed: &[Tensor]) -> Result<Box<dyn Kernel>> {
    let sorter = Sorter::new(ctx, packed.first(), dtype(node, 0)?)?;
    let finish = ctx.function(packed.first(), "finish", 0)?;
    let axis = node.attrs().int_or("axis", -1)?;
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
        let (sorted, finish) = (sorter.of(lines, n, k, inner)?, finish.clone());
        let bytes = sorted.bytes();
        bound(move |io: &Io| {
            if lines * k == 0 {
                return Ok(());
            }
            let last = sorted.levels[sorted.levels.len() - 1];
            // SAFETY: buffers have the bound sizes; the workspace holds the runs of each level.
            unsafe {
                let items = sorted.run(io)?;
                let p = sorted.params(io, items, std::ptr::null(), last, last);
                finish.run(io, [(lines * k).div_ceil(256), 1, 1], 256, 0, &p)
            }
        })
        .workspace(bytes)
        .boxed()
    })
}
