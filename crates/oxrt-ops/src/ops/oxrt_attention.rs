//! Attention over heads, in either layout. Only passes create it.
//!
//! q, k, v and an optional mask (float to add, or bool; broadcast to [batch, heads, queries, keys]). Attributes:
//! `layout` "bhsd" [batch, heads, length, size] or "bshd", `scale` (default 1/√size), `is_causal` (query i sees
//! keys up to i). Heads of k and v may divide those of q. The result lies as q does.

use super::attention::Mask;
use crate::attention::{Attend, Heads, attend};
use crate::copy::permute;
use crate::def::OpDef;
use crate::eval::{Datum, Eval};
use crate::infer::Infer;
use oxrt_ir::Attrs;
use oxrt_tensor::{Result, Tensor, bail};

pub const OP: OpDef = OpDef::new("oxrt.Attention", &[1], 3..=4, infer, eval).examples(&[(
    "(f32[1, 2, 1, 1] q, f32[1, 2, 1, 1] k, f32[1, 2, 1, 1] v) {
        y = oxrt.Attention<layout=\"bshd\", is_causal=1>(q, k, v) } => y",
    &["q = 1 0", "k = 1 1", "v = 2 4"],
    "2 3",
)]);

fn length_first(attrs: &Attrs) -> Result<bool> {
    match attrs.string_or("layout", "bhsd")? {
        "bhsd" => Ok(false),
        "bshd" => Ok(true),
        other => bail!(invalid, "the layout is bhsd or bshd, not `{other}`"),
    }
}

fn infer(ctx: &mut Infer) -> Result<()> {
    length_first(ctx.attrs())?;
    let dims = match (ctx.dims(0), ctx.dims(2)) {
        (Some([a, b, c, _]), Some([_, _, _, d])) => Some([a, b, c, d].map(Clone::clone).to_vec()),
        (Some(q), Some(v)) => bail!(invalid, "queries {q:?} and values {v:?} should have four axes"),
        _ => None,
    };
    ctx.set(0, ctx.dtype(0)?, dims);
    Ok(())
}

fn eval(ctx: &Eval) -> Result<Vec<Datum>> {
    let turned = length_first(ctx.attrs())?;
    let part = |i: usize| -> Result<Heads> {
        let t = ctx.tensor(i)?;
        if t.rank() != 4 {
            bail!(invalid, "input {i} should have four axes, found {:?}", t.shape());
        }
        let t = if turned { permute(t, &[0, 2, 1, 3])? } else { t.clone() };
        Heads::new(t.shape(), t.to_f64_vec()?)
    };
    let (q, k, v) = (part(0)?, part(1)?, part(2)?);
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
    let y = Tensor::from_f64(ctx.dtype(0)?, &y.shape, &y.data)?;
    Ok(vec![if turned { permute(&y, &[0, 2, 1, 3])? } else { y }.into()])
}
