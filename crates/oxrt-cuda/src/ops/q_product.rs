//! Products and convolutions of quantised tensors, summed in 32 bits: the fused forms that the passes leave, and ONNX's integer
//! operators.

use super::each::{only, strict};
use super::gemm::is_float;
use super::q_line::Line;
use super::windows::{Method, Sizes, Text, Windows, batched};
use super::{Entry, c_type, counts, dtype, holds, makes, output_dtype, require};
use crate::backend::{Ctx, Weights};
use crate::text::{self, Number, stored};
use oxrt_backend::{BindArgs, Kernel, NodeView, Packing, Precision, bound, kernel};
use oxrt_ir::Attrs;
use oxrt_ops::quantised::{Linear, dtype_of, is_rounded};
use oxrt_ops::window::Window;
use oxrt_tensor::{DType, Error, Result, Tensor, bail};
use std::sync::Arc;

const END: &str = include_str!("../text/quantised.cuh");

pub(super) const FUSED: Entry =
    strict("q_product", &["oxrt.QGemm", "oxrt.QMatMul", "oxrt.QConv"], supports, pack_fused, load_fused);
pub(super) const MMA_64: Entry = mma("q_mma_64x64", mma_supports, pack_mma::<0>, load_mma::<0>);
pub(super) const MMA_128: Entry = mma("q_mma_128x128", mma_supports, pack_mma::<1>, load_mma::<1>);
pub(super) const MMA_32: Entry = mma("q_mma_32x128", mma_supports, pack_mma::<2>, load_mma::<2>);

/// Tiles of the matrix units and their warps; which is quickest depends on sizes and the GPU.
const TILES: [([usize; 2], [usize; 2]); 3] = [([64, 64], [2, 2]), ([128, 128], [2, 4]), ([32, 128], [1, 4])];

const fn mma(
    name: &'static str,
    supports: fn(&Ctx, &NodeView) -> Option<()>,
    pack: fn(&Ctx, &NodeView) -> Result<Packing>,
    load: fn(&Ctx, &NodeView, &[Tensor]) -> Result<Box<dyn Kernel>>,
) -> Entry {
    Entry {
        name,
        ops: &["oxrt.QGemm", "oxrt.QConv"],
        supports,
        pack,
        load,
        mixes: false,
        narrow: false,
        timed: true,
        counts: false,
    }
}

pub(super) const INTEGER: Entry =
    strict("integer_product", &["MatMulInteger", "ConvInteger"], integer_supports, pack_integer, load_integer);

pub(super) fn byte(d: DType) -> bool {
    matches!(d, DType::U8 | DType::I8)
}

/// Where the inputs of the end lie: scale, bias, residual, table, table before the residual.
pub(super) fn ends(op: &str) -> [usize; 5] {
    // QMatMul has a table alone; what it has not lies behind all inputs.
    if op == "oxrt.QMatMul" { [8, 8, 8, 2, 8] } else { [2, 3, 4, 5, 6] }
}

/// Products of floats of 8 bits (e4m3), whose results, where they are rounded, are such floats too.
pub(super) fn is_small(node: &NodeView) -> bool {
    node.dtype(0) == Some(DType::F8E4M3FN)
}

fn supports(ctx: &Ctx, node: &NodeView) -> Option<()> {
    require(!is_small(node))?;
    fused_supports(ctx, node)
}

/// What products of bytes, and of floats of 8 bits, have in common.
pub(super) fn fused_supports(ctx: &Ctx, node: &NodeView) -> Option<()> {
    let [scale, bias, residual, table, middle] = ends(node.op());
    require([scale, bias].into_iter().all(|i| node.dtype(i).is_none_or(|d| d == DType::F32)))?;
    if is_small(node) {
        let small = |i: usize| node.dtype(i).is_none_or(|d| d == DType::F8E4M3FN);
        require(small(1) && small(residual) && !node.has(table) && !node.has(middle) && node.op() != "oxrt.QMatMul")?;
        let rounds = dtype_of(node.attrs(), "y").ok()? == DType::F8E4M3FN;
        require(if rounds { node.output_dtype(0)? == DType::F8E4M3FN } else { is_float(node.output_dtype(0)?) })?;
        require(rounds || !node.has(residual))?;
    } else {
        bytes_supports(ctx, node)?;
    }
    require(node.op() != "oxrt.QConv" || (3..=5).contains(&node.rank(0)?))?;
    require(node.op() == "oxrt.QMatMul" || node.has(2))?;
    numbers(node, ends(node.op())).ok().map(|_| ())
}

