//! Attention: the fused operator that passes make, and ONNX's own.

use super::{Entry, float, makes, pack_nothing, require};
use crate::backend::{Ctx, bound, kernel};
use crate::compute::Shared;
use crate::compute::attention::{Attention, MaskStrides, Strides};
use crate::pool::ThreadPool;
use oxrt_backend::{Kernel, NodeView};
use oxrt_ir::{DType, Tensor};
use oxrt_ops::attention::{ATTRIBUTES, Operand, Placed};
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
    let known =
        |name: &str| ATTRIBUTES.contains(&name) || matches!(name, "qk_matmul_output_mode" | "softmax_precision");
    require(node.attrs().iter().all(|(name, _)| known(name)))?;
    // Earlier keys and values.
    require(node.has(4) == node.has(5))?;
    for i in [4, 5].into_iter().filter(|&i| node.has(i)) {
        float(node, i)?;
        require(node.rank(i)? == 4)?;
    }
    // Numbers of valid keys, and scores as outputs.
    require((6..node.num_inputs()).all(|i| !node.has(i)))?;
    require((3..node.num_outputs()).all(|i| node.node().output(i).is_none()))?;
    if node.rank(0)? == 3 && node.op() == "Attention" {
        require(node.attrs().int_or("q_num_heads", 0).ok()? > 0)?;
    }
    Some(())
}

fn strides(placed: &Placed) -> Strides {
    let [batch, head, row] = placed.steps;
    Strides { batch, head, row }
}

/// Keys or values of earlier calls before those of this one, as `[batch, heads, rows, dim]`.
#[derive(Clone, Copy)]
struct Joined {
    groups: usize,
    heads: usize,
    past: usize,
    rows: usize,
    dim: usize,
    strides: Strides,
}

impl Joined {
    /// `new` after the rows of a cache of shape `past`, written to a result of shape `out` where there is one.
    fn new(new: &Placed, past: Option<&[usize]>, out: Option<&[usize]>) -> Result<Joined> {
        let rows = match past {
            None => 0,
            Some(&[b, h, rows, d]) if (b, h, d) == (new.batch, new.heads, new.size) => rows,
            Some(other) => bail!(invalid, "a cache of shape {other:?} for {} heads of {}", new.heads, new.size),
        };
        let full = [new.batch, new.heads, rows + new.rows, new.size];
        if out.is_some_and(|out| out != full) {
            bail!(invalid, "{out:?} as the shape of all keys or values, which have {full:?}");
        }
        let (groups, heads) = (new.batch * new.heads, new.heads);
        Ok(Joined { groups, heads, past: rows, rows: new.rows, dim: new.size, strides: strides(new) })
    }

    fn total(&self) -> usize {
        self.past + self.rows
    }

    fn len(&self) -> usize {
        self.groups * self.total() * self.dim
    }

    /// Strides of the result.
    fn joined(&self) -> Strides {
        let head = self.total() * self.dim;
        Strides { batch: self.heads * head, head, row: self.dim }
    }

    /// # Safety
    /// The pointers cover the sizes; `past` may be null when there is none.
    unsafe fn run(&self, pool: &ThreadPool, past: *const f32, new: *const f32, out: *mut f32) {
        let (past, new, out) = (Shared(past.cast_mut()), Shared(new.cast_mut()), Shared(out));
        pool.run(self.groups, |g| {
            let (b, h) = (g / self.heads, g % self.heads);
            // SAFETY: inside the head's rows; every task has a head of its own.
            unsafe {
                let to = out.at(g * self.total() * self.dim);
                if self.past > 0 {
                    let from = past.at(g * self.past * self.dim);
                    core::ptr::copy_nonoverlapping(from.cast_const(), to, self.past * self.dim);
                }
                for r in 0..self.rows {
                    let from = new.at(b * self.strides.batch + h * self.strides.head + r * self.strides.row);
                    core::ptr::copy_nonoverlapping(from.cast_const(), to.add((self.past + r) * self.dim), self.dim);
                }
            }
        });
    }
}

