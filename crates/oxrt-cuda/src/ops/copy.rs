//! Data movement that is a copy at fixed distances, for every element type.

use super::map::{Map, MapPlan, broadcast, text};
use super::{Entry, axis_of, contiguous, dtype, ints, known, makes, output_dtype, require, sizes};
use crate::backend::Ctx;
use crate::gpu::Params;
use crate::text::{Number, raw};
use oxrt_backend::geometry::sliced;
use oxrt_backend::{Bound, Kernel, NodeView, Packing, bound, kernel};
use oxrt_ops::scalar::{Instr, Program};
use oxrt_tensor::{DType, Result, Tensor, bail};
use std::sync::Arc;

pub(super) const TRANSPOSE: Entry = Entry::new("transpose", &["Transpose"], sized, pack, transpose);
/// Images of few channels, as networks get them, with the channels last.
pub(super) const FEW_LAST: Entry = Entry::new("channels_last_few", &["Transpose"], few_supports, pack_few, few_last);
pub(super) const CONCAT: Entry = Entry::new("concat", &["Concat"], concat_supports, pack, concat);
pub(super) const SPLIT: Entry = Entry::new("split", &["Split"], sized, pack, split);
pub(super) const SLICE: Entry = Entry::new("slice", &["Slice"], slice_supports, pack, slice);
pub(super) const EXPAND: Entry = Entry::new("expand", &["Expand"], sized, pack, expand);
pub(super) const TILE: Entry = Entry::new("tile", &["Tile"], sized, pack, tile);
pub(super) const SHUFFLE: Entry = Entry::new("pixel_shuffle", &["DepthToSpace", "SpaceToDepth"], sized, pack, shuffle);
/// A Gather of one place that is known: a slice without its axis.
pub(super) const SELECT: Entry = Entry::new("select", &["Gather"], select_supports, pack, select);
pub(super) const RESHAPE: Entry =
    Entry::new("reshape", &["Reshape", "Squeeze", "Unsqueeze", "Flatten", "Identity"], sized, pack, reshape);

fn sized(_: &Ctx, node: &NodeView) -> Option<()> {
    raw(node.dtype(0)?)?;
    // One text per node: all results have one type.
    let outputs = node.node().outputs().iter().flatten();
    let mut types = outputs.map(|&v| node.graph[v].ty.dtype());
    let first = types.next()??;
    raw(first)?;
    require(types.all(|t| t == Some(first)))
}

/// Most channels that a thread of [`FEW_LAST`] moves.
const FEW: usize = 4;

fn few_supports(ctx: &Ctx, node: &NodeView) -> Option<()> {
    sized(ctx, node)?;
    let rank = node.rank(0)? as i64;
    let last: Vec<i64> = [0].into_iter().chain(2..rank).chain([1]).collect();
    require(rank >= 3 && node.attrs().ints("perm").ok()?? == last)?;
    require((2..=FEW).contains(&node.dims(0)?[1].as_size()?))
}

fn pack_few(ctx: &Ctx, node: &NodeView) -> Result<Packing> {
    let (from, to) = types(node)?;
    let channels = node.dims(0).and_then(|d| d[1].as_size()).unwrap_or(1);
    let (c, x, y) = (Number::for_types(&[from], to).name(), super::c_type(from)?, super::c_type(to)?);
    let body = format!(
        "typedef {c} C;\ntypedef {x} TX;\ntypedef {y} TY;\n#define CHANNELS {channels}\n#define SIDE {}\n{FEW_TEXT}",
        side(from)
    );
    Ok(Packing { tensors: vec![ctx.code(&body)?], consumed: Vec::new() })
}

/// Pixels of a thread, where rows of planes have a multiple of them: 16 bytes of each.
fn side(from: DType) -> usize {
    16 / from.bytes_for(1).max(1)
}

