//! LinearAttention, and CausalConvWithState, which such layers have in front of it.

use super::each::{Each, only, strict};
use super::gemm::is_float;
use super::{Entry, c_type, counts, dtype, holds, makes, require};
use crate::backend::Ctx;
use crate::gpu::Params;
use oxrt_backend::{Kernel, NodeView, Packing, bound, kernel};
use oxrt_tensor::{DType, Error, Result, Tensor, bail};

const TEXT: &str = include_str!("../text/linear_attention.cuh");
const CONV: &str = include_str!("../text/causal_conv.cuh");

pub(super) const LINEAR_ATTENTION: Entry = strict("linear_attention", &["LinearAttention"], supports, pack, load);
pub(super) const CAUSAL_CONV: Entry = strict("causal_conv", &["CausalConvWithState"], conv, pack_conv, load_conv);

/// Most elements of a key: a thread keeps a quarter of them.
const WIDEST: usize = 256;

fn heads(node: &NodeView) -> Option<[usize; 2]> {
    let number = |name: &str| usize::try_from(node.attrs().int_or(name, 0).ok()?).ok().filter(|&n| n > 0);
    let (q, kv) = (number("q_num_heads")?, number("kv_num_heads")?);
    (q % kv == 0).then_some([q, kv])
}

/// Elements of a key.
fn key_size(node: &NodeView) -> Option<usize> {
    let [q, _] = heads(node)?;
    let width = node.dims(0)?.last()?.as_size()?;
    (width % q == 0 && width > 0).then_some(width / q)
}

/// Whether states decay, and whether what they hold of a key is taken out.
fn rule(node: &NodeView) -> Option<[bool; 2]> {
    match node.attrs().string_or("update_rule", "gated_delta").ok()? {
        "linear" => Some([false, false]),
        "gated" => Some([true, false]),
        "delta" => Some([false, true]),
        "gated_delta" => Some([true, true]),
        _ => None,
    }
}

fn supports(_: &Ctx, node: &NodeView) -> Option<()> {
    let t = node.dtype(0)?;
    require(is_float(t) && node.dtype(1) == Some(t) && node.dtype(2) == Some(t))?;
    require(!node.has(3) || is_float(node.dtype(3)?))?;
    let [gated, delta] = rule(node)?;
    require(node.has(4) == gated && node.has(5) == delta)?;
    let numbers = [4, 5].into_iter().filter_map(|i| node.dtype(i));
    require(numbers.clone().all(is_float) && numbers.collect::<Vec<_>>().windows(2).all(|w| w[0] == w[1]))?;
    require(node.rank(0)? == 3 && node.rank(2)? == 3 && key_size(node)? <= WIDEST)
}

fn pack(ctx: &Ctx, node: &NodeView) -> Result<Packing> {
    let t = dtype(node, 0)?;
    let lost = || Error::bug("linear attention without sizes");
    let [gated, delta] = rule(node).ok_or_else(lost)?;
    let numbers = node.dtype(4).or(node.dtype(5)).unwrap_or(DType::F32);
    let head = format!(
        "typedef {} T;\ntypedef {} S;\ntypedef {} TD;\n#define DK {}\n#define GATED {}\n#define DELTA {}\n",
        c_type(t)?,
        c_type(node.dtype(3).unwrap_or(t))?,
        c_type(numbers)?,
        key_size(node).ok_or_else(lost)?,
        u8::from(gated),
        u8::from(delta),
    );
    only(ctx, &(head + TEXT))
}

fn load(ctx: &Ctx, node: &NodeView, packed: &[Tensor]) -> Result<Box<dyn Kernel>> {
    let lost = || Error::bug("linear attention without sizes");
    let ([q_heads, heads], dk) = (heads(node).ok_or_else(lost)?, key_size(node).ok_or_else(lost)?);
    let launcher = ctx.function(packed.first(), "attend", 0)?;
    let scale = match node.attrs().float_or("scale", 0.0)? {
        0.0 => 1.0 / (dk as f32).sqrt(),
        s => s,
    };
    kernel(move |args| {
        let (q, k, v) = (args.shape(0)?, args.shape(1)?, args.shape(2)?);
        let (&[b, steps, eq], &[_, _, ek], &[_, _, ev]) = (q, k, v) else {
            bail!(invalid, "query, key and value should have three axes");
        };
        let dv = ev / heads;
        if k[..2] != q[..2] || v[..2] != q[..2] || eq != dk * q_heads || ek != dk * heads || ev != dv * heads {
            bail!(invalid, "query {q:?}, key {k:?} and value {v:?} do not fit");
        }
        counts(b * heads * dk * dv)?;
        holds(args, 3, b * heads * dk * dv)?;
        // Values per step and key head, one for all sizes or one each.
        let width = |i: usize, widths: [usize; 2]| match args.opt_shape(i) {
            None => Ok(0),
            Some(&[xb, xt, w]) if [xb, xt] == [b, steps] && widths.contains(&w) => Ok(w),
            Some(other) => bail!(invalid, "input {i} has the shape {other:?}"),
        };
        let (decay, rate) = (width(4, [heads, heads * dk])?, width(5, [heads, 1])?);
        makes(args, b * steps * q_heads * dv)?;
        let launcher = launcher.clone();
        bound(move |io| {
            let p = super::each::pointers(io, 6, 2);
            let p = p.u32(heads).u32(q_heads / heads).u32(steps).u32(dv).u32(decay).u32(rate).f32(scale).finish();
            // SAFETY: buffers have the bound sizes.
            unsafe { launcher.run(io, [dv.div_ceil(32), heads, b], 128, 0, &p) }
        })
        .flops(2 * b * steps * dk * dv * (2 * heads + q_heads))
        .boxed()
    })
}

fn conv(_: &Ctx, node: &NodeView) -> Option<()> {
    let t = node.dtype(0)?;
    require(is_float(t) && (1..4).all(|i| !node.has(i) || node.dtype(i) == Some(t)) && node.rank(0)? == 3)?;
    require(matches!(node.attrs().string_or("activation", "none").ok()?, "none" | "silu" | "swish"))
}

fn pack_conv(ctx: &Ctx, node: &NodeView) -> Result<Packing> {
    let silu = u8::from(node.attrs().string_or("activation", "none")? != "none");
    only(ctx, &format!("typedef {} T;\n#define SILU {silu}\n{CONV}", c_type(dtype(node, 0)?)?))
}

fn load_conv(ctx: &Ctx, _: &NodeView, packed: &[Tensor]) -> Result<Box<dyn Kernel>> {
    let launcher = ctx.function(packed.first(), "conv", 0)?;
    kernel(move |args| {
        let (&[b, c, length], &[channels, 1, k]) = (args.shape(0)?, args.shape(1)?) else {
            bail!(invalid, "an input of {:?} and weights of {:?}", args.shape(0)?, args.shape(1)?);
        };
        if c != channels || k == 0 {
            bail!(invalid, "weights of {:?} for {c} channels", args.shape(1)?);
        }
        holds(args, 2, c)?;
        holds(args, 3, b * c * (k - 1))?;
        makes(args, b * c * length)?;
        // Results, then the state.
        let count = counts(b * c * (length + k - 1))?;
        let fields = Params::new().dividers(&[length + k - 1, c]).u32(length).u32(k);
        let each = Each { launcher: launcher.clone(), inputs: 4, outputs: 2, count, fields };
        each.bound().flops(2 * b * c * length * k).boxed()
    })
}
