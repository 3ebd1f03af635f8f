//! Matrix products: `oxrt.Gemm` with packed weights, and products of two activations.

use super::map::collapse;
use super::product::{Copy, Method, Plan, Product, Sizes, TILES, Types, text};
use super::{Entry, contiguous, dtype, makes, output_dtype, require};
use crate::backend::Ctx;
use oxrt_backend::{BindArgs, Bound, Kernel, NodeView, Packing, Precision, WIDE, bound, kernel};
use oxrt_tensor::{DType, Error, Result, Tensor, bail};
use std::sync::Arc;

const fn entry(
    name: &'static str,
    ops: &'static [&'static str],
    supports: fn(&Ctx, &NodeView) -> Option<()>,
    pack: fn(&Ctx, &NodeView) -> Result<Packing>,
    load: fn(&Ctx, &NodeView, &[Tensor]) -> Result<Box<dyn Kernel>>,
) -> Entry {
    Entry { name, ops, supports, pack, load, mixes: true, narrow: true, timed: true, counts: false }
}

/// One entry per tile.
macro_rules! packed {
    ($($i:literal $id:ident $name:literal)*) => {
        $(pub(super) const $id: Entry = entry($name, &["oxrt.Gemm"], packed_supports::<$i>, pack::<$i>, load::<$i>);)*
    };
}
macro_rules! dynamic {
    ($($i:literal $id:ident $name:literal)*) => {
        $(pub(super) const $id: Entry =
            entry($name, &["MatMul"], dynamic_supports, pack_dynamic::<$i>, load_dynamic::<$i>);)*
    };
}
packed! {
    0 G0 "gemm_128x128" 1 G1 "gemm_128x64" 2 G2 "gemm_64x128" 3 G3 "gemm_64x64" 4 G4 "gemm_256x128"
    5 G5 "gemm_128x256" 6 G6 "gemm_32x64" 7 G7 "gemm_32x128" 8 G8 "gemm_128x32"
    9 G9 "gemm_stream_256x128" 10 G10 "gemm_stream_128x192" 11 G11 "gemm_stream_128x128"
    12 G12 "gemm_stream_256x64" 13 G13 "gemm_stream_128x64" 14 G14 "gemm_stream_128x64_two"
    15 G15 "gemm_stream_64x64" 16 G16 "gemm_stream_128x128_turns" 17 G17 "gemm_stream_256x64_turns"
    18 G18 "gemm_stream_192x192" 19 G19 "gemm_stream_192x128_turns"
}
dynamic! {
    0 M0 "matmul_128x128" 1 M1 "matmul_128x64" 2 M2 "matmul_64x128" 3 M3 "matmul_64x64" 4 M4 "matmul_256x128"
    5 M5 "matmul_128x256" 6 M6 "matmul_32x64" 7 M7 "matmul_32x128"
}
/// Full single (or double) precision.
pub(super) const PLAIN: Entry = Entry::new("gemm_plain", &["oxrt.Gemm"], plain_supports, pack_plain, load_plain);
pub(super) const PLAIN_MATMUL: Entry =
    Entry::new("matmul_plain", &["MatMul"], plain_matmul_supports, pack_plain_matmul, load_plain_matmul);

/// The type that products multiply in on the matrix units: f32 whole ([`exact`]) or with 11 bits; `None` for plain
/// multiply-adds.
pub(super) fn narrow(ctx: &Ctx, node: &NodeView) -> Option<DType> {
    require(!node.attrs().bool_or(WIDE, false).ok()?)?;
    match (ctx.precision, node.dtype(0)?) {
        (_, d @ (DType::F16 | DType::BF16)) => Some(d),
        (Precision::F32 | Precision::Tf32, DType::F32) => Some(DType::F32),
        (Precision::F16, DType::F32) => Some(DType::F16),
        (Precision::Bf16, DType::F32) => Some(DType::BF16),
        _ => None,
    }
}

