//! Operators that lay out, repeat, fill or accumulate: Pad, Tile, DepthToSpace, SpaceToDepth, Trilu, CumSum, CumProd, Cast.

use super::copy::{Move, element_size, ints, moves, sized};
use super::{Entry, axis_of, format, holds, makes, pack_nothing, require};
use crate::backend::{Ctx, bound, kernel};
use crate::compute::copy::{StridedCopy, contiguous};
use crate::compute::element::Element;
use crate::compute::{Shared, cut, with_number};
use crate::kernels::elementwise::Format;
use oxrt_backend::geometry::known;
use oxrt_backend::{BindArgs, Kernel, NodeView};
use oxrt_ir::{DType, Tensor};
use oxrt_tensor::{Error, Result, bail};
use oxrt_tensor::{bf16_from_f64, f16_from_f64};

pub(super) const PAD: Entry =
    Entry { name: "pad", ops: &["Pad"], supports: pad_supports, pack: pack_nothing, load: pad };
pub(super) const TILE: Entry = Entry { name: "tile", ops: &["Tile"], supports: sized, pack: pack_nothing, load: tile };
pub(super) const SHUFFLE: Entry = Entry {
    name: "pixel_shuffle",
    ops: &["DepthToSpace", "SpaceToDepth"],
    supports: sized,
    pack: pack_nothing,
    load: shuffle,
};
pub(super) const TRILU: Entry =
    Entry { name: "trilu", ops: &["Trilu"], supports: trilu_supports, pack: pack_nothing, load: trilu };
pub(super) const CUMSUM: Entry =
    Entry { name: "cumsum", ops: &["CumSum", "CumProd"], supports: cumsum_supports, pack: pack_nothing, load: cumsum };
pub(super) const CAST: Entry =
    Entry { name: "cast", ops: &["Cast", "CastLike"], supports: cast_supports, pack: pack_nothing, load: cast };

fn pad_supports(node: &NodeView) -> Option<()> {
    sized(node)?;
    known(node, 1)?;
    known(node, 3)?;
    let mode = node.attrs().string_or("mode", "constant").ok()?;
    require(["constant", "reflect", "edge", "wrap"].contains(&mode))
}

/// Input positions of every output position along one axis; `None` where the fill value goes.
///
/// # Errors
/// When an axis asks for more room than there is.
fn pad_map(mode: &str, n: i64, before: i64, out: usize) -> Result<Vec<Option<usize>>> {
    let mut map = Vec::new();
    if map.try_reserve_exact(out).is_err() {
        bail!(invalid, "no memory for an axis of {out} elements");
    }
    map.extend((0..out as i64).map(|o| {
        let at = o - before;
        let at = match mode {
            _ if (0..n).contains(&at) => at,
            "constant" => return None,
            _ if n == 0 => return None,
            "edge" => at.clamp(0, n - 1),
            "wrap" => at.rem_euclid(n),
            _ if n == 1 => 0,
            _ => {
                let period = 2 * (n - 1);
                let folded = at.rem_euclid(period);
                if folded < n { folded } else { period - folded }
            }
        };
        Some(at as usize)
    }));
    Ok(map)
}

