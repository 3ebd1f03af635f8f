//! Quantised matrix products: `oxrt.QGemm` with weights packed at build time, `oxrt.QMatMul` of two operands of the run.

use super::gemm::{Pair, pair_up};
use super::quantised::{Ending, ending, ending_supported, flip, is_byte, kernels, moved, packed_as, tame};
use super::{Entry, holds, known_shape, makes, pack_nothing, require};
use crate::backend::{Ctx, bound, kernel};
use crate::compute::gemm_i8::{self, ByteMatrix, Cut, End, Io, Size};
use crate::compute::{Shared, cut};
use crate::kernels::dot_i8::Store;
use oxrt_backend::{BindArgs, Bound, Kernel, NodeView, Packing};
use oxrt_ir::{DType, Tensor};
use oxrt_tensor::{Error, Result, bail};

pub(super) const GEMM: Entry = Entry { name: "q_gemm", ops: &["oxrt.QGemm"], supports, pack, load };
pub(super) const MATMUL: Entry = Entry {
    name: "q_matmul",
    ops: &["oxrt.QMatMul"],
    supports: matmul_supports,
    pack: pack_nothing,
    load: matmul_load,
};

fn supports(node: &NodeView) -> Option<()> {
    require(is_byte(node.dtype(0)) && node.dtype(1)? == DType::I8)?;
    require(node.constant(1)?.rank() == 2 && node.rank(0)? >= 1)?;
    require(node.constant(2)?.dtype() == DType::F32 && (!node.has(3) || node.constant(3)?.dtype() == DType::F32))?;
    ending_supported(node, 4, 5)
}

fn size(w: &[usize], m: usize) -> Size {
    Size { m, n: w[1], taps: 1, kc: w[0] }
}

fn pack(ctx: &Ctx, node: &NodeView) -> Result<Packing> {
    let kernels = kernels(ctx);
    let w = node.constant(1).ok_or_else(|| Error::bug("the weights are not constant"))?;
    let size = size(w.shape(), 1);
    let (values, n) = (w.as_slice::<i8>(), size.n);
    let mut packed = vec![0i8; gemm_i8::packed_len(kernels, size)];
    let sums = gemm_i8::pack(kernels, size, |k, c| values[k * n + c], &mut packed);
    let attrs = node.attrs();
    let x_zero = moved(attrs.int_or("x_zero", 0)?, node.dtype(0).unwrap_or(DType::U8));
    let both = size.kc as i32 * x_zero * attrs.int_or("w_zero", 0)? as i32;
    let init: Vec<i32> = sums.iter().map(|s| both - x_zero * s).collect();
    let factor = ending(attrs, node.dtype(4))?.factor;
    let vector = |i: usize| -> Result<Tensor> {
        let mut values = node.constant(i).map_or(vec![0.0; n], |t| t.as_slice::<f32>().to_vec());
        if values.len() != n {
            bail!(invalid, "{} numbers for {n} columns", values.len());
        }
        values.iter_mut().for_each(|v| *v *= factor);
        Ok(Tensor::from_slice(&[n], &values))
    };
    let (scale, bias) = (vector(2)?, vector(3)?);
    Ok(Packing {
        tensors: vec![
            Tensor::from_slice(&[packed.len()], &packed),
            Tensor::from_slice(&[init.len()], &init),
            scale,
            bias,
        ],
        consumed: if node.has(3) { vec![1, 2, 3] } else { vec![1, 2] },
    })
}

