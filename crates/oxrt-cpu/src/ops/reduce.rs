//! Reductions over any axes, and positions of extremes.

use super::{Entry, axis_of, float, pack_nothing, require};
use crate::backend::{Ctx, bound, kernel};
use crate::compute::copy::StridedCopy;
use crate::compute::reduce;
use crate::kernels::reduce::Reduction;
use oxrt_backend::{BindArgs, Kernel, NodeView};
use oxrt_ir::{DType, Tensor};
use oxrt_tensor::{Error, Result};

pub(super) const REDUCE: Entry = Entry {
    name: "reduce",
    ops: &[
        "ReduceSum",
        "ReduceMean",
        "ReduceMax",
        "ReduceMin",
        "ReduceProd",
        "ReduceL1",
        "ReduceL2",
        "ReduceSumSquare",
        "ReduceLogSum",
        "ReduceLogSumExp",
    ],
    supports,
    pack: pack_nothing,
    load,
};
pub(super) const ARG: Entry =
    Entry { name: "arg_extreme", ops: &["ArgMax", "ArgMin"], supports: arg_supports, pack: pack_nothing, load: arg };

fn supports(node: &NodeView) -> Option<()> {
    float(node, 0)?;
    let Some(id) = node.node().input(1) else { return Some(()) };
    require(node.constant(1).is_some() || node.graph[id].contents.is_some())
}

/// What is done to a reduction's result.
#[derive(Clone, Copy, PartialEq)]
enum After {
    Nothing,
    Mean,
    Sqrt,
    Log,
}

/// The reduced axes, rising.
fn axes(args: &BindArgs, attribute: Option<&[i64]>, empty_is_none: bool, rank: usize) -> Result<Vec<usize>> {
    let given: Vec<i64> = match (args.opt_shape(1), attribute) {
        (Some(_), _) => {
            let value = args.value(1).ok_or_else(|| Error::bug("the axes of a reduction are not known"))?;
            value.to_i64_vec()?
        }
        (None, Some(list)) => list.to_vec(),
        (None, None) => Vec::new(),
    };
    if given.is_empty() {
        return Ok(if empty_is_none { Vec::new() } else { (0..rank).collect() });
    }
    let mut axes: Vec<usize> = given.iter().map(|&a| axis_of(a, rank)).collect::<Result<_>>()?;
    axes.sort_unstable();
    axes.dedup();
    Ok(axes)
}

fn load(ctx: &Ctx, node: &NodeView, _: &[Tensor]) -> Result<Box<dyn Kernel>> {
    let attrs = node.attrs();
    let attribute = attrs.ints("axes")?.map(<[i64]>::to_vec);
    let empty_is_none = attrs.bool_or("noop_with_empty_axes", false)?;
    let (kind, after) = match node.op() {
        "ReduceMean" => (Reduction::Sum, After::Mean),
        "ReduceMax" => (Reduction::Max, After::Nothing),
        "ReduceMin" => (Reduction::Min, After::Nothing),
        "ReduceProd" => (Reduction::Prod, After::Nothing),
        "ReduceL1" => (Reduction::SumAbs, After::Nothing),
        "ReduceL2" => (Reduction::SumSquare, After::Sqrt),
        "ReduceSumSquare" => (Reduction::SumSquare, After::Nothing),
        "ReduceLogSum" => (Reduction::Sum, After::Log),
        _ => (Reduction::Sum, After::Nothing),
    };
    let log_sum_exp = node.op() == "ReduceLogSumExp";
    let ctx = ctx.clone();
    kernel(move |args| {
        let shape = args.shape(0)?;
        let axes = axes(args, attribute.as_deref(), empty_is_none, shape.len())?;
        let len: usize = shape.iter().product();
        let n: usize = axes.iter().map(|&a| shape[a]).product();
        let out_len: usize = args.output(0)?.iter().product();
        // Reduced axes next to each other leave an outer and an inner part; size one does not count.
        let real: Vec<usize> = axes.iter().copied().filter(|&a| shape[a] != 1).collect();
        let together = real.windows(2).all(|w| (w[0] + 1..w[1]).all(|d| shape[d] == 1));
        let inner: usize = real.last().map_or(1, |&l| shape[l + 1..].iter().product());
        let turn = (!together || (log_sum_exp && inner != 1)).then(|| {
            let kept = (0..shape.len()).filter(|d| !axes.contains(d));
            let perm: Vec<usize> = kept.chain(axes.iter().copied()).collect();
            StridedCopy::transpose(shape, &perm, 4)
        });
        let (outer, inner) = if turn.is_some() { (out_len, 1) } else { (out_len / inner.max(1), inner) };
        let workspace = if turn.is_some() { len * 4 } else { 0 };
        let ctx = ctx.clone();
        bound(move |io| {
            let y = io.output::<f32>(0);
            // SAFETY: buffers have the bound sizes, the workspace that of the input.
            unsafe {
                let mut x = io.input::<f32>(0);
                if let Some(turn) = &turn {
                    turn.run(&ctx.pool, x.cast(), io.workspace);
                    x = io.workspace.cast_const().cast();
                }
                if log_sum_exp {
                    reduce::log_sum_exp(ctx.kernels, &ctx.pool, x, y, outer, n);
                } else {
                    reduce::reduce(ctx.kernels, &ctx.pool, kind, x, y, outer, n, inner);
                }
                match after {
                    After::Nothing => {}
                    After::Mean => (ctx.kernels.affine)(y, y, out_len, 1.0 / n as f32, 0.0),
                    After::Sqrt => (ctx.kernels.unary)(oxrt_ops::scalar::Unary::Sqrt, y, y, out_len),
                    After::Log => (ctx.kernels.unary)(oxrt_ops::scalar::Unary::Log, y, y, out_len),
                }
            }
        })
        .workspace(workspace)
        .flops(len)
        .boxed()
    })
}

fn arg_supports(node: &NodeView) -> Option<()> {
    use DType::*;
    // The reference compares integers of 64 bits as f64, where neighbours are equal; they are left to it.
    require(matches!(node.dtype(0)?, F32 | F64 | I32 | U32 | I16 | U16 | I8 | U8) && node.rank(0)? > 0)
}

fn arg(ctx: &Ctx, node: &NodeView, _: &[Tensor]) -> Result<Box<dyn Kernel>> {
    let axis = node.attrs().int_or("axis", 0)?;
    let last = node.attrs().bool_or("select_last_index", false)?;
    let largest = node.op() == "ArgMax";
    let dtype = node.dtype(0).ok_or_else(|| Error::bug("elements without a type"))?;
    let ctx = ctx.clone();
    kernel(move |args| {
        let shape = args.shape(0)?;
        let axis = axis_of(axis, shape.len())?;
        let (outer, n) = (shape[..axis].iter().product(), shape[axis]);
        let inner: usize = shape[axis + 1..].iter().product();
        if n == 0 {
            return Err(Error::invalid("the position of the largest of no values"));
        }
        let ctx = ctx.clone();
        // SAFETY: buffers have the bound sizes.
        bound(move |io| unsafe {
            macro_rules! run {
                ($t:ty) => {
                    reduce::arg_extreme(&ctx.pool, largest, last, io.input::<$t>(0), io.output(0), outer, n, inner)
                };
            }
            match dtype {
                DType::F64 => run!(f64),
                DType::I32 => run!(i32),
                DType::U32 => run!(u32),
                DType::I16 => run!(i16),
                DType::U16 => run!(u16),
                DType::I8 => run!(i8),
                DType::U8 => run!(u8),
                _ => run!(f32),
            }
        })
        .flops(outer * n * inner)
        .boxed()
    })
}
