//! Attention: the fused operator that passes make, and ONNX's own; on Hopper's units, on the older ones, or by plain
//! multiply-adds.

use super::gemm::is_float;
use super::product::{Left, WGMMA, wgmma};
use super::{Entry, c_type, dtype, makes, output_dtype, require};
use crate::backend::Ctx;
use crate::gpu::Params;
use oxrt_backend::{Kernel, NodeView, Packing, Precision, bound, kernel};
use oxrt_ops::attention::{ATTRIBUTES, Operand, Placed};
use oxrt_tensor::{DType, Error, Result, Tensor, bail};

const START: &str = include_str!("../text/attention.cuh");
const ON_WGMMA: &str = include_str!("../text/attention_wgmma.cuh");
const ON_MMA: &str = include_str!("../text/attention_mma.cuh");
const PLAIN: &str = include_str!("../text/attention_simt.cuh");
/// Most elements of a head.
const WIDEST: usize = 512;
/// Most blocks that share the keys of a query.
const MOST_SPLITS: usize = 32;
/// Queries of a step of a decoder: so few that a kernel for many wastes most of its work.
const FEW: usize = 16;

const fn entry(
    name: &'static str,
    supports: fn(&Ctx, &NodeView) -> Option<()>,
    pack: fn(&Ctx, &NodeView) -> Result<Packing>,
    load: fn(&Ctx, &NodeView, &[Tensor]) -> Result<Box<dyn Kernel>>,
) -> Entry {
    Entry {
        name,
        ops: &["oxrt.Attention", "Attention"],
        supports,
        pack,
        load,
        mixes: true,
        narrow: false,
        timed: true,
        counts: false,
    }
}

pub(super) const ATTENTION: Entry = entry("attention", supports, pack::<OLDER>, load::<OLDER>);
/// On Hopper's units, with all keys in one tile; with keys in several, so that two blocks share a multiprocessor.
pub(super) const ATTENTION_WGMMA: Entry = entry("attention_wgmma", |c, n| walks(c, n, ONE), pack::<ONE>, load::<ONE>);
pub(super) const ATTENTION_WGMMA_TWO: Entry =
    entry("attention_wgmma_two", |c, n| walks(c, n, SEVERAL), pack::<SEVERAL>, load::<SEVERAL>);

const OLDER: usize = 0;
const ONE: usize = 1;
const SEVERAL: usize = 2;

/// Sizes of a head of the queries (and keys) and of the values.
fn head_sizes(node: &NodeView) -> Option<[usize; 2]> {
    let number = |name: &str| usize::try_from(node.attrs().int_or(name, 0).ok()?).ok().filter(|&n| n > 0);
    if matches!(node.attrs().string_or("layout", "bhsd").ok()?, "bsw" | "sbw") {
        return Some([number("size")?, number("value_size")?]);
    }
    let size = |i: usize, heads: &str| -> Option<usize> {
        let dims = node.dims(i)?;
        let last = dims.last()?.as_size()?;
        match dims.len() {
            4 => Some(last),
            3 => number(heads).filter(|n| last % n == 0).map(|n| last / n),
            _ => None,
        }
    };
    Some([size(0, "q_num_heads")?, size(2, "kv_num_heads")?])
}

/// Whether rows of heads begin at 16 bytes in every operand, as copies of whole chunks want.
fn rows_begin_well(node: &NodeView) -> bool {
    let begin = node.attrs().ints("at").ok().flatten().unwrap_or(&[]).iter().all(|at| at % 8 == 0);
    begin && (0..3).all(|i| node.dims(i).and_then(|d| d.last()?.as_size()).is_some_and(|n| n % 8 == 0))
}

/// Attributes of ONNX's operator beside [`ATTRIBUTES`]. Softmax is taken in single precision whatever is asked.
const WIDER: &[&str] = &["left_window_size", "right_window_size", "qk_matmul_output_mode", "softmax_precision"];

