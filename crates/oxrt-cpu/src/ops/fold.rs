//! Reductions of integers, booleans and `f64`; single precision has kernels of its own.

use super::reduce::{Layout, OPS, axes_known};
use super::{Entry, pack_nothing, require};
use crate::backend::{Ctx, bound, kernel};
use crate::compute::element::Element;
use crate::compute::fold::{self, Middle, Rule};
use crate::compute::with_number;
use crate::pool::ThreadPool;
use oxrt_backend::{Io, Kernel, NodeView};
use oxrt_ir::{DType, Tensor};
use oxrt_tensor::{Error, Result};

pub(super) const FOLD: Entry = Entry { name: "fold", ops: OPS, supports, pack: pack_nothing, load };

fn supports(node: &NodeView) -> Option<()> {
    use DType::*;
    axes_known(node)?;
    match node.dtype(0)? {
        F64 | I64 | I32 | I16 | I8 | U64 | U32 | U16 | U8 => Some(()),
        // Extremes of bytes that are 0 or 1 are 0 or 1.
        Bool => require(matches!(node.op(), "ReduceMax" | "ReduceMin")),
        _ => None,
    }
}

/// What is done.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Sum,
    Prod,
    Max,
    Min,
    Mean,
    L1,
    L2,
    SumSquare,
    LogSum,
    LogSumExp,
}

fn load(ctx: &Ctx, node: &NodeView, _: &[Tensor]) -> Result<Box<dyn Kernel>> {
    let dtype = node.dtype(0).ok_or_else(|| Error::bug("elements without a type"))?;
    let size = dtype.size().ok_or_else(|| Error::bug("elements without a size"))?;
    let kind = match node.op() {
        "ReduceSum" => Kind::Sum,
        "ReduceProd" => Kind::Prod,
        "ReduceMax" => Kind::Max,
        "ReduceMin" => Kind::Min,
        "ReduceMean" => Kind::Mean,
        "ReduceL1" => Kind::L1,
        "ReduceL2" => Kind::L2,
        "ReduceSumSquare" => Kind::SumSquare,
        "ReduceLogSum" => Kind::LogSum,
        _ => Kind::LogSumExp,
    };
    let attrs = node.attrs().clone();
    let ctx = ctx.clone();
    kernel(move |args| {
        let layout = Layout::new(args, &attrs, size, false)?;
        let len = layout.len;
        let workspace = layout.workspace();
        let ctx = ctx.clone();
        bound(move |io| {
            // SAFETY: buffers have the bound sizes, the workspace that of the input.
            unsafe {
                let x = layout.turned(&ctx.pool, io);
                run(&ctx.pool, kind, dtype, layout.middle, x, io)
            }
        })
        .workspace(workspace)
        .flops(len)
        .boxed()
    })
}

/// # Safety
/// `x` and output 0 cover `m`.
unsafe fn run(pool: &ThreadPool, kind: Kind, dtype: DType, m: Middle, x: *const u8, io: &Io) {
    let y = io.outputs[0];
    macro_rules! any {
        ($t:ty) => {{
            // SAFETY: as the caller promises.
            unsafe { typed::<$t>(pool, kind, m, x.cast(), y.cast(), dtype == DType::Bool) }
        }};
    }
    match dtype {
        // SAFETY: as the caller promises.
        DType::F64 => unsafe { doubles(pool, kind, m, x.cast(), y.cast()) },
        _ => with_number!(dtype, any, unreachable!("a number by `supports`")),
    }
}

/// Integers: exactly, but for what is defined on real numbers.
unsafe fn typed<T: Element>(pool: &ThreadPool, kind: Kind, m: Middle, x: *const T, y: *mut T, flags: bool) {
    // SAFETY: as the caller promises.
    unsafe {
        match kind {
            Kind::Sum => {
                fold::fold(pool, m, x, y, &Rule { start: T::from_wide(0), step: T::plus, join: T::plus, end: |a| a })
            }
            Kind::Prod => {
                fold::fold(pool, m, x, y, &Rule { start: T::from_wide(1), step: T::times, join: T::times, end: |a| a })
            }
            Kind::Max => {
                fold::fold(pool, m, x, y, &Rule { start: T::LEAST, step: T::greater, join: T::greater, end: |a| a })
            }
            Kind::Min => {
                let start = if flags { T::from_wide(1) } else { T::MOST };
                fold::fold(pool, m, x, y, &Rule { start, step: T::lesser, join: T::lesser, end: |a| a });
            }
            _ => real(pool, kind, m, x, y),
        }
    }
}

unsafe fn doubles(pool: &ThreadPool, kind: Kind, m: Middle, x: *const f64, y: *mut f64) {
    // SAFETY: as the caller promises.
    unsafe {
        match kind {
            Kind::Max | Kind::Min => typed(pool, kind, m, x, y, false),
            Kind::Prod => {
                fold::fold(pool, m, x, y, &Rule { start: 1.0, step: f64::times, join: f64::times, end: |a| a })
            }
            _ => real(pool, kind, m, x, y),
        }
    }
}

/// In `f64`, as the reference evaluator does.
unsafe fn real<T: Element>(pool: &ThreadPool, kind: Kind, m: Middle, x: *const T, y: *mut T) {
    let n = m.n as f64;
    // The sum of nothing is +0, of negative zeros -0.
    let start = if m.n == 0 { 0.0 } else { -0.0 };
    macro_rules! sum {
        ($step:expr, $end:expr) => {
            // SAFETY: as the caller promises.
            unsafe { fold::fold(pool, m, x, y, &Rule { start, step: $step, join: f64::plus, end: $end }) }
        };
    }
    match kind {
        Kind::Mean => sum!(|a, v: T| a + v.to_f64(), |a| T::from_f64(a / n)),
        Kind::L1 => sum!(|a, v: T| a + v.to_f64().abs(), T::from_f64),
        Kind::L2 => sum!(|a, v: T| a + v.to_f64() * v.to_f64(), |a: f64| T::from_f64(a.sqrt())),
        Kind::SumSquare => sum!(|a, v: T| a + v.to_f64() * v.to_f64(), T::from_f64),
        Kind::LogSum => sum!(|a, v: T| a + v.to_f64(), |a: f64| T::from_f64(a.ln())),
        // SAFETY: as the caller promises.
        Kind::LogSumExp => unsafe { fold::log_sum_exp(pool, m, x, y) },
        _ => sum!(|a, v: T| a + v.to_f64(), T::from_f64),
    }
}
