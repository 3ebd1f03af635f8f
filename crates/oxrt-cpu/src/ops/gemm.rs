//! Matrix products: with weights packed at build time, and with both operands known only at run time.

use super::{
    Entry, activation, float, float_or_absent, holds, known_shape, makes, packed_floats, packed_tensor, require,
    static_shape,
};
use crate::backend::{Ctx, bound, kernel};
use crate::compute::copy::StridedCopy;
use crate::compute::gemm::{self, Cut, Matrix, Out, Size};
use crate::compute::{Shared, cut};
use crate::kernels::activation::Act;
use oxrt_backend::{BindArgs, Bound, Kernel, NodeView, Packing};
use oxrt_ir::Tensor;
use oxrt_tensor::{Error, Result, bail};

/// Constant right operand.
pub(super) const PACKED: Entry = Entry {
    name: "gemm_packed",
    ops: &["oxrt.Gemm", "Gemm", "MatMul"],
    supports: packed_supports,
    pack: packed_pack,
    load: packed_load,
};

/// Any right operand: packed on every run.
pub(super) const DYNAMIC: Entry = Entry {
    name: "gemm_dynamic",
    ops: &["oxrt.Gemm", "Gemm", "MatMul"],
    supports: dynamic_supports,
    pack: super::pack_nothing,
    load: dynamic_load,
};

/// What a node's attributes ask for.
pub(super) struct Spec {
    pub trans_a: bool,
    pub trans_b: bool,
    pub alpha: f32,
    pub beta: f32,
    pub act: Act,
}

pub(super) fn spec(node: &NodeView) -> Result<Spec> {
    let attrs = node.attrs();
    let plain = node.op() == "MatMul";
    // The fused form writes its attributes with an underscore, ONNX without.
    let flag =
        |a: &str, b: &str| -> Result<bool> { Ok(!plain && (attrs.bool_or(a, false)? || attrs.bool_or(b, false)?)) };
    Ok(Spec {
        trans_a: flag("transA", "trans_a")?,
        trans_b: flag("transB", "trans_b")?,
        alpha: if plain { 1.0 } else { attrs.float_or("alpha", 1.0)? },
        beta: if plain { 1.0 } else { attrs.float_or("beta", 1.0)? },
        act: activation(attrs)?,
    })
}

/// Input 2 as one float per column: its shape has nothing but the columns.
pub(super) fn is_row(shape: &[usize], n: usize) -> bool {
    shape.last() == Some(&n) && shape.iter().product::<usize>() == n
}

pub(super) fn packed_supports(node: &NodeView) -> Option<()> {
    float(node, 0)?;
    float(node, 1)?;
    float_or_absent(node, 2)?;
    float_or_absent(node, 3)?;
    require(node.constant(1)?.rank() == 2 && node.rank(0)? >= 1)?;
    let spec = spec(node).ok()?;
    let shape = static_shape(node, 1)?;
    let n = if spec.trans_b { shape[0] } else { shape[1] };
    require(!spec.trans_a)?;
    if node.has(2) {
        require(is_row(&static_shape(node, 2)?, n))?;
        require(spec.beta == 1.0 || node.constant(2).is_some())?;
    }
    Some(())
}

fn packed_pack(ctx: &Ctx, node: &NodeView) -> Result<Packing> {
    let spec = spec(node)?;
    let w = node.constant(1).ok_or_else(|| Error::bug("the right operand is not constant"))?;
    let values = w.to_f32_cow()?;
    let scaled: Vec<f32> = values.iter().map(|v| v * spec.alpha).collect();
    let (k, n, row, col) = operand(w.shape(), spec.trans_b);
    let mut packed = vec![0.0; gemm::packed_len(ctx.kernels, k, n)];
    // SAFETY: the operand has k x n elements, the packed one its length.
    unsafe { gemm::pack(ctx.kernels, &ctx.pool, k, n, scaled.as_ptr(), row, col, packed.as_mut_ptr()) };
    let mut packing = Packing { tensors: vec![packed_tensor(&packed)], consumed: vec![1] };
    if spec.beta != 1.0 && node.has(2) {
        let bias = node.constant(2).ok_or_else(|| Error::bug("the scaled addend is not constant"))?;
        let bias: Vec<f32> = bias.to_f32_cow()?.iter().map(|v| v * spec.beta).collect();
        packing.tensors.push(packed_tensor(&bias));
        packing.consumed.push(2);
    }
    Ok(packing)
}

/// `(k, n, row stride, column stride)` of a right operand.
pub(super) fn operand(shape: &[usize], trans: bool) -> (usize, usize, usize, usize) {
    if trans { (shape[1], shape[0], 1, shape[1]) } else { (shape[0], shape[1], shape[1], 1) }
}

