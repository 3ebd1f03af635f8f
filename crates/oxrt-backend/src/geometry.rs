//! Where the elements of an operand lie: what every backend works out when it binds sizes.

use crate::{BindArgs, NodeView};
use oxrt_tensor::{Error, Result, bail};

/// A possibly negative axis as an index.
pub fn axis_of(axis: i64, rank: usize) -> Result<usize> {
    let at = if axis < 0 { axis + rank as i64 } else { axis };
    let at = usize::try_from(at).ok().filter(|&a| a < rank);
    at.ok_or_else(|| Error::invalid(format!("axis {axis} of a tensor of rank {rank}")))
}

/// Distances between neighbours along each axis, in elements, of a tensor without gaps. An empty axis counts as one element.
pub fn contiguous(shape: &[usize]) -> Vec<isize> {
    let mut strides = vec![1isize; shape.len()];
    for d in (0..shape.len().saturating_sub(1)).rev() {
        strides[d] = strides[d + 1] * shape[d + 1].max(1) as isize;
    }
    strides
}

/// Distances of an operand that broadcasts to `out`: 0 where it repeats.
///
/// # Errors
/// When it does not broadcast.
pub fn broadcast(shape: &[usize], out: &[usize]) -> Result<Vec<isize>> {
    let own = contiguous(shape);
    let fits = |lead: &usize| (0..shape.len()).all(|d| shape[d] == 1 || shape[d] == out[lead + d]);
    let lead = out.len().checked_sub(shape.len()).filter(fits);
    let lead = lead.ok_or_else(|| Error::invalid(format!("shape {shape:?} does not broadcast to {out:?}")))?;
    Ok((0..out.len()).map(|d| if d < lead || shape[d - lead] == 1 { 0 } else { own[d - lead] }).collect())
}

/// `Some` when the elements of input `i` are known when sizes are, or the input is absent.
pub fn known(node: &NodeView, i: usize) -> Option<()> {
    let Some(id) = node.node().input(i) else { return Some(()) };
    (node.constant(i).is_some() || node.graph[id].contents.is_some()).then_some(())
}

/// The integers of an input that [`known`] let through; `None` when it is absent.
pub fn ints(args: &BindArgs, i: usize) -> Result<Option<Vec<i64>>> {
    if args.opt_shape(i).is_none() {
        return Ok(None);
    }
    let value = args.value(i).ok_or_else(|| Error::bug(format!("the elements of input {i} are not known")))?;
    value.to_i64_vec().map(Some)
}

/// Distances and first place of the elements that a `Slice` takes (starts, ends, axes, steps are inputs 1 to 4). Ends do
/// not matter: the output's shape says how much is taken.
pub fn sliced(args: &BindArgs) -> Result<(Vec<isize>, isize)> {
    let (shape, out) = (args.shape(0)?, args.output(0)?);
    let starts = ints(args, 1)?.unwrap_or_default();
    let axes = ints(args, 3)?.unwrap_or_else(|| (0..starts.len() as i64).collect());
    let steps = ints(args, 4)?.unwrap_or_else(|| vec![1; starts.len()]);
    if axes.len() != starts.len() || steps.len() != starts.len() {
        bail!(invalid, "a slice of {} starts, {} axes and {} steps", starts.len(), axes.len(), steps.len());
    }
    if out.len() != shape.len() || (0..out.len()).any(|d| out[d] > shape[d]) {
        bail!(invalid, "a slice of shape {out:?} of an operand of shape {shape:?}");
    }
    let mut strides = contiguous(shape);
    let mut from = 0;
    for ((&start, &axis), &step) in starts.iter().zip(&axes).zip(&steps) {
        let axis = axis_of(axis, shape.len())?;
        let n = shape[axis] as i64;
        let start = if start < 0 { start + n } else { start };
        let start = if step < 0 { start.clamp(0, (n - 1).max(0)) } else { start.clamp(0, n) };
        let last = start as i128 + (out[axis] as i128 - 1) * step as i128;
        if out[axis] > 0 && !(0..n as i128).contains(&last) {
            bail!(bug, "{} elements from {start} by {step} of an axis of {n}", out[axis]);
        }
        from += start as isize * strides[axis];
        strides[axis] *= step as isize;
    }
    Ok((strides, from))
}

/// The axes that a reduction takes away, rising: those of input 1 or of the attribute, else all (or none, as asked).
pub fn reduced_axes(
    args: &BindArgs,
    attribute: Option<&[i64]>,
    empty_is_none: bool,
    rank: usize,
) -> Result<Vec<usize>> {
    let given = ints(args, 1)?.or_else(|| attribute.map(<[i64]>::to_vec)).unwrap_or_default();
    if given.is_empty() {
        return Ok(if empty_is_none { Vec::new() } else { (0..rank).collect() });
    }
    let mut axes = given.iter().map(|&a| axis_of(a, rank)).collect::<Result<Vec<_>>>()?;
    axes.sort_unstable();
    axes.dedup();
    Ok(axes)
}
