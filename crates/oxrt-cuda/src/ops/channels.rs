//! Channels normalised by what is known of them (BatchNormalization) and by their neighbours (LRN).

use super::each::{Each, only};
use super::gemm::is_float;
use super::{Entry, c_type, counts, dtype, holds, makes, output_dtype, require};
use crate::backend::Ctx;
use crate::gpu::Params;
use oxrt_backend::{Kernel, NodeView, Packing, kernel};
use oxrt_tensor::{DType, Result, Tensor, bail};

const TEXT: &str = include_str!("../text/channels.cuh");

pub(super) const BATCH: Entry = Entry::new("batch_norm", &["BatchNormalization"], batch_supports, pack_batch, batch);
pub(super) const LRN: Entry = Entry::new("lrn", &["LRN"], lrn_supports, pack_lrn, lrn);

fn float(d: DType) -> bool {
    is_float(d) || d == DType::F64
}

fn batch_supports(_: &Ctx, node: &NodeView) -> Option<()> {
    // Statistics of the batch are for training.
    require(!node.attrs().bool_or("training_mode", false).ok()?)?;
    require((1..node.num_outputs()).all(|i| node.node().output(i).is_none()))?;
    require((0..5).all(|i| node.dtype(i).is_some_and(float)) && float(node.output_dtype(0)?))?;
    require(node.rank(0)? >= 1)
}

fn pack_batch(ctx: &Ctx, node: &NodeView) -> Result<Packing> {
    let double = (0..5).any(|i| node.dtype(i) == Some(DType::F64));
    let (c, root) = if double { ("f64", "sqrt") } else { ("f32", "sqrtf") };
    let mut types =
        format!("typedef {c} C;\ntypedef {} TY;\n#define SQUARE_ROOT {root}\n", c_type(output_dtype(node, 0)?)?);
    for (i, name) in ["TX", "TS", "TB", "TM", "TV"].into_iter().enumerate() {
        types += &format!("typedef {} {name};\n", c_type(dtype(node, i)?)?);
    }
    only(ctx, &format!("{types}{TEXT}"))
}

/// Channels, and elements of each in one image. A vector is a batch of one channel.
fn planes(shape: &[usize]) -> [usize; 2] {
    [shape.iter().skip(2).product(), shape.get(1).copied().unwrap_or(1)]
}

fn batch(ctx: &Ctx, node: &NodeView, packed: &[Tensor]) -> Result<Box<dyn Kernel>> {
    let launcher = ctx.function(packed.first(), "channels", 0)?;
    let epsilon = node.attrs().float_or("epsilon", 1e-5)?;
    kernel(move |args| {
        let shape = args.shape(0)?;
        let count = counts(shape.iter().product())?;
        makes(args, count)?;
        let planes = planes(shape);
        (1..5).try_for_each(|i| holds(args, i, planes[1]))?;
        let fields = Params::new().dividers(&planes).f32(epsilon);
        Each { launcher: launcher.clone(), inputs: 5, outputs: 1, count, fields }.bound().flops(4 * count).boxed()
    })
}

fn lrn_supports(_: &Ctx, node: &NodeView) -> Option<()> {
    require(float(node.dtype(0)?) && float(node.output_dtype(0)?) && node.rank(0)? >= 2)
}

fn pack_lrn(ctx: &Ctx, node: &NodeView) -> Result<Packing> {
    let (x, y) = (dtype(node, 0)?, output_dtype(node, 0)?);
    let (c, power) = if x == DType::F64 { ("f64", "pow") } else { ("f32", "powf") };
    let types = format!("typedef {} TX;\ntypedef {} TY;\ntypedef {c} C;\n", c_type(x)?, c_type(y)?);
    only(ctx, &format!("#define NEIGHBOURS 1\n#define POWER {power}\n{types}{TEXT}"))
}

fn lrn(ctx: &Ctx, node: &NodeView, packed: &[Tensor]) -> Result<Box<dyn Kernel>> {
    let launcher = ctx.function(packed.first(), "channels", 0)?;
    let attrs = node.attrs();
    let size = attrs.int_or("size", 0)?.min(1 << 30);
    if size < 1 {
        bail!(invalid, "`size` should be positive");
    }
    let (alpha, beta) = (attrs.float_or("alpha", 1e-4)? / size as f32, attrs.float_or("beta", 0.75)?);
    let bias = attrs.float_or("bias", 1.0)?;
    kernel(move |args| {
        let shape = args.shape(0)?;
        let count = counts(shape.iter().product())?;
        makes(args, count)?;
        let fields = Params::new().dividers(&planes(shape)).i32((size - 1) / 2).i32(size / 2);
        let fields = fields.f32(alpha).f32(beta).f32(bias);
        let each = Each { launcher: launcher.clone(), inputs: 1, outputs: 1, count, fields };
        each.bound().flops(count * (2 * size as usize + 4)).boxed()
    })
}
