//! Running sums and products: CumSum, CumProd.

use super::each::{Each, only, pointers, strict};
use super::{Entry, axis_of, c_type, counts, dtype, ints, known, makes, require};
use crate::backend::Ctx;
use crate::gpu::Params;
use crate::text::{Number, stored};
use oxrt_backend::{Kernel, NodeView, Packing, bound, kernel};
use oxrt_tensor::{DType, Result, Tensor, bail};

const TEXT: &str = include_str!("../text/running.cuh");

pub(super) const RUNNING: Entry = strict("running", &["CumSum", "CumProd"], supports, pack, load);

fn supports(_: &Ctx, node: &NodeView) -> Option<()> {
    stored(node.dtype(0)?)?;
    require(node.dtype(0)? != DType::Bool && node.dtype(0) == node.output_dtype(0))?;
    known(node, 1)
}

fn pack(ctx: &Ctx, node: &NodeView) -> Result<Packing> {
    let ty = dtype(node, 0)?;
    let c = Number::for_types(&[ty], ty).name();
    let product = node.op() == "CumProd";
    let flag = |name: &str| node.attrs().bool_or(name, false).map(u8::from);
    let wide = if ty.is_float() { "" } else { "(u64)" };
    let sign = if product { "*" } else { "+" };
    only(
        ctx,
        &format!(
            "typedef {} T;\ntypedef {c} C;\n#define START {}\n#define JOIN(a, b) ((C)({wide}(a) {sign} {wide}(b)))\n\
             #define REVERSE {}\n#define EXCLUSIVE {}\n{TEXT}",
            c_type(ty)?,
            u8::from(product),
            flag("reverse")?,
            flag("exclusive")?
        ),
    )
}

fn load(ctx: &Ctx, node: &NodeView, packed: &[Tensor]) -> Result<Box<dyn Kernel>> {
    let lanes = ctx.function(packed.first(), "lanes", 0)?;
    let blocks = ctx.function(packed.first(), "blocks", 0)?;
    let _ = node;
    kernel(move |args| {
        let shape = args.shape(0)?;
        let len = counts(shape.iter().product())?;
        makes(args, len)?;
        let Some(&[axis]) = ints(args, 1)?.as_deref() else { bail!(invalid, "the axis should be one number") };
        let axis = axis_of(axis, shape.len())?;
        let (n, inner) = (shape[axis], shape[axis + 1..].iter().product::<usize>());
        let count = len.checked_div(n).unwrap_or(0);
        let fields = Params::new().u32(n).dividers(&[inner]);
        if n < 64 || count >= 4096 {
            return Each { launcher: lanes.clone(), inputs: 2, outputs: 1, count, fields }.bound().flops(len).boxed();
        }
        let blocks = blocks.clone();
        bound(move |io| {
            let p = pointers(io, 2, 1).u32(count).join(&fields).status(&io.device).finish();
            // SAFETY: buffers have the bound sizes.
            unsafe { blocks.run(io, [count, 1, 1], 256, 0, &p) }
        })
        .flops(len)
        .boxed()
    })
}
