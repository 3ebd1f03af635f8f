//! Softmax and normalisations in `f64`, and the forms of them that single precision has no kernel for: sums run in `f64`.

use super::select::lines;
use super::{Entry, axis_of, makes, pack_nothing, require};
use crate::backend::{Ctx, bound, kernel};
use crate::compute::element::Element;
use crate::compute::fold::Middle;
use crate::compute::{Shared, cut};
use crate::pool::ThreadPool;
use oxrt_backend::{BindArgs, Bound, Kernel, NodeView};
use oxrt_ir::{Attrs, DType, Tensor};
use oxrt_tensor::{Error, Result, bail};

pub(super) const LINES: Entry = Entry {
    name: "lines_any",
    ops: &["Softmax", "LogSoftmax", "LpNormalization"],
    supports: |node| floats(node, 1),
    pack: pack_nothing,
    load: load_lines,
};
pub(super) const ROWS: Entry = Entry {
    name: "row_norm_any",
    ops: &["LayerNormalization", "RMSNormalization"],
    supports: |node| floats(node, 3),
    pack: pack_nothing,
    load: load_rows,
};
pub(super) const CHANNELS: Entry = Entry {
    name: "channel_norm_any",
    ops: &["BatchNormalization", "InstanceNormalization", "GroupNormalization"],
    supports: channels_supports,
    pack: pack_nothing,
    load: load_channels,
};
pub(super) const LRN: Entry =
    Entry { name: "lrn", ops: &["LRN"], supports: |node| floats(node, 1), pack: pack_nothing, load: load_lrn };

/// The first inputs hold floats of one type.
fn floats(node: &NodeView, inputs: usize) -> Option<()> {
    let dtype = node.dtype(0)?;
    require(matches!(dtype, DType::F32 | DType::F64))?;
    require((1..inputs).all(|i| !node.has(i) || node.dtype(i) == Some(dtype)))
}

/// Calls a generic bind function for the node's type.
macro_rules! for_floats {
    ($node:expr, $bind:ident) => {
        if $node.dtype(0) == Some(DType::F64) { $bind::<f64> } else { $bind::<f32> }
    };
}

fn in_parts(pool: &ThreadPool, jobs: usize, work: usize, run: impl Fn(usize) + Sync) {
    let parts = pool.parts(work / (16 * 1024)).min(jobs.max(1));
    pool.run(parts, |part| {
        let (start, count) = cut(jobs, parts, part);
        (start..start + count).for_each(&run);
    });
}

fn load_lines(ctx: &Ctx, node: &NodeView, _: &[Tensor]) -> Result<Box<dyn Kernel>> {
    let how = match (node.op(), node.attrs().int_or("p", 2)?) {
        ("Softmax", _) => Line::Softmax,
        ("LogSoftmax", _) => Line::LogSoftmax,
        (_, 1) => Line::Norm1,
        (_, 2) => Line::Norm2,
        (_, p) => bail!(invalid, "a norm of order {p}"),
    };
    let axis = node.attrs().int_or("axis", -1)?;
    let bind: fn(&Ctx, Line, i64, &BindArgs) -> Result<Box<dyn Bound>> = for_floats!(node, bind_lines);
    let ctx = ctx.clone();
    kernel(move |args| bind(&ctx, how, axis, args))
}

/// What is done to each line.
#[derive(Clone, Copy)]
enum Line {
    Softmax,
    LogSoftmax,
    Norm1,
    Norm2,
}