fn bytes_supports(_: &Ctx, node: &NodeView) -> Option<()> {
    let [_, _, residual, table, middle] = ends(node.op());
    require(byte(node.dtype(0)?) && byte(node.dtype(1)?) && stored(node.output_dtype(0)?).is_some())?;
    require([residual, middle].into_iter().all(|i| node.dtype(i).is_none_or(byte)))?;
    require(!node.has(residual) || is_rounded(dtype_of(node.attrs(), "mid").ok()?))?;
    require(node.dtype(table).is_none_or(|d| stored(d).is_some()))
}

/// Inverse of the scale, least and most of what `rounded` (of floats, `rounded_small`) of the text gives.
fn bounds(l: &Linear) -> [f32; 3] {
    let base = if l.dtype.is_float() { 0.0 } else { 12_582_912.0 };
    let at = |q: i64| base + (q - l.zero) as f32;
    [1.0 / l.scale, at(l.low), at(l.high)]
}

/// The numbers that the end reads, in its order (the product's own scale, `number[4]`, is left out).
pub(super) fn numbers(node: &NodeView, ends: [usize; 5]) -> Result<([i64; 12], [f32; 11])> {
    let (mut whole, mut number) = ([0; 12], [1.0; 11]);
    let [_, _, residual, table, middle] = ends;
    let attrs = node.attrs();
    if node.has(residual) {
        let r = Linear::from_attrs(attrs, "r")?;
        (whole[6], number[2]) = (r.zero, r.scale);
        if is_rounded(dtype_of(attrs, "mid")?) {
            let mid = Linear::from_attrs(attrs, "mid")?;
            (whole[2], number[0]) = (mid.zero, mid.scale);
            [number[5], number[7], number[8]] = bounds(&mid);
        }
    }
    if node.has(middle) {
        let t = Linear::from_attrs(attrs, "t")?;
        (whole[5], number[1]) = (t.zero, t.scale);
    }
    if is_rounded(dtype_of(attrs, "y")?) {
        let y = Linear::from_attrs(attrs, "y")?;
        whole[7] = y.zero;
        [number[6], number[9], number[10]] = bounds(&y);
        if let Some(line) = Line::of(node, table) {
            whole[7..10].copy_from_slice(&[line.out_zero, line.least, line.most]);
            number[3] = line.ratio;
        }
    }
    Ok((whole, number))
}

/// Whether the residual has an element for each column, and none for each row.
pub(super) fn row_residual(node: &NodeView) -> bool {
    node.rank(ends(node.op())[2]) == Some(1) && node.rank(0) != Some(1)
}

/// Which inputs the end has, for texts that leave out what is not there.
pub(super) fn has_text(node: &NodeView) -> String {
    let names = ["SCALE", "BIAS", "RESIDUAL", "TABLE", "MIDDLE"];
    let line = |(name, i): (&str, usize)| format!("#define HAS_{name} {}\n", u8::from(node.has(i)));
    let ends = ends(node.op());
    let row = u8::from(row_residual(node));
    names.into_iter().zip(ends).map(line).chain([format!("#define ROW_RESIDUAL {row}\n")]).collect()
}

