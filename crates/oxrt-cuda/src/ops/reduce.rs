//! Reductions over any axes, positions of extremes, and global pools.

use super::gemm::is_float;
use super::map::collapse;
use super::{Entry, c_type, contiguous, counts, dtype, known, output_dtype, require};
use crate::backend::{Ctx, Launcher};
use crate::gpu::Params;
use crate::text::stored;
use oxrt_backend::geometry::reduced_axes;
use oxrt_backend::{BindArgs, Bound, Kernel, NodeView, Packing, bound, kernel};
use oxrt_tensor::{DType, Error, Result, Tensor, bail};

const TEXT: &str = include_str!("../text/reduce.cuh");

pub(super) const REDUCE: Entry = Entry::new(
    "reduce",
    &[
        "ReduceSum",
        "ReduceMean",
        "ReduceMax",
        "ReduceMin",
        "ReduceProd",
        "ReduceL1",
        "ReduceL2",
        "ReduceSumSquare",
        "ReduceLogSum",
        "ReduceLogSumExp",
        "GlobalAveragePool",
        "GlobalMaxPool",
        "oxrt.GlobalAveragePool",
    ],
    supports,
    pack,
    load,
);
pub(super) const ARG: Entry = Entry::new("arg_extreme", &["ArgMax", "ArgMin"], arg_supports, pack, load);

fn supports(_: &Ctx, node: &NodeView) -> Option<()> {
    stored(node.dtype(0)?)?;
    require(node.dtype(0)? != DType::Bool && stored(node.output_dtype(0)?).is_some())?;
    require(node.op().contains("Global") || known(node, 1).is_some())
}

fn arg_supports(_: &Ctx, node: &NodeView) -> Option<()> {
    stored(node.dtype(0)?)?;
    require(node.dtype(0)? != DType::Bool && node.rank(0)? > 0)
}

