//! Fourier transforms: DFT, STFT.

use super::each::{only, strict};
use super::{Entry, axis_of, c_type, counts, dtype, ints, known, makes, require};
use crate::backend::Ctx;
use crate::gpu::Params;
use oxrt_backend::{BindArgs, Kernel, NodeView, Packing, bound, kernel};
use oxrt_tensor::{DType, Result, Tensor, bail};

const TEXT: &str = include_str!("../text/dft.cuh");

pub(super) const DFT: Entry = strict("dft", &["DFT", "STFT"], supports, pack, load);

/// Longest transform that is summed up term by term; longer ones the host does quicker.
const LONGEST: usize = 16384;

/// What a node's text depends on.
struct Kind {
    windows: bool,
    inverse: bool,
    half: bool,
    parts: usize,
}

impl Kind {
    fn of(node: &NodeView) -> Option<Kind> {
        let windows = node.op() == "STFT";
        let parts = match (windows, node.dims(0)?) {
            (true, [_, _]) => 1,
            (_, dims) => dims.last()?.as_size()?,
        };
        let flag = |name: &str, default: bool| node.attrs().bool_or(name, default).ok();
        let inverse = !windows && flag("inverse", false)?;
        matches!(parts, 1 | 2).then_some(Kind { windows, inverse, half: flag("onesided", windows)?, parts })
    }

    /// Whether the input is half of a spectrum.
    fn is_mirrored(&self) -> bool {
        self.inverse && self.half
    }
}

fn supports(_: &Ctx, node: &NodeView) -> Option<()> {
    let kind = Kind::of(node)?;
    require(matches!(node.dtype(0)?, DType::F32 | DType::F64 | DType::F16 | DType::BF16))?;
    // Of these the evaluator repeats the roundings of a fast transform, which official cases ask for where the result is 0.
    require(kind.windows || kind.half || kind.parts == 1 || node.dtype(0)? != DType::F32)?;
    // Where transforms lie, and how long they are.
    let lengths: &[usize] = if kind.windows { &[1, 3] } else { &[1, 2] };
    lengths.iter().try_for_each(|&i| known(node, i))?;
    require(!kind.windows || !node.has(2) || node.dtype(2) == node.dtype(0))?;
    let sizes = node.output_ty(0)?.dims.as_deref()?;
    match kind.windows {
        true => require(sizes[2].as_size()? <= LONGEST),
        false => {
            let axis = match node.has(2) {
                true => node.constant(2)?.to_i64_vec().ok()?.first().copied()?,
                false => -2,
            };
            let axis = axis_of(axis, sizes.len()).ok()?;
            require(axis + 1 < sizes.len() && sizes[axis].as_size()? <= LONGEST)
        }
    }
}

fn pack(ctx: &Ctx, node: &NodeView) -> Result<Packing> {
    let t = dtype(node, 0)?;
    let Some(kind) = Kind::of(node) else { bail!(bug, "a transform of unknown numbers") };
    let head = format!(
        "typedef {} T;\ntypedef {} C;\n#define PARTS {}\n#define WIDTH {}\n#define INVERSE {}\n#define MIRRORED {}\n\
         #define WINDOWED {}\n",
        c_type(t)?,
        if t == DType::F64 { "f64" } else { "f32" },
        kind.parts,
        if kind.is_mirrored() { 1 } else { 2 },
        u8::from(kind.inverse),
        u8::from(kind.is_mirrored()),
        u8::from(kind.windows && node.has(2)),
    );
    only(ctx, &(head + TEXT))
}

/// Where lines lie: how many high and low parts they have, elements given, elements of a transform and of what is kept of it, and
/// the six distances.
struct Lines {
    high: usize,
    low: usize,
    given: usize,
    n: usize,
    kept: usize,
    steps: [usize; 6],
}

/// An input of one integer.
fn one(args: &BindArgs, i: usize) -> Result<Option<usize>> {
    let Some(list) = ints(args, i)? else { return Ok(None) };
    match list.first().and_then(|&n| usize::try_from(n).ok()) {
        Some(n) if n > 0 => Ok(Some(n)),
        _ => bail!(invalid, "{list:?} where a length is needed"),
    }
}

fn windows(args: &BindArgs, half: bool) -> Result<Lines> {
    let (&[batch, length] | &[batch, length, _]) = args.shape(0)? else {
        bail!(invalid, "a signal of shape {:?}", args.shape(0)?);
    };
    let window = args.opt_shape(2).map(|s| s.iter().product::<usize>());
    let n = one(args, 3)?.or(window).unwrap_or(length);
    let Some(step) = one(args, 1)? else { bail!(invalid, "windows without a step") };
    if n == 0 || n > length || window.is_some_and(|w| w != n) {
        bail!(invalid, "windows of {n} over a signal of {length}");
    }
    let frames = (length - n) / step + 1;
    let kept = if half { n / 2 + 1 } else { n };
    Ok(Lines { high: batch, low: frames, given: n, n, kept, steps: [length, step, 1, frames * kept, kept, 1] })
}

fn lines(args: &BindArgs, kind: &Kind) -> Result<Lines> {
    let shape = args.shape(0)?;
    let axis = axis_of(ints(args, 2)?.and_then(|a| a.first().copied()).unwrap_or(-2), shape.len())?;
    if axis + 1 >= shape.len() {
        bail!(invalid, "a signal of shape {shape:?} along axis {axis}");
    }
    let given = shape[axis];
    let n = one(args, 1)?.unwrap_or(if kind.is_mirrored() { 2 * given.saturating_sub(1) } else { given });
    let kept = if kind.half && !kind.inverse { n / 2 + 1 } else { n };
    let low: usize = shape[axis + 1..shape.len() - 1].iter().product();
    let high = shape[..axis].iter().product();
    Ok(Lines { high, low, given, n, kept, steps: [given * low, 1, low, kept * low, 1, low] })
}

fn load(ctx: &Ctx, node: &NodeView, packed: &[Tensor]) -> Result<Box<dyn Kernel>> {
    let code = packed.first();
    let (table, transform) = (ctx.function(code, "table", 0)?, ctx.function(code, "transform", 0)?);
    let Some(kind) = Kind::of(node) else { bail!(bug, "a transform of unknown numbers") };
    let number = if dtype(node, 0)? == DType::F64 { 8 } else { 4 };
    kernel(move |args| {
        let l = if kind.windows { windows(args, kind.half)? } else { lines(args, &kind)? };
        counts(args.shape(0)?.iter().product())?;
        let count = counts(l.high * l.low * l.kept * 2)? / 2;
        makes(args, if kind.is_mirrored() { count } else { 2 * count })?;
        let (table, transform, windowed) = (table.clone(), transform.clone(), kind.windows);
        bound(move |io| {
            let window = if windowed { io.input::<u8>(2) } else { std::ptr::null() };
            let p = Params::new().ptr(io.input::<u8>(0)).ptr(window).ptr(io.workspace.cast_const());
            let p = p.ptr(io.output::<u8>(0).cast_const()).u32(count).dividers(&[l.kept, l.low]).u32(l.n).u32(l.given);
            let p = p.i32s(&l.steps.map(|s| s as i64)).finish();
            // SAFETY: buffers have the bound sizes; the workspace holds the table.
            unsafe {
                table.run(io, [l.n.div_ceil(256), 1, 1], 256, 0, &p)?;
                transform.run(io, [count.div_ceil(256), 1, 1], 256, 0, &p)
            }
        })
        .workspace(2 * l.n * number)
        .flops(8 * count * l.n)
        .boxed()
    })
}