/// Types, activation and functions of the end, for the inputs that `ends` names.
pub(super) fn end_text(ctx: &Ctx, node: &NodeView, ends: [usize; 5]) -> Result<String> {
    let activate = text::activation(node.attrs(), Number::F32, ctx.precision != Precision::F32)?;
    let [_, _, residual, table, middle] = ends;
    let ty = |i: usize, default: DType| c_type(node.dtype(i).unwrap_or(default));
    let out = output_dtype(node, 0)?;
    // Bytes of a table are moved as they lie.
    let from_table = if node.has(table) { "" } else { "put<TY>" };
    let rounds = |name: &str| dtype_of(node.attrs(), name).is_ok_and(is_rounded);
    let limits = ["mid", "y"]
        .map(|name| Linear::from_attrs(node.attrs(), name).map(|l| (l, Linear::new(l.scale, l.zero, l.dtype))));
    let limited =
        |beyond: fn(&Linear, &Linear) -> bool| u8::from(limits.iter().flatten().any(|(l, all)| beyond(l, all)));
    let small = rounds("y") && out == DType::F8E4M3FN;
    Ok(format!(
        "typedef {} TR;\ntypedef {} TT;\ntypedef {} TM;\n#define QUANTISED {}\n#define SMALL_FLOATS {}\n#define MIDDLE_ROUNDED {}\n\
         #define LIMITED_LOW {}\n#define LIMITED_HIGH {}\n#define LINE {}\n#define FROM_TABLE {from_table}\n{activate}{END}",
        ty(residual, DType::U8)?,
        ty(table, out)?,
        ty(middle, DType::U8)?,
        u8::from(rounds("y")),
        u8::from(small),
        u8::from(rounds("mid")),
        limited(|l, all| l.low > all.low),
        limited(|l, all| l.high < all.high),
        u8::from(Line::of(node, table).is_some())
    ))
}

pub(super) fn pack_fused(ctx: &Ctx, node: &NodeView) -> Result<Packing> {
    only(ctx, &fused_text(ctx, node, Method::Simt)?)
}

fn fused_text(ctx: &Ctx, node: &NodeView, method: Method) -> Result<String> {
    let ends = ends(node.op());
    let before = end_text(ctx, node, ends)?;
    let finish = "f32 f = p.in[0] ? (f32)v * ((const f32*)p.in[0])[map] : (f32)v * p.number[4]; \
         if (p.in[1]) f += ((const f32*)p.in[1])[map]; \
         return end(p, f, (const TR*)p.in[2], p.whole[1] >> 16 ? map : at, (const TT*)p.in[3], (const TM*)p.in[4]);";
    let text = Text {
        x: c_type(dtype(node, 0)?)?,
        w: c_type(dtype(node, 1)?)?,
        y: c_type(output_dtype(node, 0)?)?,
        sum: if is_small(node) { "f32" } else { "i32" },
        channels_last: true,
        transposed: false,
        x_zero: "p.whole[0]",
        // The upper half says whether the residual is one row.
        w_zero: "(i32)(i16)(p.whole[1] & 0xffff)",
        before: &before,
        finish,
    };
    Ok(text.write(method))
}

/// Sizes, and offsets of launches.
type Bindings = (Sizes, Vec<[usize; 3]>);

fn convolution(args: &BindArgs, w: &[usize], attrs: &Attrs, groups: usize, last: bool) -> Result<Bindings> {
    let (x, y) = (args.shape(0)?, args.output(0)?);
    let kernel: Vec<i64> = w.iter().skip(2).map(|&k| k as i64).collect();
    let spatial = if last { 1..x.len() - 1 } else { 2..x.len() };
    let placed = Window::new(attrs, &kernel)?.place(&x[spatial.clone()])?;
    let sizes = Sizes::convolution(x, w, groups, &placed, last, false)?;
    if y.len() != x.len() || y[spatial] != placed.out[..] {
        bail!(invalid, "a result of shape {y:?} for shape {x:?}");
    }
    makes(args, counts(x[0] * sizes.maps * groups * placed.out.iter().product::<usize>())?)?;
    Ok((sizes, vec![[0; 3]]))
}

pub(super) fn load_fused(ctx: &Ctx, node: &NodeView, packed: &[Tensor]) -> Result<Box<dyn Kernel>> {
    fused(node, Windows::load(ctx, packed.first(), true, Method::Simt)?, None)
}

