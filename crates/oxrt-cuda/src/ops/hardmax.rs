//! Hardmax.

use super::each::only;
use super::{Entry, axis_of, c_type, counts, dtype, makes, output_dtype, require};
use crate::backend::Ctx;
use crate::gpu::Params;
use crate::text::stored;
use oxrt_backend::{Kernel, NodeView, Packing, bound, kernel};
use oxrt_tensor::{DType, Result, Tensor};

const TEXT: &str = include_str!("../text/hardmax.cuh");

pub(super) const HARDMAX: Entry = Entry::new("hardmax", &["Hardmax"], supports, pack, load);

fn supports(_: &Ctx, node: &NodeView) -> Option<()> {
    stored(node.output_dtype(0)?)?;
    require(node.dtype(0)?.is_float() && stored(node.dtype(0)?).is_some())
}

fn pack(ctx: &Ctx, node: &NodeView) -> Result<Packing> {
    let (x, y) = (dtype(node, 0)?, output_dtype(node, 0)?);
    let c = if x == DType::F64 { "f64" } else { "f32" };
    only(ctx, &format!("typedef {} T;\ntypedef {} TY;\ntypedef {c} C;\n{TEXT}", c_type(x)?, c_type(y)?))
}

fn load(ctx: &Ctx, node: &NodeView, packed: &[Tensor]) -> Result<Box<dyn Kernel>> {
    let launcher = ctx.function(packed.first(), "hardmax", 0)?;
    let axis = node.attrs().int_or("axis", -1)?;
    kernel(move |args| {
        let shape = args.shape(0)?;
        let len = counts(shape.iter().product())?;
        makes(args, len)?;
        // A scalar is a line of its own.
        let shape = if shape.is_empty() { &[1][..] } else { shape };
        let axis = axis_of(axis, shape.len())?;
        let (n, inner) = (shape[axis], shape[axis + 1..].iter().product::<usize>());
        let lines = len.checked_div(n).unwrap_or(0);
        let launcher = launcher.clone();
        bound(move |io| {
            let p = Params::new().ptr(io.input::<u8>(0)).ptr(io.output::<u8>(0).cast_const());
            let p = p.u32(lines).u32(n).dividers(&[inner]).finish();
            // SAFETY: buffers have the bound sizes.
            unsafe { launcher.run(io, [lines.div_ceil(8), 1, 1], 256, 0, &p) }
        })
        .flops(len)
        .boxed()
    })
}