/// The functions of a reduction, in C.
fn functions(node: &NodeView) -> Result<String> {
    let last = node.attrs().bool_or("select_last_index", false)?;
    let x = dtype(node, 0)?;
    let c = match x {
        d if is_float(d) => "f32",
        DType::F64 => "f64",
        _ => "i64",
    };
    let integer = c == "i64";
    // Nothing is larger than the start of a maximum, also when there is nothing.
    let lowest = match x {
        _ if !integer => "-(C)INFINITE_F32".to_string(),
        DType::U8 | DType::U16 | DType::U32 | DType::U64 => "0".to_string(),
        d => format!("(C)(-1ll << {})", d.bytes_for(1) * 8 - 1),
    };
    let highest = match x {
        _ if !integer => "(C)INFINITE_F32".to_string(),
        DType::U8 | DType::U16 | DType::U32 => format!("(C)((1ll << {}) - 1)", x.bytes_for(1) * 8),
        d => format!("(C)(((1ull << {}) - 1))", d.bytes_for(1) * 8 - 1),
    };
    let sum = |take: &str, end: &str| {
        ("0".to_string(), format!("a.v += {take};"), "a.v += b.v;".to_string(), end.to_string())
    };
    let pick = |start: String, sign: &str| {
        let better = format!("x {sign} a.v || x != x");
        (
            start,
            format!("if ({better}) a.v = x;"),
            format!("if (b.v {sign} a.v || b.v != b.v) a.v = b.v;"),
            "a.v".to_string(),
        )
    };
    let arg = |sign: &str| {
        // `w` says whether there is a value; among equals the first (or last) place counts.
        let tie = if last { ">" } else { "<" };
        let better = |v: &str, at: &str| format!("a.w == 0 || {v} {sign} a.v || ({v} == a.v && {at} {tie} a.at)");
        (
            "0".to_string(),
            format!("if ({}) {{ a.v = x; a.w = 1; a.at = i; }}", better("x", "(i64)i")),
            format!("if (b.w != 0 && ({})) a = b;", better("b.v", "b.at")),
            "a.at".to_string(),
        )
    };
    let sqrt = if c == "f32" { "sqrtf" } else { "sqrt" };
    let (exp, log) = if c == "f32" { ("expf", "logf") } else { ("exp", "log") };
    let (start, take, join, end) = match node.op() {
        "ReduceMean" | "GlobalAveragePool" | "oxrt.GlobalAveragePool" => sum("x", "a.v / (C)n"),
        "ReduceL1" => sum("x < 0 ? -x : x", "a.v"),
        "ReduceL2" if integer => sum("x * x", "sqrt((f64)a.v)"),
        "ReduceL2" => sum("x * x", &format!("{sqrt}(a.v)")),
        "ReduceSumSquare" => sum("x * x", "a.v"),
        "ReduceLogSum" if integer => sum("x", "log((f64)a.v)"),
        "ReduceLogSum" => sum("x", &format!("{log}(a.v)")),
        "ReduceMax" | "GlobalMaxPool" => pick(lowest, ">"),
        "ReduceMin" => pick(highest, "<"),
        "ReduceProd" => ("1".into(), "a.v *= x;".into(), "a.v *= b.v;".into(), "a.v".into()),
        "ArgMax" => arg(">"),
        "ArgMin" => arg("<"),
        // v: the largest so far, w: the sum of exp(x - v).
        "ReduceLogSumExp" if !integer => (
            "-(C)INFINITE_F32".into(),
            format!(
                "if (x > a.v) {{ a.w = (a.v == -(C)INFINITE_F32 ? 0 : a.w * {exp}(a.v - x)) + 1; a.v = x; }} \
                 else if (x != x) {{ a.v = x; a.w = x; }} else if (x != -(C)INFINITE_F32) a.w += {exp}(x - a.v);"
            ),
            format!(
                "if (b.v != -(C)INFINITE_F32) {{ if (a.v == -(C)INFINITE_F32) a = b; else {{ C m = b.v > a.v || b.v != b.v ? b.v : a.v; \
                 a.w = a.w * {exp}(a.v - m) + b.w * {exp}(b.v - m); a.v = m; }} }}"
            ),
            format!("a.v == -(C)INFINITE_F32 || a.v == (C)INFINITE_F32 ? a.v : a.v + {log}(a.w)"),
        ),
        "ReduceLogSumExp" => sum("exp((f64)x)", "log((f64)a.v)"),
        _ => sum("x", "a.v"),
    };
    Ok(format!(
        "typedef {c} C;\ntypedef {} TX;\ntypedef {} TY;\nstruct A {{ C v; C w; i64 at; }};\n\
         DEVICE A start() {{ A a; a.v = {start}; a.w = 0; a.at = 0; return a; }}\n\
         DEVICE A take(A a, C x, u32 i) {{ {take} return a; }}\n\
         DEVICE A join(A a, const A& b) {{ {join} return a; }}\n\
         DEVICE TY end(const A& a, u32 n) {{ return put<TY>({end}); }}\n",
        c_type(x)?,
        c_type(output_dtype(node, 0)?)?
    ))
}

fn pack(ctx: &Ctx, node: &NodeView) -> Result<Packing> {
    Ok(Packing { tensors: vec![ctx.code(&format!("{}{TEXT}", functions(node)?))?], consumed: Vec::new() })
}

/// The reduced axes, rising.
fn axes(args: &BindArgs, node: &Reduced) -> Result<Vec<usize>> {
    let rank = args.shape(0)?.len();
    match node {
        Reduced::Spatial { channels_last: true } => Ok((1..rank - 1).collect()),
        Reduced::Spatial { channels_last: false } => Ok((2..rank).collect()),
        Reduced::One(axis) => Ok(vec![super::axis_of(*axis, rank)?]),
        Reduced::Listed { attribute, empty_is_none } => reduced_axes(args, attribute.as_deref(), *empty_is_none, rank),
    }
}

/// Bytes of what a kernel carries along (`A` in the text).
const FOUND: usize = 24;

/// Which axes go.
enum Reduced {
    Listed { attribute: Option<Vec<i64>>, empty_is_none: bool },
    One(i64),
    Spatial { channels_last: bool },
}