/// Checks the sizes of the end's inputs. Returns whether the residual is one row.
pub(super) fn ends_fit(args: &BindArgs, ends: [usize; 5], maps: usize) -> Result<bool> {
    let len: usize = args.output(0)?.iter().product();
    holds(args, ends[0], maps)?;
    holds(args, ends[1], maps)?;
    holds(args, ends[3], 256)?;
    holds(args, ends[4], 256)?;
    let row = args.opt_shape(ends[2]).is_some_and(|s| *s == [maps] && len != maps);
    if !row {
        holds(args, ends[2], len)?;
    }
    Ok(row)
}

/// Binds a fused product. `weights` of the matrix units replace input 1.
fn fused(node: &NodeView, windows: Windows, weights: Option<(Arc<Weights>, Shape)>) -> Result<Box<dyn Kernel>> {
    let attrs = node.attrs().clone();
    let ends = ends(node.op());
    let (mut whole, mut number) = numbers(node, ends)?;
    let conv = node.op() == "oxrt.QConv";
    let names = if node.op() == "oxrt.QMatMul" { ["a_zero", "b_zero"] } else { ["x_zero", "w_zero"] };
    let zeros = [attrs.int_or(names[0], 0)?, attrs.int_or(names[1], 0)?];
    if zeros.iter().any(|z| !(-128..=255).contains(z)) {
        bail!(invalid, "zero points {zeros:?} of bytes");
    }
    whole[0] = zeros[0];
    number[4] = attrs.float_or("scale", 1.0)?;
    let turned = attrs.bool_or("trans_b", false)?;
    let groups = usize::try_from(attrs.int_or("group", 1)?).unwrap_or(0);
    let y_bytes = output_dtype(node, 0)?.bytes_for(1);
    kernel(move |args| {
        let w = weights.as_ref().map_or_else(|| args.shape(1), |(_, shape)| Ok(&shape.shape[..]))?;
        let (mut sizes, offsets) = if conv {
            convolution(args, w, &attrs, groups, true)?
        } else {
            // Rows of a matrix are one axis to packed weights, whatever they were.
            let x = args.shape(0)?;
            let rows = x[..x.len().saturating_sub(1)].iter().product();
            let flat = [rows, x.last().copied().unwrap_or(1)];
            let x = if weights.is_some() { &flat[..] } else { x };
            let (sizes, offsets) = batched(x, w, turned)?;
            makes(
                args,
                offsets.len() * sizes.groups[0] * sizes.groups[1] * sizes.images * sizes.output[2] * sizes.maps,
            )?;
            (sizes, offsets)
        };
        let maps = if conv { sizes.maps * groups } else { sizes.maps };
        let row = ends_fit(args, ends, maps)?;
        sizes.whole = whole;
        sizes.whole[1] = (zeros[1] & 0xffff) | i64::from(row) << 16;
        sizes.number = number;
        if let Some((_, shape)) = &weights {
            (sizes.w_map, sizes.w_group) = (shape.pitch(), [sizes.maps * shape.pitch(), 0]);
            (sizes.whole[10], sizes.whole[11]) = ((shape.maps * shape.pitch()) as i64, shape.corrections() as i64);
        }
        windows.check(&sizes)?;
        let flops = sizes.flops() * offsets.len().max(1);
        let (windows, weights) = (windows.clone(), weights.clone());
        bound(move |io| {
            for o in &offsets {
                let mut inputs = [std::ptr::null(); 7];
                inputs[0] = io.input::<u8>(0).wrapping_add(o[0]);
                inputs[1] = io.input::<u8>(1).wrapping_add(o[1]);
                if let Some((block, _)) = &weights {
                    inputs[1] = block.ptr().cast_const();
                }
                (0..5).for_each(|i| inputs[2 + i] = io.input(ends[i]));
                // A residual lies as the result does.
                if !row && !inputs[4].is_null() {
                    inputs[4] = inputs[4].wrapping_add(o[2]);
                }
                // SAFETY: buffers have the bound sizes; offsets lie inside them.
                unsafe { windows.run(&sizes, io, &inputs, io.output::<u8>(0).wrapping_add(o[2] * y_bytes))? };
            }
            Ok(())
        })
        .flops(flops)
        .boxed()
    })
}

