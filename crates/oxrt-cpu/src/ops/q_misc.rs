//! Quantised operators that are no products: sums and products by element, tables, pools.

use super::quantised::{flip, is_byte, kernels, moved, rounding};
use super::{Entry, makes, pack_nothing, require, sizes};
use crate::backend::{Ctx, bound, kernel};
use crate::compute::broadcast::Space;
use crate::compute::conv_i8::each_run;
use crate::compute::window::Window;
use crate::compute::{Shared, cut};
use crate::kernels::activation::Act;
use crate::kernels::dot_i8::{BinaryOp, BinaryRow, Finish, Rounding, Store};
use oxrt_backend::{Kernel, NodeView};
use oxrt_ir::{DType, Tensor};
use oxrt_ops::quantised::{Linear, dtype_of};
use oxrt_tensor::{Error, Result};

pub(super) const BINARY: Entry =
    Entry { name: "q_binary", ops: &["oxrt.QBinary"], supports: binary_supports, pack: pack_nothing, load: binary };
pub(super) const LOOKUP: Entry =
    Entry { name: "lookup", ops: &["oxrt.Lookup"], supports: lookup_supports, pack: pack_nothing, load: lookup };
pub(super) const GLOBAL: Entry = Entry {
    name: "q_global_pool",
    ops: &["oxrt.QGlobalAveragePool"],
    supports: global_supports,
    pack: pack_nothing,
    load: global,
};
pub(super) const MAX_POOL: Entry = Entry {
    name: "max_pool_bytes",
    ops: &["oxrt.MaxPool"],
    supports: max_supports,
    pack: pack_nothing,
    load: max_pool,
};

/// Bytes that a task works on at least.
const MIN_PER_TASK: usize = 16 * 1024;

fn binary_supports(node: &NodeView) -> Option<()> {
    require(is_byte(node.dtype(0)) && is_byte(node.dtype(1)) && is_byte(node.output_dtype(0)))?;
    for name in ["a", "b", "y"] {
        Linear::from_attrs(node.attrs(), name).ok()?;
    }
    require(["add", "sub", "mul"].contains(&node.attrs().string_or("op", "add").ok()?))
}

fn binary(ctx: &Ctx, node: &NodeView, _: &[Tensor]) -> Result<Box<dyn Kernel>> {
    let attrs = node.attrs();
    let [a, b, y] = [Linear::from_attrs(attrs, "a")?, Linear::from_attrs(attrs, "b")?, Linear::from_attrs(attrs, "y")?];
    let missing = || Error::bug("an operand without a type");
    let types = [node.dtype(0).ok_or_else(missing)?, node.dtype(1).ok_or_else(missing)?];
    let inverse = 1.0 / y.scale;
    let (op, scale) = match attrs.string_or("op", "add")? {
        "mul" => (BinaryOp::Mul, [a.scale * b.scale * inverse, 0.0]),
        "sub" => (BinaryOp::Add, [a.scale * inverse, -b.scale * inverse]),
        _ => (BinaryOp::Add, [a.scale * inverse, b.scale * inverse]),
    };
    let plain = BinaryRow {
        op,
        x: [core::ptr::null(); 2],
        step: [1; 2],
        flip: types.map(|t| flip(t) & 0xff),
        zero: [moved(a.zero, types[0]), moved(b.zero, types[1])],
        scale,
        y: rounding(&y),
        out: core::ptr::null_mut(),
        n: 0,
    };
    // What a task gets is raw pointers and numbers.
    struct Plain(BinaryRow);
    // SAFETY: the pointers are null here, and set anew by every task.
    unsafe impl Send for Plain {}
    // SAFETY: as above.
    unsafe impl Sync for Plain {}
    impl Plain {
        fn get(&self) -> BinaryRow {
            self.0
        }
    }
    let plain = std::sync::Arc::new(Plain(plain));
    let (ctx, kernels) = (ctx.clone(), kernels(ctx));
    kernel(move |args| {
        let (shapes, out) = ([args.shape(0)?, args.shape(1)?], args.output(0)?);
        let space = Space::new(out, &shapes)
            .ok_or_else(|| Error::invalid(format!("shapes {shapes:?} do not broadcast to {out:?}")))?;
        let in_place: Vec<usize> = (0..2).filter(|&i| shapes[i] == out).collect();
        let len: usize = out.iter().product();
        let last = space.dims.len() - 1;
        let rows: usize = space.dims[..last].iter().product();
        let inner = space.dims[last];
        // Long rows are cut, short ones go together.
        let pieces = if rows == 1 { (inner / MIN_PER_TASK).clamp(1, 2 * ctx.threads()) } else { 1 };
        let parts =
            if rows == 1 { pieces } else { (len / MIN_PER_TASK).clamp(1, (4 * ctx.threads()).min(rows.max(1))) };
        let (ctx, plain) = (ctx.clone(), plain.clone());
        bound(move |io| {
            if len == 0 {
                return;
            }
            let x = [Shared(io.input::<u8>(0).cast_mut()), Shared(io.input::<u8>(1).cast_mut())];
            let y = Shared(io.output::<u8>(0));
            let plain = &plain;
            let space = &space;
            ctx.pool.run(parts, |part| {
                let row_of = |row: usize, start: usize, n: usize| {
                    let mut at = [0usize; 2];
                    let mut rest = row;
                    for d in (0..last).rev() {
                        let i = rest % space.dims[d];
                        rest /= space.dims[d];
                        for k in 0..2 {
                            at[k] += i * space.strides[k][d];
                        }
                    }
                    let step = [space.strides[0][last], space.strides[1][last]];
                    // SAFETY: positions inside the bound shapes; rows and pieces are disjoint parts of the output.
                    unsafe {
                        (kernels.binary)(&BinaryRow {
                            x: [x[0].at(at[0] + start * step[0]), x[1].at(at[1] + start * step[1])],
                            step,
                            out: y.at(row * inner + start),
                            n,
                            ..plain.get()
                        });
                    }
                };
                if rows == 1 {
                    let (start, n) = cut(inner, parts, part);
                    row_of(0, start, n);
                } else {
                    let (start, count) = cut(rows, parts, part);
                    (start..start + count).for_each(|row| row_of(row, 0, inner));
                }
            });
        })
        .in_place(&in_place)
        .boxed()
    })
}