pub(super) fn supports(_: &Ctx, node: &NodeView) -> Option<()> {
    let t = node.dtype(0)?;
    require(is_float(t) && node.dtype(1) == Some(t) && node.dtype(2) == Some(t) && is_float(node.output_dtype(0)?))?;
    if node.has(3) {
        require((is_float(node.dtype(3)?) || node.dtype(3)? == DType::Bool) && node.rank(3)? <= 4)?;
    }
    // Whatever later versions add.
    require(node.attrs().iter().all(|(name, _)| ATTRIBUTES.contains(&name) || WIDER.contains(&name)))?;
    // The past of keys and of values, and how many are valid.
    require(node.has(4) == node.has(5) && node.num_inputs() <= 7)?;
    require([4, 5].into_iter().all(|i| !node.has(i) || node.dtype(i) == Some(t)))?;
    require(!node.has(6) || node.dtype(6) == Some(DType::I64))?;
    require((1..node.num_outputs()).all(|i| node.node().output(i).is_none() || output_dtype(node, i).ok() == Some(t)))?;
    require(scores_wanted(node).ok()? <= 4)?;
    let [d, v] = head_sizes(node)?;
    require(d <= WIDEST && v <= WIDEST && d > 0 && v > 0)
}

/// Whether keys and values are written behind their past, or as results.
fn appends(node: &NodeView) -> bool {
    node.has(4) || (1..=2).any(|i| node.node().output(i).is_some())
}

/// Which scores are a result: 0 for none, else one more than `qk_matmul_output_mode`.
pub(super) fn scores_wanted(node: &NodeView) -> Result<usize> {
    let mode = node.attrs().int_or("qk_matmul_output_mode", 0)?;
    let wanted = node.node().output(3).is_some();
    Ok(if wanted { usize::try_from(mode).map_or(usize::MAX, |m| m.saturating_add(1)) } else { 0 })
}

/// How far a query sees: keys before it and behind it, where that has an end.
pub(super) fn reach(node: &NodeView) -> Result<[Option<i64>; 2]> {
    let size = |name: &str| Ok::<_, Error>(Some(node.attrs().int_or(name, -1)?).filter(|&n| n >= 0));
    let (left, right) = (size("left_window_size")?, size("right_window_size")?);
    Ok([left, if node.attrs().bool_or("is_causal", false)? { Some(0) } else { right }])
}

/// Elements that are moved at once to where keys and values lie behind their past.
fn moved_at_once([d, v]: [usize; 2], t: DType) -> usize {
    let chunk = 16 / t.bytes_for(1);
    if d % chunk == 0 && v % chunk == 0 { chunk } else { 1 }
}

/// Whether the matrix units serve.
fn on_matrix_units(node: &NodeView) -> Result<bool> {
    let [d, v] = head_sizes(node).ok_or_else(|| Error::bug("attention without head sizes"))?;
    Ok(d % 16 == 0 && v % 16 == 0 && d <= 128 && v <= 128 && rows_begin_well(node))
}

/// Whether Hopper's units serve, with one tile of keys or several.
fn walks(ctx: &Ctx, node: &NodeView, how: usize) -> Option<()> {
    supports(ctx, node)?;
    let [d, v] = head_sizes(node)?;
    // Heads of whole slices.
    let halves = node.dtype(0)? != DType::F32;
    require(ctx.gpu.arch() == 90 && halves && on_matrix_units(node).ok()? && d % 64 == 0 && v % 64 == 0)?;
    Walk::new(node, [d, v], how)?;
    require(known_rows(node, Operand::Query).is_none_or(|n| n > FEW))?;
    require(!node.has(6) && reach(node).ok()?[0].is_none())?;
    // Scores are compared before they are scaled.
    require(scale(node, d).ok()? > 0.0)
}

/// The length of an operand where it is known.
fn known_rows(node: &NodeView, operand: Operand) -> Option<usize> {
    // Sizes that are not known yet may be anything: what does not depend on them is known.
    let rows = |unknown: usize| {
        let dims = node.dims(operand as usize)?;
        let shape: Vec<usize> = dims.iter().map(|d| d.as_size().unwrap_or(unknown)).collect();
        Some(Placed::new(node.attrs(), operand, &shape).ok()?.rows)
    };
    rows(1).filter(|&n| rows(2) == Some(n) && n > 0)
}

pub(super) fn scale(node: &NodeView, size: usize) -> Result<f32> {
    Ok(node.attrs().get_float("scale")?.copied().unwrap_or(1.0 / (size as f32).sqrt()))
}

/// How the kernel for Hopper walks over keys.
#[derive(Clone, Copy)]
struct Walk {
    /// Keys of a tile.
    keys: usize,
    /// Whether one tile holds all keys.
    one: bool,
    /// Blocks of a multiprocessor that registers allow.
    blocks: usize,
}

impl Walk {
    /// Queries of a block: two warpgroups of 64.
    const QUERIES: usize = 128;