/// Some pixels per thread: neighbours read each plane side by side, and write side by side.
const FEW_TEXT: &str = r#"
struct P { const TX* x; TY* y; u32 count; Divider pixels; };
template <int V> DEVICE void run(const P& p) {
    u32 index = blockIdx.x * 256 + threadIdx.x;
    if (index >= p.count) return;
    index *= V;
    u32 image = divide(index, p.pixels), pixel = index - image * p.pixels.divisor;
    const TX* from = p.x + (i64)image * CHANNELS * p.pixels.divisor + pixel;
    TY* to = p.y + (i64)index * CHANNELS;
    Pack<TX, V> all[CHANNELS];
    Pack<TY, V> out[CHANNELS];
    PRAGMA_UNROLL for (int c = 0; c < CHANNELS; c++) all[c] = *(const Pack<TX, V>*)(from + (i64)c * p.pixels.divisor);
    PRAGMA_UNROLL for (int e = 0; e < V * CHANNELS; e++) out[e / V].at[e % V] = put<TY>(get<C>(all[e % CHANNELS].at[e / CHANNELS]));
    PRAGMA_UNROLL for (int c = 0; c < CHANNELS; c++) *(Pack<TY, V>*)(to + c * V) = out[c];
}
KERNEL(256, few_last, P) { run<1>(p); }
KERNEL(256, few_last_side, P) { run<SIDE>(p); }
"#;

fn few_last(ctx: &Ctx, node: &NodeView, packed: &[Tensor]) -> Result<Box<dyn Kernel>> {
    let [one, side_by_side] = ["few_last", "few_last_side"].map(|name| ctx.function(packed.first(), name, 0));
    let (one, side_by_side, side) = (one?, side_by_side?, side(types(node)?.0));
    let channels = node.dims(0).and_then(|d| d[1].as_size()).unwrap_or(1);
    kernel(move |args| {
        let x = args.shape(0)?;
        if x.get(1) != Some(&channels) {
            bail!(invalid, "an image of shape {x:?} for {channels} channels");
        }
        makes(args, x.iter().product())?;
        let pixels: usize = x[2..].iter().product();
        let count = super::counts(x[0] * pixels * channels)? / channels;
        let whole = pixels.is_multiple_of(side);
        let launcher = if whole { &side_by_side } else { &one }.clone();
        let count = if whole { count / side } else { count };
        bound(move |io| {
            let p = Params::new().ptr(io.input::<u8>(0)).ptr(io.output::<u8>(0)).u32(count).divider(pixels.max(1));
            // SAFETY: buffers have the bound sizes.
            unsafe { launcher.run(io, [count.div_ceil(256), 1, 1], 256, 0, &p.finish()) }
        })
        .boxed()
    })
}

fn concat_supports(ctx: &Ctx, node: &NodeView) -> Option<()> {
    sized(ctx, node)?;
    require((0..node.num_inputs()).all(|i| node.dtype(i) == node.dtype(0)))
}

fn slice_supports(ctx: &Ctx, node: &NodeView) -> Option<()> {
    sized(ctx, node)?;
    // Ends do not matter: the output's shape says how much is taken.
    [1, 3, 4].iter().try_for_each(|&i| known(node, i))
}

fn select_supports(ctx: &Ctx, node: &NodeView) -> Option<()> {
    sized(ctx, node)?;
    require(node.ty(1)?.static_shape()?.is_empty())?;
    known(node, 1)
}

/// The types between which elements are moved: plain bits where nothing is converted.
fn types(node: &NodeView) -> Result<(DType, DType)> {
    let (from, to) = (dtype(node, 0)?, output_dtype(node, 0)?);
    if from != to {
        return Ok((from, to));
    }
    let plain = match from.bytes_for(1) {
        1 => DType::U8,
        2 => DType::U16,
        4 => DType::U32,
        _ => DType::U64,
    };
    Ok((plain, plain))
}

fn pack(ctx: &Ctx, node: &NodeView) -> Result<Packing> {
    let (from, to) = types(node)?;
    let copy = Program { instrs: vec![Instr::Input(0)] };
    Ok(Packing { tensors: vec![ctx.code(&text(&[from], to, &copy, false, true)?)?], consumed: Vec::new() })
}

fn map(ctx: &Ctx, node: &NodeView, packed: &[Tensor]) -> Result<Arc<Map>> {
    let (from, to) = types(node)?;
    Ok(Arc::new(Map::load(ctx, packed.first(), &[from], to)?))
}

/// One copy from input `.1` to output `.2`.
struct Move(MapPlan, usize, usize);

