//! RotaryEmbedding.

use super::each::{Each, only};
use super::gemm::is_float;
use super::{Entry, c_type, counts, dtype, holds, makes, output_dtype, require};
use crate::backend::Ctx;
use crate::gpu::Params;
use oxrt_backend::{Kernel, NodeView, Packing, kernel};
use oxrt_tensor::{DType, Result, Tensor, bail};

const TEXT: &str = include_str!("../text/rotary.cuh");

pub(super) const ROTARY: Entry = Entry::new("rotary", &["RotaryEmbedding"], supports, pack, load);

fn supports(_: &Ctx, node: &NodeView) -> Option<()> {
    require(is_float(node.dtype(0)?) && is_float(node.output_dtype(0)?))?;
    require(is_float(node.dtype(1)?) && node.dtype(1) == node.dtype(2) && matches!(node.rank(0)?, 3 | 4))?;
    require(!node.has(3) || matches!(node.dtype(3)?, DType::I64 | DType::I32))
}

fn pack(ctx: &Ctx, node: &NodeView) -> Result<Packing> {
    only(
        ctx,
        &format!(
            "typedef {} TX;\ntypedef {} TC;\ntypedef {} I;\ntypedef {} TY;\ntypedef f32 C;\n#define HEADS_FIRST {}\n#define INTERLEAVED {}\n{TEXT}",
            c_type(dtype(node, 0)?)?,
            c_type(dtype(node, 1)?)?,
            c_type(node.dtype(3).unwrap_or(DType::I64))?,
            c_type(output_dtype(node, 0)?)?,
            u8::from(node.rank(0) == Some(4)),
            u8::from(node.attrs().bool_or("interleaved", false)?)
        ),
    )
}

fn load(ctx: &Ctx, node: &NodeView, packed: &[Tensor]) -> Result<Box<dyn Kernel>> {
    let launcher = ctx.function(packed.first(), "rotate", 0)?;
    let whole = |name: &str| node.attrs().int_or(name, 0).map(|n| usize::try_from(n).unwrap_or(0));
    let (named_heads, rotated) = (whole("num_heads")?, whole("rotary_embedding_dim")?);
    kernel(move |args| {
        let x = args.shape(0)?;
        let (batch, length, heads, size) = match *x {
            [b, h, s, d] => (b, s, h, d),
            [b, s, e] if named_heads > 0 && e % named_heads == 0 => (b, s, named_heads, e / named_heads),
            _ => bail!(invalid, "{named_heads} heads of shape {x:?}"),
        };
        let half = if rotated == 0 { size } else { rotated } / 2;
        let cache = args.shape(1)?;
        if 2 * half > size || cache != args.shape(2)? || cache.last() != Some(&half) {
            bail!(invalid, "caches of shape {cache:?} for {half} angles of {size} features");
        }
        let rows = cache.iter().product::<usize>().checked_div(half).unwrap_or(0);
        holds(args, 3, batch * length)?;
        if args.opt_shape(3).is_none() && rows != batch * length {
            bail!(invalid, "{rows} rows of angles for {batch} sequences of {length}");
        }
        let count = counts(x.iter().product())?;
        makes(args, count)?;
        let fields = Params::new().dividers(&[size, heads, length]).u32(half).u32(rows);
        Each { launcher: launcher.clone(), inputs: 4, outputs: 1, count, fields }.bound().flops(3 * count).boxed()
    })
}