fn load(ctx: &Ctx, node: &NodeView, packed: &[Tensor]) -> Result<Box<dyn Kernel>> {
    let kernels = kernels(ctx);
    let shape = known_shape(node, 1)?;
    let own = size(&shape, 1);
    let (n, k) = (own.n, own.kc);
    let w = packed_as::<i8>(packed, 0, gemm_i8::packed_len(kernels, own))?;
    let init = packed_as::<i32>(packed, 1, gemm_i8::padded(kernels, n))?;
    let (scale, bias) = (packed_as::<f32>(packed, 2, n)?, packed_as::<f32>(packed, 3, n)?);
    let Ending { mut end, .. } = ending(node.attrs(), node.dtype(4))?;
    end.saturates = tame(scale.as_slice(), bias.as_slice(), k, &end);
    let x_flip = flip(node.dtype(0).ok_or_else(|| Error::bug("an operand without a type"))?);
    let size_of = if end.store == Store::Byte { 1 } else { 4 };
    let ctx = ctx.clone();
    kernel(move |args| {
        let (x, y) = (args.shape(0)?, args.output(0)?);
        if x.last() != Some(&k) {
            bail!(invalid, "weights for {k} columns cannot take a matrix of shape {x:?}");
        }
        let m: usize = x[..x.len() - 1].iter().product();
        makes(args, m * n)?;
        holds(args, 5, 256)?;
        holds(args, 6, 256)?;
        let residual_stride = match args.opt_shape(4) {
            Some(r) if r == [n] => 0,
            Some(r) if r != y => bail!(unsupported, "a residual of shape {r:?} for a result of shape {y:?}"),
            _ => n,
        };
        let size = Size { m, ..own };
        let how = Cut::choose(kernels, size, ctx.threads());
        let (ctx, w, init, scale, bias) = (ctx.clone(), w.clone(), init.clone(), scale.clone(), bias.clone());
        bound(move |io| {
            if m * n == 0 {
                return;
            }
            let rows = ByteMatrix { data: io.input(0), stride: k };
            let out = Io {
                flip: x_flip,
                slack: false,
                b: w.as_slice::<i8>().as_ptr(),
                init: init.as_slice::<i32>().as_ptr(),
                scale: scale.as_slice::<f32>().as_ptr(),
                bias: bias.as_slice::<f32>().as_ptr(),
                residual: io.input(4),
                residual_stride,
                mid_table: io.input(6),
                table: io.input(5),
                y: io.output(0),
                y_stride: n * size_of,
            };
            // SAFETY: buffers have the bound sizes, the weights were packed for these kernels; tasks write disjoint tiles.
            ctx.pool.run(how.tasks(), |task| unsafe { gemm_i8::block(kernels, size, how, &rows, &out, &end, task) });
        })
        .flops(2 * m * n * k)
        .boxed()
    })
}

fn matmul_supports(node: &NodeView) -> Option<()> {
    require(is_byte(node.dtype(0)) && is_byte(node.dtype(1)))?;
    require(node.rank(0)? >= 2 && node.rank(1)? >= 2)?;
    ending_supported(node, usize::MAX, 2)
}

fn matmul_load(ctx: &Ctx, node: &NodeView, _: &[Tensor]) -> Result<Box<dyn Kernel>> {
    let attrs = node.attrs();
    let Ending { end, factor } = ending(attrs, None)?;
    let zeros = (attrs.int_or("a_zero", 0)?, attrs.int_or("b_zero", 0)?);
    let product = Product {
        types: operand_types(node)?,
        trans_b: attrs.bool_or("trans_b", false)?,
        end,
        factor: attrs.float_or("scale", 1.0)? * factor,
        table: Some(2),
    };
    let ctx = ctx.clone();
    kernel(move |args| product.bind(&ctx, args, move |_| zeros))
}

/// The element types of inputs 0 and 1.
pub(super) fn operand_types(node: &NodeView) -> Result<(DType, DType)> {
    let missing = || Error::bug("an operand without a type");
    Ok((node.dtype(0).ok_or_else(missing)?, node.dtype(1).ok_or_else(missing)?))
}

/// A product whose operands both move with every run: the right one is packed as signed bytes (unsigned ones move down by
/// 128), the rows of the left one are summed where the right one's zero point is not 0.
#[derive(Clone, Copy)]
pub(super) struct Product {
    pub types: (DType, DType),
    pub trans_b: bool,
    pub end: End,
    /// One factor for all columns.
    pub factor: f32,
    /// The input that holds a table.
    pub table: Option<usize>,
}