/// Whether factors of type `of` count whole.
pub(super) fn exact(ctx: &Ctx, of: DType) -> bool {
    of == DType::F32 && ctx.precision == Precision::F32
}

/// Whether a tile competes for a node that can stream, or cannot.
pub(super) fn offered(ctx: &Ctx, tile: usize, streams: bool) -> Option<()> {
    match TILES[tile].streams {
        Some(_) => require(streams),
        // Beside tiles that stream, only small ones of the other kind ever win. (The emulator checks all.)
        None => require(!streams || TILES[tile].m <= 64 || ctx.gpu.as_cuda().is_none()),
    }
}

/// Whether rows of k elements can be streamed to rows of n.
pub(super) fn rows_stream(ctx: &Ctx, node: &NodeView, n: usize, k: usize) -> Option<()> {
    require(k.is_multiple_of(8) && node.dtype(0) == Some(narrow(ctx, node)?))?;
    fits_stream(ctx, node, n)
}

/// Whether the GPU streams, and a result of rows of n elements can be written by its copy engine.
pub(super) fn fits_stream(ctx: &Ctx, node: &NodeView, n: usize) -> Option<()> {
    require(ctx.gpu.arch() == 90 && n.is_multiple_of(8))?;
    let (of, out) = (narrow(ctx, node)?, node.output_dtype(0)?);
    // Units that read shared memory themselves cannot take a factor apart.
    require(!exact(ctx, of))?;
    require(out == DType::F32 || (out == of && (!node.has(3) || node.dtype(3) == Some(of))))
}

pub(super) fn is_float(d: DType) -> bool {
    matches!(d, DType::F32 | DType::F16 | DType::BF16)
}

/// Inputs and result are floats, and a bias is in single precision.
pub(super) fn floats(node: &NodeView) -> Option<()> {
    require(is_float(node.dtype(0)?) && is_float(node.output_dtype(0)?))?;
    require(!node.has(2) || node.dtype(2) == Some(DType::F32))?;
    require(!node.has(3) || is_float(node.dtype(3)?))
}

pub(super) fn types(node: &NodeView, w: DType) -> Result<Types> {
    let residual = if node.has(3) { dtype(node, 3)? } else { DType::F32 };
    Ok(Types { x: dtype(node, 0)?, w, residual, y: output_dtype(node, 0)? })
}

pub(super) fn weights_fixed(node: &NodeView) -> Option<()> {
    let shape = node.ty(1)?.static_shape()?;
    require(shape.len() == 2 && node.constant(1)?.dtype() == DType::F32)
}

fn packed_supports<const I: usize>(ctx: &Ctx, node: &NodeView) -> Option<()> {
    narrow(ctx, node)?;
    floats(node)?;
    weights_fixed(node)?;
    let [n, k] = weight_sizes(node).ok()?;
    offered(ctx, I, rows_stream(ctx, node, n, k).is_some())
}

fn plain_supports(_: &Ctx, node: &NodeView) -> Option<()> {
    floats(node)?;
    weights_fixed(node)
}

/// [n, k] of the weights.
pub(super) fn weight_sizes(node: &NodeView) -> Result<[usize; 2]> {
    let shape = node.ty(1).and_then(|t| t.static_shape());
    let turned = node.attrs().bool_or("trans_b", false)?;
    match shape.as_deref() {
        Some(&[n, k]) if turned => Ok([n, k]),
        Some(&[k, n]) => Ok([n, k]),
        _ => bail!(bug, "weights without a shape"),
    }
}

/// The weights as [n][k], each row filled up with zeros to `pitch`, as factors of type `of`.
pub(super) fn pack_rows(ctx: &Ctx, node: &NodeView, of: DType, pitch: usize) -> Result<Tensor> {
    super::as_factors(&[weight_sizes(node)?[0], pitch], rows_of(node, pitch)?, of, exact(ctx, of))
}

