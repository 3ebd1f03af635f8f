//! <https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md#com.microsoft.NGramRepeatBlock>

use crate::def::OpDef;
use crate::eval::{Datum, Eval};
use oxrt_tensor::{Result, Tensor, bail};

/// Scores [batch, words] with -∞ for each word that would end a group of `ngram_size` words for the second time.
pub const OP: OpDef = OpDef::new(
    "com.microsoft.NGramRepeatBlock",
    &[1],
    2..=2,
    |ctx| {
        let t = ctx.ty(1)?.clone();
        ctx.set_type(0, t.into());
        Ok(())
    },
    eval,
)
.examples(&[(
    "(i64[1, 4] w, f32[1, 4] s) { y = com.microsoft.NGramRepeatBlock<ngram_size=2>(w, s) } => y",
    &["w = 1 3 0 1", "s = 1 2 3 4"],
    "1 2 3 -inf",
)]);

fn eval(ctx: &Eval) -> Result<Vec<Datum>> {
    let (words, scores) = (ctx.tensor(0)?, ctx.tensor(1)?);
    let ([batch, length], [rows, vocabulary]) = (words.shape(), scores.shape()) else {
        bail!(invalid, "words {:?} and scores {:?} should have two axes", words.shape(), scores.shape())
    };
    let n = match usize::try_from(ctx.attrs().int_or("ngram_size", 0)?) {
        Ok(n) if n > 0 && batch == rows => n,
        _ => bail!(invalid, "an `ngram_size` below 1, or batches that differ"),
    };
    let (ids, mut out) = (words.to_i64_vec()?, scores.to_f64_vec()?);
    for (b, line) in ids.chunks((*length).max(1)).enumerate().filter(|_| *length >= n) {
        let tail = &line[length + 1 - n..];
        for group in line.windows(n).filter(|g| g[..n - 1] == *tail) {
            match usize::try_from(group[n - 1]) {
                Ok(w) if w < *vocabulary => out[b * vocabulary + w] = f64::NEG_INFINITY,
                _ => bail!(invalid, "the word {} is not among {vocabulary}", group[n - 1]),
            }
        }
    }
    Ok(vec![Tensor::from_f64(scores.dtype(), scores.shape(), &out)?.into()])
}
