//! Pad in all modes, for every element type.

use super::each::{Each, eight, only, strict};
use super::{Entry, axis_of, contiguous, counts, dtype, holds, ints, known, require};
use crate::backend::Ctx;
use crate::gpu::Params;
use crate::text::raw;
use oxrt_backend::{Kernel, NodeView, Packing, kernel};
use oxrt_tensor::{Error, Result, Tensor, bail};

const TEXT: &str = include_str!("../text/pad.cuh");
const MODES: [&str; 4] = ["constant", "edge", "wrap", "reflect"];

pub(super) const PAD: Entry = strict("pad", &["Pad"], supports, pack, load);

fn mode(node: &NodeView) -> Option<usize> {
    let mode = node.attrs().string_or("mode", "constant").ok()?;
    MODES.iter().position(|m| *m == mode)
}

fn supports(_: &Ctx, node: &NodeView) -> Option<()> {
    raw(node.dtype(0)?)?;
    require(node.rank(0)? <= 8 && (!node.has(2) || node.dtype(2) == node.dtype(0)))?;
    known(node, 1)?;
    known(node, 3)?;
    mode(node).map(|_| ())
}

fn pack(ctx: &Ctx, node: &NodeView) -> Result<Packing> {
    let element = raw(dtype(node, 0)?).ok_or_else(|| Error::bug("elements without a size"))?;
    only(ctx, &format!("typedef {element} E;\n#define MODE {}\n{TEXT}", mode(node).unwrap_or(0)))
}

fn load(ctx: &Ctx, node: &NodeView, packed: &[Tensor]) -> Result<Box<dyn Kernel>> {
    let launcher = ctx.function(packed.first(), "pad", 0)?;
    let constant = mode(node) == Some(0);
    kernel(move |args| {
        let (x, y) = (args.shape(0)?, args.output(0)?);
        let pads = ints(args, 1)?.ok_or_else(|| Error::invalid("the pads are missing"))?;
        let axes = ints(args, 3)?.unwrap_or_else(|| (0..x.len() as i64).collect());
        holds(args, 2, 1)?;
        if pads.len() != 2 * axes.len() || y.len() != x.len() {
            bail!(invalid, "{} pads for {} axes of shape {x:?} to shape {y:?}", pads.len(), axes.len());
        }
        let (count, _) = (counts(y.iter().product())?, counts(x.iter().product())?);
        let (mut left, mut before, mut start) = (vec![0; x.len()], vec![0; x.len()], vec![0; x.len()]);
        (0..x.len()).for_each(|d| left[d] = x[d] as i64);
        // An axis that is named twice is padded by both.
        let mut ends = vec![[0i64; 2]; x.len()];
        for (k, &axis) in axes.iter().enumerate() {
            let end = &mut ends[axis_of(axis, x.len())?];
            *end = [end[0].saturating_add(pads[k]), end[1].saturating_add(pads[k + axes.len()])];
        }
        for (d, [front, back]) in ends.into_iter().enumerate() {
            // Taking away comes first.
            left[d] = (x[d] as i64).saturating_add(front.min(0)).saturating_add(back.min(0));
            (before[d], start[d]) = (front.max(0), front.min(0).saturating_neg());
            let whole = left[d].saturating_add(before[d]).saturating_add(back.max(0));
            if left[d] < 0 || whole != y[d] as i64 {
                bail!(invalid, "pads {front} and {back} of axis {d} of shape {x:?} do not make shape {y:?}");
            }
            if left[d] == 0 && count > 0 && !constant && [front, back] != [0, 0] {
                bail!(invalid, "an empty axis has nothing to repeat");
            }
        }
        let strides: Vec<i64> = contiguous(x).into_iter().map(|s| s as i64).collect();
        let fields = Params::new().u32(x.len()).dividers(&eight(y, 1));
        let fields = [left, before, start, strides].iter().fold(fields, |p, list| p.i32s(&eight(list, 0)));
        Each { launcher: launcher.clone(), inputs: 3, outputs: 1, count, fields }.boxed()
    })
}
