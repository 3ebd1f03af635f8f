//! Reductions over any axes, and positions of extremes.

use super::{Entry, axis_of, float, pack_nothing, require};
use crate::backend::{Ctx, bound, kernel};
use crate::compute::copy::StridedCopy;
use crate::compute::fold::Middle;
use crate::compute::{reduce, with_number};
use crate::kernels::reduce::Reduction;
use crate::pool::ThreadPool;
use oxrt_backend::geometry::{known, reduced_axes};
use oxrt_backend::{BindArgs, Io, Kernel, NodeView};
use oxrt_ir::{Attrs, DType, Tensor};
use oxrt_tensor::{Error, Result, bail};

/// The reductions.
pub(super) const OPS: &[&str] = &[
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
];
pub(super) const REDUCE: Entry =
    Entry { name: "reduce", ops: OPS, supports: |node| float(node, 0).and(axes_known(node)), pack: pack_nothing, load };
pub(super) const ARG: Entry =
    Entry { name: "arg_extreme", ops: &["ArgMax", "ArgMin"], supports: arg_supports, pack: pack_nothing, load: arg };

/// The axes are known when sizes are.
pub(super) fn axes_known(node: &NodeView) -> Option<()> {
    known(node, 1)
}

/// What is done to a reduction's result.
#[derive(Clone, Copy, PartialEq)]
enum After {
    Nothing,
    Mean,
    Sqrt,
    Log,
}

/// A reduction as one of the middle of `[outer][n][inner]`, after a transposition where the axes lie apart.
pub(super) struct Layout {
    pub middle: Middle,
    /// Elements of the input.
    pub len: usize,
    turn: Option<StridedCopy>,
    size: usize,
}

impl Layout {
    /// For elements of `size` bytes; `rows` asks for axes that are the last.
    pub fn new(args: &BindArgs, attrs: &Attrs, size: usize, rows: bool) -> Result<Layout> {
        let shape = args.shape(0)?;
        let empty_is_none = attrs.bool_or("noop_with_empty_axes", false)?;
        let axes = reduced_axes(args, attrs.ints("axes")?, empty_is_none, shape.len())?;
        let len: usize = shape.iter().product();
        let n: usize = axes.iter().map(|&a| shape[a]).product();
        let out_len: usize = args.output(0)?.iter().product();
        let kept: usize = (0..shape.len()).filter(|d| !axes.contains(d)).map(|d| shape[d]).product();
        if kept != out_len {
            bail!(invalid, "axes {axes:?} of shape {shape:?} do not leave {:?}", args.output(0)?);
        }
        // Reduced axes next to each other leave an outer and an inner part; size one does not count.
        let real: Vec<usize> = axes.iter().copied().filter(|&a| shape[a] != 1).collect();
        let together = real.windows(2).all(|w| (w[0] + 1..w[1]).all(|d| shape[d] == 1));
        let inner: usize = real.last().map_or(1, |&l| shape[l + 1..].iter().product());
        let turn = (!together || (rows && inner != 1)).then(|| {
            let kept = (0..shape.len()).filter(|d| !axes.contains(d));
            let perm: Vec<usize> = kept.chain(axes.iter().copied()).collect();
            StridedCopy::transpose(shape, &perm, size)
        });
        let (outer, inner) = if turn.is_some() { (out_len, 1) } else { (out_len / inner.max(1), inner) };
        Ok(Layout { middle: Middle { outer, n, inner }, len, turn, size })
    }

    /// Bytes of workspace.
    pub fn workspace(&self) -> usize {
        if self.turn.is_some() { self.len * self.size } else { 0 }
    }

    /// Input 0 in the order of [`Layout::middle`].
    ///
    /// # Safety
    /// Buffers have the bound sizes.
    pub unsafe fn turned(&self, pool: &ThreadPool, io: &Io) -> *const u8 {
        let Some(turn) = &self.turn else { return io.inputs[0] };
        // SAFETY: the workspace has the input's size.
        unsafe { turn.run(pool, io.inputs[0], io.workspace) };
        io.workspace
    }
}

fn load(ctx: &Ctx, node: &NodeView, _: &[Tensor]) -> Result<Box<dyn Kernel>> {
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
    let (attrs, ctx) = (node.attrs().clone(), ctx.clone());
    kernel(move |args| {
        let layout = Layout::new(args, &attrs, 4, log_sum_exp)?;
        let Middle { outer, n, inner } = layout.middle;
        let (len, out_len) = (layout.len, outer * inner);
        let parts = if log_sum_exp { 1 } else { reduce::row_parts(&ctx.pool, outer, n, inner) };
        let workspace = if parts > 1 { 4 * parts * inner } else { layout.workspace() };
        let ctx = ctx.clone();
        bound(move |io| {
            let y = io.output::<f32>(0);
            // SAFETY: buffers have the bound sizes, the workspace that of the input.
            unsafe {
                let x = layout.turned(&ctx.pool, io).cast();
                if log_sum_exp {
                    reduce::log_sum_exp(ctx.kernels, &ctx.pool, x, y, outer, n);
                } else if parts > 1 {
                    let (columns, scratch) = (ctx.kernels.reduce_columns, io.workspace.cast());
                    reduce::reduce_by_rows(ctx.kernels, columns, &ctx.pool, kind, x, y, (n, inner), parts, scratch);
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
    require(matches!(node.dtype(0)?, F32 | F64 | I64 | U64 | I32 | U32 | I16 | U16 | I8 | U8) && node.rank(0)? > 0)
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
        let (outer, n) = (shape[..axis].iter().product::<usize>(), shape[axis]);
        let inner: usize = shape[axis + 1..].iter().product();
        if n == 0 {
            return Err(Error::invalid("the position of the largest of no values"));
        }
        if args.output(0)?.iter().product::<usize>() != outer * inner {
            bail!(invalid, "a result of shape {:?} for {} lines", args.output(0)?, outer * inner);
        }
        let ctx = ctx.clone();
        // SAFETY: buffers have the bound sizes.
        bound(move |io| unsafe {
            macro_rules! run {
                ($t:ty) => {
                    reduce::arg_extreme(&ctx.pool, largest, last, io.input::<$t>(0), io.output(0), outer, n, inner)
                };
            }
            with_number!(dtype, run, unreachable!("a number by `supports`"))
        })
        .flops(outer * n * inner)
        .boxed()
    })
}