fn load(ctx: &Ctx, node: &NodeView, _: &[Tensor]) -> Result<Box<dyn Kernel>> {
    let attrs = node.attrs();
    let scale = attrs.get_float("scale")?.copied();
    let softcap = attrs.float_or("softcap", 0.0)?;
    let causal = attrs.bool_or("is_causal", false)?;
    let bool_mask = node.dtype(3) == Some(DType::Bool);
    let (ctx, attrs) = (ctx.clone(), attrs.clone());
    kernel(move |args| {
        let place = |operand: Operand| Placed::new(&attrs, operand, args.shape(operand as usize)?);
        let (q, k, v) = (place(Operand::Query)?, place(Operand::Key)?, place(Operand::Value)?);
        let same =
            k.batch == q.batch && v.batch == q.batch && k.heads == v.heads && k.rows == v.rows && k.size == q.size;
        if !same || k.heads == 0 || q.heads % k.heads != 0 {
            let shapes = [args.shape(0)?, args.shape(1)?, args.shape(2)?];
            bail!(invalid, "queries, keys and values of shapes {shapes:?} do not fit together");
        }
        let out = Placed::new(&attrs, Operand::Result, args.output(0)?)?;
        makes(args, q.batch * q.heads * q.rows * v.size)?;
        if (out.heads, out.rows, out.size) != (q.heads, q.rows, v.size) {
            bail!(invalid, "a result of shape {:?} for queries of shape {:?}", args.output(0)?, args.shape(0)?);
        }
        let caches = [4, 5].map(|i| args.opt_shape(i));
        let whole = [1, 2].map(|i| args.output(i).ok());
        let all_keys = Joined::new(&k, caches[0], whole[0])?;
        let all_values = Joined::new(&v, caches[1], whole[1])?;
        if all_keys.past != all_values.past {
            bail!(invalid, "caches of shapes {caches:?} have different lengths");
        }
        // Copied where they lie apart, or where all of them are a result.
        let [join_keys, join_values] = [0, 1].map(|i| caches[i].is_some() || whole[i].is_some());
        let keys = all_keys.total();
        let mask = match args.opt_shape(3) {
            None => None,
            Some(shape) => Some(mask_strides(shape, [q.batch, q.heads, q.rows, keys], bool_mask)?),
        };
        let step = Attention {
            batch: q.batch,
            heads: q.heads,
            kv_heads: k.heads,
            queries: q.rows,
            keys,
            visible: mask.map_or(keys, |m| m.1),
            dim: q.size,
            value_dim: v.size,
            scale: scale.unwrap_or(1.0 / (q.size as f32).sqrt()),
            softcap,
            causal: causal.then_some(all_keys.past as isize),
            q: strides(&q),
            k: if join_keys { all_keys.joined() } else { strides(&k) },
            v: if join_values { all_values.joined() } else { strides(&v) },
            out: strides(&out),
            mask: mask.map(|m| m.0),
        };
        let starts = [q.at, k.at, v.at];
        let (ctx, kernels) = (ctx.clone(), ctx.kernels);
        let own = step.workspace_len(kernels).next_multiple_of(16);
        // What is joined and no result lies behind the step's own workspace.
        let apart = |joined: bool, out: Option<&[usize]>, all: &Joined| {
            if joined && out.is_none() { all.len().next_multiple_of(16) } else { 0 }
        };
        let keys_apart = apart(join_keys, whole[0], &all_keys);
        let values_apart = apart(join_values, whole[1], &all_values);
        bound(move |io| {
            let workspace = io.workspace.cast::<f32>();
            // SAFETY: buffers have the bound sizes, and the workspace what is asked for below.
            unsafe {
                let place = |i: usize, at: usize| {
                    let out = io.output::<f32>(i);
                    if out.is_null() { workspace.add(own + at) } else { out }
                };
                let (mut k, mut v) = (io.input::<f32>(1).add(starts[1]), io.input::<f32>(2).add(starts[2]));
                if join_keys {
                    let to = place(1, 0);
                    all_keys.run(&ctx.pool, io.input(4), k, to);
                    k = to;
                }
                if join_values {
                    let to = place(2, keys_apart);
                    all_values.run(&ctx.pool, io.input(5), v, to);
                    v = to;
                }
                let q = io.input::<f32>(0).add(starts[0]);
                step.run(ctx.kernels, &ctx.pool, q, k, v, io.input(3), io.output(0), workspace)
            }
        })
        .workspace((own + keys_apart + values_apart) * 4)
        .flops(step.flops())
        .boxed()
    })
}

/// Strides of a mask that broadcasts to `[batch, heads, queries, keys]`, and how many keys it speaks of: it hides those behind.
pub(super) fn mask_strides(shape: &[usize], full: [usize; 4], bytes: bool) -> Result<(MaskStrides, usize)> {
    let visible = match shape.last() {
        Some(&n) if n != 1 => n.min(full[3]),
        _ => full[3],
    };
    let mut strides = [0; 4];
    let mut step = 1;
    for (i, &n) in shape.iter().rev().enumerate() {
        let d = 3 - i;
        if n != 1 {
            if n != full[d] && (d != 3 || n > full[3]) {
                bail!(invalid, "a mask of shape {shape:?} for scores of shape {full:?}");
            }
            strides[d] = step;
        }
        step *= n;
    }
    let at = Strides { batch: strides[0], head: strides[1], row: strides[2] };
    Ok((MaskStrides { at, key: strides[3], bytes }, visible))
}