fn pad(ctx: &Ctx, node: &NodeView, _: &[Tensor]) -> Result<Box<dyn Kernel>> {
    let size = element_size(node)?;
    let mode = node.attrs().string_or("mode", "constant")?.to_string();
    let ctx = ctx.clone();
    kernel(move |args| {
        let (shape, out) = (args.shape(0)?.to_vec(), args.output(0)?.to_vec());
        let rank = shape.len();
        let pads = ints(args, 1)?.ok_or_else(|| Error::invalid("a pad without pads"))?;
        let axes = ints(args, 3)?.unwrap_or_else(|| (0..rank as i64).collect());
        holds(args, 2, 1)?;
        if pads.len() != 2 * axes.len() || out.len() != rank {
            bail!(invalid, "{} pads for {} axes", pads.len(), axes.len());
        }
        let mut before = vec![0i64; rank];
        for (i, &axis) in axes.iter().enumerate() {
            before[axis_of(axis, rank)?] = pads[i];
        }
        let maps: Vec<_> =
            (0..rank).map(|d| pad_map(&mode, shape[d] as i64, before[d], out[d])).collect::<Result<_>>()?;
        let ctx = ctx.clone();
        let Some(last) = rank.checked_sub(1) else {
            let copy = StridedCopy::new(&[], &[], &[], size);
            return moves(&ctx, size, vec![Move { copy, input: 0, from: 0, output: 0, to: 0 }]);
        };
        // Along the last axis, the stretch that is copied as it lies.
        let from = before[last].clamp(0, out[last] as i64) as usize;
        let skip = (-before[last]).max(0) as usize;
        let run = shape[last].saturating_sub(skip).min(out[last] - from);
        let rows: usize = out[..last].iter().product();
        let strides = contiguous(&shape);
        bound(move |io| {
            let (src, dst, value) =
                (Shared(io.inputs[0].cast_mut()), Shared(io.outputs[0]), Shared(io.input::<u8>(2).cast_mut()));
            let n = out[last];
            let parts = ctx.pool.parts(rows * n * size / (64 * 1024)).min(rows.max(1));
            ctx.pool.run(parts, |part| {
                let (start, count) = cut(rows, parts, part);
                for row in start..start + count {
                    let (mut rest, mut base) = (row, Some(0));
                    for d in (0..last).rev() {
                        let at = maps[d][rest % out[d]];
                        rest /= out[d];
                        base = base.zip(at).map(|(b, at)| b + at * strides[d] as usize);
                    }
                    // SAFETY: maps name positions of the input, rows of the output are disjoint.
                    unsafe {
                        let to = dst.at(row * n * size);
                        let one = |o: usize| match base.zip(maps[last][o]) {
                            Some((base, at)) => {
                                core::ptr::copy_nonoverlapping(src.at((base + at) * size), to.add(o * size), size);
                            }
                            None if value.get().is_null() => core::ptr::write_bytes(to.add(o * size), 0, size),
                            None => core::ptr::copy_nonoverlapping(value.get(), to.add(o * size), size),
                        };
                        match base {
                            Some(base) if run > 0 => {
                                (0..from).for_each(one);
                                core::ptr::copy_nonoverlapping(
                                    src.at((base + skip) * size),
                                    to.add(from * size),
                                    run * size,
                                );
                                (from + run..n).for_each(one);
                            }
                            _ => (0..n).for_each(one),
                        }
                    }
                }
            });
        })
        .boxed()
    })
}

fn tile(ctx: &Ctx, node: &NodeView, _: &[Tensor]) -> Result<Box<dyn Kernel>> {
    let size = element_size(node)?;
    let ctx = ctx.clone();
    kernel(move |args| {
        let (shape, out) = (args.shape(0)?, args.output(0)?);
        if out.len() != shape.len()
            || (0..out.len()).any(|d| shape[d] == 0 && out[d] != 0 || shape[d] > 0 && out[d] % shape[d] != 0)
        {
            bail!(invalid, "repeating shape {shape:?} does not make {out:?}");
        }
        let (own, to) = (contiguous(shape), contiguous(out));
        let (mut dims, mut src, mut dst) = (Vec::new(), Vec::new(), Vec::new());
        for d in 0..shape.len() {
            let n = shape[d];
            dims.extend([out[d].checked_div(n).unwrap_or(0), n]);
            src.extend([0, own[d]]);
            dst.extend([to[d] * n as isize, to[d]]);
        }
        let copy = StridedCopy::new(&dims, &src, &dst, size);
        moves(&ctx, size, vec![Move { copy, input: 0, from: 0, output: 0, to: 0 }])
    })
}