/// Shape of the weights of the matrix units.
#[derive(Clone, Debug)]
struct Shape {
    /// As the node has it.
    shape: Vec<usize>,
    maps: usize,
    channels: usize,
    taps: usize,
}

impl Shape {
    fn of(node: &NodeView) -> Option<Shape> {
        let shape = node.ty(1)?.static_shape()?;
        let (maps, channels, taps) = match (node.op(), &shape[..]) {
            ("oxrt.QConv", [m, c, taps @ ..]) => (*m, *c, taps.iter().product()),
            ("oxrt.QGemm", [k, n]) => (*n, *k, 1),
            _ => return None,
        };
        (maps * channels * taps > 0).then_some(Shape { shape, maps, channels, taps })
    }

    /// Bytes of a row.
    fn pitch(&self) -> usize {
        (self.channels * self.taps).next_multiple_of(64)
    }

    /// Corrections, as many as let what follows them lie at 16 bytes.
    fn corrections(&self) -> usize {
        self.maps.next_multiple_of(4)
    }

    fn method(&self, tile: usize) -> Method {
        let (tile, warps) = TILES[tile];
        let chunk = [16, 8].into_iter().find(|c| self.channels.is_multiple_of(*c)).unwrap_or(1);
        Method::Bytes { tile, warps, chunk }
    }
}

fn mma_supports(ctx: &Ctx, node: &NodeView) -> Option<()> {
    fused_supports(ctx, node)?;
    require(!is_small(node) && node.constant(1)?.dtype() == DType::I8 && node.attrs().int_or("w_zero", 0).ok()? == 0)?;
    let shape = Shape::of(node)?;
    // A map of few taps would leave the matrix units empty.
    let groups = usize::try_from(node.attrs().int_or("group", 1).ok()?).ok().filter(|&g| g > 0)?;
    require(shape.maps % groups == 0 && (groups == 1 || shape.maps / groups >= 8))
}

/// Weights in rows of maps, then a correction of each map for the zero point of x, then that zero point 16 times.
fn pack_mma<const I: usize>(ctx: &Ctx, node: &NodeView) -> Result<Packing> {
    let shape = Shape::of(node).ok_or_else(|| Error::bug("weights without a shape"))?;
    let w = node.constant(1).ok_or_else(|| Error::bug("the weights are not constant"))?.as_slice::<i8>();
    let zero = node.attrs().int_or("x_zero", 0)?;
    let (pitch, taps, channels, maps) = (shape.pitch(), shape.taps, shape.channels, shape.maps);
    let gemm = node.op() == "oxrt.QGemm";
    let mut bytes = vec![0u8; maps * pitch];
    let mut corrections = Vec::with_capacity(shape.corrections() * 4);
    for (m, row) in bytes.chunks_exact_mut(pitch).enumerate() {
        let mut sum = 0i64;
        for (k, to) in row[..taps * channels].iter_mut().enumerate() {
            let (tap, c) = (k / channels, k % channels);
            let v = if gemm { w[c * maps + m] } else { w[(m * channels + c) * taps + tap] };
            *to = v as u8;
            sum += i64::from(v);
        }
        corrections.extend(((sum * zero) as i32).to_le_bytes());
    }
    corrections.resize(shape.corrections() * 4, 0);
    bytes.extend(corrections);
    bytes.extend([zero as u8; 16]);
    let code = ctx.code(&fused_text(ctx, node, shape.method(I))?)?;
    let packed = Tensor::from_bytes(DType::U8, &[bytes.len()], &bytes)?;
    Ok(Packing { tensors: vec![code, packed], consumed: vec![1] })
}