fn moves(map: &Arc<Map>, moves: Vec<Move>) -> Result<Box<dyn Bound>> {
    let map = map.clone();
    bound(move |io| {
        for Move(plan, input, output) in &moves {
            if !io.outputs[*output].is_null() {
                // SAFETY: distances were computed from the bound shapes.
                unsafe { plan.run(&map, io, &[io.input(*input)], io.output(*output))? };
            }
        }
        Ok(())
    })
    .boxed()
}

fn one(map: &Arc<Map>, shape: &[usize], from: (Vec<isize>, isize)) -> Result<Box<dyn Bound>> {
    moves(map, vec![Move(map.plan(shape, &[from], (contiguous(shape), 0))?, 0, 0)])
}

fn transpose(ctx: &Ctx, node: &NodeView, packed: &[Tensor]) -> Result<Box<dyn Kernel>> {
    let map = map(ctx, node, packed)?;
    let perm = node.attrs().ints("perm")?.map(<[i64]>::to_vec);
    kernel(move |args| {
        let (shape, out) = (args.shape(0)?, args.output(0)?);
        let perm: Vec<usize> = match &perm {
            Some(p) => p.iter().map(|&a| axis_of(a, shape.len())).collect::<Result<_>>()?,
            None => (0..shape.len()).rev().collect(),
        };
        let mut seen = perm.clone();
        seen.sort_unstable();
        if seen.into_iter().ne(0..shape.len()) || out.iter().ne(perm.iter().map(|&p| &shape[p])) {
            bail!(invalid, "axes {perm:?} of shape {shape:?} do not make {out:?}");
        }
        let own = contiguous(shape);
        one(&map, out, (perm.iter().map(|&p| own[p]).collect(), 0))
    })
}

fn concat(ctx: &Ctx, node: &NodeView, packed: &[Tensor]) -> Result<Box<dyn Kernel>> {
    let map = map(ctx, node, packed)?;
    let axis = node.attrs().int_or("axis", 0)?;
    let inputs = node.num_inputs();
    kernel(move |args| {
        let out = args.output(0)?;
        let axis = axis_of(axis, out.len())?;
        let strides = contiguous(out);
        let mut at = 0;
        let mut list = Vec::new();
        for i in 0..inputs {
            let shape = args.shape(i)?;
            if shape.len() != out.len() || (0..out.len()).any(|d| d != axis && shape[d] != out[d]) {
                bail!(invalid, "a part of shape {shape:?} for a result of shape {out:?}");
            }
            let to = (strides.clone(), at as isize * strides[axis]);
            list.push(Move(map.plan(shape, &[(contiguous(shape), 0)], to)?, i, 0));
            at += shape[axis];
        }
        if at != out[axis] {
            bail!(invalid, "parts of {at} elements in all for an axis of {}", out[axis]);
        }
        moves(&map, list)
    })
}

fn split(ctx: &Ctx, node: &NodeView, packed: &[Tensor]) -> Result<Box<dyn Kernel>> {
    let map = map(ctx, node, packed)?;
    let axis = node.attrs().int_or("axis", 0)?;
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
            let from = (strides.clone(), at * strides[axis]);
            list.push(Move(map.plan(out, &[from], (contiguous(out), 0))?, 0, i));
            at += out[axis] as isize;
        }
        if at != shape[axis] as isize {
            bail!(invalid, "parts of {at} elements in all for an axis of {}", shape[axis]);
        }
        moves(&map, list)
    })
}

fn slice(ctx: &Ctx, node: &NodeView, packed: &[Tensor]) -> Result<Box<dyn Kernel>> {
    let map = map(ctx, node, packed)?;
    kernel(move |args| one(&map, args.output(0)?, sliced(args)?))
}

fn select(ctx: &Ctx, node: &NodeView, packed: &[Tensor]) -> Result<Box<dyn Kernel>> {
    let map = map(ctx, node, packed)?;
    let axis = node.attrs().int_or("axis", 0)?;
    kernel(move |args| {
        let (shape, out) = (args.shape(0)?, args.output(0)?);
        let axis = axis_of(axis, shape.len())?;
        let at = ints(args, 1)?.and_then(|list| list.first().copied()).unwrap_or(0);
        let n = shape[axis] as i64;
        let at = if at < 0 { at + n } else { at };
        if !(0..n).contains(&at) {
            bail!(invalid, "index {at} into an axis of {n}");
        }
        let mut strides = contiguous(shape);
        let from = strides.remove(axis) * at as isize;
        makes(args, shape.iter().product::<usize>() / shape[axis])?;
        one(&map, out, (strides, from))
    })
}