fn shuffle(ctx: &Ctx, node: &NodeView, _: &[Tensor]) -> Result<Box<dyn Kernel>> {
    let size = element_size(node)?;
    let block = usize::try_from(node.attrs().int_or("blocksize", 1)?).ok().filter(|&b| b > 0);
    let b = block.ok_or_else(|| Error::invalid("a block size must be positive"))?;
    let crd = node.attrs().string_or("mode", "DCR")? == "CRD";
    let to_depth = node.op() == "SpaceToDepth";
    let ctx = ctx.clone();
    kernel(move |args| {
        let &[n, c, h, w] = args.shape(0)? else { bail!(invalid, "four dimensions are needed") };
        makes(args, n * c * h * w)?;
        let whole = if to_depth { h % b == 0 && w % b == 0 } else { c % (b * b) == 0 };
        if !whole {
            bail!(invalid, "shape {:?} does not make blocks of {b}", args.shape(0)?);
        }
        let copy = if to_depth && crd {
            StridedCopy::transpose(&[n, c, h / b, b, w / b, b], &[0, 1, 3, 5, 2, 4], size)
        } else if to_depth {
            StridedCopy::transpose(&[n, c, h / b, b, w / b, b], &[0, 3, 5, 1, 2, 4], size)
        } else if crd {
            StridedCopy::transpose(&[n, c / (b * b), b, b, h, w], &[0, 1, 4, 2, 5, 3], size)
        } else {
            StridedCopy::transpose(&[n, b, b, c / (b * b), h, w], &[0, 3, 4, 1, 5, 2], size)
        };
        moves(&ctx, size, vec![Move { copy, input: 0, from: 0, output: 0, to: 0 }])
    })
}

fn trilu_supports(node: &NodeView) -> Option<()> {
    sized(node)?;
    known(node, 1)
}

fn trilu(_: &Ctx, node: &NodeView, _: &[Tensor]) -> Result<Box<dyn Kernel>> {
    let size = element_size(node)?;
    let upper = node.attrs().bool_or("upper", true)?;
    kernel(move |args| {
        let shape = args.shape(0)?;
        let [.., rows, cols] = *shape else { bail!(invalid, "a matrix is needed, found shape {shape:?}") };
        let k = ints(args, 1)?.and_then(|v| v.first().copied()).unwrap_or(0);
        let total: usize = shape.iter().product();
        makes(args, total)?;
        bound(move |io| {
            for row in 0..total.checked_div(cols).unwrap_or(0) {
                // Upper keeps columns from row + k on, lower those up to row + k.
                let border = (row % rows) as i64 + k;
                let keep = if upper {
                    border.clamp(0, cols as i64) as usize..cols
                } else {
                    0..(border + 1).clamp(0, cols as i64) as usize
                };
                // SAFETY: rows lie inside both sides.
                unsafe {
                    let (from, to) = (io.inputs[0].add(row * cols * size), io.outputs[0].add(row * cols * size));
                    let kept = keep.start * size;
                    core::ptr::copy(from.add(kept), to.add(kept), keep.len() * size);
                    core::ptr::write_bytes(to, 0, kept);
                    core::ptr::write_bytes(to.add(keep.end * size), 0, (cols - keep.end) * size);
                }
            }
        })
        .in_place(&[0])
        .boxed()
    })
}

fn cumsum_supports(node: &NodeView) -> Option<()> {
    known(node, 1)?;
    use DType::*;
    require(matches!(node.dtype(0)?, F32 | F64 | I64 | U64 | I32 | U32 | I16 | U16 | I8 | U8))
}

