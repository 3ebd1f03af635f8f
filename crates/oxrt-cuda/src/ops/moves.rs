//! Elements that go where lengths and positions say: ReverseSequence, TensorScatter, MaxUnpool; and BitCast, where they stay.

use super::each::{Each, only, strict};
use super::{Entry, axis_of, c_type, contiguous, counts, holds, makes, output_dtype, require, sizes};
use crate::backend::Ctx;
use crate::gpu::Params;
use crate::text::raw;
use oxrt_backend::{Kernel, NodeView, Packing, bound, kernel};
use oxrt_tensor::{DType, Error, Result, Tensor, bail};

const TEXT: &str = include_str!("../text/moves.cuh");

pub(super) const REVERSE: Entry = strict("reverse_sequence", &["ReverseSequence"], reverse_supports, pack, reverse);
pub(super) const CACHE: Entry = strict("tensor_scatter", &["TensorScatter"], cache_supports, pack, cache);
pub(super) const UNPOOL: Entry = strict("max_unpool", &["MaxUnpool"], reverse_supports, pack, unpool);
pub(super) const BIT_CAST: Entry = strict("bit_cast", &["BitCast"], bit_cast_supports, pack, bit_cast);

fn index(node: &NodeView, i: usize) -> Option<()> {
    require(matches!(node.dtype(i)?, DType::I64 | DType::I32))
}

/// Numbers that say where things go are in input 1.
fn reverse_supports(_: &Ctx, node: &NodeView) -> Option<()> {
    raw(node.dtype(0)?)?;
    require(node.rank(0)? <= 8)?;
    index(node, 1)
}

fn cache_supports(_: &Ctx, node: &NodeView) -> Option<()> {
    raw(node.dtype(0)?)?;
    require(node.dtype(0) == node.dtype(1))?;
    if node.has(2) { index(node, 2) } else { Some(()) }
}

fn bit_cast_supports(_: &Ctx, node: &NodeView) -> Option<()> {
    require(raw(node.dtype(0)?)? == raw(node.output_dtype(0)?)?)
}

fn pack(ctx: &Ctx, node: &NodeView) -> Result<Packing> {
    let element = raw(output_dtype(node, 0)?).ok_or_else(|| Error::bug("elements without a size"))?;
    let (name, places) = match node.op() {
        "ReverseSequence" => ("REVERSE", 1),
        "TensorScatter" => ("CACHE", 2),
        "MaxUnpool" => ("UNPOOL", 1),
        _ => ("PLAIN", usize::MAX),
    };
    let places = c_type(node.dtype(places).unwrap_or(DType::I64))?;
    let circular = u8::from(node.attrs().string_or("mode", "linear")? == "circular");
    only(
        ctx,
        &format!("#define {name} 1\n#define CIRCULAR {circular}\ntypedef {element} E;\ntypedef {places} I;\n{TEXT}"),
    )
}

fn reverse(ctx: &Ctx, node: &NodeView, packed: &[Tensor]) -> Result<Box<dyn Kernel>> {
    let launcher = ctx.function(packed.first(), "moves", 0)?;
    let (batch, time) = (node.attrs().int_or("batch_axis", 1)?, node.attrs().int_or("time_axis", 0)?);
    kernel(move |args| {
        let shape = args.shape(0)?;
        let (batch, time) = (axis_of(batch, shape.len())?, axis_of(time, shape.len())?);
        let count = counts(shape.iter().product())?;
        makes(args, count)?;
        holds(args, 1, shape[batch])?;
        if batch == time {
            bail!(invalid, "batch and time are one axis");
        }
        let step = |d: usize| shape[d + 1..].iter().product();
        let fields = Params::new().dividers(&[step(batch), shape[batch], step(time), shape[time]]);
        Each { launcher: launcher.clone(), inputs: 2, outputs: 1, count, fields }.boxed()
    })
}