fn packed_load(ctx: &Ctx, node: &NodeView, packed: &[Tensor]) -> Result<Box<dyn Kernel>> {
    let spec = spec(node)?;
    let (k, n, ..) = operand(&known_shape(node, 1)?, spec.trans_b);
    let w = packed_floats(packed, 0, gemm::packed_len(ctx.kernels, k, n))?;
    let bias = if packed.len() > 1 { Some(packed_floats(packed, 1, n)?) } else { None };
    let (has_residual, ctx) = (node.has(3), ctx.clone());
    kernel(move |args| {
        let x = args.shape(0)?;
        if x.last() != Some(&k) {
            bail!(invalid, "a matrix of {k} rows cannot follow a tensor of shape {x:?}");
        }
        if has_residual && args.shape(3)? != args.output(0)? {
            bail!(unsupported, "a residual of shape {:?} for a result of shape {:?}", args.shape(3)?, args.output(0)?);
        }
        let m: usize = x[..x.len() - 1].iter().product();
        makes(args, m * n)?;
        let size = Size::plain(m, n, k);
        let cut = Cut::choose(ctx.kernels, size, ctx.threads());
        let (ctx, w, bias, act) = (ctx.clone(), w.clone(), bias.clone(), spec.act);
        // A residual is read just before its tile is written; but a split inner product writes before.
        let in_place: &[usize] = if has_residual && cut.k_part >= k { &[3] } else { &[] };
        bound(move |io| {
            let rows = Matrix { data: io.input(0), stride: k };
            let out = Out {
                c: io.output(0),
                c_stride: n,
                bias: bias.as_ref().map_or(io.input(2), |b| b.as_slice::<f32>().as_ptr()),
                residual: io.input(3),
                residual_stride: n,
                act,
            };
            // SAFETY: buffers have the bound sizes, the weights were packed for these kernels.
            unsafe { gemm::run(ctx.kernels, &ctx.pool, size, cut, &rows, w.as_slice::<f32>().as_ptr(), out) }
        })
        .in_place(in_place)
        .flops(2 * m * n * k)
        .boxed()
    })
}

fn dynamic_supports(node: &NodeView) -> Option<()> {
    float(node, 0)?;
    float(node, 1)?;
    float_or_absent(node, 2)?;
    float_or_absent(node, 3)?;
    let spec = spec(node).ok()?;
    require(node.rank(0)? >= 1 && node.rank(1)? >= 1)?;
    if node.op() == "Gemm" && node.has(2) {
        require(spec.beta == 1.0 && node.rank(2)? <= 2)?;
        // One float per row or for all needs a pass of its own.
        let columns = node.output_ty(0)?.dims.as_ref()?.last()?.clone();
        require(node.dims(2)?.last()? == &columns)?;
    }
    require(spec.alpha == 1.0)
}

/// One product of a batch: offsets of its operands in elements, and which packed right operand it reads.
pub(super) struct Pair {
    pub a: usize,
    pub b: usize,
}

fn dynamic_load(ctx: &Ctx, node: &NodeView, _: &[Tensor]) -> Result<Box<dyn Kernel>> {
    let spec = spec(node)?;
    let ctx = ctx.clone();
    kernel(move |args| dynamic_bind(&ctx, &spec, args))
}