fn rows_of(node: &NodeView, pitch: usize) -> Result<Vec<f32>> {
    let w = node.constant(1).ok_or_else(|| Error::bug("the weights are not constant"))?;
    let [n, k] = weight_sizes(node)?;
    let turned = node.attrs().bool_or("trans_b", false)?;
    let data = w.to_f32_cow()?;
    let mut rows = vec![0f32; n * pitch];
    for i in 0..n {
        for j in 0..k {
            rows[i * pitch + j] = data[if turned { i * k + j } else { j * n + i }];
        }
    }
    Ok(rows)
}

fn method<const I: usize>(ctx: &Ctx, node: &NodeView) -> Result<Method> {
    let of = narrow(ctx, node).ok_or_else(|| Error::bug("no narrow type for a product"))?;
    let [_, k] = weight_sizes(node)?;
    let x_copy = if node.dtype(0) == Some(of) && k % 8 == 0 { Copy::Chunks } else { Copy::Elements };
    let exact = exact(ctx, of);
    Ok(Method::Mma { tile: TILES[I], conv: false, of, exact, x_copy, w_turned: false, w_async: true })
}

fn pack<const I: usize>(ctx: &Ctx, node: &NodeView) -> Result<Packing> {
    let method = method::<I>(ctx, node)?;
    let Method::Mma { of, exact, .. } = method else { bail!(bug, "a plain product") };
    let [_, k] = weight_sizes(node)?;
    let code = ctx.code(&text(node, method, types(node, of)?, !exact)?)?;
    Ok(Packing { tensors: vec![code, pack_rows(ctx, node, of, k.next_multiple_of(8))?], consumed: vec![1] })
}

fn load<const I: usize>(ctx: &Ctx, node: &NodeView, packed: &[Tensor]) -> Result<Box<dyn Kernel>> {
    // What the text was made for is known by the weights' type, whatever precision this backend was made with.
    let of = packed.get(1).ok_or_else(|| Error::invalid("packed weights are missing"))?.dtype();
    let method = Method::packed(TILES[I], false, of);
    load_as(ctx, node, packed, method)
}

fn pack_plain(ctx: &Ctx, node: &NodeView) -> Result<Packing> {
    let [n, k] = weight_sizes(node)?;
    let code = ctx.code(&text(node, Method::Simt { conv: false }, types(node, DType::F32)?, false)?)?;
    Ok(Packing { tensors: vec![code, Tensor::from_slice(&[n, k], &rows_of(node, k)?)], consumed: vec![1] })
}

fn load_plain(ctx: &Ctx, node: &NodeView, packed: &[Tensor]) -> Result<Box<dyn Kernel>> {
    load_as(ctx, node, packed, Method::Simt { conv: false })
}

fn load_as(ctx: &Ctx, node: &NodeView, packed: &[Tensor], method: Method) -> Result<Box<dyn Kernel>> {
    let weights = packed.get(1).ok_or_else(|| Error::invalid("packed weights are missing"))?;
    let product = Product::load(ctx, packed.first(), method, types(node, weights.dtype())?)?;
    let [n, k] = weight_sizes(node)?;
    let pitch = weights.shape().get(1).copied().unwrap_or(k);
    let weights = ctx.weights(weights)?;
    let simt = matches!(method, Method::Simt { .. });
    kernel(move |args| {
        let x = args.shape(0)?;
        let rows: usize = x[..x.len().saturating_sub(1)].iter().product();
        if x.last() != Some(&k) {
            bail!(invalid, "rows of shape {x:?} for weights of {k} rows");
        }
        makes(args, rows * n)?;
        epilogue_fits(args, n)?;
        let (ldw, w_n) = if simt { (1, pitch) } else { (pitch, 0) };
        let sizes = Sizes { m: rows, n, k, ldx: k, ldw, w_n, ldy: n, batch: [1, 1], ..Sizes::default() };
        let plan = product.plan(sizes)?;
        let (product, weights) = (product.clone(), weights.clone());
        let (workspace, flops) = (plan.workspace(), plan.flops());
        bound(move |io| {
            let (x, bias, residual) = (io.input::<u8>(0), io.input(2), io.input(3));
            // SAFETY: buffers have the bound sizes, the weights were packed for this node.
            unsafe { product.run(&plan, io, x, weights.ptr(), bias, residual, io.output(0)) }
        })
        .workspace(workspace)
        .flops(flops)
        .boxed()
    })
}

