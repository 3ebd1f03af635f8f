//! Gathering and scattering by index, for every element type.

use super::{Entry, axis_of, c_type, contiguous, counts, dtype, makes, output_dtype, require};
use crate::backend::{Ctx, Launcher};
use crate::gpu::Params;
use crate::text::{raw, stored};
use oxrt_backend::{Io, Kernel, NodeView, Packing, bound, kernel};
use oxrt_tensor::{DType, Error, Result, Tensor, bail};

const TEXT: &str = include_str!("../text/index.cuh");

const fn entry(
    name: &'static str,
    ops: &'static [&'static str],
    supports: fn(&Ctx, &NodeView) -> Option<()>,
    load: fn(&Ctx, &NodeView, &[Tensor]) -> Result<Box<dyn Kernel>>,
) -> Entry {
    Entry::new(name, ops, supports, pack, load)
}

pub(super) const GATHER: Entry = entry("gather", &["Gather"], indexed, gather);
pub(super) const GATHER_ELEMENTS: Entry = entry("gather_elements", &["GatherElements"], indexed, gather_elements);
pub(super) const SCATTER_ELEMENTS: Entry =
    entry("scatter_elements", &["ScatterElements", "Scatter"], scatters, scatter_elements);
pub(super) const GATHER_ND: Entry = entry("gather_nd", &["GatherND"], indexed, gather_nd);
pub(super) const SCATTER_ND: Entry = entry("scatter_nd", &["ScatterND"], scatters, scatter_nd);

fn indexed(_: &Ctx, node: &NodeView) -> Option<()> {
    stored(node.dtype(0)?)?;
    require(node.dtype(0) == node.output_dtype(0) && matches!(node.dtype(1)?, DType::I64 | DType::I32))?;
    require(node.rank(0)? <= 8)
}

fn scatters(ctx: &Ctx, node: &NodeView) -> Option<()> {
    indexed(ctx, node)?;
    // Which of several updates of one element wins is left open; sums would need an order.
    require(node.attrs().string_or("reduction", "none").ok()? == "none" && node.dtype(0) == node.dtype(2))
}

fn pack(ctx: &Ctx, node: &NodeView) -> Result<Packing> {
    let element = raw(output_dtype(node, 0)?).ok_or_else(|| Error::bug("elements without a size"))?;
    let body = format!("typedef {element} E;\ntypedef {} I;\n{TEXT}", c_type(dtype(node, 1)?)?);
    Ok(Packing { tensors: vec![ctx.code(&body)?], consumed: Vec::new() })
}

/// The parameter struct; what a kernel does not read stays zero.
#[derive(Clone, Debug, Default)]
struct Fields {
    count: usize,
    axis_size: usize,
    inner: usize,
    indices: usize,
    axis: usize,
    dims: Vec<usize>,
    strides: Vec<isize>,
    sizes: Vec<usize>,
    tuple_strides: Vec<isize>,
    batch_stride: usize,
    /// Tuples of a batch.
    batch: usize,
}

impl Fields {
    /// # Safety
    /// Buffers have the bound sizes.
    unsafe fn run(&self, io: &Io, kernel: &Launcher) -> Result<()> {
        let mut p = Params::new().ptr(io.input::<u8>(0)).ptr(io.input::<u8>(1)).ptr(io.input::<u8>(2));
        p = p.ptr(io.output::<u8>(0)).u32(self.count).u32(self.dims.len()).u32(self.axis_size);
        p = p.divider(self.inner.max(1)).divider(self.indices.max(1)).u32(self.axis);
        for d in 0..8 {
            p = p.divider(self.dims.get(d).copied().unwrap_or(1).max(1));
        }
        for d in 0..8 {
            p = p.i32(self.strides.get(d).copied().unwrap_or(0) as i64);
        }
        p = p.u32(self.sizes.len());
        for d in 0..8 {
            p = p.u32(self.sizes.get(d).copied().unwrap_or(0));
        }
        for d in 0..8 {
            p = p.i32(self.tuple_strides.get(d).copied().unwrap_or(0) as i64);
        }
        p = p.u32(self.batch_stride).divider(self.batch.max(1)).status(&io.device);
        // SAFETY: the caller's promise; indices are checked by the kernels.
        unsafe { kernel.run(io, [self.count.div_ceil(256), 1, 1], 256, 0, &p.finish()) }
    }
}

fn gather(ctx: &Ctx, node: &NodeView, packed: &[Tensor]) -> Result<Box<dyn Kernel>> {
    let launcher = ctx.function(packed.first(), "gather", 0)?;
    let axis = node.attrs().int_or("axis", 0)?;
    kernel(move |args| {
        let x = args.shape(0)?;
        let axis = axis_of(axis, x.len())?;
        let (outer, inner): (usize, usize) = (x[..axis].iter().product(), x[axis + 1..].iter().product());
        let indices: usize = args.shape(1)?.iter().product();
        let count = counts(outer * indices * inner)?;
        makes(args, count)?;
        if x[axis] == 0 && count > 0 {
            bail!(invalid, "indices into an axis of no elements");
        }
        let fields = Fields { count, axis_size: x[axis], inner, indices, ..Fields::default() };
        let launcher = launcher.clone();
        // SAFETY: buffers have the bound sizes.
        bound(move |io| unsafe { fields.run(io, &launcher) }).boxed()
    })
}