fn cumsum(ctx: &Ctx, node: &NodeView, _: &[Tensor]) -> Result<Box<dyn Kernel>> {
    let dtype = node.dtype(0).ok_or_else(|| Error::bug("elements without a type"))?;
    let exclusive = node.attrs().bool_or("exclusive", false)?;
    let reverse = node.attrs().bool_or("reverse", false)?;
    let product = node.op() == "CumProd";
    let ctx = ctx.clone();
    kernel(move |args| {
        let shape = args.shape(0)?;
        let axis =
            ints(args, 1)?.and_then(|v| v.first().copied()).ok_or_else(|| Error::invalid("an axis is missing"))?;
        let axis = axis_of(axis, shape.len())?;
        let line = Lines {
            outer: shape[..axis].iter().product(),
            n: shape[axis],
            inner: shape[axis + 1..].iter().product(),
            exclusive,
            reverse,
        };
        if args.output(0)? != shape {
            bail!(invalid, "a result of shape {:?} for an operand of shape {shape:?}", args.output(0)?);
        }
        let ctx = ctx.clone();
        bound(move |io| {
            macro_rules! run {
                ($t:ty) => {
                    // SAFETY: buffers have the bound sizes.
                    unsafe {
                        let (x, y) = (io.input::<$t>(0), io.output::<$t>(0));
                        match (product, dtype.is_float()) {
                            // Sums are kept wide, so that long ones do not lose what is small.
                            (false, true) => line.run(&ctx, x, y, 0.0, |a: f64, v| a + v.to_f64(), <$t>::from_f64),
                            (true, true) => line.run(&ctx, x, y, 1.0, |a: f64, v| a * v.to_f64(), <$t>::from_f64),
                            (false, false) => line.run(&ctx, x, y, <$t>::from_wide(0), <$t>::plus, |a| a),
                            (true, false) => line.run(&ctx, x, y, <$t>::from_wide(1), <$t>::times, |a| a),
                        }
                    }
                };
            }
            with_number!(dtype, run, unreachable!("a number by `supports`"));
        })
        .in_place(&[0])
        .boxed()
    })
}

/// The lines of a running sum.
struct Lines {
    outer: usize,
    n: usize,
    inner: usize,
    exclusive: bool,
    reverse: bool,
}

impl Lines {
    unsafe fn run<T: Element, A: Copy + Sync>(
        &self,
        ctx: &Ctx,
        x: *const T,
        y: *mut T,
        start: A,
        step: impl Fn(A, T) -> A + Sync,
        get: impl Fn(A) -> T + Sync,
    ) {
        /// Neighbouring lines that are gone along together, so that whole cache lines are read and written.
        const TOGETHER: usize = 64;
        let Lines { outer, n, inner, .. } = *self;
        let groups = inner.div_ceil(TOGETHER);
        let parts = ctx.pool.parts(outer * inner * n / (16 * 1024)).min((outer * groups).max(1));
        let (x, y) = (Shared(x.cast_mut()), Shared(y));
        ctx.pool.run(parts, |part| {
            let (first, count) = cut(outer * groups, parts, part);
            for group in first..first + count {
                let (o, column) = (group / groups, group % groups * TOGETHER);
                let columns = TOGETHER.min(inner - column);
                if inner == 1 {
                    let mut total = start;
                    for i in 0..n {
                        let at = o * n + if self.reverse { n - 1 - i } else { i };
                        // SAFETY: lines are disjoint, and lie inside both sides.
                        unsafe {
                            let next = step(total, *x.at(at));
                            *y.at(at) = get(if self.exclusive { total } else { next });
                            total = next;
                        }
                    }
                    continue;
                }
                let mut totals = [start; TOGETHER];
                for i in 0..n {
                    let row = if self.reverse { n - 1 - i } else { i };
                    // SAFETY: groups of lines are disjoint, and lie inside both sides.
                    unsafe {
                        let (x, y) = (x.at((o * n + row) * inner + column), y.at((o * n + row) * inner + column));
                        for (c, total) in totals.iter_mut().enumerate().take(columns) {
                            let next = step(*total, *x.add(c));
                            *y.add(c) = get(if self.exclusive { *total } else { next });
                            *total = next;
                        }
                    }
                }
            }
        });
    }
}

/// Types between which elements are converted here.
fn castable(dtype: DType) -> bool {
    use DType::*;
    matches!(dtype, F32 | F64 | F16 | BF16 | I64 | I32 | I16 | I8 | U64 | U32 | U16 | U8 | Bool)
}