/// Bias and residual have the sizes that the kernels read.
pub(super) fn epilogue_fits(args: &BindArgs, n: usize) -> Result<()> {
    super::holds(args, 2, n)?;
    super::holds(args, 3, args.output(0)?.iter().product())
}

fn dynamic_supports(ctx: &Ctx, node: &NodeView) -> Option<()> {
    let of = narrow(ctx, node)?;
    require(is_float(node.dtype(0)?) && is_float(node.output_dtype(0)?))?;
    // The right operand is copied as it lies, and turned on its way to the units, which elements of 32 bits cannot be.
    require(of != DType::F32 && node.dtype(1) == Some(of) && node.rank(0)? >= 1 && node.rank(1)? >= 1)
}

fn plain_matmul_supports(_: &Ctx, node: &NodeView) -> Option<()> {
    let all = [node.dtype(0)?, node.dtype(1)?, node.output_dtype(0)?];
    let double = all.iter().all(|&d| d == DType::F64);
    require((double || all.iter().all(|&d| is_float(d))) && node.rank(0)? >= 1 && node.rank(1)? >= 1)
}

/// The texts for operands whose rows start at 16 bytes, and for others.
fn dynamic_methods<const I: usize>(of: DType) -> [Method; 2] {
    let method = |x_copy: Copy| {
        let w_async = x_copy == Copy::Chunks;
        Method::Mma { tile: TILES[I], conv: false, of, exact: false, x_copy, w_turned: true, w_async }
    };
    [method(Copy::Chunks), method(Copy::Elements)]
}

fn pack_dynamic<const I: usize>(ctx: &Ctx, node: &NodeView) -> Result<Packing> {
    let of = narrow(ctx, node).ok_or_else(|| Error::bug("no narrow type for a product"))?;
    let types = Types { residual: DType::F32, ..types(node, of)? };
    let mut tensors = Vec::new();
    for method in dynamic_methods::<I>(of) {
        // Copies as they lie need equal types.
        let fits = !matches!(method, Method::Mma { x_copy: Copy::Chunks, .. }) || node.dtype(0) == Some(of);
        let method = if fits { method } else { dynamic_methods::<I>(of)[1] };
        tensors.push(ctx.code(&text(node, method, types, true)?)?);
    }
    Ok(Packing { tensors, consumed: Vec::new() })
}

fn load_dynamic<const I: usize>(ctx: &Ctx, node: &NodeView, packed: &[Tensor]) -> Result<Box<dyn Kernel>> {
    let of = dtype(node, 1)?;
    let [fits, any] = dynamic_methods::<I>(of);
    let types = types(node, of)?;
    let products = [Product::load(ctx, packed.first(), fits, types)?, Product::load(ctx, packed.get(1), any, types)?];
    kernel(move |args| {
        let (x, w) = (args.shape(0)?, args.shape(1)?);
        // Rows that start at multiples of 16 bytes can be copied as they lie.
        let k = x.last().copied().unwrap_or(1);
        let n = if w.len() == 1 { 1 } else { w[w.len() - 1] };
        batched(args, &products[usize::from(k % 8 != 0 || n % 8 != 0)], false)
    })
}

fn pack_plain_matmul(ctx: &Ctx, node: &NodeView) -> Result<Packing> {
    let types = Types { residual: DType::F32, ..types(node, dtype(node, 1)?)? };
    let code = ctx.code(&text(node, Method::Simt { conv: false }, types, false)?)?;
    Ok(Packing { tensors: vec![code], consumed: Vec::new() })
}