impl Product {
    /// Binds it; `zeros` reads both zero points when it runs.
    pub(super) fn bind(
        &self,
        ctx: &Ctx,
        args: &BindArgs,
        zeros: impl Fn(&oxrt_backend::Io) -> (i64, i64) + Send + Sync + 'static,
    ) -> Result<Box<dyn Bound>> {
        let Product { types: (a_dtype, b_dtype), trans_b, end, factor, table } = *self;
        let kernels = kernels(ctx);
        let down = if b_dtype == DType::U8 { 128 } else { 0 };
        let size_of = if end.store == Store::Byte { 1 } else { 4 };
        let (a, b) = (args.shape(0)?, args.shape(1)?);
        let (a_batch, a_matrix) = a.split_at(a.len() - 2);
        let (b_batch, b_matrix) = b.split_at(b.len() - 2);
        let (mut m, k) = (a_matrix[0], a_matrix[1]);
        let (kb, n) = if trans_b { (b_matrix[1], b_matrix[0]) } else { (b_matrix[0], b_matrix[1]) };
        if k != kb {
            bail!(invalid, "matrices of shapes {a:?} and {b:?} cannot be multiplied");
        }
        let (mut pairs, b_count) = pair_up(a_batch, b_batch, m * k)?;
        makes(args, pairs.len() * m * n)?;
        if let Some(table) = table {
            holds(args, table, 256)?;
        }
        if b_count == 1 {
            // One right operand for all: one tall product.
            m *= pairs.len();
            pairs = vec![Pair { a: 0, b: 0 }];
        }
        let size = Size { m, n, taps: 1, kc: k };
        let batches = pairs.len();
        let how = Cut::choose(kernels, size, if batches >= ctx.threads() { 1 } else { ctx.threads() });
        let (packed_len, columns) = (gemm_i8::packed_len(kernels, size), gemm_i8::padded(kernels, n));
        let init_at = (b_count * packed_len).next_multiple_of(64);
        let scale = vec![factor; n];
        let flip = flip(a_dtype);
        let ctx = ctx.clone();
        bound(move |io| {
            if m * n * batches == 0 {
                return;
            }
            let (a_zero, b_zero) = zeros(io);
            let (a_zero, b_zero) = (moved(a_zero, a_dtype), b_zero as i32 - down);
            let end = End { w_zero: b_zero, saturates: false, ..end };
            let packed = Shared(io.workspace.cast::<i8>());
            // SAFETY: the workspace holds the packed operands, then the starts of their columns' sums.
            let init = Shared(unsafe { io.workspace.add(init_at) }.cast::<i32>());
            let b = Shared(io.input::<u8>(1).cast_mut());
            let panels = n.div_ceil(kernels.nr);
            let parts = (b_count * panels).min(2 * ctx.threads());
            ctx.pool.run(parts, |part| {
                let (start, count) = cut(b_count * panels, parts, part);
                for i in start..start + count {
                    let (which, first) = (i / panels, i % panels * kernels.nr);
                    let width = kernels.nr.min(columns - first);
                    // SAFETY: every panel of every right operand is packed once, into the workspace's part for it.
                    unsafe {
                        let from = b.at(which * k * n).cast_const();
                        let strides = if trans_b { (1, k) } else { (n, 1) };
                        let to = packed.at(which * packed_len + first * size.column());
                        let sums = init.at(which * columns + first);
                        pack_bytes(width, size, first, from, strides, down as u8, to, sums);
                        for c in 0..width {
                            let sum = sums.add(c);
                            *sum = (k as i32).wrapping_mul(a_zero * b_zero).wrapping_sub(a_zero.wrapping_mul(*sum));
                        }
                    }
                }
            });
            let (a, y) = (Shared(io.input::<u8>(0).cast_mut()), Shared(io.output::<u8>(0)));
            let table = Shared(table.map_or(core::ptr::null_mut(), |i| io.input::<u8>(i).cast_mut()));
            let tasks = how.tasks();
            ctx.pool.run(batches * tasks, |i| {
                let (batch, task) = (i / tasks, i % tasks);
                let pair = &pairs[batch];
                // SAFETY: batches write disjoint matrices, tasks of one disjoint tiles.
                unsafe {
                    let rows = ByteMatrix { data: a.at(pair.a), stride: k };
                    let out = Io {
                        flip,
                        slack: false,
                        b: packed.at(pair.b * packed_len),
                        init: init.at(pair.b * columns),
                        scale: scale.as_ptr(),
                        bias: core::ptr::null(),
                        residual: core::ptr::null(),
                        residual_stride: 0,
                        mid_table: core::ptr::null(),
                        table: table.get(),
                        y: y.at(batch * m * n * size_of),
                        y_stride: n * size_of,
                    };
                    gemm_i8::block(kernels, size, how, &rows, &out, &end, task);
                }
            });
        })
        .workspace(init_at + b_count * columns * 4)
        .flops(2 * batches * m * n * k)
        .boxed()
    }
}

/// Packs `width` columns of a right operand from column `first`, whose element `(k, n)` is `b[k * row + n * col] ^ flip`, and
/// writes their sums.
///
/// # Safety
/// `b` covers the operand, `out` the panel and `sums` its columns.
unsafe fn pack_bytes(
    width: usize,
    size: Size,
    first: usize,
    b: *const u8,
    (row, col): (usize, usize),
    flip: u8,
    out: *mut i8,
    sums: *mut i32,
) {
    let cols = width.min(size.n - first);
    // SAFETY: the loops stay inside the operand's rows and columns, and inside the panel.
    unsafe {
        core::ptr::write_bytes(sums, 0, width);
        for g in 0..size.kc.div_ceil(4) {
            let dst = out.add(g * width * 4);
            let rows = 4.min(size.kc - 4 * g);
            if rows < 4 || cols < width {
                core::ptr::write_bytes(dst, 0, 4 * width);
            }
            for c in 0..cols {
                let src = b.add(4 * g * row + (first + c) * col);
                let mut sum = 0;
                for i in 0..rows {
                    let v = (*src.add(i * row) ^ flip) as i8;
                    *dst.add(4 * c + i) = v;
                    sum += i32::from(v);
                }
                *sums.add(c) += sum;
            }
        }
    }
}