fn load(ctx: &Ctx, node: &NodeView, packed: &[Tensor]) -> Result<Box<dyn Kernel>> {
    let attrs = node.attrs();
    let arg = node.op().starts_with("Arg");
    let reduced = match node.op() {
        "ArgMax" | "ArgMin" => Reduced::One(attrs.int_or("axis", 0)?),
        op if op.contains("Global") => Reduced::Spatial { channels_last: op.starts_with("oxrt.") },
        _ => Reduced::Listed {
            attribute: attrs.ints("axes")?.map(<[i64]>::to_vec),
            empty_is_none: attrs.bool_or("noop_with_empty_axes", false)?,
        },
    };
    let code = packed.first();
    let kernels = Kernels {
        warps: ctx.function(code, "warps", 0)?,
        blocks: ctx.function(code, "blocks", 0)?,
        columns: ctx.function(code, "columns", 0)?,
        long_columns: ctx.function(code, "long_columns", 0)?,
        shared_columns: ctx.function(code, "shared_columns", 0)?,
        join_columns: ctx.function(code, "join_columns", 0)?,
    };
    kernel(move |args| {
        let axes = axes(args, &reduced)?;
        if arg && args.shape(0)?[axes[0]] == 0 && args.output(0)?.iter().product::<usize>() > 0 {
            bail!(invalid, "the position of the largest of no values");
        }
        kernels.plan(args.shape(0)?, &axes, args.output(0)?)
    })
}

struct Kernels {
    warps: Launcher,
    blocks: Launcher,
    columns: Launcher,
    long_columns: Launcher,
    shared_columns: Launcher,
    join_columns: Launcher,
}

impl Kernels {
    fn plan(&self, shape: &[usize], axes: &[usize], out: &[usize]) -> Result<Box<dyn Bound>> {
        counts(shape.iter().product())?;
        let own = contiguous(shape);
        let part = |gone: bool| -> Result<(Vec<usize>, Vec<isize>)> {
            let list: Vec<usize> = (0..shape.len()).filter(|d| axes.contains(d) == gone).collect();
            let dims: Vec<usize> = list.iter().map(|&d| shape[d]).collect();
            let steps: Vec<isize> = list.iter().map(|&d| own[d]).collect();
            let (dims, steps) = collapse(&dims, &[&steps]);
            if dims.len() > 4 {
                return Err(Error::unsupported(format!("a reduction over separate axes {axes:?} of shape {shape:?}")));
            }
            Ok((dims, steps.into_iter().map(|s| s[0]).collect()))
        };
        let ((kept, kept_step), (gone, gone_step)) = (part(false)?, part(true)?);
        let count: usize = out.iter().product();
        let n: usize = axes.iter().map(|&a| shape[a]).product();
        if count != (0..shape.len()).filter(|d| !axes.contains(d)).map(|d| shape[d]).product::<usize>() {
            bail!(invalid, "axes {axes:?} of shape {shape:?} do not leave {out:?}");
        }
        // Neighbouring threads read neighbouring elements.
        let along = kept_step.last() == Some(&1) && count > 1 && gone_step.last() != Some(&1);
        // Few outputs of many elements along a dense axis: blocks share an output.
        let parts = if along && n >= 2048 { (n / 512).min(1 + 8192 / count.div_ceil(32)).clamp(1, 64) } else { 1 };
        let part = n.div_ceil(parts);
        let join = (parts > 1).then(|| (self.shared_columns.clone(), self.join_columns.clone()));
        let (launcher, grid, threads) = if along && n >= 128 && count < 1 << 14 {
            (self.long_columns.clone(), count.div_ceil(32), 1024)
        } else if along {
            (self.columns.clone(), count.div_ceil(32), 256)
        } else if n >= 1024 && count < 2048 {
            (self.blocks.clone(), count, 256)
        } else {
            (self.warps.clone(), count.div_ceil(8), 256)
        };
        bound(move |io| {
            let mut p = Params::new().ptr(io.input::<u8>(0)).ptr(io.output::<u8>(0)).u32(count).u32(n);
            p = p.u32(kept.len()).u32(gone.len());
            for dims in [&kept, &gone] {
                for d in 0..4 {
                    p = p.divider(dims.get(d).copied().unwrap_or(1).max(1));
                }
            }
            for steps in [&kept_step, &gone_step] {
                for d in 0..4 {
                    p = p.i32(steps.get(d).copied().unwrap_or(0) as i64);
                }
            }
            let p = p.u32(parts).u32(part).ptr(io.workspace.cast_const()).finish();
            // SAFETY: buffers have the bound sizes.
            unsafe {
                let Some((shared, join)) = &join else { return launcher.run(io, [grid, 1, 1], threads, 0, &p) };
                shared.run(io, [count.div_ceil(32), parts, 1], 1024, 0, &p)?;
                join.run(io, [count.div_ceil(256), 1, 1], 256, 0, &p)
            }
        })
        .workspace(if parts > 1 { parts * count * FOUND } else { 0 })
        .flops(count * n)
        .boxed()
    }
}