    fn new(node: &NodeView, [d, v]: [usize; 2], how: usize) -> Option<Walk> {
        let known = known_rows(node, Operand::Key).filter(|_| !node.has(4));
        let small = d.max(v) <= 64;
        let (keys, one) = match how {
            ONE => (known.filter(|&n| n <= 256)?, true),
            _ => {
                // As many keys as the registers of two blocks hold.
                let most = if small { 112 } else { 128 };
                let tiles = known.map_or(1, |n| n.div_ceil(most));
                (known.map_or(most, |n| n.div_ceil(tiles)), false)
            }
        };
        let keys = keys.next_multiple_of(16);
        Some(Walk { keys, one, blocks: if keys <= 128 && small { 2 } else { 1 } })
    }

    fn shared(&self, [d, v]: [usize; 2]) -> usize {
        let (places, stages) = if self.one { (2, 1) } else { (1, 2) };
        places * Self::QUERIES * d.max(v) * 2 + stages * self.keys * (d + v) * 2
    }
}

/// How a candidate walks on Hopper; `None` for the older kernels.
fn walk(node: &NodeView, sizes: [usize; 2], how: usize) -> Result<Option<Walk>> {
    if how == OLDER {
        return Ok(None);
    }
    Ok(Some(Walk::new(node, sizes, how).ok_or_else(|| Error::bug("keys that do not fit the kernel of attention"))?))
}

/// Bytes of shared memory of the older kernel.
fn shared([d, v]: [usize; 2], t: DType) -> usize {
    let [row, value] = [d, v].map(|n| n * t.bytes_for(1) + 16);
    // As many stages as in the text.
    let stages = if d * t.bytes_for(1) * 64 * 5 > 90_000 { 1 } else { 2 };
    64 * (row * (1 + stages) + value * stages)
}

fn pack<const HOW: usize>(ctx: &Ctx, node: &NodeView) -> Result<Packing> {
    let sizes = head_sizes(node).ok_or_else(|| Error::bug("attention without head sizes"))?;
    let t = dtype(node, 0)?;
    let out = output_dtype(node, 0)?;
    let mask = if node.has(3) { dtype(node, 3)? } else { DType::F32 };
    let [left, right] = reach(node)?;
    let text = if let Some(walk) = walk(node, sizes, HOW)? {
        let text = ON_WGMMA.replace("WGMMA_SCORES", &wgmma(walk.keys, t, Left::Shared));
        let text = text.replace("WGMMA_VALUES", &wgmma(64, t, Left::Registers));
        format!(
            "#define KEYS {}\n#define ONE_TILE {}\n#define BLOCKS {}\n#define TY_BYTES {}\n{WGMMA}{text}",
            walk.keys,
            u8::from(walk.one),
            walk.blocks,
            out.bytes_for(1),
        )
    } else {
        (if on_matrix_units(node)? { ON_MMA } else { PLAIN }).to_string()
    };
    let body = format!(
        "typedef {} T;\ntypedef {} TY;\ntypedef {} M;\n#define DIM {}\n#define VDIM {}\n#define WIDE {}\n\
         #define MASK {}\n#define CAUSAL {}\n#define WINDOW {}\n#define VALID {}\n#define APPENDS {}\n#define MOVED {}\n\
         #define SCORES {}\n#define SOFTCAP {}\n#define EXACT {}\n{START}{text}",
        c_type(t)?,
        c_type(out)?,
        if mask == DType::Bool { "u8" } else { c_type(mask)? },
        sizes[0],
        sizes[1],
        sizes[1].div_ceil(32),
        match (node.has(3), mask) {
            (false, _) => 0,
            (true, DType::Bool) => 2,
            (true, _) => 1,
        },
        u8::from(right.is_some()),
        u8::from(left.is_some()),
        u8::from(node.has(6)),
        u8::from(appends(node)),
        moved_at_once(sizes, t),
        scores_wanted(node)?,
        u8::from(node.attrs().float_or("softcap", 0.0)? > 0.0),
        u8::from(t == DType::F32 && ctx.precision == Precision::F32),
    );
    Ok(Packing { tensors: vec![ctx.code(&body)?], consumed: Vec::new() })
}

