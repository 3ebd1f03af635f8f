//! Attention over heads, wherever they lie. Only passes create it.
//!
//! q, k, v and an optional mask (float to add, or bool; broadcast to [batch, heads, queries, keys]). Attributes:
//! `layout` "bhsd" [batch, heads, length, size], "bshd", or rows that hold all heads, of several operands perhaps: "bsw"
//! [batch, length, width] or "sbw", with `heads`, `kv_heads`, `size`, `value_size`, and the columns `at` which q, k and v
//! begin. `scale` (default 1/√size), `is_causal` (query i sees keys up to i). Heads of k and v may divide those of q. The
//! result lies as q does, in rows of its own.

use super::attention::Mask;
use crate::attention::{Attend, Heads, Operand, Placed, attend};
use crate::def::OpDef;
use crate::eval::{Datum, Eval};
use crate::infer::Infer;
use oxrt_ir::Dim;
use oxrt_tensor::{Result, Tensor, bail};

pub const OP: OpDef = OpDef::new("oxrt.Attention", &[1], 3..=4, infer, eval).examples(&[(
    "(f32[1, 2, 1, 1] q, f32[1, 2, 1, 1] k, f32[1, 2, 1, 1] v) {
        y = oxrt.Attention<layout=\"bshd\", is_causal=1>(q, k, v) } => y",
    &["q = 1 0", "k = 1 1", "v = 2 4"],
    "2 3",
), (
    // Two rows of q, k and v side by side.
    "(f32[1, 2, 3] x) {
        y = oxrt.Attention<layout=\"bsw\", heads=1, kv_heads=1, size=1, value_size=1, at=[0, 1, 2], is_causal=1>(x, x, x) } => y",
    &["x = 1 1 2 0 1 4"],
    "2 3",
)]);

fn infer(ctx: &mut Infer) -> Result<()> {
    let packed = match ctx.attrs().string_or("layout", "bhsd")? {
        "bhsd" | "bshd" => false,
        "bsw" | "sbw" => true,
        other => bail!(invalid, "the layout is bhsd, bshd, bsw or sbw, not `{other}`"),
    };
    let width = ctx.attrs().int_or("heads", 0)? * ctx.attrs().int_or("value_size", 0)?;
    let dims = match (ctx.dims(0), ctx.dims(2)) {
        (Some([a, b, _]), Some([_, _, _])) if packed => Some(vec![a.clone(), b.clone(), Dim::from(width)]),
        (Some([a, b, c, _]), Some([_, _, _, d])) if !packed => Some([a, b, c, d].map(Clone::clone).to_vec()),
        (Some(q), Some(v)) => bail!(invalid, "queries {q:?} and values {v:?} do not fit the layout"),
        _ => None,
    };
    ctx.set(0, ctx.dtype(0)?, dims);
    Ok(())
}

fn eval(ctx: &Eval) -> Result<Vec<Datum>> {
    let part = |operand: Operand| -> Result<Heads> {
        let t = ctx.tensor(operand as usize)?;
        Ok(Placed::new(ctx.attrs(), operand, t.shape())?.gather(&t.to_f64_vec()?))
    };
    let (q, k, v) = (part(Operand::Query)?, part(Operand::Key)?, part(Operand::Value)?);
    let mask = ctx.opt(3)?.map(Mask::new).transpose()?;
    if let Some(m) = &mask {
        m.check(&[q.shape[0], q.shape[1], q.shape[2], k.shape[2]])?;
    }
    let causal = ctx.attrs().bool_or("is_causal", false)?;
    let bias = |b: usize, h: usize, i: usize, j: usize| {
        if causal && j > i { f64::NEG_INFINITY } else { mask.as_ref().map_or(0.0, |m| m.at(b, h, i, j)) }
    };
    let scale = ctx.attrs().get_float("scale")?.map_or_else(|| 1.0 / (q.shape[3] as f64).sqrt(), |&s| s as f64);
    let (y, _) = attend(&q, &k, &v, &Attend { scale, softcap: 0.0, bias: &bias, want: None })?;
    let first = ctx.tensor(0)?.shape();
    let shape = match *first {
        [a, b, _] => vec![a, b, y.shape[1] * y.shape[3]],
        [a, b, c, _] => vec![a, b, c, y.shape[3]],
        _ => bail!(bug, "queries of shape {first:?}"),
    };
    let mut data = vec![0.0; y.data.len()];
    Placed::new(ctx.attrs(), Operand::Result, &shape)?.scatter(&y, &mut data);
    Ok(vec![Tensor::from_f64(ctx.dtype(0)?, &shape, &data)?.into()])
}