fn load_mma<const I: usize>(ctx: &Ctx, node: &NodeView, packed: &[Tensor]) -> Result<Box<dyn Kernel>> {
    let shape = Shape::of(node).ok_or_else(|| Error::bug("weights without a shape"))?;
    let weights =
        packed.get(1).filter(|t| t.bytes().len() == shape.maps * shape.pitch() + shape.corrections() * 4 + 16);
    let weights = weights.ok_or_else(|| Error::invalid("the engine holds no weights for the kernel"))?;
    let windows = Windows::load(ctx, packed.first(), true, shape.method(I))?;
    fused(node, windows, Some((ctx.weights(weights)?, shape)))
}

/// One number, or one for each of `maps`.
fn zero_step(args: &BindArgs, i: usize, maps: usize) -> Result<i64> {
    match args.opt_shape(i).map(|s| s.iter().product::<usize>()) {
        None | Some(1) => Ok(0),
        Some(n) if n == maps => Ok(1),
        Some(n) => bail!(unsupported, "{n} zero points for {maps} maps"),
    }
}

fn integer_supports(_: &Ctx, node: &NodeView) -> Option<()> {
    require(byte(node.dtype(0)?) && byte(node.dtype(1)?) && node.output_dtype(0)? == DType::I32)?;
    require((!node.has(2) || node.dtype(2) == node.dtype(0)) && (!node.has(3) || node.dtype(3) == node.dtype(1)))?;
    // One zero point on the left; on the right one, or one per column.
    let len = |i: usize| node.ty(i).map_or(Some(1), |t| t.static_shape().map(|s| s.iter().product::<usize>()));
    require(len(2)? == 1)?;
    require(node.ty(3).is_none_or(|t| t.static_shape().is_some_and(|s| s.len() <= 1)))?;
    require(node.op() == "MatMulInteger" || (3..=5).contains(&node.rank(0)?))
}

fn pack_integer(ctx: &Ctx, node: &NodeView) -> Result<Packing> {
    let text = Text {
        x: c_type(dtype(node, 0)?)?,
        w: c_type(dtype(node, 1)?)?,
        y: "i32",
        sum: "i32",
        channels_last: node.op() == "MatMulInteger",
        transposed: false,
        x_zero: "p.in[0] ? get<C>(*(const TX*)p.in[0]) : 0",
        w_zero: "p.in[1] ? get<C>(((const TW*)p.in[1])[(map) * p.whole[0]]) : 0",
        before: "",
        finish: "return v;",
    };
    only(ctx, &text.write(Method::Simt))
}

fn load_integer(ctx: &Ctx, node: &NodeView, packed: &[Tensor]) -> Result<Box<dyn Kernel>> {
    let conv = node.op() == "ConvInteger";
    let windows = Windows::load(ctx, packed.first(), !conv, Method::Simt)?;
    let attrs = node.attrs().clone();
    let groups = usize::try_from(attrs.int_or("group", 1)?).unwrap_or(0);
    kernel(move |args| {
        let (mut sizes, offsets) = if conv {
            convolution(args, args.shape(1)?, &attrs, groups, false)?
        } else {
            batched(args.shape(0)?, args.shape(1)?, false)?
        };
        let maps = if conv { sizes.maps * groups } else { sizes.maps };
        sizes.whole[0] = zero_step(args, 3, maps)?;
        windows.check(&sizes)?;
        let windows = windows.clone();
        let flops = sizes.flops() * offsets.len().max(1);
        bound(move |io| {
            for o in &offsets {
                let x = io.input::<u8>(0).wrapping_add(o[0]);
                let inputs = [x, io.input::<u8>(1).wrapping_add(o[1]), io.input(2), io.input(3)];
                // SAFETY: buffers have the bound sizes; offsets lie inside them.
                unsafe { windows.run(&sizes, io, &inputs, io.output::<u8>(0).wrapping_add(o[2] * 4))? };
            }
            Ok(())
        })
        .flops(flops)
        .boxed()
    })
}
