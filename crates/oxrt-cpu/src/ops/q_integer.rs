//! ONNX's integer products, whose zero points may come with the run, and DynamicQuantizeLinear, which makes them.

use super::q_gemm::{Product, operand_types};
use super::quantised::{flip, is_byte, kernels, moved, packed_as, sums};
use super::{Entry, known_shape, makes, pack_nothing, require, sizes, static_shape};
use crate::backend::{Ctx, bound, kernel};
use crate::compute::conv::Filter;
use crate::compute::conv_i8::{ConvI8, Operands, Path, Weights};
use crate::compute::copy::StridedCopy;
use crate::compute::gemm_i8::{self, ByteMatrix, Cut, End, Io, Size};
use crate::compute::window::Window;
use crate::compute::{Shared, cut};
use crate::kernels::dot_i8::Rounding;
use crate::kernels::reduce::Reduction;
use oxrt_backend::{Kernel, NodeView, Packing};
use oxrt_ir::{DType, Tensor};
use oxrt_tensor::{Error, Result, bail};

/// Constant right operand, packed at build time.
pub(super) const MATMUL_PACKED: Entry = Entry {
    name: "matmul_integer_packed",
    ops: &["MatMulInteger"],
    supports: packed_supports,
    pack: packed_pack,
    load: packed_load,
};
pub(super) const MATMUL: Entry = Entry {
    name: "matmul_integer",
    ops: &["MatMulInteger"],
    supports: |node| require(node.rank(0)? >= 2 && node.rank(1)? >= 2).and(matrices(node)),
    pack: pack_nothing,
    load: matmul_load,
};
pub(super) const CONV: Entry =
    Entry { name: "conv_integer", ops: &["ConvInteger"], supports: conv_supports, pack: conv_pack, load: conv_load };
pub(super) const DYNAMIC: Entry = Entry {
    name: "dynamic_quantize",
    ops: &["DynamicQuantizeLinear"],
    supports: |node| require(node.dtype(0)? == DType::F32 && node.num_outputs() == 3),
    pack: pack_nothing,
    load: dynamic_load,
};

/// Input `i` is absent or holds one number.
fn one_number(node: &NodeView, i: usize) -> Option<()> {
    require(!node.has(i) || node.ty(i)?.static_shape()?.iter().product::<usize>() == 1)
}

/// Bytes on both sides, and at most one zero point for each.
fn matrices(node: &NodeView) -> Option<()> {
    require(is_byte(node.dtype(0)) && is_byte(node.dtype(1)))?;
    one_number(node, 2)?;
    one_number(node, 3)
}

/// The zero point in input `i` of a run.
fn zero(io: &oxrt_backend::Io, i: usize, dtype: DType) -> i64 {
    let p = io.input::<u8>(i);
    if p.is_null() {
        return 0;
    }
    // SAFETY: where the input is there it holds one byte of the operand's type.
    let byte = unsafe { *p };
    if dtype == DType::I8 { i64::from(byte as i8) } else { i64::from(byte) }
}

fn matmul_load(ctx: &Ctx, node: &NodeView, _: &[Tensor]) -> Result<Box<dyn Kernel>> {
    let types = operand_types(node)?;
    let product = Product { types, trans_b: false, end: sums(), factor: 1.0, table: None };
    let ctx = ctx.clone();
    kernel(move |args| product.bind(&ctx, args, move |io| (zero(io, 2, types.0), zero(io, 3, types.1))))
}

fn packed_supports(node: &NodeView) -> Option<()> {
    matrices(node)?;
    require(node.constant(1)?.rank() == 2 && node.rank(0)? >= 1)
}

/// Weights as signed bytes, and by how much they were moved down.
fn signed(w: &Tensor) -> (Vec<i8>, i32) {
    match w.dtype() {
        DType::U8 => (w.as_slice::<u8>().iter().map(|&v| (v ^ 0x80) as i8).collect(), 128),
        _ => (w.as_slice::<i8>().to_vec(), 0),
    }
}