fn cache(ctx: &Ctx, node: &NodeView, packed: &[Tensor]) -> Result<Box<dyn Kernel>> {
    let launcher = ctx.function(packed.first(), "moves", 0)?;
    let axis = node.attrs().int_or("axis", -2)?;
    kernel(move |args| {
        let (shape, update) = (args.shape(0)?, args.shape(1)?);
        let axis = axis_of(axis, shape.len())?;
        let fits = update.len() == shape.len() && (0..shape.len()).all(|d| d == axis || shape[d] == update[d]);
        if !fits || axis == 0 || update[axis] > shape[axis] {
            bail!(invalid, "an update of {update:?} for a cache of {shape:?}");
        }
        let count = counts(shape.iter().product())?;
        makes(args, count)?;
        holds(args, 2, shape[0])?;
        let inner = shape[axis + 1..].iter().product();
        let fields = Params::new().dividers(&[inner, shape[axis], shape[1..].iter().product()]).u32(update[axis]);
        Each { launcher: launcher.clone(), inputs: 3, outputs: 1, count, fields }.bound().in_place(&[0]).boxed()
    })
}

fn unpool(ctx: &Ctx, node: &NodeView, packed: &[Tensor]) -> Result<Box<dyn Kernel>> {
    let clear = ctx.function(packed.first(), "clear", 0)?;
    let launcher = ctx.function(packed.first(), "moves", 0)?;
    let kernel_shape = node.attrs().ints("kernel_shape")?.and_then(sizes).unwrap_or_default();
    let n = kernel_shape.len();
    let strides = sizes(&node.attrs().ints_or("strides", &vec![1; n])?).unwrap_or_default();
    let pads = sizes(&node.attrs().ints_or("pads", &vec![0; 2 * n])?).unwrap_or_default();
    kernel(move |args| {
        let (x, y) = (args.shape(0)?, args.output(0)?);
        if x.len() != n + 2 || strides.len() != n || pads.len() != 2 * n || y.len() != x.len() || x[..2] != y[..2] {
            bail!(invalid, "a kernel of {kernel_shape:?} takes shape {x:?} apart to {y:?}");
        }
        // Places count in the least shape that the windows cover, which lies at the front of the result.
        let mut inner = x[..2].to_vec();
        for d in 0..n {
            let covered =
                (x[d + 2].saturating_sub(1) * strides[d] + kernel_shape[d]).checked_sub(pads[d] + pads[n + d]);
            inner.push(covered.ok_or_else(|| Error::invalid("the pads take more than there is"))?);
        }
        if (0..y.len()).any(|d| y[d] < inner[d]) {
            bail!(invalid, "an output of {y:?} does not hold {inner:?}");
        }
        let count = counts(x.iter().product())?;
        holds(args, 1, count)?;
        let (total, out) = (counts(inner.iter().product())?, counts(y.iter().product())?);
        let mut dims = [1; 8];
        let mut steps = [0; 8];
        let front = 8 - inner.len();
        dims[front..].copy_from_slice(&inner);
        contiguous(y).iter().enumerate().for_each(|(d, &s)| steps[front + d] = s as i64);
        let fields = Params::new().u32(total).dividers(&dims).i32s(&steps);
        let clear = Each { launcher: clear.clone(), inputs: 3, outputs: 1, count: out, fields: fields.clone() };
        let each = Each { launcher: launcher.clone(), inputs: 3, outputs: 1, count, fields };
        bound(move |io| {
            // SAFETY: buffers have the bound sizes; places are checked by the kernel.
            unsafe {
                clear.run(io)?;
                each.run(io)
            }
        })
        .boxed()
    })
}

fn bit_cast(ctx: &Ctx, _: &NodeView, packed: &[Tensor]) -> Result<Box<dyn Kernel>> {
    let launcher = ctx.function(packed.first(), "moves", 0)?;
    kernel(move |args| {
        let count = counts(args.shape(0)?.iter().product())?;
        makes(args, count)?;
        let each = Each { launcher: launcher.clone(), inputs: 1, outputs: 1, count, fields: Params::new() };
        bound(move |io| {
            if std::ptr::eq(io.inputs[0], io.outputs[0]) {
                return Ok(());
            }
            // SAFETY: both sides have the elements of the bound shape.
            unsafe { each.run(io) }
        })
        .in_place(&[0])
        .boxed()
    })
}
