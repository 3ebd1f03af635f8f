//! Products of matrices of `f64` and integers, and of quantised ones less their zero points.

use super::gemm::pair_up;
use super::{Entry, makes, pack_nothing, require};
use crate::backend::{Ctx, bound, kernel};
use crate::compute::product;
use crate::compute::{Shared, cut};
use crate::kernels::product::{PANEL, Scalar};
use oxrt_backend::{BindArgs, Bound, Kernel, NodeView};
use oxrt_ir::{DType, Tensor};
use oxrt_tensor::{Error, Result, bail};

pub(super) const PRODUCT: Entry =
    Entry { name: "product", ops: &["MatMul", "MatMulInteger"], supports, pack: pack_nothing, load };

fn supports(node: &NodeView) -> Option<()> {
    let (a, b) = (node.dtype(0)?, node.dtype(1)?);
    if node.op() == "MatMul" {
        let known = matches!(a, DType::F64 | DType::I32 | DType::U32 | DType::I64 | DType::U64);
        return require(known && a == b && node.output_dtype(0)? == a && node.rank(0)? > 0 && node.rank(1)? > 0);
    }
    let small = |d| matches!(d, DType::U8 | DType::I8);
    require(small(a) && small(b) && node.rank(0)? >= 2 && node.rank(1)? >= 2)?;
    // One zero point, or a vector of them: per row on the left, per column on the right.
    for (i, dtype) in [(2, a), (3, b)] {
        require(!node.has(i) || (node.dtype(i)? == dtype && node.rank(i)? <= 1))?;
    }
    Some(())
}

fn load(ctx: &Ctx, node: &NodeView, _: &[Tensor]) -> Result<Box<dyn Kernel>> {
    let ctx = ctx.clone();
    // Wrapping products do not depend on the sign.
    let bind: fn(&Ctx, &BindArgs) -> Result<Box<dyn Bound>> = match (node.dtype(0), node.dtype(1)) {
        (Some(DType::F64), _) => bind::<f64, f64, f64>,
        (Some(DType::I32 | DType::U32), _) => bind::<i32, i32, i32>,
        (Some(DType::I64 | DType::U64), _) => bind::<i64, i64, i64>,
        (Some(DType::U8), Some(DType::U8)) => bind::<u8, u8, i32>,
        (Some(DType::U8), Some(DType::I8)) => bind::<u8, i8, i32>,
        (Some(DType::I8), Some(DType::U8)) => bind::<i8, u8, i32>,
        (Some(DType::I8), Some(DType::I8)) => bind::<i8, i8, i32>,
        other => return Err(Error::bug(format!("a product of {other:?}"))),
    };
    kernel(move |args| bind(&ctx, args))
}

/// Whether `count` zero points are one for all (`Some(0)`: the step between them) or one each.
fn zero_step(shape: Option<&[usize]>, each: usize) -> Result<usize> {
    match shape.map(|s| s.iter().product::<usize>()) {
        None | Some(1) => Ok(0),
        Some(count) if count == each => Ok(1),
        Some(count) => bail!(invalid, "{count} zero points for {each} rows or columns"),
    }
}

fn bind<A, B, T>(ctx: &Ctx, args: &BindArgs) -> Result<Box<dyn Bound>>
where
    A: Copy + Into<T> + 'static,
    B: Copy + Into<T> + 'static,
    T: Scalar,
{
    let (mut a, mut b) = (args.shape(0)?.to_vec(), args.shape(1)?.to_vec());
    if a.len() == 1 {
        a.insert(0, 1);
    }
    if b.len() == 1 {
        b.push(1);
    }
    let (a_batch, a_matrix) = a.split_at(a.len() - 2);
    let (b_batch, b_matrix) = b.split_at(b.len() - 2);
    let (m, k, n) = (a_matrix[0], a_matrix[1], b_matrix[1]);
    if b_matrix[0] != k {
        bail!(invalid, "matrices of shapes {a:?} and {b:?} cannot be multiplied");
    }
    let (row_step, column_step) = (zero_step(args.opt_shape(2), m)?, zero_step(args.opt_shape(3), n)?);
    let (pairs, b_count) = pair_up(a_batch, b_batch, m * k)?;
    let packed_len = product::packed_len(k, n);
    let pairs: Vec<(usize, usize)> = pairs.iter().map(|p| (p.a, p.b * packed_len)).collect();
    let a_len: usize = a.iter().product();
    makes(args, pairs.len() * m * n)?;
    let size = core::mem::size_of::<T>();
    let left_at = (b_count * packed_len * size).next_multiple_of(64);
    let flops = 2 * pairs.len() * m * n * k;
    let ctx = ctx.clone();
    bound(move |io| {
        let packed = Shared(io.workspace.cast::<T>());
        let left = Shared(io.workspace.wrapping_add(left_at).cast::<T>());
        let (a, b) = (Shared(io.input::<A>(0).cast_mut()), Shared(io.input::<B>(1).cast_mut()));
        let zeros = (Shared(io.input::<A>(2).cast_mut()), Shared(io.input::<B>(3).cast_mut()));
        let panels = n.div_ceil(PANEL);
        let jobs = b_count * panels;
        let parts = ctx.pool.parts(jobs * PANEL * k / 4096).min(jobs.max(1));
        ctx.pool.run(parts, |part| {
            let (start, count) = cut(jobs, parts, part);
            for job in start..start + count {
                // SAFETY: every panel of every right operand is packed once; elements lie inside the operand.
                unsafe {
                    let from = b.at(job / panels * k * n);
                    product::pack_panel(k, n, job % panels, packed.at(job * PANEL * k), |p, j| {
                        let value: T = (*from.add(p * n + j)).into();
                        if zeros.1.get().is_null() { value } else { value.less((*zeros.1.at(j * column_step)).into()) }
                    });
                }
            }
        });
        let rows = a_len.checked_div(k).unwrap_or(0);
        let parts = ctx.pool.parts(a_len / (16 * 1024)).min(rows.max(1));
        ctx.pool.run(parts, |part| {
            let (start, count) = cut(rows, parts, part);
            for row in start..start + count {
                // SAFETY: rows lie inside the operand and the workspace's part for it.
                unsafe {
                    let zero = zeros.0.get();
                    let zero: Option<T> = (!zero.is_null()).then(|| (*zero.add(row % m * row_step)).into());
                    for at in row * k..(row + 1) * k {
                        let value: T = (*a.at(at)).into();
                        *left.at(at) = zero.map_or(value, |z| value.less(z));
                    }
                }
            }
        });
        // SAFETY: operands and result have the bound sizes.
        unsafe {
            product::products(ctx.kernels, &ctx.pool, (m, k, n), &pairs, left.get(), packed.get(), io.output::<T>(0))
        }
    })
    .workspace(left_at + a_len * size)
    .flops(flops)
    .boxed()
}