fn packed_pack(ctx: &Ctx, node: &NodeView) -> Result<Packing> {
    let kernels = kernels(ctx);
    let w = node.constant(1).ok_or_else(|| Error::bug("the right operand is not constant"))?;
    let size = Size { m: 1, n: w.shape()[1], taps: 1, kc: w.shape()[0] };
    let values = signed(w).0;
    let mut packed = vec![0i8; gemm_i8::packed_len(kernels, size)];
    let columns = gemm_i8::pack(kernels, size, |k, c| values[k * size.n + c], &mut packed);
    Ok(Packing {
        tensors: vec![Tensor::from_slice(&[packed.len()], &packed), Tensor::from_slice(&[columns.len()], &columns)],
        consumed: vec![1],
    })
}

fn packed_load(ctx: &Ctx, node: &NodeView, packed: &[Tensor]) -> Result<Box<dyn Kernel>> {
    let kernels = kernels(ctx);
    let (a_dtype, b_dtype) = operand_types(node)?;
    let shape = known_shape(node, 1)?;
    let own = Size { m: 1, n: shape[1], taps: 1, kc: shape[0] };
    let (k, n) = (own.kc, own.n);
    let w = packed_as::<i8>(packed, 0, gemm_i8::packed_len(kernels, own))?;
    let columns = packed_as::<i32>(packed, 1, gemm_i8::padded(kernels, n))?;
    let down = if b_dtype == DType::U8 { 128 } else { 0 };
    let ctx = ctx.clone();
    kernel(move |args| {
        let x = args.shape(0)?;
        if x.last() != Some(&k) {
            bail!(invalid, "weights for {k} columns cannot take a matrix of shape {x:?}");
        }
        let size = Size { m: x[..x.len() - 1].iter().product(), ..own };
        makes(args, size.m * n)?;
        let how = Cut::choose(kernels, size, ctx.threads());
        let (ctx, w, columns) = (ctx.clone(), w.clone(), columns.clone());
        let len = columns.len();
        bound(move |io| {
            if size.m * n == 0 {
                return;
            }
            let (a_zero, b_zero) = (moved(zero(io, 2, a_dtype), a_dtype), zero(io, 3, b_dtype) as i32 - down);
            let init = starts(io.workspace, columns.as_slice(), k, a_zero, b_zero);
            let rows = ByteMatrix { data: io.input(0), stride: k };
            let out = plain(flip(a_dtype), w.as_slice::<i8>().as_ptr(), init, io.output(0), 4 * n);
            let end = End { w_zero: b_zero, ..sums() };
            // SAFETY: buffers have the bound sizes, the weights were packed for these kernels; tasks write disjoint tiles.
            ctx.pool.run(how.tasks(), |task| unsafe { gemm_i8::block(kernels, size, how, &rows, &out, &end, task) });
        })
        .workspace(4 * len)
        .flops(2 * size.m * n * k)
        .boxed()
    })
}

/// What the sums start from, written to the workspace: the zero points' share.
fn starts(workspace: *mut u8, columns: &[i32], k: usize, a_zero: i32, b_zero: i32) -> *const i32 {
    let init = workspace.cast::<i32>();
    let both = (k as i32).wrapping_mul(a_zero.wrapping_mul(b_zero));
    for (i, &sum) in columns.iter().enumerate() {
        // SAFETY: the workspace has a number per column.
        unsafe { *init.add(i) = both.wrapping_sub(a_zero.wrapping_mul(sum)) };
    }
    init
}

/// Operands of a product that stores its sums.
fn plain(flip: i32, b: *const i8, init: *const i32, y: *mut u8, y_stride: usize) -> Io {
    Io {
        flip,
        slack: false,
        b,
        init,
        scale: core::ptr::null(),
        bias: core::ptr::null(),
        residual: core::ptr::null(),
        residual_stride: 0,
        mid_table: core::ptr::null(),
        table: core::ptr::null(),
        y,
        y_stride,
    }
}

