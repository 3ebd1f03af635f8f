//! <https://onnx.ai/onnx/operators/onnx__RotaryEmbedding.html>

use crate::copy::{index, permute};
use crate::def::OpDef;
use crate::eval::{Datum, Eval};
use crate::shape::same_as_input;
use oxrt_tensor::{Result, Tensor, bail};

/// Turns pairs of features by the angle of their position: x [batch, heads, length, size] or [batch, length,
/// features], caches of cosines and sines, and optional positions.
pub const OP: OpDef = OpDef::new("RotaryEmbedding", &[23], 3..=4, same_as_input, eval).examples(&[(
    "(f32[1, 1, 1, 2] x, f32[2, 1] c, f32[2, 1] s, i64[1, 1] p) { y = RotaryEmbedding(x, c, s, p) } => y",
    &["x = 1 2", "c = 1 0", "s = 0 1", "p = 1"],
    "-2 1",
)]);

fn eval(ctx: &Eval) -> Result<Vec<Datum>> {
    let (x, attrs) = (ctx.tensor(0)?, ctx.attrs());
    // As [batch, length, heads, size].
    let turned = match *x.shape() {
        [_, _, _, _] => permute(x, &[0, 2, 1, 3])?,
        [b, s, e] => match usize::try_from(attrs.int_or("num_heads", 0)?) {
            Ok(h) if h > 0 && e % h == 0 => x.reshaped(&[b, s, h, e / h])?,
            _ => bail!(invalid, "`num_heads` does not divide {e} features"),
        },
        _ => bail!(invalid, "{:?} should have three or four axes", x.shape()),
    };
    let [batch, length, heads, size] = *turned.shape() else { bail!(invalid, "{:?}", turned.shape()) };
    let rotated = match usize::try_from(attrs.int_or("rotary_embedding_dim", 0)?) {
        Ok(0) => size,
        Ok(n) if n <= size => n,
        _ => bail!(invalid, "more features to turn than {size}"),
    };
    let half = rotated / 2;
    let (cos, sin) = (ctx.tensor(1)?, ctx.tensor(2)?);
    let rows = cos.len() / half.max(1);
    let positions = ctx.ints(3)?;
    let enough = positions.is_some() || rows == batch * length;
    if cos.shape() != sin.shape() || cos.shape().last() != Some(&half) || !enough {
        bail!(invalid, "caches of shape {:?} and {:?} for {half} angles", cos.shape(), sin.shape());
    }
    if positions.as_ref().is_some_and(|p| p.len() != batch * length) {
        bail!(invalid, "the positions should be [{batch}, {length}]");
    }
    let (cos, sin) = (cos.to_f64_vec()?, sin.to_f64_vec()?);
    let mut data = turned.to_f64_vec()?;
    let interleaved = attrs.bool_or("interleaved", false)?;
    for (at, token) in data.chunks_mut((heads * size).max(1)).enumerate() {
        let row = match &positions {
            Some(p) => index(p[at], rows)?,
            None => at,
        };
        for head in token.chunks_mut(size) {
            for k in 0..half {
                let (a, b) = if interleaved { (2 * k, 2 * k + 1) } else { (k, k + half) };
                let (c, s) = (cos[row * half + k], sin[row * half + k]);
                (head[a], head[b]) = (c * head[a] - s * head[b], s * head[a] + c * head[b]);
            }
        }
    }
    let y = Tensor::from_f64(x.dtype(), turned.shape(), &data)?;
    let y = if x.rank() == 3 { y.reshaped(x.shape())? } else { permute(&y, &[0, 2, 1, 3])? };
    Ok(vec![y.into()])
}