fn bind_lines<T: Element>(ctx: &Ctx, how: Line, axis: i64, args: &BindArgs) -> Result<Box<dyn Bound>> {
    // A scalar is a line of its own.
    let shape = if args.shape(0)?.is_empty() { &[1][..] } else { args.shape(0)? };
    let m = lines(shape, axis_of(axis, shape.len())?);
    let Middle { outer, n, inner } = m;
    makes(args, outer * n * inner)?;
    let ctx = ctx.clone();
    bound(move |io| {
        let (x, y) = (Shared(io.input::<T>(0).cast_mut()), Shared(io.output::<T>(0)));
        in_parts(&ctx.pool, outer * inner, 4 * outer * n * inner, |line| {
            let at = |i: usize| (line / inner * n + i) * inner + line % inner;
            // SAFETY: lines are disjoint, and lie inside both sides.
            let get = |i: usize| unsafe { *x.at(at(i)) }.to_f64();
            // SAFETY: as above.
            let put = |i: usize, v: f64| unsafe { *y.at(at(i)) = T::from_f64(v) };
            let all = || (0..n).map(get);
            let top = || all().fold(f64::NEG_INFINITY, f64::max);
            match how {
                Line::Softmax => {
                    let top = top();
                    let sum: f64 = all().map(|v| (v - top).exp()).sum();
                    (0..n).for_each(|i| put(i, (get(i) - top).exp() / sum));
                }
                Line::LogSoftmax => {
                    let top = top();
                    let log = all().map(|v| (v - top).exp()).sum::<f64>().ln();
                    (0..n).for_each(|i| put(i, get(i) - (top + log)));
                }
                // SAFETY: as above.
                Line::Norm1 | Line::Norm2 if inner == 1 => unsafe {
                    norm_line(x.at(line * n).cast_const(), y.at(line * n), n, matches!(how, Line::Norm2));
                },
                Line::Norm1 | Line::Norm2 => {
                    let norm = match how {
                        Line::Norm1 => all().map(f64::abs).sum::<f64>(),
                        _ => all().map(|v| v * v).sum::<f64>().sqrt(),
                    };
                    (0..n).for_each(|i| put(i, if norm == 0.0 { 0.0 } else { get(i) / norm }));
                }
            }
        });
    })
    .in_place(&[0])
    .flops(4 * outer * n * inner)
    .boxed()
}

/// A line without gaps, divided by its norm; sums run side by side.
///
/// # Safety
/// Both sides have `n` elements; they may be the same.
unsafe fn norm_line<T: Element>(x: *const T, y: *mut T, n: usize, squares: bool) {
    const SIDES: usize = 16;
    // SAFETY: as the caller promises.
    unsafe {
        let mut sums = [0.0f64; SIDES];
        let whole = n - n % SIDES;
        for i in (0..whole).step_by(SIDES) {
            for (j, sum) in sums.iter_mut().enumerate() {
                let v = (*x.add(i + j)).to_f64();
                *sum += if squares { v * v } else { v.abs() };
            }
        }
        for i in whole..n {
            let v = (*x.add(i)).to_f64();
            sums[i - whole] += if squares { v * v } else { v.abs() };
        }
        let mut norm = 0.0;
        for sum in sums {
            norm += sum;
        }
        let norm = if squares { norm.sqrt() } else { norm };
        if norm == 0.0 {
            (0..n).for_each(|i| *y.add(i) = T::default());
        } else if size_of::<T>() < 8 {
            // In double precision, a product with the inverse is as good as the quotient.
            let inverse = 1.0 / norm;
            (0..n).for_each(|i| *y.add(i) = T::from_f64((*x.add(i)).to_f64() * inverse));
        } else {
            (0..n).for_each(|i| *y.add(i) = T::from_f64((*x.add(i)).to_f64() / norm));
        }
    }
}

fn load_rows(ctx: &Ctx, node: &NodeView, _: &[Tensor]) -> Result<Box<dyn Kernel>> {
    let (attrs, center) = (node.attrs().clone(), node.op() == "LayerNormalization");
    let bind: fn(&Ctx, &Attrs, bool, &BindArgs) -> Result<Box<dyn Bound>> = for_floats!(node, bind_rows);
    let ctx = ctx.clone();
    kernel(move |args| bind(&ctx, &attrs, center, args))
}

/// Steps of an operand that broadcasts to `shape`, by dimension.
fn steps(operand: &[usize], shape: &[usize]) -> Result<Vec<usize>> {
    let Some(lead) = shape.len().checked_sub(operand.len()) else {
        bail!(invalid, "shape {operand:?} does not broadcast to {shape:?}");
    };
    let mut steps = vec![0; shape.len()];
    let mut step = 1;
    for d in (0..operand.len()).rev() {
        if operand[d] != 1 {
            if operand[d] != shape[lead + d] {
                bail!(invalid, "shape {operand:?} does not broadcast to {shape:?}");
            }
            steps[lead + d] = step;
        }
        step *= operand[d];
    }
    Ok(steps)
}