fn conv_supports(node: &NodeView) -> Option<()> {
    matrices(node)?;
    let w = node.constant(1)?;
    require((3..=5).contains(&w.rank()) && node.rank(0)? == w.rank())?;
    require(node.attrs().string_or("auto_pad", "NOTSET").ok()? == "NOTSET")?;
    sizes(node.attrs().ints("pads").ok()?.unwrap_or(&[]))?;
    let f = weights(node, w.shape()).ok()?.filter;
    require(f.cin % f.groups == 0 && f.cout % f.groups == 0 && f.cout > 0 && gemm_i8::fits(f.taps))
}

fn weights(node: &NodeView, w: &[usize]) -> Result<Weights> {
    let groups = usize::try_from(node.attrs().int_or("group", 1)?).ok().filter(|&g| g > 0);
    let groups = groups.ok_or_else(|| Error::invalid("a convolution's group count must be positive"))?;
    let filter = Filter { cin: w[1] * groups, cout: w[0], groups, taps: w[2..].iter().product() };
    // The weights' zero point comes with the run, and needs sums of windows.
    Ok(Weights { filter, kernel_w: 1, path: Path::Positions })
}

fn conv_pack(ctx: &Ctx, node: &NodeView) -> Result<Packing> {
    let kernels = kernels(ctx);
    let w = node.constant(1).ok_or_else(|| Error::bug("the weights are not constant"))?;
    let weights = weights(node, w.shape())?;
    let mut packed = vec![0i8; weights.packed_len(kernels)];
    let columns = weights.pack(kernels, &signed(w).0, &mut packed);
    Ok(Packing {
        tensors: vec![Tensor::from_slice(&[packed.len()], &packed), Tensor::from_slice(&[columns.len()], &columns)],
        consumed: vec![1],
    })
}

fn conv_load(ctx: &Ctx, node: &NodeView, packed: &[Tensor]) -> Result<Box<dyn Kernel>> {
    let kernels = kernels(ctx);
    let (x_dtype, w_dtype) = operand_types(node)?;
    let shape = static_shape(node, 1).ok_or_else(|| Error::bug("weights without a shape"))?;
    let weights = weights(node, &shape)?;
    let filter = weights.filter;
    let w = packed_as::<i8>(packed, 0, weights.packed_len(kernels))?;
    let columns = packed_as::<i32>(packed, 1, weights.columns(kernels))?;
    let attrs = node.attrs();
    let list = |name: &str| -> Result<Vec<usize>> {
        sizes(attrs.ints(name)?.unwrap_or(&[])).ok_or_else(|| Error::invalid(format!("a negative number in `{name}`")))
    };
    let (strides, dilations, pads) = (list("strides")?, list("dilations")?, list("pads")?);
    let kernel_shape = shape[2..].to_vec();
    let down = if w_dtype == DType::U8 { 128 } else { 0 };
    let ctx = ctx.clone();
    kernel(move |args| {
        let (x, y) = (args.shape(0)?, args.output(0)?);
        if x[1] != filter.cin {
            bail!(invalid, "a filter for {} channels cannot take {}", filter.cin, x[1]);
        }
        let window = Window::new(x[0], &x[2..], &kernel_shape, &strides, &dilations, &pads, &y[2..])
            .ok_or_else(|| Error::unsupported(format!("a convolution over shape {x:?}")))?;
        makes(args, x[0] * filter.cout * window.output_pixels())?;
        let conv = ConvI8::new(kernels, weights, window, ctx.threads());
        let (pixels_in, pixels_out): (usize, usize) = (x[2..].iter().product(), y[2..].iter().product());
        let turn_in = StridedCopy::transpose(&[x[0], filter.cin, pixels_in], &[0, 2, 1], 1);
        let turn_out = StridedCopy::transpose(&[x[0], pixels_out, filter.cout], &[0, 2, 1], 4);
        let round = |len: usize| len.next_multiple_of(64);
        let init_at = round(conv.workspace_len());
        let x_at = init_at + round(4 * columns.len());
        let y_at = x_at + round(x.iter().product());
        let total = y_at + 4 * y.iter().product::<usize>();
        let k = filter.taps * (filter.cin / filter.groups);
        let flops = 2 * y.iter().product::<usize>() * k;
        let (ctx, w, columns) = (ctx.clone(), w.clone(), columns.clone());
        bound(move |io| {
            let x_zero = zero(io, 2, x_dtype);
            let (a_zero, b_zero) = (moved(x_zero, x_dtype), zero(io, 3, w_dtype) as i32 - down);
            // SAFETY: the workspace holds the convolution's own part, the starts of the sums, and input and output with the
            // channels last.
            unsafe {
                let init = starts(io.workspace.add(init_at), columns.as_slice(), k, a_zero, b_zero);
                let (x, y) = (io.workspace.add(x_at), io.workspace.add(y_at));
                turn_in.run(&ctx.pool, io.input(0), x);
                let op = Operands {
                    x,
                    x_zero: x_zero as u8,
                    io: plain(flip(x_dtype), w.as_slice::<i8>().as_ptr(), init, y, 4 * filter.cout),
                    end: End { w_zero: b_zero, ..sums() },
                };
                conv.run(&ctx.pool, &op, io.workspace);
                turn_out.run(&ctx.pool, y, io.output(0));
            }
        })
        .workspace(total)
        .flops(flops)
        .boxed()
    })
}

