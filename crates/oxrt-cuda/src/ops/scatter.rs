//! ScatterElements and ScatterND that combine what meets in one element.

use super::each::{Each, eight, only, strict};
use super::{Entry, axis_of, c_type, contiguous, counts, dtype, holds, makes, require};
use crate::backend::{Ctx, Launcher};
use crate::gpu::Params;
use crate::text::{Number, stored};
use oxrt_backend::{Bound, Kernel, NodeView, Packing, bound, kernel};
use oxrt_tensor::{DType, Result, Tensor, bail};

const TEXT: &str = include_str!("../text/scatter.cuh");

pub(super) const SCATTER: Entry = strict("scatter_combine", &["ScatterElements", "ScatterND"], supports, pack, load);

/// Threads that are enough to fill a GPU with lanes and owners.
const THREADS: usize = 1 << 15;

fn combine(node: &NodeView) -> Option<&'static str> {
    let float = node.dtype(0)?.is_float();
    Some(match (node.attrs().string_or("reduction", "none").ok()?, float) {
        ("add", true) => "(a) + (b)",
        ("add", false) => "(C)((u64)(a) + (u64)(b))",
        ("mul", true) => "(a) * (b)",
        ("mul", false) => "(C)((u64)(a) * (u64)(b))",
        ("max", _) => "(a) != (a) || (a) > (b) ? (a) : (b)",
        ("min", _) => "(a) != (a) || (a) < (b) ? (a) : (b)",
        _ => return None,
    })
}

fn supports(_: &Ctx, node: &NodeView) -> Option<()> {
    stored(node.dtype(0)?)?;
    require(node.dtype(0)? != DType::Bool && node.dtype(0) == node.dtype(2) && node.dtype(0) == node.output_dtype(0))?;
    require(matches!(node.dtype(1)?, DType::I64 | DType::I32) && node.rank(0)? <= 8)?;
    combine(node).map(|_| ())
}

fn pack(ctx: &Ctx, node: &NodeView) -> Result<Packing> {
    let ty = dtype(node, 0)?;
    only(
        ctx,
        &format!(
            "typedef {} T;\ntypedef {} I;\ntypedef {} C;\n#define TUPLES {}\n#define COMBINE(a, b) ({})\n{TEXT}",
            c_type(ty)?,
            c_type(dtype(node, 1)?)?,
            Number::for_types(&[ty], ty).name(),
            u8::from(node.op() == "ScatterND"),
            combine(node).unwrap_or("(b)")
        ),
    )
}

/// Lanes, updates of each, targets of each, and the fields behind the count.
struct Plan {
    lanes: usize,
    length: usize,
    targets: usize,
    fields: Params,
}

fn elements(x: &[usize], at: &[usize], axis: i64) -> Result<Plan> {
    let axis = axis_of(axis, x.len())?;
    if at.len() != x.len() || (0..x.len()).any(|d| d != axis && at[d] > x[d]) {
        bail!(invalid, "indices of shape {at:?} for a tensor of shape {x:?}");
    }
    let (own, target) = (contiguous(at), contiguous(x));
    let mut dims = at.to_vec();
    dims[axis] = 1;
    let wide = |list: &[isize]| list.iter().map(|&s| s as i64).collect::<Vec<_>>();
    let lanes: usize = dims.iter().product();
    let length = at[axis];
    let fields = Params::new().dividers(&eight(&dims, 1)).i32s(&eight(&wide(&own), 0)).i32s(&eight(&wide(&target), 0));
    let fields = fields.u32(x[axis]).i32(own[axis] as i64).i32(target[axis] as i64).i32s(&[0; 17]);
    Ok(Plan { lanes, length, targets: x[axis], fields })
}

fn tuples(x: &[usize], at: &[usize]) -> Result<Plan> {
    let Some((&depth, lead)) = at.split_last() else { bail!(invalid, "indices without an axis") };
    if depth > x.len() || depth > 8 {
        bail!(invalid, "indices of shape {at:?} into shape {x:?}");
    }
    let inner: usize = x[depth..].iter().product();
    let targets: usize = x[..depth].iter().product();
    let strides: Vec<i64> = contiguous(&x[..depth]).into_iter().map(|s| s as i64).collect();
    let sizes: Vec<i64> = x[..depth].iter().map(|&n| n as i64).collect();
    let fields = Params::new().dividers(&[1; 8]).i32s(&[0; 16]).u32(0).u32(inner).u32(inner).u32(depth);
    let fields = fields.i32s(&eight(&sizes, 0)).i32s(&eight(&strides, 0));
    Ok(Plan { lanes: inner, length: lead.iter().product(), targets, fields })
}

fn load(ctx: &Ctx, node: &NodeView, packed: &[Tensor]) -> Result<Box<dyn Kernel>> {
    let copy = ctx.function(packed.first(), "copy", 0)?;
    let scatter = ctx.function(packed.first(), "scatter", 0)?;
    let axis = node.attrs().int_or("axis", 0)?;
    let nd = node.op() == "ScatterND";
    kernel(move |args| {
        let (x, at) = (args.shape(0)?, args.shape(1)?);
        let len = counts(x.iter().product())?;
        makes(args, len)?;
        let plan = if nd { tuples(x, at)? } else { elements(x, at, axis)? };
        holds(args, 2, counts(plan.lanes * plan.length)?)?;
        combined(&copy, &scatter, len, plan)
    })
}

fn combined(copy: &Launcher, scatter: &Launcher, len: usize, plan: Plan) -> Result<Box<dyn Bound>> {
    let Plan { lanes, length, targets, fields } = plan;
    let owners = (THREADS / lanes.max(1)).clamp(1, targets.max(1));
    let threads = if length == 0 { 0 } else { lanes * owners };
    let fields = Params::new().dividers(&[lanes]).u32(owners).u32(length).join(&fields);
    let copy = Each { launcher: copy.clone(), inputs: 3, outputs: 1, count: len, fields: fields.clone() };
    let scatter = Each { launcher: scatter.clone(), inputs: 3, outputs: 1, count: threads, fields };
    bound(move |io| {
        // SAFETY: buffers have the bound sizes; indices are checked by the kernel.
        unsafe {
            if !std::ptr::eq(io.inputs[0], io.outputs[0]) {
                copy.run(io)?;
            }
            scatter.run(io)
        }
    })
    .in_place(&[0])
    .boxed()
}