fn load<const HOW: usize>(ctx: &Ctx, node: &NodeView, packed: &[Tensor]) -> Result<Box<dyn Kernel>> {
    let sizes = head_sizes(node).ok_or_else(|| Error::bug("attention without head sizes"))?;
    let [dim, value_dim] = sizes;
    let mma = on_matrix_units(node)?;
    let walk = walk(node, sizes, HOW)?;
    let shared = match (walk, mma) {
        (Some(walk), _) => walk.shared(sizes),
        (None, true) => shared(sizes, dtype(node, 0)?),
        (None, false) => 0,
    };
    let processors = ctx.gpu.processors() as usize;
    let code = packed.first();
    let launcher = ctx.function(code, "attention", shared)?;
    let join = ctx.function(code, "join", 0)?;
    let append = if appends(node) { Some(ctx.function(code, "append", 0)?) } else { None };
    let wanted = scores_wanted(node)? > 0;
    let scorer = if wanted { Some(ctx.function(code, "scores", 0)?) } else { None };
    let attrs = node.attrs().clone();
    let scale = scale(node, dim)?;
    let softcap = attrs.float_or("softcap", 0.0)?;
    let [left, right] = reach(node)?;
    let (counts_valid, chunk) = (node.has(6), moved_at_once(sizes, dtype(node, 0)?));
    // Elements are counted in bytes where an operand begins inside of a row.
    let bytes = [0, 1, 2].map(|i| node.dtype(i).map_or(1, |d| d.bytes_for(1)));
    kernel(move |args| {
        let place = |operand: Operand| Placed::new(&attrs, operand, args.shape(operand as usize)?);
        let (q, k, v) = (place(Operand::Query)?, place(Operand::Key)?, place(Operand::Value)?);
        let out = Placed::new(&attrs, Operand::Result, args.output(0)?)?;
        let same =
            k.batch == q.batch && v.batch == q.batch && k.heads == v.heads && k.rows == v.rows && k.size == q.size;
        let fits = q.size == dim && v.size == value_dim && out.heads == q.heads && out.rows == q.rows;
        if !same || !fits || k.heads == 0 || q.heads % k.heads != 0 {
            let shapes = [args.shape(0)?, args.shape(1)?, args.shape(2)?];
            bail!(invalid, "queries, keys and values of shapes {shapes:?} do not fit together");
        }
        makes(args, q.batch * q.heads * q.rows * value_dim)?;
        // Keys and values behind their past, as results or in scratch memory.
        let past = args.opt_shape(4).map_or(0, |s| s.get(2).copied().unwrap_or(0));
        let keys = past + k.rows;
        for (i, part) in [(4, &k), (5, &v)] {
            let wanted = [part.batch, part.heads, past, part.size];
            if args.opt_shape(i).is_some_and(|shape| shape != wanted) {
                bail!(invalid, "a past of shape {:?} where {wanted:?} is needed", args.opt_shape(i));
            }
            let present = args.outputs.get(i - 3).copied().flatten();
            if present.is_some_and(|shape| shape != [part.batch, part.heads, keys, part.size]) {
                bail!(invalid, "keys or values behind their past of shape {present:?}");
            }
        }
        let scores = [q.batch, q.heads, q.rows, keys];
        if wanted && args.output(3)? != scores {
            bail!(invalid, "scores of shape {:?} where {scores:?} are made", args.output(3)?);
        }
        super::holds(args, 6, q.batch)?;
        let behind = |part: &Placed| {
            let steps = [part.heads * keys * part.size, keys * part.size, part.size];
            Placed { rows: keys, at: 0, steps, ..*part }
        };
        let (seen_k, seen_v) = if append.is_some() { (behind(&k), behind(&v)) } else { (k, v) };
        let mut mask = [0usize; 4];
        let mut seen_keys = keys;
        if let Some(shape) = args.opt_shape(3) {
            let mut step = 1;
            for (i, &n) in shape.iter().rev().enumerate() {
                // Keys behind a mask's end are hidden.
                if i == 0 && n != 1 && n < keys {
                    seen_keys = n;
                } else if n != 1 && n != scores[3 - i] {
                    bail!(invalid, "a mask of shape {shape:?} for scores of shape {scores:?}");
                }
                mask[3 - i] = if n == 1 { 0 } else { step };
                step *= n;
            }
        }
        let flops = 2 * q.batch * q.heads * q.rows * keys * (dim + value_dim);
        let rows = match (walk, mma) {
            (Some(_), _) => Walk::QUERIES,
            (None, true) => 64,
            (None, false) => 4,
        };
        let mut groups = q.rows.div_ceil(rows);
        if let Some(walk) = walk.filter(|w| w.one) {
            // No more blocks than there is room for: keys and values are read once for each.
            groups = groups.min((processors * walk.blocks / (q.heads * q.batch).max(1)).max(1));
        }
        // A few queries do not fill the GPU: several blocks share their keys.
        let blocks = (groups * q.heads * q.batch).max(1);
        let splits = match (walk, mma) {
            (None, true) if groups == 1 => (2 * processors / blocks).min(seen_keys.div_ceil(64)).clamp(1, MOST_SPLITS),
            _ => 1,
        };
        let parts = if splits > 1 { 4 * q.batch * q.heads * q.rows * splits * (value_dim + 2) } else { 0 };
        let grid = [groups * splits, q.heads, q.batch];
        let threads = if walk.is_some() { 256 } else { 128 };
        // Far enough to see all, and small enough to be added to.
        let far = 1 << 29;
        let offset = if counts_valid { 0 } else { past as i64 };
        let (low, high) = (left.map_or(-far, |n| offset - n.min(far)), right.map_or(far, |n| offset + n.min(far)));
        // Where no result takes them, keys and values lie in scratch memory, values behind the keys.
        let lens = [&seen_k, &seen_v].map(|p| p.batch * p.heads * keys * p.size);
        let rooms = [0, 1].map(|i| match &append {
            Some(_) if args.outputs.get(i + 1).copied().flatten().is_none() => {
                (lens[i] * bytes[i + 1]).next_multiple_of(256)
            }
            _ => 0,
        });
        super::counts(lens[0].max(lens[1]))?;
        let (launcher, join, append, scorer) = (launcher.clone(), join.clone(), append.clone(), scorer.clone());
        bound(move |io| {
            let operand = |i: usize, p: &Placed| io.input::<u8>(i).wrapping_add(p.at * bytes[i]);
            let (mut k_at, mut v_at) = (operand(1, &k), operand(2, &v));
            if let Some(append) = &append {
                let to = |i: usize, offset: usize| match rooms[i] {
                    0 => io.output::<u8>(i + 1),
                    _ => io.workspace.wrapping_add(offset),
                };
                let to = [to(0, 0), to(1, rooms[0])];
                let mut p = Params::new();
                for (i, (part, from)) in [(&k, k_at), (&v, v_at)].into_iter().enumerate() {
                    p = p.ptr(io.input::<u8>(4 + i)).ptr(from).ptr(to[i].cast_const());
                    p = part.steps.iter().fold(p, |p, &s| p.i64(s as i64)).u32(lens[i] / chunk);
                    p = p.dividers(&[part.size / chunk, keys, part.heads]).u32(past).aligned();
                }
                let blocks = (lens[0].max(lens[1]) / chunk).div_ceil(256);
                // SAFETY: buffers have the bound sizes.
                unsafe { append.run(io, [blocks, 2, 1], 256, 0, &p.finish())? };
                (k_at, v_at) = (to[0].cast_const(), to[1].cast_const());
            }
            let mut p = Params::new().ptr(operand(0, &q)).ptr(k_at).ptr(v_at);
            p = p.ptr(io.input::<u8>(3)).ptr(io.output::<u8>(0));
            for h in [&q, &seen_k, &seen_v, &out] {
                for s in h.steps {
                    p = p.i64(s as i64);
                }
            }
            for s in mask {
                p = p.i64(s as i64);
            }
            p = p.u32(q.heads).u32(q.heads / k.heads).u32(q.rows).u32(seen_keys);
            p = p.i32(low).i32(high).f32(scale).f32(softcap);
            p = p.ptr(io.workspace.wrapping_add(rooms[0] + rooms[1]).cast_const()).u32(splits);
            if counts_valid {
                p = p.ptr(io.input::<u8>(6));
            }
            if scorer.is_some() {
                p = p.ptr(io.output::<u8>(3).cast_const()).u32(keys);
            }
            let p = p.finish();
            if let Some(scorer) = &scorer {
                // SAFETY: buffers have the bound sizes.
                unsafe { scorer.run(io, [q.rows.div_ceil(4), q.heads, q.batch], 128, 0, &p)? };
            }
            // SAFETY: buffers have the bound sizes; the workspace holds what several blocks find of a query.
            unsafe {
                launcher.run(io, grid, threads, shared, &p)?;
                if splits > 1 { join.run(io, [q.rows.div_ceil(4), q.heads, q.batch], 128, 0, &p) } else { Ok(()) }
            }
        })
        .workspace(rooms[0] + rooms[1] + parts)
        .flops(flops)
        .boxed()
    })
}