fn dynamic_load(ctx: &Ctx, _: &NodeView, _: &[Tensor]) -> Result<Box<dyn Kernel>> {
    let (ctx, bytes) = (ctx.clone(), kernels(ctx));
    kernel(move |args| {
        let len: usize = args.shape(0)?.iter().product();
        makes(args, len)?;
        let parts = (len / (16 * 1024)).clamp(1, 2 * ctx.threads());
        let ctx = ctx.clone();
        bound(move |io| {
            let (x, y) = (Shared(io.input::<f32>(0).cast_mut()), Shared(io.output::<u8>(0)));
            let ranges = Shared(io.workspace.cast::<f32>());
            ctx.pool.run(parts, |part| {
                let (start, n) = cut(len, parts, part);
                // SAFETY: parts are pieces of the input; each has two places of its own in the workspace.
                unsafe {
                    if n > 0 {
                        (ctx.kernels.reduce_rows)(Reduction::Max, x.at(start), 1, n, ranges.at(2 * part));
                        (ctx.kernels.reduce_rows)(Reduction::Min, x.at(start), 1, n, ranges.at(2 * part + 1));
                    } else {
                        *ranges.at(2 * part) = 0.0;
                        *ranges.at(2 * part + 1) = 0.0;
                    }
                }
            });
            let (mut high, mut low) = (0f32, 0f32);
            for part in 0..parts {
                // SAFETY: written above.
                unsafe {
                    high = high.max(*ranges.at(2 * part));
                    low = low.min(*ranges.at(2 * part + 1));
                }
            }
            // In f32 throughout, as the formula is specified.
            let scale = if high == low { 1.0 } else { high - low } / 255.0;
            let zero = (-low / scale).clamp(0.0, 255.0).round_ties_even();
            let rounding = Rounding { inverse: 0.0, low: -zero, high: 255.0 - zero, zero: zero as i32 };
            ctx.pool.run(parts, |part| {
                let (start, n) = cut(len, parts, part);
                // SAFETY: parts are disjoint pieces of the bound buffers.
                unsafe { (bytes.quantise)(x.at(start), y.at(start), n, scale, &rounding) };
            });
            // SAFETY: one number each, where they are wanted.
            unsafe {
                if !io.outputs[1].is_null() {
                    *io.output::<f32>(1) = scale;
                }
                if !io.outputs[2].is_null() {
                    *io.output::<u8>(2) = zero as u8;
                }
            }
        })
        .workspace(8 * parts)
        .boxed()
    })
}