fn load_plain_matmul(ctx: &Ctx, node: &NodeView, packed: &[Tensor]) -> Result<Box<dyn Kernel>> {
    let product = Product::load(ctx, packed.first(), Method::Simt { conv: false }, types(node, dtype(node, 1)?)?)?;
    kernel(move |args| batched(args, &product, true))
}

/// Products over all batches: two axes of them in one launch, more in several.
fn batched(args: &BindArgs, product: &Arc<Product>, simt: bool) -> Result<Box<dyn Bound>> {
    let (x, w) = (args.shape(0)?, args.shape(1)?);
    let (xv, wv) = (x.len() == 1, w.len() == 1);
    let x = if xv { vec![1, x[0]] } else { x.to_vec() };
    let w = if wv { vec![w[0], 1] } else { w.to_vec() };
    let ([xb @ .., m, k], [wb @ .., kw, n]) = (&x[..], &w[..]) else { bail!(bug, "a product of scalars") };
    if k != kw {
        bail!(invalid, "rows of {k} for columns of {kw}");
    }
    let batch = oxrt_ops::shape::broadcast_shapes(&[xb, wb])?;
    let total: usize = batch.iter().product();
    makes(args, total * m * n)?;
    let scale = |list: Vec<isize>, by: usize| list.into_iter().map(|s| s * by as isize).collect::<Vec<_>>();
    let xs = scale(super::map::broadcast(xb, &batch)?, m * k);
    let ws = scale(super::map::broadcast(wb, &batch)?, k * n);
    let ys = scale(contiguous(&batch), m * n);
    let (dims, steps) = collapse(&batch, &[&xs, &ws, &ys]);
    // The last two axes go in one launch.
    let outer = dims.len().saturating_sub(2);
    let axis = |back: usize, operand: usize| {
        dims.len().checked_sub(back).map_or((1, 0), |d| (dims[d], steps[d][operand] as usize))
    };
    let pair = |operand: usize| [axis(1, operand).1, axis(2, operand).1];
    let (ldw, w_n) = (*n, 1);
    let sizes = Sizes {
        m: *m,
        n: *n,
        k: *k,
        ldx: *k,
        ldw,
        w_n: if simt { w_n } else { 0 },
        ldy: *n,
        batch: [axis(1, 0).0, axis(2, 0).0],
        x_step: pair(0),
        w_step: pair(1),
        y_step: pair(2),
        window: None,
    };
    let plan: Plan = product.plan(sizes)?;
    // Offsets of the launches.
    let mut offsets = vec![[0isize; 3]];
    for d in 0..outer {
        let (n, s) = (dims[d], &steps[d]);
        let step = |base: &[isize; 3], i: usize| [0, 1, 2].map(|o| base[o] + s[o] * i as isize);
        offsets = offsets.iter().flat_map(|base| (0..n).map(move |i| step(base, i))).collect();
    }
    if total == 0 {
        offsets.clear();
    }
    let product = product.clone();
    let (workspace, flops) = (plan.workspace(), plan.flops() * offsets.len().max(1));
    let sizes_of = product.operand_bytes();
    bound(move |io| {
        for o in &offsets {
            let at = |i: usize| o[i] * sizes_of[i] as isize;
            let (x, w) = (io.input::<u8>(0).wrapping_offset(at(0)), io.input::<u8>(1).wrapping_offset(at(1)));
            let y = io.output::<u8>(0).wrapping_offset(at(2));
            // SAFETY: buffers have the bound sizes; offsets lie inside them.
            unsafe { product.run(&plan, io, x, w, std::ptr::null(), std::ptr::null(), y)? };
        }
        Ok(())
    })
    .workspace(workspace)
    .flops(flops)
    .boxed()
}
