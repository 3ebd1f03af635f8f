//! `Gemm` of doubles and integers, and of floats with factors and addends that the packed kernels do not take.

use super::{Entry, pack_nothing, require};
use crate::backend::{Ctx, bound, kernel};
use crate::compute::element::Element;
use crate::compute::product;
use crate::compute::{Shared, cut};
use crate::kernels::product::{PANEL, Scalar};
use oxrt_backend::{BindArgs, Bound, Kernel, NodeView};
use oxrt_ir::{DType, Tensor};
use oxrt_tensor::{Error, Result, bail};

pub(super) const GEMM_ANY: Entry = Entry { name: "gemm_any", ops: &["Gemm"], supports, pack: pack_nothing, load };

fn supports(node: &NodeView) -> Option<()> {
    use DType::*;
    let dtype = node.dtype(0)?;
    require(matches!(dtype, F64 | F32 | I64 | U64 | I32 | U32) && node.dtype(1) == Some(dtype))?;
    require(!node.has(2) || (node.dtype(2) == Some(dtype) && node.rank(2)? <= 2))?;
    require(node.rank(0)? == 2 && node.rank(1)? == 2 && !node.attrs().has("activation"))?;
    let spec = spec(node).ok()?;
    // Factors of integers are left to the reference evaluator, which says how they round.
    require(dtype.is_float() || (spec.alpha == 1.0 && spec.beta == 1.0))
}

#[derive(Clone, Copy)]
struct Spec {
    trans_a: bool,
    trans_b: bool,
    alpha: f64,
    beta: f64,
}

fn spec(node: &NodeView) -> Result<Spec> {
    let attrs = node.attrs();
    Ok(Spec {
        trans_a: attrs.bool_or("transA", false)?,
        trans_b: attrs.bool_or("transB", false)?,
        alpha: attrs.float_or("alpha", 1.0)?.into(),
        beta: attrs.float_or("beta", 1.0)?.into(),
    })
}

fn load(ctx: &Ctx, node: &NodeView, _: &[Tensor]) -> Result<Box<dyn Kernel>> {
    let spec = spec(node)?;
    // Wrapping products do not depend on the sign.
    let bind: fn(&Ctx, Spec, &BindArgs) -> Result<Box<dyn Bound>> = match node.dtype(0) {
        Some(DType::F64) => bind::<f64>,
        Some(DType::F32) => bind::<f32>,
        Some(DType::I64 | DType::U64) => bind::<i64>,
        Some(DType::I32 | DType::U32) => bind::<i32>,
        other => return Err(Error::bug(format!("a product of {other:?}"))),
    };
    let ctx = ctx.clone();
    kernel(move |args| bind(&ctx, spec, args))
}

fn bind<T: Scalar + Element>(ctx: &Ctx, spec: Spec, args: &BindArgs) -> Result<Box<dyn Bound>> {
    let (&[a0, a1], &[b0, b1]) = (args.shape(0)?, args.shape(1)?) else {
        bail!(invalid, "matrices are needed, found {:?} and {:?}", args.shape(0)?, args.shape(1)?)
    };
    let (m, k) = if spec.trans_a { (a1, a0) } else { (a0, a1) };
    let (kb, n) = if spec.trans_b { (b1, b0) } else { (b0, b1) };
    if k != kb || args.output(0)? != [m, n] {
        bail!(
            invalid,
            "matrices of shapes {:?} and {:?} do not make {:?}",
            args.shape(0)?,
            args.shape(1)?,
            args.output(0)?
        );
    }
    // Steps of the addend along rows and columns.
    let addend = match args.opt_shape(2) {
        None => None,
        Some(c) => {
            let dim = |d: usize| (d + c.len()).checked_sub(2).map_or(1, |i| c[i]);
            let fits = c.len() <= 2 && (dim(0) == 1 || dim(0) == m) && (dim(1) == 1 || dim(1) == n);
            if !fits {
                bail!(invalid, "an addend of shape {c:?} for a product of {m} x {n}");
            }
            Some((if dim(0) == 1 { 0 } else { dim(1) }, if dim(1) == 1 { 0 } else { 1 }))
        }
    };
    let (packed_len, panels) = (product::packed_len(k, n), n.div_ceil(PANEL));
    let size = size_of::<T>();
    let left_at = (packed_len * size).next_multiple_of(64);
    let ctx = ctx.clone();
    bound(move |io| {
        let packed = Shared(io.workspace.cast::<T>());
        let b = Shared(io.input::<T>(1).cast_mut());
        let parts = ctx.pool.parts(k * n / 4096).min(panels.max(1));
        ctx.pool.run(parts, |part| {
            let (start, count) = cut(panels, parts, part);
            for panel in start..start + count {
                // SAFETY: every panel is packed once; elements lie inside the operand.
                unsafe {
                    product::pack_panel(k, n, panel, packed.at(panel * PANEL * k), |p, j| {
                        *b.at(if spec.trans_b { j * k + p } else { p * n + j })
                    });
                }
            }
        });
        let mut left = io.input::<T>(0);
        if spec.trans_a {
            let (a, to) = (Shared(left.cast_mut()), Shared(io.workspace.wrapping_add(left_at).cast::<T>()));
            let parts = ctx.pool.parts(m * k / 4096).min(m.max(1));
            ctx.pool.run(parts, |part| {
                let (start, count) = cut(m, parts, part);
                for row in start..start + count {
                    // SAFETY: rows of the workspace's part for the left operand are disjoint.
                    (0..k).for_each(|p| unsafe { *to.at(row * k + p) = *a.at(p * m + row) });
                }
            });
            left = to.get();
        }
        let y = Shared(io.output::<T>(0));
        // SAFETY: operands and result have the bound sizes.
        unsafe { product::products(ctx.kernels, &ctx.pool, (m, k, n), &[(0, 0)], left, packed.get(), y.get()) };
        if spec.alpha == 1.0 && addend.is_none() {
            return;
        }
        let c = Shared(io.input::<T>(2).cast_mut());
        let parts = ctx.pool.parts(m * n / (16 * 1024)).min(m.max(1));
        ctx.pool.run(parts, |part| {
            let (start, count) = cut(m, parts, part);
            for at in start * n..(start + count) * n {
                // SAFETY: rows are disjoint; the addend broadcasts to the result.
                unsafe {
                    let mut v = *y.at(at);
                    if spec.alpha != 1.0 {
                        v = T::from_f64(v.to_f64() * spec.alpha);
                    }
                    if let Some((row, column)) = addend {
                        let c = *c.at(at / n * row + at % n * column);
                        v = v.more(if spec.beta == 1.0 { c } else { T::from_f64(c.to_f64() * spec.beta) });
                    }
                    *y.at(at) = v;
                }
            }
        });
    })
    .workspace(left_at + if spec.trans_a { m * k * size } else { 0 })
    .flops(2 * m * n * k)
    .boxed()
}
