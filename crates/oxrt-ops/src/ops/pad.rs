//! <https://onnx.ai/onnx/operators/onnx__Pad.html>

use crate::copy::{checked_len, remap};
use crate::def::OpDef;
use crate::eval::{Datum, Eval};
use crate::infer::Infer;
use crate::shape::axis;
use oxrt_ir::Contents;
use oxrt_tensor::{Error, Result, Tensor, bail};

/// Adds to both ends of axes, or with negative pads takes away. Modes: constant, reflect, edge, wrap.
pub const OP: OpDef = OpDef::new("Pad", &[1, 2, 11, 13, 18, 19, 21, 23, 24, 25], 2..=4, infer, eval).examples(&[
    ("(f32[3] x) { y = Pad(x, i64[2]{1, -1}, 9.0) } => y", &["x = 1 2 3"], "9 1 2"),
    ("(f32[3] x) { y = Pad(x, i64[4]{1, 0, 0, 2}, 9.0, i64[2]{0, -1}) } => y", &["x = 1 2 3"], "9 1 2 3 9 9"),
    ("(f32[3] x) { y = Pad<mode=\"reflect\">(x, i64[2]{2, 1}) } => y", &["x = 1 2 3"], "3 2 1 2 3 2"),
    ("(f32[3] x) { y = Pad<mode=\"edge\">(x, i64[2]{2, 1}) } => y", &["x = 1 2 3"], "1 1 1 2 3 3"),
    ("(f32[3] x) { y = Pad<mode=\"wrap\">(x, i64[2]{2, 1}) } => y", &["x = 1 2 3"], "2 3 1 2 3 1"),
]);

fn infer(ctx: &mut Infer) -> Result<()> {
    let dtype = ctx.dtype(0)?;
    let Some(x) = ctx.dims(0) else {
        ctx.set(0, dtype, None);
        return Ok(());
    };
    let axes = if ctx.has(3) { ctx.const_ints(3) } else { Some((0..x.len() as i64).collect()) };
    let (Some(pads), Some(axes)) = (ctx.contents(1), axes) else {
        let dims = ctx.fresh_dims(x.len());
        ctx.set(0, dtype, Some(dims));
        return Ok(());
    };
    if pads.elements.len() != 2 * axes.len() {
        bail!(invalid, "{} pads for {} axes", pads.elements.len(), axes.len());
    }
    let mut dims = x.to_vec();
    for (k, &a) in axes.iter().enumerate() {
        let at = axis(a, x.len())?;
        dims[at] = dims[at].clone() + pads.elements[k].clone() + pads.elements[k + axes.len()].clone();
        if dims[at].as_const().is_some_and(|d| d < 0) {
            bail!(invalid, "the pads take more than axis {at} of {x:?} has");
        }
    }
    ctx.set(0, dtype, Some(dims));
    let plain = ctx.attrs().string_or("mode", "constant")? == "constant" && !ctx.has(2);
    if let (true, Some(c), Some([a, b])) = (plain, ctx.contents(0), pads.as_consts().as_deref())
        && let (false, Ok(a), Ok(b)) = (c.scalar, usize::try_from(*a), usize::try_from(*b))
            && a.saturating_add(b) <= 64 {
                let zeros = |n: usize| vec![oxrt_ir::Dim::Const(0); n];
                ctx.set_contents(0, Contents::vector([zeros(a), c.elements.clone(), zeros(b)].concat()));
            }
    Ok(())
}

/// For each position of the padded axis, the position it copies; `None` is the constant.
fn sources(size: usize, before: i64, after: i64, mode: &str) -> Result<Vec<Option<usize>>> {
    // Taking away comes first.
    let (cut_front, cut_back) = (before.min(0).unsigned_abs() as usize, after.min(0).unsigned_abs() as usize);
    let Some(n) = size.checked_sub(cut_front).and_then(|n| n.checked_sub(cut_back)) else {
        bail!(invalid, "the pads {before}, {after} take more than the {size} there are");
    };
    let total = checked_len(&[n.saturating_add(before.max(0) as usize).saturating_add(after.max(0) as usize)])?;
    if n == 0 && total > 0 && mode != "constant" {
        bail!(invalid, "an empty axis has nothing to {mode}");
    }
    let n = n as i64;
    let source = |o: i64| -> Result<Option<usize>> {
        let i = o - before.max(0);
        let at = match mode {
            "constant" if (0..n).contains(&i) => i,
            "constant" => return Ok(None),
            "edge" => i.clamp(0, n - 1),
            "wrap" => i.rem_euclid(n),
            "reflect" if n == 1 => 0,
            "reflect" => {
                let period = 2 * (n - 1);
                let i = i.rem_euclid(period);
                i.min(period - i)
            }
            other => bail!(invalid, "the mode `{other}` is unknown"),
        };
        Ok(Some(at as usize + cut_front))
    };
    (0..total as i64).map(source).collect()
}

fn eval(ctx: &Eval) -> Result<Vec<Datum>> {
    let x = ctx.tensor(0)?;
    let pads = ctx.ints(1)?.ok_or_else(|| Error::invalid("the pads are missing"))?;
    let zero = Tensor::zeros(x.dtype(), &[]);
    let fill = ctx.opt(2)?.unwrap_or(&zero);
    let axes = ctx.ints(3)?.unwrap_or_else(|| (0..x.rank() as i64).collect());
    if pads.len() != 2 * axes.len() {
        bail!(invalid, "{} pads for {} axes", pads.len(), axes.len());
    }
    if fill.len() != 1 {
        bail!(invalid, "the constant should be one value");
    }
    let mode = ctx.attrs().string_or("mode", "constant")?;
    let mut maps: Vec<Vec<Option<usize>>> = x.shape().iter().map(|&n| (0..n).map(Some).collect()).collect();
    // An axis that is named twice is padded by both.
    let mut ends = vec![[0i64; 2]; x.rank()];
    for (k, &a) in axes.iter().enumerate() {
        let end = &mut ends[axis(a, x.rank())?];
        *end = [end[0].saturating_add(pads[k]), end[1].saturating_add(pads[k + axes.len()])];
    }
    for (at, [begin, end]) in ends.into_iter().enumerate().filter(|(_, e)| *e != [0, 0]) {
        maps[at] = sources(x.shape()[at], begin, end, mode)?;
    }
    Ok(vec![remap(x, fill, &maps)?.into()])
}