fn dynamic_bind(ctx: &Ctx, spec: &Spec, args: &BindArgs) -> Result<Box<dyn Bound>> {
    let (mut a, mut b) = (args.shape(0)?.to_vec(), args.shape(1)?.to_vec());
    if a.len() == 1 {
        a.insert(0, 1);
    }
    if b.len() == 1 {
        b.push(1);
    }
    let (a_batch, a_matrix) = a.split_at(a.len() - 2);
    let (b_batch, b_matrix) = b.split_at(b.len() - 2);
    let (mut m, ka) = if spec.trans_a { (a_matrix[1], a_matrix[0]) } else { (a_matrix[0], a_matrix[1]) };
    let (k, n, row, col) = operand(b_matrix, spec.trans_b);
    if ka != k {
        bail!(invalid, "matrices of shapes {a:?} and {b:?} cannot be multiplied");
    }
    let (mut pairs, b_count) = pair_up(a_batch, b_batch, m * k)?;
    if b_count == 1 && !spec.trans_a {
        // One right operand for all: one tall product.
        m *= pairs.len();
        pairs = vec![Pair { a: 0, b: 0 }];
    }
    let batches = pairs.len();
    let threads = if batches >= 2 * ctx.threads() { 1 } else { ctx.threads() };
    let size = Size::plain(m, n, k);
    let how = Cut::choose(ctx.kernels, size, threads);
    let packed_len = gemm::packed_len(ctx.kernels, k, n).next_multiple_of(16);
    let swapped_len = if spec.trans_a { (a_batch.iter().product::<usize>() * m * k).next_multiple_of(16) } else { 0 };
    let swap = spec.trans_a.then(|| {
        let count = a_batch.iter().product::<usize>();
        StridedCopy::transpose(&[count, k, m], &[0, 2, 1], 4)
    });
    makes(args, pairs.len() * m * n)?;
    if args.opt_shape(3).is_some() {
        holds(args, 3, pairs.len() * m * n)?;
    }
    let addend = match args.opt_shape(2) {
        None => Addend::None,
        Some(shape) if is_row(shape, n) => Addend::Row,
        Some(shape) if shape == args.output(0)? => Addend::Full,
        Some(shape) => bail!(unsupported, "an addend of shape {shape:?} for a product of {m} x {n}"),
    };
    let (ctx, act) = (ctx.clone(), spec.act);
    bound(move |io| {
        let packed = Shared(io.workspace.cast::<f32>());
        let b = Shared(io.input::<f32>(1).cast_mut());
        let panels = gemm::panels(ctx.kernels, n);
        let parts = (b_count * panels).min(4 * ctx.threads());
        ctx.pool.run(parts, |part| {
            let (start, count) = cut(b_count * panels, parts, part);
            for i in start..start + count {
                // SAFETY: every panel of every right operand is packed once, into the workspace's part for it.
                unsafe {
                    let (from, to) = (b.at(i / panels * k * n), packed.at(i / panels * packed_len));
                    gemm::pack_panel(ctx.kernels, k, n, from, row, col, i % panels, to);
                }
            }
        });
        let mut a = io.input::<f32>(0);
        if let Some(swap) = &swap {
            // SAFETY: the workspace has room for the left operand behind the packed right ones.
            unsafe {
                let to = packed.at(b_count * packed_len);
                swap.run(&ctx.pool, a.cast(), to.cast());
                a = to;
            }
        }
        let (a, c) = (Shared(a.cast_mut()), Shared(io.output::<f32>(0)));
        let (bias, residual) = match addend {
            Addend::None => (core::ptr::null(), io.input(3)),
            Addend::Row => (io.input::<f32>(2), io.input(3)),
            Addend::Full => (core::ptr::null(), io.input::<f32>(2)),
        };
        let (bias, residual) = (Shared(bias.cast_mut()), Shared(residual.cast_mut()));
        let tasks = how.tasks();
        if m * n == 0 {
            return;
        }
        ctx.pool.run(batches * tasks, |i| {
            let (batch, task) = (i / tasks, i % tasks);
            let pair = &pairs[batch];
            // SAFETY: batches write disjoint matrices, tasks of one disjoint tiles.
            unsafe {
                let residual = residual.get();
                let out = Out {
                    c: c.at(batch * m * n),
                    c_stride: n,
                    bias: bias.get(),
                    residual: if residual.is_null() { residual } else { residual.add(batch * m * n) },
                    residual_stride: n,
                    act,
                };
                let rows = Matrix { data: a.at(pair.a), stride: k };
                gemm::block(ctx.kernels, size, how, &rows, packed.at(pair.b * packed_len), out, task);
            }
        });
    })
    .workspace((b_count * packed_len + swapped_len) * 4)
    .flops(2 * batches * m * n * k)
    .boxed()
}

/// What is added to a product before its activation.
#[derive(Clone, Copy)]
enum Addend {
    None,
    Row,
    Full,
}

/// The products of two broadcast batches of matrices, and the number of right operands.
pub(super) fn pair_up(a: &[usize], b: &[usize], a_len: usize) -> Result<(Vec<Pair>, usize)> {
    let rank = a.len().max(b.len());
    let dim = |shape: &[usize], d: usize| (d + shape.len()).checked_sub(rank).map_or(1, |i| shape[i]);
    let mut out = Vec::new();
    for d in 0..rank {
        out.push(match (dim(a, d), dim(b, d)) {
            (x, y) if x == y => x,
            (x, 1) => x,
            (1, y) => y,
            _ => bail!(invalid, "batches of shapes {a:?} and {b:?} do not broadcast"),
        });
    }
    let count: usize = out.iter().product();
    let pairs = (0..count)
        .map(|i| {
            let (mut rest, mut at_a, mut at_b, mut step_a, mut step_b) = (i, 0, 0, 1, 1);
            for d in (0..rank).rev() {
                let index = rest % out[d];
                rest /= out[d];
                at_a += if dim(a, d) == 1 { 0 } else { index * step_a };
                at_b += if dim(b, d) == 1 { 0 } else { index * step_b };
                step_a *= dim(a, d);
                step_b *= dim(b, d);
            }
            Pair { a: at_a * a_len, b: at_b }
        })
        .collect();
    Ok((pairs, b.iter().product()))
}