fn elements(x: &[usize], at: &[usize], axis: i64) -> Result<Fields> {
    let axis = axis_of(axis, x.len())?;
    if at.len() != x.len() || (0..x.len()).any(|d| d != axis && at[d] > x[d]) {
        bail!(invalid, "indices of shape {at:?} for a tensor of shape {x:?}");
    }
    let count = counts(at.iter().product())?;
    Ok(Fields { count, axis, axis_size: x[axis], dims: at.to_vec(), strides: contiguous(x), ..Fields::default() })
}

fn gather_elements(ctx: &Ctx, node: &NodeView, packed: &[Tensor]) -> Result<Box<dyn Kernel>> {
    let launcher = ctx.function(packed.first(), "gather_elements", 0)?;
    let axis = node.attrs().int_or("axis", 0)?;
    kernel(move |args| {
        let fields = elements(args.shape(0)?, args.shape(1)?, axis)?;
        makes(args, fields.count)?;
        let launcher = launcher.clone();
        // SAFETY: buffers have the bound sizes.
        bound(move |io| unsafe { fields.run(io, &launcher) }).boxed()
    })
}

/// Copies the tensor, then writes the updates into it.
fn scatter(
    ctx: &Ctx,
    packed: &[Tensor],
    name: &str,
) -> Result<impl Fn(usize, Fields) -> Result<Box<dyn oxrt_backend::Bound>> + Send + Sync + 'static> {
    let copy = ctx.function(packed.first(), "copy", 0)?;
    let launcher = ctx.function(packed.first(), name, 0)?;
    Ok(move |len: usize, fields: Fields| {
        let all = Fields { count: counts(len)?, ..Fields::default() };
        let (copy, launcher) = (copy.clone(), launcher.clone());
        bound(move |io| {
            // SAFETY: buffers have the bound sizes.
            unsafe {
                if !std::ptr::eq(io.inputs[0], io.outputs[0]) {
                    all.run(io, &copy)?;
                }
                fields.run(io, &launcher)
            }
        })
        .in_place(&[0])
        .boxed()
    })
}

fn scatter_elements(ctx: &Ctx, node: &NodeView, packed: &[Tensor]) -> Result<Box<dyn Kernel>> {
    let scatter = scatter(ctx, packed, "scatter_elements")?;
    let axis = node.attrs().int_or("axis", 0)?;
    kernel(move |args| {
        let fields = elements(args.shape(0)?, args.shape(1)?, axis)?;
        let len: usize = args.shape(0)?.iter().product();
        makes(args, len)?;
        super::holds(args, 2, fields.count)?;
        scatter(len, fields)
    })
}

fn tuples(x: &[usize], at: &[usize], batch_dims: usize) -> Result<Fields> {
    let Some((&depth, lead)) = at.split_last() else { bail!(invalid, "indices without an axis") };
    if batch_dims > lead.len() || batch_dims + depth > x.len() || depth > 8 || x[..batch_dims] != lead[..batch_dims] {
        bail!(invalid, "indices of shape {at:?} into shape {x:?}");
    }
    let own = contiguous(x);
    let inner: usize = x[batch_dims + depth..].iter().product();
    let count = counts(lead.iter().product::<usize>() * inner)?;
    Ok(Fields {
        count,
        inner,
        sizes: x[batch_dims..batch_dims + depth].to_vec(),
        tuple_strides: own[batch_dims..batch_dims + depth].to_vec(),
        batch_stride: x[batch_dims..].iter().product(),
        batch: lead[batch_dims..].iter().product(),
        ..Fields::default()
    })
}

fn gather_nd(ctx: &Ctx, node: &NodeView, packed: &[Tensor]) -> Result<Box<dyn Kernel>> {
    let launcher = ctx.function(packed.first(), "gather_nd", 0)?;
    let batch = usize::try_from(node.attrs().int_or("batch_dims", 0)?).unwrap_or(usize::MAX);
    kernel(move |args| {
        let fields = tuples(args.shape(0)?, args.shape(1)?, batch)?;
        makes(args, fields.count)?;
        if fields.sizes.contains(&0) && fields.count > 0 {
            bail!(invalid, "indices into an axis of no elements");
        }
        let launcher = launcher.clone();
        // SAFETY: buffers have the bound sizes.
        bound(move |io| unsafe { fields.run(io, &launcher) }).boxed()
    })
}

fn scatter_nd(ctx: &Ctx, _: &NodeView, packed: &[Tensor]) -> Result<Box<dyn Kernel>> {
    let scatter = scatter(ctx, packed, "scatter_nd")?;
    kernel(move |args| {
        let fields = tuples(args.shape(0)?, args.shape(1)?, 0)?;
        let len: usize = args.shape(0)?.iter().product();
        makes(args, len)?;
        super::holds(args, 2, fields.count)?;
        scatter(len, fields)
    })
}
