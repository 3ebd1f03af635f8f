//! <https://onnx.ai/onnx/operators/onnx__OneHot.html>

use crate::copy::{assemble, checked_len};
use crate::def::OpDef;
use crate::eval::{Datum, Eval};
use crate::infer::Infer;
use crate::shape::axis;
use oxrt_tensor::{Error, Result, bail};

/// Inputs: indices, depth, [off value, on value]. A new axis of size depth at `axis`.
pub const OP: OpDef = OpDef::new("OneHot", &[9, 11, 28], 3..=3, infer, eval).examples(&[(
    "(i64[2] i) { y = OneHot(i, i64{3}, f32[2]{0, 5}) } => y",
    &["i = 1 -1"],
    "0 5 0 0 0 5",
)]);

fn infer(ctx: &mut Infer) -> Result<()> {
    let dims = match ctx.dims(0) {
        Some(d) => {
            let mut dims = d.to_vec();
            let at = axis(ctx.attrs().int_or("axis", -1)?, d.len() + 1)?;
            let depth = ctx.whole(1).and_then(|c| c.elements.first().cloned());
            dims.insert(at, depth.unwrap_or_else(|| ctx.fresh()));
            Some(dims)
        }
        None => None,
    };
    ctx.set(0, ctx.dtype(2)?, dims);
    Ok(())
}

fn eval(ctx: &Eval) -> Result<Vec<Datum>> {
    let (indices, values) = (ctx.tensor(0)?, ctx.tensor(2)?);
    let depth = ctx.ints(1)?.and_then(|d| d.first().copied()).ok_or_else(|| Error::invalid("the depth is missing"))?;
    let Ok(n) = usize::try_from(depth) else { bail!(invalid, "a depth of {depth}") };
    if values.len() != 2 {
        bail!(invalid, "the values should be two, found {:?}", values.shape());
    }
    let at = axis(ctx.attrs().int_or("axis", -1)?, indices.rank() + 1)?;
    let mut shape = indices.shape().to_vec();
    shape.insert(at, n);
    let inner: usize = shape[at + 1..].iter().product();
    let hot = indices.to_i64_vec()?;
    let total = checked_len(&shape)?;
    let place = |i: usize| {
        let (outer, k, rest) = (i / (n * inner), i / inner % n, i % inner);
        let wanted = hot[outer * inner + rest];
        let wanted = if wanted < 0 { wanted.saturating_add(depth) } else { wanted };
        (0, (wanted == k as i64) as usize)
    };
    Ok(vec![assemble(&[values], &shape, (0..total).map(place))?.into()])
}