fn expand(ctx: &Ctx, node: &NodeView, packed: &[Tensor]) -> Result<Box<dyn Kernel>> {
    let map = map(ctx, node, packed)?;
    kernel(move |args| {
        let out = args.output(0)?;
        one(&map, out, (broadcast(args.shape(0)?, out)?, 0))
    })
}

fn tile(ctx: &Ctx, node: &NodeView, packed: &[Tensor]) -> Result<Box<dyn Kernel>> {
    let map = map(ctx, node, packed)?;
    kernel(move |args| {
        let (shape, out) = (args.shape(0)?, args.output(0)?);
        let fits = shape.len() == out.len() && (0..shape.len()).all(|d| shape[d] != 0 && out[d] % shape[d] == 0);
        if !fits && out.iter().product::<usize>() != 0 {
            bail!(invalid, "shape {shape:?} cannot be repeated to {out:?}");
        }
        let own = contiguous(shape);
        // Every axis becomes repetitions and what is repeated.
        let (mut dims, mut strides) = (Vec::new(), Vec::new());
        for d in 0..shape.len() {
            dims.extend([out[d].checked_div(shape[d]).unwrap_or(0), shape[d]]);
            strides.extend([0, own[d]]);
        }
        one(&map, &dims, (strides, 0))
    })
}

fn shuffle(ctx: &Ctx, node: &NodeView, packed: &[Tensor]) -> Result<Box<dyn Kernel>> {
    let map = map(ctx, node, packed)?;
    let to_space = node.op() == "DepthToSpace";
    let block = sizes(&[node.attrs().int_or("blocksize", 1)?]).map_or(0, |b| b[0]);
    let columns = node.attrs().string_or("mode", "DCR")? == "CRD";
    kernel(move |args| {
        let [n, c, h, w] = *args.shape(0)? else { bail!(invalid, "a tensor of shape {:?}", args.shape(0)?) };
        let b = block;
        makes(args, n * c * h * w)?;
        if b == 0 || if to_space { c % (b * b) != 0 } else { h % b != 0 || w % b != 0 } {
            bail!(invalid, "blocks of {b} for shape {:?}", args.shape(0)?);
        }
        // The input as six axes, and the order in which the output walks through them.
        let (dims, perm) = match (to_space, columns) {
            (true, false) => ([n, b, b, c / (b * b), h, w], [0, 3, 4, 1, 5, 2]),
            (true, true) => ([n, c / (b * b), b, b, h, w], [0, 1, 4, 2, 5, 3]),
            (false, false) => ([n, c, h / b, b, w / b, b], [0, 3, 5, 1, 2, 4]),
            (false, true) => ([n, c, h / b, b, w / b, b], [0, 1, 3, 5, 2, 4]),
        };
        let own = contiguous(&dims);
        one(&map, &perm.map(|p| dims[p]), (perm.map(|p| own[p]).to_vec(), 0))
    })
}

/// The same elements under another shape: nothing to do when the output shares the input's buffer.
fn reshape(ctx: &Ctx, node: &NodeView, packed: &[Tensor]) -> Result<Box<dyn Kernel>> {
    let map = map(ctx, node, packed)?;
    let same = dtype(node, 0)? == output_dtype(node, 0)?;
    kernel(move |args| {
        let n: usize = args.shape(0)?.iter().product();
        makes(args, n)?;
        let plan = map.plan(&[n], &[(vec![1], 0)], (vec![1], 0))?;
        let map = map.clone();
        bound(move |io| {
            if std::ptr::eq(io.inputs[0], io.outputs[0]) {
                return Ok(());
            }
            // SAFETY: both sides have the elements of the bound shape.
            unsafe { plan.run(&map, io, &[io.input(0)], io.output(0)) }
        })
        .in_place(if same { &[0] } else { &[] })
        .boxed()
    })
}
