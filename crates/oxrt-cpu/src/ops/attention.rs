//! Attention: the fused operator that passes make, and ONNX's own.

use super::{Entry, float, makes, pack_nothing, require};
use crate::backend::{Ctx, bound, kernel};
use crate::compute::attention::{Attention, MaskStrides, Strides};
use oxrt_backend::{Kernel, NodeView};
use oxrt_ir::{DType, Tensor};
use oxrt_tensor::{Result, bail};

pub(super) const ATTENTION: Entry =
    Entry { name: "attention", ops: &["oxrt.Attention", "Attention"], supports, pack: pack_nothing, load };

fn supports(node: &NodeView) -> Option<()> {
    for i in 0..3 {
        float(node, i)?;
        require(matches!(node.rank(i)?, 3 | 4))?;
    }
    if node.has(3) {
        require(matches!(node.dtype(3)?, DType::F32 | DType::Bool) && node.rank(3)? <= 4)?;
    }
    // Windows and whatever later versions add.
    let known = [
        "scale",
        "softcap",
        "is_causal",
        "q_num_heads",
        "kv_num_heads",
        "layout",
        "qk_matmul_output_mode",
        "softmax_precision",
    ];
    require(node.attrs().iter().all(|(name, _)| known.contains(&name)))?;
    // Caches of earlier keys, and intermediate results as outputs.
    require((4..node.num_inputs()).all(|i| !node.has(i)))?;
    require((1..node.num_outputs()).all(|i| node.node().output(i).is_none()))?;
    if node.rank(0)? == 3 {
        require(node.attrs().int_or("q_num_heads", 0).ok()? > 0)?;
    }
    Some(())
}

/// Sizes and strides of queries, keys or values.
struct Heads {
    batch: usize,
    heads: usize,
    rows: usize,
    dim: usize,
    strides: Strides,
}

/// Reads `shape`: `[batch, rows, heads * dim]`, or four dimensions with heads before or behind rows.
fn heads(shape: &[usize], count: i64, heads_first: bool) -> Result<Heads> {
    let (batch, heads, rows, dim, packed) = match *shape {
        [b, r, w] => {
            let n = usize::try_from(count).unwrap_or(0);
            if n == 0 || w % n != 0 {
                bail!(invalid, "{w} columns in {count} heads");
            }
            (b, n, r, w / n, true)
        }
        [b, h, r, d] if heads_first => (b, h, r, d, false),
        [b, r, h, d] => (b, h, r, d, true),
        _ => bail!(invalid, "attention over a tensor of shape {shape:?}"),
    };
    let strides = if packed {
        Strides { batch: rows * heads * dim, head: dim, row: heads * dim }
    } else {
        Strides { batch: rows * heads * dim, head: rows * dim, row: dim }
    };
    Ok(Heads { batch, heads, rows, dim, strides })
}

fn load(ctx: &Ctx, node: &NodeView, _: &[Tensor]) -> Result<Box<dyn Kernel>> {
    let attrs = node.attrs();
    let heads_first = match attrs.string_or("layout", "bhsd")? {
        "bhsd" => true,
        "bshd" => false,
        other => bail!(unsupported, "the attention layout `{other}`"),
    };
    let scale = attrs.get_float("scale")?.copied();
    let softcap = attrs.float_or("softcap", 0.0)?;
    let causal = attrs.bool_or("is_causal", false)?;
    let (q_heads, kv_heads) = (attrs.int_or("q_num_heads", 0)?, attrs.int_or("kv_num_heads", 0)?);
    let bool_mask = node.dtype(3) == Some(DType::Bool);
    let ctx = ctx.clone();
    kernel(move |args| {
        let q = heads(args.shape(0)?, q_heads, heads_first)?;
        let k = heads(args.shape(1)?, kv_heads, heads_first)?;
        let v = heads(args.shape(2)?, kv_heads, heads_first)?;
        let same = k.batch == q.batch && v.batch == q.batch && k.heads == v.heads && k.rows == v.rows && k.dim == q.dim;
        if !same || k.heads == 0 || q.heads % k.heads != 0 {
            let shapes = [args.shape(0)?, args.shape(1)?, args.shape(2)?];
            bail!(invalid, "queries, keys and values of shapes {shapes:?} do not fit together");
        }
        let out = heads(args.output(0)?, q_heads, heads_first)?;
        makes(args, q.batch * q.heads * q.rows * v.dim)?;
        if (out.heads, out.rows, out.dim) != (q.heads, q.rows, v.dim) {
            bail!(invalid, "a result of shape {:?} for queries of shape {:?}", args.output(0)?, args.shape(0)?);
        }
        let mask = match args.opt_shape(3) {
            None => None,
            Some(shape) => Some(mask_strides(shape, [q.batch, q.heads, q.rows, k.rows], bool_mask)?),
        };
        let step = Attention {
            batch: q.batch,
            heads: q.heads,
            kv_heads: k.heads,
            queries: q.rows,
            keys: k.rows,
            dim: q.dim,
            value_dim: v.dim,
            scale: scale.unwrap_or(1.0 / (q.dim as f32).sqrt()),
            softcap,
            causal: causal.then_some(0),
            q: q.strides,
            k: k.strides,
            v: v.strides,
            out: out.strides,
            mask,
        };
        let (ctx, kernels) = (ctx.clone(), ctx.kernels);
        bound(move |io| {
            let (q, k, v, mask) = (io.input(0), io.input(1), io.input(2), io.input(3));
            // SAFETY: buffers have the bound sizes.
            unsafe { step.run(ctx.kernels, &ctx.pool, q, k, v, mask, io.output(0), io.workspace.cast()) }
        })
        .workspace(step.workspace_len(kernels) * 4)
        .flops(step.flops())
        .boxed()
    })
}

/// Strides of a mask that broadcasts to `[batch, heads, queries, keys]`.
fn mask_strides(shape: &[usize], full: [usize; 4], bytes: bool) -> Result<MaskStrides> {
    let mut strides = [0; 4];
    let mut step = 1;
    for (i, &n) in shape.iter().rev().enumerate() {
        let d = 3 - i;
        if n != 1 {
            if n != full[d] {
                bail!(invalid, "a mask of shape {shape:?} for scores of shape {full:?}");
            }
            strides[d] = step;
        }
        step *= n;
    }
    let at = Strides { batch: strides[0], head: strides[1], row: strides[2] };
    Ok(MaskStrides { at, key: strides[3], bytes })
}