fn bind_rows<T: Element>(ctx: &Ctx, attrs: &Attrs, center: bool, args: &BindArgs) -> Result<Box<dyn Bound>> {
    let shape = args.shape(0)?.to_vec();
    let axis = axis_of(attrs.int_or("axis", -1)?, shape.len())?;
    let epsilon: f64 = attrs.float_or("epsilon", 1e-5)?.into();
    let n: usize = shape[axis..].iter().product();
    let rows: usize = shape[..axis].iter().product();
    let vectors: Vec<Option<Vec<usize>>> =
        [1, 2].map(|i| args.opt_shape(i).map(|s| steps(s, &shape)).transpose()).into_iter().collect::<Result<_>>()?;
    makes(args, rows * n)?;
    for i in 1..args.outputs.len() {
        if args.output(i).is_ok_and(|s| s.iter().product::<usize>() != rows) {
            bail!(invalid, "statistics of shape {:?} for {rows} rows", args.output(i)?);
        }
    }
    let ctx = ctx.clone();
    bound(move |io| {
        let (x, y) = (Shared(io.input::<T>(0).cast_mut()), Shared(io.output::<T>(0)));
        let operands = [1, 2].map(|i| Shared(io.input::<T>(i).cast_mut()));
        let (means, scales) = (Shared(io.output::<f32>(1)), Shared(io.output::<f32>(2)));
        in_parts(&ctx.pool, rows, 6 * rows * n, |row| {
            // SAFETY: rows are disjoint; operands broadcast to the input.
            unsafe {
                let get = |i: usize| (*x.at(row * n + i)).to_f64();
                let mean = if center { (0..n).map(get).sum::<f64>() / n as f64 } else { 0.0 };
                let variance = (0..n).map(|i| (get(i) - mean) * (get(i) - mean)).sum::<f64>() / n as f64;
                let scale = 1.0 / (variance + epsilon).sqrt();
                for i in 0..n {
                    let mut v = (get(i) - mean) * scale;
                    for (o, steps) in vectors.iter().enumerate() {
                        let Some(steps) = steps else { continue };
                        let (mut rest, mut at) = (row * n + i, 0);
                        for d in (0..shape.len()).rev() {
                            at += rest % shape[d] * steps[d];
                            rest /= shape[d];
                        }
                        let operand = (*operands[o].at(at)).to_f64();
                        v = if o == 0 { v * operand } else { v + operand };
                    }
                    *y.at(row * n + i) = T::from_f64(v);
                }
                if !means.get().is_null() {
                    *means.at(row) = mean as f32;
                }
                if !scales.get().is_null() {
                    *scales.at(row) = scale as f32;
                }
            }
        });
    })
    .flops(6 * rows * n)
    .boxed()
}

fn channels_supports(node: &NodeView) -> Option<()> {
    floats(node, 5)?;
    require((1..node.num_outputs()).all(|i| node.node().output(i).is_none()))?;
    require(node.attrs().int_or("training_mode", 0).ok()? == 0 && node.rank(0)? >= 2)?;
    require(!node.attrs().has("activation"))
}

fn load_channels(ctx: &Ctx, node: &NodeView, _: &[Tensor]) -> Result<Box<dyn Kernel>> {
    let (attrs, op) = (node.attrs().clone(), node.op().to_string());
    let bind: fn(&Ctx, &Attrs, &str, &BindArgs) -> Result<Box<dyn Bound>> = for_floats!(node, bind_channels);
    let ctx = ctx.clone();
    kernel(move |args| bind(&ctx, &attrs, &op, args))
}