fn lookup_supports(node: &NodeView) -> Option<()> {
    require(is_byte(node.dtype(0)) && node.ty(1)?.static_shape()? == [256])?;
    require(matches!(node.dtype(1)?.size()?, 1 | 4))
}

fn lookup(ctx: &Ctx, node: &NodeView, _: &[Tensor]) -> Result<Box<dyn Kernel>> {
    let size = node.dtype(1).and_then(|d| d.size()).ok_or_else(|| Error::bug("a table without a type"))?;
    let (ctx, kernels) = (ctx.clone(), kernels(ctx));
    kernel(move |args| {
        let len: usize = args.shape(0)?.iter().product();
        makes(args, len)?;
        let parts = (len / MIN_PER_TASK).clamp(1, 2 * ctx.threads());
        let ctx = ctx.clone();
        let done = bound(move |io| {
            let (x, table) = (Shared(io.input::<u8>(0).cast_mut()), Shared(io.input::<u8>(1).cast_mut()));
            let y = Shared(io.output::<u8>(0));
            ctx.pool.run(parts, |part| {
                let (start, n) = cut(len, parts, part);
                // SAFETY: parts are disjoint pieces of the bound buffers; the table has 256 elements.
                unsafe {
                    if size == 1 {
                        return (kernels.look_up)(table.get(), x.at(start), y.at(start), n);
                    }
                    let (table, y) = (table.get().cast::<u32>(), y.get().cast::<u32>());
                    for i in start..start + n {
                        *y.add(i) = table.add(usize::from(*x.at(i))).read_unaligned();
                    }
                }
            });
        });
        if size == 1 { done.in_place(&[0]).boxed() } else { done.boxed() }
    })
}

fn global_supports(node: &NodeView) -> Option<()> {
    require(is_byte(node.dtype(0)) && node.rank(0)? >= 2)?;
    Linear::from_attrs(node.attrs(), "x").ok()?;
    let y = dtype_of(node.attrs(), "y").ok()?;
    require(y == DType::F32 || Linear::from_attrs(node.attrs(), "y").is_ok())
}