fn cast_supports(node: &NodeView) -> Option<()> {
    require(castable(node.dtype(0)?) && castable(node.output_dtype(0)?))
}

fn cast(ctx: &Ctx, node: &NodeView, _: &[Tensor]) -> Result<Box<dyn Kernel>> {
    let bug = || Error::bug("elements without a type");
    let (from, to) = (node.dtype(0).ok_or_else(bug)?, node.output_dtype(0).ok_or_else(bug)?);
    let ctx = ctx.clone();
    kernel(move |args: &BindArgs| {
        let n: usize = args.shape(0)?.iter().product();
        makes(args, n)?;
        let ctx = ctx.clone();
        let sizes = (from.size().unwrap_or(1), to.size().unwrap_or(1));
        bound(move |io| {
            let (src, dst) = (Shared(io.inputs[0].cast_mut()), Shared(io.outputs[0]));
            let parts = ctx.pool.parts(n / (32 * 1024));
            ctx.pool.run(parts, |part| {
                let (start, count) = cut(n, parts, part);
                // SAFETY: parts are disjoint pieces of the output.
                unsafe { convert(&ctx, from, to, src.at(start * sizes.0), dst.at(start * sizes.1), count) }
            });
        })
        .boxed()
    })
}

/// Converts `n` elements.
unsafe fn convert(ctx: &Ctx, from: DType, to: DType, src: *const u8, dst: *mut u8, n: usize) {
    let half = |d: DType| matches!(d, DType::F16 | DType::BF16);
    let (own, other) = (from.size().unwrap_or(1), to.size().unwrap_or(1));
    let mut tile = [0.0f32; 256];
    // SAFETY: both sides have `n` elements of their types; every half-precision number has a format.
    unsafe {
        if !half(from) && !half(to) {
            return between(from, to, src, dst, n);
        }
        for at in (0..n).step_by(tile.len()) {
            let count = tile.len().min(n - at);
            let (src, dst) = (src.add(at * own), dst.add(at * other));
            match (format(from), format(to)) {
                (Some(from), Some(to)) if !matches!(from, Format::I32 | Format::I64) => {
                    (ctx.kernels.widen)(from, src, tile.as_mut_ptr(), count);
                    (ctx.kernels.narrow)(to, tile.as_ptr(), dst, count);
                }
                (Some(from), _) if half_format(from) => {
                    (ctx.kernels.widen)(from, src, tile.as_mut_ptr(), count);
                    between(DType::F32, to, tile.as_ptr().cast(), dst, count);
                }
                // By way of f32, wide integers and doubles would round twice.
                _ => {
                    let mut wide = [0.0f64; 256];
                    between(from, DType::F64, src, wide.as_mut_ptr().cast(), count);
                    for (i, &v) in wide[..count].iter().enumerate() {
                        let bits =
                            if to == DType::F16 { f16_from_f64(v).to_bits() } else { bf16_from_f64(v).to_bits() };
                        *dst.cast::<u16>().add(i) = bits;
                    }
                }
            }
        }
    }
}

fn half_format(format: Format) -> bool {
    matches!(format, Format::F16 | Format::Bf16)
}

/// Converts between types that Rust has.
unsafe fn between(from: DType, to: DType, src: *const u8, dst: *mut u8, n: usize) {
    macro_rules! from_any {
        ($from:ty) => {{
            // SAFETY: both sides have `n` elements of their types.
            let each = |i: usize| unsafe { *src.cast::<$from>().add(i) };
            macro_rules! to_any {
                ($to:ty) => {
                    // SAFETY: as above.
                    (0..n).for_each(|i| unsafe { *dst.cast::<$to>().add(i) = each(i) as $to })
                };
            }
            match to {
                // SAFETY: as above.
                DType::Bool => (0..n).for_each(|i| unsafe { *dst.add(i) = u8::from(each(i) != 0 as $from) }),
                _ => with_number!(to, to_any, unreachable!("a number by `supports`")),
            }
        }};
    }
    with_number!(from, from_any, unreachable!("a number by `supports`"))
}