fn bind_channels<T: Element>(ctx: &Ctx, attrs: &Attrs, op: &str, args: &BindArgs) -> Result<Box<dyn Bound>> {
    let shape = args.shape(0)?;
    let (batch, channels) = (shape[0], shape[1]);
    let plane: usize = shape[2..].iter().product();
    let epsilon: f64 = attrs.float_or("epsilon", 1e-5)?.into();
    let given = op == "BatchNormalization";
    let groups = if op == "GroupNormalization" {
        usize::try_from(attrs.int_or("num_groups", 1)?).unwrap_or(0)
    } else {
        channels
    };
    if groups == 0 && channels > 0 || groups > 0 && channels % groups != 0 {
        bail!(invalid, "{channels} channels in {groups} groups");
    }
    for i in 1..if given { 5 } else { 3 } {
        if args.shape(i)?.iter().product::<usize>() != channels {
            bail!(invalid, "a vector of shape {:?} for {channels} channels", args.shape(i)?);
        }
    }
    makes(args, batch * channels * plane)?;
    let each = channels.checked_div(groups).unwrap_or(0);
    let ctx = ctx.clone();
    bound(move |io| {
        let (x, y) = (Shared(io.input::<T>(0).cast_mut()), Shared(io.output::<T>(0)));
        let vector = [1, 2, 3, 4].map(|i| Shared(io.input::<T>(i).cast_mut()));
        let n = each * plane;
        in_parts(&ctx.pool, batch * groups, 6 * batch * groups * n, |job| {
            // SAFETY: groups are disjoint; vectors have one element per channel.
            unsafe {
                let (base, first) = (job * n, job % groups * each);
                let get = |i: usize| (*x.at(base + i)).to_f64();
                let of = |v: usize, c: usize| (*vector[v].at(c)).to_f64();
                let (mean, variance) = if given {
                    (of(2, first), of(3, first))
                } else {
                    let mean = (0..n).map(get).sum::<f64>() / n as f64;
                    (mean, (0..n).map(|i| (get(i) - mean) * (get(i) - mean)).sum::<f64>() / n as f64)
                };
                let scale = 1.0 / (variance + epsilon).sqrt();
                for i in 0..n {
                    let c = first + i / plane;
                    *y.at(base + i) = T::from_f64((get(i) - mean) * scale * of(0, c) + of(1, c));
                }
            }
        });
    })
    .in_place(&[0])
    .flops(6 * batch * channels * plane)
    .boxed()
}

fn load_lrn(ctx: &Ctx, node: &NodeView, _: &[Tensor]) -> Result<Box<dyn Kernel>> {
    let attrs = node.attrs().clone();
    let bind: fn(&Ctx, &Attrs, &BindArgs) -> Result<Box<dyn Bound>> = for_floats!(node, bind_lrn);
    let ctx = ctx.clone();
    kernel(move |args| bind(&ctx, &attrs, args))
}

/// Pixels whose running sums of squares a task keeps.
const STRIP: usize = 64;

fn bind_lrn<T: Element>(ctx: &Ctx, attrs: &Attrs, args: &BindArgs) -> Result<Box<dyn Bound>> {
    let shape = args.shape(0)?;
    let size = usize::try_from(attrs.int_or("size", 0)?).ok().filter(|&s| s > 0);
    let size = size.ok_or_else(|| Error::invalid("`size` should be positive"))?;
    let (alpha, beta): (f64, f64) = (attrs.float_or("alpha", 1e-4)?.into(), attrs.float_or("beta", 0.75)?.into());
    let bias: f64 = attrs.float_or("bias", 1.0)?.into();
    let &[batch, channels, ..] = shape else { bail!(invalid, "{shape:?} has no channels") };
    let plane: usize = shape[2..].iter().product();
    makes(args, batch * channels * plane)?;
    let strips = plane.div_ceil(STRIP);
    let (before, after) = ((size - 1) / 2, size / 2);
    let ctx = ctx.clone();
    bound(move |io| {
        let (x, y) = (Shared(io.input::<T>(0).cast_mut()), Shared(io.output::<T>(0)));
        in_parts(&ctx.pool, batch * strips, 16 * batch * channels * plane, |job| {
            let (image, first) = (job / strips, job % strips * STRIP);
            let count = STRIP.min(plane - first);
            let base = image * channels * plane + first;
            for c in 0..channels {
                let mut sums = [0.0f64; STRIP];
                // SAFETY: strips of pixels are disjoint and lie inside both sides.
                unsafe {
                    let last = c.saturating_add(after).min(channels - 1);
                    for near in c.saturating_sub(before)..=last {
                        for (p, sum) in sums[..count].iter_mut().enumerate() {
                            let v = (*x.at(base + near * plane + p)).to_f64();
                            *sum += v * v;
                        }
                    }
                    for (p, sum) in sums[..count].iter().enumerate() {
                        let at = base + c * plane + p;
                        let by = bias + alpha / size as f64 * sum;
                        // The usual exponent needs two roots only.
                        let power = if beta == 0.75 { (by * by.sqrt()).sqrt() } else { by.powf(beta) };
                        *y.at(at) = T::from_f64((*x.at(at)).to_f64() / power);
                    }
                }
            }
        });
    })
    .flops(8 * batch * channels * plane)
    .boxed()
}