fn global(ctx: &Ctx, node: &NodeView, _: &[Tensor]) -> Result<Box<dyn Kernel>> {
    let attrs = node.attrs();
    let x = Linear::from_attrs(attrs, "x")?;
    let x_dtype = node.dtype(0).ok_or_else(|| Error::bug("an operand without a type"))?;
    let (store, y, factor) = match dtype_of(attrs, "y")? {
        DType::F32 => (Store::F32, Rounding::default(), 1.0),
        _ => {
            let y = Linear::from_attrs(attrs, "y")?;
            (Store::Byte, rounding(&y), 1.0 / y.scale)
        }
    };
    let (zero, flip) = (moved(x.zero, x_dtype), flip(x_dtype));
    let (ctx, kernels) = (ctx.clone(), kernels(ctx));
    kernel(move |args| {
        let shape = args.shape(0)?;
        let (batch, channels) = (shape[0], shape[shape.len() - 1]);
        let pixels = shape[1..shape.len() - 1].iter().product::<usize>();
        makes(args, batch * channels)?;
        let scale = vec![x.scale * factor / pixels.max(1) as f32; channels];
        let size_of = if store == Store::Byte { 1 } else { 4 };
        // Channels are cut at whole cache lines.
        let lines = channels.div_ceil(64);
        let parts = if pixels * channels < MIN_PER_TASK { 1 } else { lines.min(2 * ctx.threads()) };
        let ctx = ctx.clone();
        bound(move |io| {
            let (from, to) = (Shared(io.input::<u8>(0).cast_mut()), Shared(io.output::<u8>(0)));
            let sums = Shared(io.workspace.cast::<i32>());
            let scale = Shared(scale.as_ptr().cast_mut());
            ctx.pool.run(batch * parts, |i| {
                let (image, part) = (i / parts, i % parts);
                let (line, count) = cut(lines, parts, part);
                let (c, count) = (line * 64, (count * 64).min(channels.saturating_sub(line * 64)));
                // SAFETY: parts are disjoint channels of the bound buffers and of the sums.
                unsafe {
                    let acc = sums.at(image * channels + c);
                    for k in 0..count {
                        *acc.add(k) = -(pixels as i32) * zero;
                    }
                    (kernels.column_sums)(from.at(image * pixels * channels + c), pixels, count, channels, flip, acc);
                    (kernels.finish)(&Finish {
                        acc,
                        acc_stride: 0,
                        rows: 1,
                        cols: count,
                        row_sums: core::ptr::null(),
                        w_zero: 0,
                        store,
                        scale: scale.at(c),
                        bias: core::ptr::null(),
                        act: Act::None,
                        mid: Rounding::default(),
                        mid_table: core::ptr::null(),
                        mid_flip: 0,
                        mid_zero: 0,
                        mid_scale: 0.0,
                        residual: core::ptr::null(),
                        residual_stride: 0,
                        residual_flip: 0,
                        residual_zero: 0,
                        residual_scale: 0.0,
                        y,
                        saturates: false,
                        signed: false,
                        table: core::ptr::null(),
                        out: to.at((image * channels + c) * size_of),
                        out_stride: 0,
                    });
                }
            });
        })
        .workspace(batch * channels * 4)
        .flops(batch * pixels * channels)
        .boxed()
    })
}

fn max_supports(node: &NodeView) -> Option<()> {
    require(is_byte(node.dtype(0)))?;
    super::pool::has_plain_windows(node)
}

fn max_pool(ctx: &Ctx, node: &NodeView, _: &[Tensor]) -> Result<Box<dyn Kernel>> {
    let attrs = node.attrs();
    let list = |name: &str| -> Result<Vec<usize>> {
        sizes(attrs.ints(name)?.unwrap_or(&[])).ok_or_else(|| Error::invalid(format!("a negative number in `{name}`")))
    };
    let (kernel_shape, strides, dilations, pads) =
        (list("kernel_shape")?, list("strides")?, list("dilations")?, list("pads")?);
    let flip = flip(node.dtype(0).ok_or_else(|| Error::bug("an operand without a type"))?) & 0xff;
    let (ctx, kernels) = (ctx.clone(), kernels(ctx));
    kernel(move |args| {
        let (x, y) = (args.shape(0)?, args.output(0)?);
        let last = x.len() - 1;
        let channels = x[last];
        let window = Window::new(x[0], &x[1..last], &kernel_shape, &strides, &dilations, &pads, &y[1..last])
            .ok_or_else(|| Error::unsupported(format!("pooling over shape {x:?}")))?;
        makes(args, x[0] * channels * window.output_pixels())?;
        let step = window.strides[2] * channels;
        let ctx = ctx.clone();
        bound(move |io| {
            let (x, y) = (Shared(io.input::<u8>(0).cast_mut()), Shared(io.output::<u8>(0)));
            each_run(&ctx.pool, &window, &|pixel, pixels, taps| {
                for p in 0..pixels {
                    // SAFETY: taps lie inside the input, runs are disjoint parts of the output.
                    unsafe {
                        let out = y.at((pixel + p) * channels);
                        // A window that holds nothing but padding has the least value.
                        let Some((first, rest)) = taps.split_first() else {
                            core::ptr::write_bytes(out, flip as u8, channels);
                            continue;
                        };
                        core::ptr::copy_nonoverlapping(x.at(first.pixel * channels + p * step), out, channels);
                        for tap in rest {
                            (kernels.max_bytes)(x.at(tap.pixel * channels + p * step), out, channels, flip);
                        }
                    }
                }
            });
        })
        .flops(y.iter().product::<usize>() * kernel_shape.iter().product::<usize>())
        .boxed()
    })
}
