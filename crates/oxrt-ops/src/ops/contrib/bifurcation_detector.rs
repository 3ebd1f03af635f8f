//! <https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md#com.microsoft.BifurcationDetector>

use crate::def::OpDef;
use crate::eval::{Datum, Eval};
use crate::infer::Infer;
use oxrt_tensor::{DType, Result, Tensor, bail};

/// Aggressive decoding: inputs are the source, what was decoded, where its suffix matched before, and what was
/// predicted for the rest of the source. Outputs: what was decoded up to the first wrong prediction, and where its
/// suffix matches in the source (-1 for nowhere or more than once).
pub const OP: OpDef = OpDef::new("com.microsoft.BifurcationDetector", &[1], 3..=4, infer, eval).examples(&[(
    "(i64[4] s, i64[2] c, i64 m, i64[5] p) { t, i = com.microsoft.BifurcationDetector(s, c, m, p) } => t",
    &["s = 7 8 9 4", "c = 1 2", "m = 0", "p = 7 8 5 4 3"],
    "1 2 7 8 5",
)]);

fn infer(ctx: &mut Infer) -> Result<()> {
    let length = ctx.fresh();
    ctx.set(0, DType::I64, Some(vec![length]));
    ctx.set(1, DType::I64, Some(vec![]));
    Ok(())
}

fn eval(ctx: &Eval) -> Result<Vec<Datum>> {
    let vector = |i: usize| -> Result<Vec<i64>> { Ok(ctx.ints(i)?.unwrap_or_default()) };
    let (source, current, predicted) = (vector(0)?, vector(1)?, ctx.ints(3)?);
    let mut tokens = current;
    if let Some(predicted) = predicted {
        let start = match vector(2)?.first().and_then(|&m| usize::try_from(m).ok()).filter(|&m| m <= source.len()) {
            Some(m) => m,
            None => bail!(invalid, "the earlier match lies outside the source"),
        };
        if predicted.len() != source.len() + 1 - start {
            bail!(invalid, "{} predictions for {} words of the source", predicted.len(), source.len() - start);
        }
        // Predictions are taken while they repeat the source, and the first that does not.
        let same = predicted.iter().zip(&source[start..]).take_while(|(p, s)| p == s).count();
        tokens.extend_from_slice(&predicted[..same + 1]);
    }
    let (least, most) = (ctx.attrs().int_or("min_ngram_size", 1)?, ctx.attrs().int_or("max_ngram_size", 3)?);
    let found = suffix_match(&source, &tokens, least.max(1) as usize, most.clamp(0, 1 << 20) as usize);
    let tokens = Tensor::from_slice(&[tokens.len()], &tokens);
    Ok(vec![tokens.into(), Tensor::scalar(found).into()])
}

/// Behind the only match of the suffix, for the shortest suffix that has just one.
fn suffix_match(source: &[i64], tokens: &[i64], least: usize, most: usize) -> i64 {
    for n in least..=most {
        if n > tokens.len() || n > source.len() {
            break;
        }
        let suffix = &tokens[tokens.len() - n..];
        let mut places = source.windows(n).enumerate().filter(|(_, w)| *w == suffix).map(|(i, _)| i);
        match (places.next(), places.next()) {
            (None, _) => return -1,
(Some(at), None) => return (at + n) as i64,
            (Some(_), Some(_)) => {}
        }
    }
    -1
}
