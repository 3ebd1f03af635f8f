//! Softmax and normalisations.

use super::gemm::is_float;
use super::{Entry, axis_of, c_type, counts, dtype, holds, makes, output_dtype, require};
use crate::backend::Ctx;
use crate::gpu::Params;
use crate::text::{self, Number};
use oxrt_backend::{Kernel, NodeView, Packing, Precision, bound, kernel};
use oxrt_tensor::{DType, Result, Tensor, bail};

const ROWS_TEXT: &str = include_str!("../text/rows.cuh");
const GROUPS_TEXT: &str = include_str!("../text/group_norm.cuh");

/// What normalises rows, by itself.
const FACTORS: &str = "oxrt.NormFactors";

pub(super) const ROWS: Entry = Entry::new(
    "rows",
    &["Softmax", "LogSoftmax", "LayerNormalization", "RMSNormalization", "SimplifiedLayerNormalization", FACTORS],
    rows_supports,
    pack_rows,
    rows,
);
pub(super) const GROUPS: Entry = Entry::new(
    "group_norm",
    &["GroupNormalization", "InstanceNormalization", "oxrt.GroupNorm"],
    groups_supports,
    pack_groups,
    groups,
);

fn float_vector(node: &NodeView, i: usize) -> Option<()> {
    require(!node.has(i) || node.dtype(i) == Some(DType::F32))
}

fn rows_supports(_: &Ctx, node: &NodeView) -> Option<()> {
    let (x, y) = (node.dtype(0)?, node.output_dtype(0)?);
    require((is_float(x) && is_float(y)) || (x == DType::F64 && y == DType::F64))?;
    require((1..node.num_outputs()).all(|i| node.node().output(i).is_none()))?;
    if node.op().ends_with("oftmax") {
        return Some(());
    }
    let rank = node.rank(0)?;
    let axis = axis_of(node.attrs().int_or("axis", -1).ok()?, rank).ok()?;
    (1..node.num_inputs()).try_for_each(|i| {
        float_vector(node, i)?;
        // Vectors over exactly the normalised dimensions.
        require(!node.has(i) || node.dims(i)? == &node.dims(0)?[axis..])
    })
}

fn pack_rows(ctx: &Ctx, node: &NodeView) -> Result<Packing> {
    let double = dtype(node, 0)? == DType::F64;
    let fast = ctx.precision != Precision::F32;
    let flag = |b: bool| u8::from(b);
    let of_factors = node.op() == FACTORS;
    let body = format!(
        "typedef {} TX;\ntypedef {} TY;\ntypedef {} C;\n#define SOFTMAX {}\n#define LOG {}\n#define CENTER {}\n#define FACTORS {}\n\
         #define VECTORS_FIXED {}\n#define EXP {}\n#define LOGARITHM {}\n#define SQUARE_ROOT {}\n{ROWS_TEXT}",
        c_type(dtype(node, 0)?)?,
        c_type(output_dtype(node, 0)?)?,
        if double { "f64" } else { "f32" },
        flag(node.op().ends_with("oftmax")),
        flag(node.op() == "LogSoftmax"),
        flag(node.op() == "LayerNormalization" || (of_factors && node.attrs().string_or("norm", "layer")? == "layer")),
        flag(of_factors),
        flag((1..node.num_inputs()).all(|i| !node.has(i) || node.constant(i).is_some())),
        match (double, fast) {
            (true, _) => "exp",
            (_, true) => "fast_exp",
            _ => "expf",
        },
        if double { "log" } else { "logf" },
        if double { "sqrt" } else { "sqrtf" },
    );
    Ok(Packing { tensors: vec![ctx.code(&body)?], consumed: Vec::new() })
}

