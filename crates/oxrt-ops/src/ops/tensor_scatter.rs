//! <https://onnx.ai/onnx/operators/onnx__TensorScatter.html>

use crate::copy::{around, assemble};
use crate::def::OpDef;
use crate::eval::{Datum, Eval};
use crate::shape::{axis, same_as_input};
use oxrt_tensor::{Result, bail};

/// Writes an update into a cache from each batch's position on (input 2), around the end with "circular".
pub const OP: OpDef = OpDef::new("TensorScatter", &[24], 2..=3, same_as_input, eval).examples(&[(
    "(f32[1, 3, 1] c, f32[1, 2, 1] u, i64[1] w) { y = TensorScatter<mode=\"circular\">(c, u, w) } => y",
    &["c = 1 2 3", "u = 8 9", "w = 2"],
    "9 2 8",
)]);

fn eval(ctx: &Eval) -> Result<Vec<Datum>> {
    let (cache, update) = (ctx.tensor(0)?, ctx.tensor(1)?);
    let at = axis(ctx.attrs().int_or("axis", -2)?, cache.rank())?;
    let fits = update.rank() == cache.rank()
        && (0..cache.rank()).all(|d| d == at || cache.shape()[d] == update.shape()[d]);
    if !fits || at == 0 || update.shape()[at] > cache.shape()[at] {
        bail!(invalid, "an update of {:?} for a cache of {:?}", update.shape(), cache.shape());
    }
    let batch = cache.shape()[0];
    let writes = ctx.ints(2)?.unwrap_or_else(|| vec![0; batch]);
    let circular = match ctx.attrs().string_or("mode", "linear")? {
        "linear" => false,
        "circular" => true,
        other => bail!(invalid, "the mode `{other}` is unknown"),
    };
    let (outer, length, inner) = around(cache.shape(), at);
    let steps = update.shape()[at];
    if writes.len() != batch {
        bail!(invalid, "{} positions for a batch of {batch}", writes.len());
    }
    let mut places: Vec<(usize, usize)> = (0..cache.len()).map(|i| (0, i)).collect();
    for o in 0..outer {
        let start = writes[o / (outer / batch.max(1)).max(1)];
        for s in 0..steps {
            let to = start.saturating_add(s as i64);
            let to = crate::copy::index(if circular && length > 0 { to.rem_euclid(length as i64) } else { to }, length)?;
            for k in 0..inner {
                places[(o * length + to) * inner + k] = (1, (o * steps + s) * inner + k);
            }
        }
    }
    Ok(vec![assemble(&[cache, update], cache.shape(), places)?.into()])
}