fn rows(ctx: &Ctx, node: &NodeView, packed: &[Tensor]) -> Result<Box<dyn Kernel>> {
    let (softmax, of_factors) = (node.op().ends_with("oftmax"), node.op() == FACTORS);
    let axis = node.attrs().int_or("axis", -1)?;
    let epsilon = node.attrs().float_or("epsilon", 1e-5)?;
    let code = packed.first();
    let function = |name| ctx.function(code, name, 0);
    let [warp_any, block_any] = [function("warp_any")?, function("block_any")?];
    let [warp_held, block_held, block_packs] =
        [function("warp_held")?, function("block_held")?, function("block_packs")?];
    let narrow = dtype(node, 0)?.bytes_for(1).max(output_dtype(node, 0)?.bytes_for(1));
    let processors = ctx.gpu.processors() as usize;
    kernel(move |args| {
        let shape = args.shape(0)?;
        let len = counts(shape.iter().product())?;
        makes(args, if of_factors { len / shape.last().copied().unwrap_or(1).max(1) * 2 } else { len })?;
        // A scalar is a line of its own.
        let shape = if shape.is_empty() { &[1][..] } else { shape };
        let axis = axis_of(axis, shape.len())?;
        let (n, inner): (usize, usize) = if softmax {
            (shape[axis], shape[axis + 1..].iter().product())
        } else {
            (shape[axis..].iter().product(), 1)
        };
        holds(args, 1, n)?;
        holds(args, 2, n)?;
        let lines = len.checked_div(n).unwrap_or(0);
        // A warp per line, unless lines are long, or so few that warps would be idle: then a block. Kernels that take eight
        // elements at once hold a line in registers as far as it fits.
        let packs = inner == 1 && n % 8 == 0 && narrow <= 4;
        let few = n > 256 && lines < 4 * processors;
        let (launcher, lines_each, threads) = match packs {
            true if few && n <= 1024 => (&block_held, 1, 128),
            true if n <= 1024 => (&warp_held, 8, 256),
            true => (&block_packs, 1, 256),
            false if n > 1024 || few => (&block_any, 1, 256),
            false => (&warp_any, 8, 256),
        };
        let (launcher, grid) = (launcher.clone(), lines.div_ceil(lines_each));
        bound(move |io| {
            let p = Params::new()
                .ptr(io.input::<u8>(0))
                .ptr(io.input::<u8>(1))
                .ptr(io.input::<u8>(2))
                .ptr(io.output::<u8>(0))
                .u32(lines)
                .u32(n)
                .u32(inner)
                .divider(inner.max(1))
                .f32(epsilon)
                .finish();
            // SAFETY: buffers have the bound sizes.
            unsafe { launcher.run(io, [grid, 1, 1], threads, 0, &p) }
        })
        .flops(6 * len)
        .boxed()
    })
}

fn groups_supports(_: &Ctx, node: &NodeView) -> Option<()> {
    require(is_float(node.dtype(0)?) && is_float(node.output_dtype(0)?) && node.rank(0)? >= 2)?;
    float_vector(node, 1)?;
    float_vector(node, 2)
}

fn pack_groups(ctx: &Ctx, node: &NodeView) -> Result<Packing> {
    let body = format!(
        "typedef {} TX;\ntypedef {} TY;\n#define CHANNELS_LAST {}\n{}{GROUPS_TEXT}",
        c_type(dtype(node, 0)?)?,
        c_type(output_dtype(node, 0)?)?,
        u8::from(node.op().starts_with("oxrt.")),
        text::activation(node.attrs(), Number::F32, ctx.precision != Precision::F32)?,
    );
    Ok(Packing { tensors: vec![ctx.code(&body)?], consumed: Vec::new() })
}

fn groups(ctx: &Ctx, node: &NodeView, packed: &[Tensor]) -> Result<Box<dyn Kernel>> {
    let last = node.op().starts_with("oxrt.");
    let instance = node.op().contains("Instance");
    let groups = node.attrs().int_or("num_groups", 1)?;
    let epsilon = node.attrs().float_or("epsilon", 1e-5)?;
    let launcher = ctx.function(packed.first(), "normalise", 0)?;
    kernel(move |args| {
        let shape = args.shape(0)?;
        let len = counts(shape.iter().product())?;
        makes(args, len)?;
        let channels = if last { shape[shape.len() - 1] } else { shape[1] };
        let groups = if instance { channels } else { usize::try_from(groups).unwrap_or(0) };
        if groups == 0 || channels % groups != 0 {
            bail!(invalid, "{channels} channels in {groups} groups");
        }
        holds(args, 1, channels)?;
        holds(args, 2, channels)?;
        let (images, members) = (shape[0], channels / groups);
        let pixels = len.checked_div(images * channels).unwrap_or(0);
        let launcher = launcher.clone();
        bound(move |io| {
            let p = Params::new()
                .ptr(io.input::<u8>(0))
                .ptr(io.input::<u8>(1))
                .ptr(io.input::<u8>(2))
                .ptr(io.output::<u8>(0))
                .u32(groups)
                .u32(members)
                .u32(pixels)
                .u32(channels)
                .divider(if last { members } else { pixels }.max(1))
                .f32(epsilon)
                .finish();
            let grid = if len == 0 { 0 } else { images * groups };
            // SAFETY: buffers have the bound sizes.
            unsafe { launcher.run(io, [grid, 1, 1], 512, 0, &p) }
        })
        .flops(6 * len)
        .boxed()
    })
}
