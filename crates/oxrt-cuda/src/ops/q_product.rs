//! Products and convolutions of quantised tensors, summed in 32 bits: the fused forms that the passes leave, and ONNX's integer
//! operators.

use super::each::{only, strict};
use super::windows::{Sizes, Text, Windows, batched};
use super::{Entry, c_type, counts, dtype, holds, makes, output_dtype, require};
use crate::backend::Ctx;
use crate::text::{self, Number, stored};
use oxrt_backend::{BindArgs, Kernel, NodeView, Packing, Precision, bound, kernel};
use oxrt_ir::Attrs;
use oxrt_ops::quantised::{Linear, dtype_of};
use oxrt_ops::scalar::Emit;
use oxrt_ops::window::Window;
use oxrt_tensor::{DType, Result, Tensor, bail};

const END: &str = include_str!("../text/quantised.cuh");

pub(super) const FUSED: Entry =
    strict("q_product", &["oxrt.QGemm", "oxrt.QMatMul", "oxrt.QConv"], fused_supports, pack_fused, load_fused);
pub(super) const INTEGER: Entry =
    strict("integer_product", &["MatMulInteger", "ConvInteger"], integer_supports, pack_integer, load_integer);

pub(super) fn byte(d: DType) -> bool {
    matches!(d, DType::U8 | DType::I8)
}

/// Where the inputs of the end lie: scale, bias, residual, table, table before the residual.
fn ends(op: &str) -> [usize; 5] {
    // QMatMul has a table alone; what it has not lies behind all inputs.
    if op == "oxrt.QMatMul" { [8, 8, 8, 2, 8] } else { [2, 3, 4, 5, 6] }
}

fn fused_supports(_: &Ctx, node: &NodeView) -> Option<()> {
    require(byte(node.dtype(0)?) && byte(node.dtype(1)?) && stored(node.output_dtype(0)?).is_some())?;
    let [scale, bias, residual, table, middle] = ends(node.op());
    require([scale, bias].into_iter().all(|i| node.dtype(i).is_none_or(|d| d == DType::F32)))?;
    require([residual, middle].into_iter().all(|i| node.dtype(i).is_none_or(byte)))?;
    require(node.dtype(table).is_none_or(|d| stored(d).is_some()))?;
    require(node.op() != "oxrt.QConv" || (3..=5).contains(&node.rank(0)?))?;
    require(node.op() == "oxrt.QMatMul" || node.has(2))?;
    numbers(node.attrs(), node.has(residual), node.has(middle)).ok().map(|_| ())
}

/// The numbers that the end reads, in its order.
pub(super) fn numbers(attrs: &Attrs, residual: bool, middle: bool) -> Result<([i64; 10], [f32; 5])> {
    let (mut whole, mut number) = ([0; 10], [1.0; 5]);
    if residual {
        let (mid, r) = (Linear::from_attrs(attrs, "mid")?, Linear::from_attrs(attrs, "r")?);
        (whole[2], whole[3], whole[4], whole[6]) = (mid.zero, mid.low, mid.high, r.zero);
        (number[0], number[2]) = (mid.scale, r.scale);
    }
    if middle {
        let t = Linear::from_attrs(attrs, "t")?;
        (whole[5], number[1]) = (t.zero, t.scale);
    }
    if !dtype_of(attrs, "y")?.is_float() {
        let y = Linear::from_attrs(attrs, "y")?;
        (whole[7], whole[8], whole[9], number[3]) = (y.zero, y.low, y.high, y.scale);
    }
    Ok((whole, number))
}

/// Types, activation and functions of the end, for the inputs that `ends` names.
pub(super) fn end_text(ctx: &Ctx, node: &NodeView, ends: [usize; 5]) -> Result<String> {
    let mut e = Emit::default();
    let input = e.input(0);
    let result = oxrt_ops::activation::emit_attrs(&mut e, node.attrs(), input)?;
    let fast = ctx.precision != Precision::F32;
    let (body, y) = text::statements(&e.finish(result), &["x".to_string()], Number::F32, fast);
    let [_, _, residual, table, middle] = ends;
    let ty = |i: usize, default: DType| c_type(node.dtype(i).unwrap_or(default));
    let out = output_dtype(node, 0)?;
    // Bytes of a table are moved as they lie.
    let from_table = if node.has(table) { "" } else { "put<TY>" };
    Ok(format!(
        "typedef {} TR;\ntypedef {} TT;\ntypedef {} TM;\n#define QUANTISED {}\n#define FROM_TABLE {from_table}\n\
         DEVICE f32 activate(f32 x) {{ {body}return {y}; }}\n{END}",
        ty(residual, DType::U8)?,
        ty(table, out)?,
        ty(middle, DType::U8)?,
        u8::from(!dtype_of(node.attrs(), "y")?.is_float())
    ))
}

fn pack_fused(ctx: &Ctx, node: &NodeView) -> Result<Packing> {
    let ends = ends(node.op());
    let before = end_text(ctx, node, ends)?;
    let finish = "f32 f = p.in[0] ? (f32)v * ((const f32*)p.in[0])[map] : (f32)v * p.number[4]; \
         if (p.in[1]) f += ((const f32*)p.in[1])[map]; \
         return end(p, f, (const TR*)p.in[2], p.whole[1] >> 16 ? map : at, (const TT*)p.in[3], (const TM*)p.in[4]);";
    let text = Text {
        x: c_type(dtype(node, 0)?)?,
        w: c_type(dtype(node, 1)?)?,
        y: c_type(output_dtype(node, 0)?)?,
        sum: "i32",
        channels_last: true,
        transposed: false,
        x_zero: "p.whole[0]",
        // The upper half says whether the residual is one row.
        w_zero: "(i32)(i16)(p.whole[1] & 0xffff)",
        before: &before,
        finish,
    };
    only(ctx, &text.write())
}

/// Sizes, and offsets of launches.
type Bindings = (Sizes, Vec<[usize; 3]>);

fn convolution(args: &BindArgs, attrs: &Attrs, groups: usize, last: bool) -> Result<Bindings> {
    let (x, w, y) = (args.shape(0)?, args.shape(1)?, args.output(0)?);
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

fn load_fused(ctx: &Ctx, node: &NodeView, packed: &[Tensor]) -> Result<Box<dyn Kernel>> {
    let windows = Windows::load(ctx, packed.first(), true)?;
    let attrs = node.attrs().clone();
    let ends = ends(node.op());
    let (mut whole, mut number) = numbers(&attrs, node.has(ends[2]), node.has(ends[4]))?;
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
        let (mut sizes, offsets) = if conv {
            convolution(args, &attrs, groups, true)?
        } else {
            let (sizes, offsets) = batched(args.shape(0)?, args.shape(1)?, turned)?;
            makes(args, offsets.len() * sizes.groups[0] * sizes.groups[1] * sizes.images * sizes.output[2] * sizes.maps)?;
            (sizes, offsets)
        };
        let maps = if conv { sizes.maps * groups } else { sizes.maps };
        let len: usize = args.output(0)?.iter().product();
        holds(args, ends[0], maps)?;
        holds(args, ends[1], maps)?;
        holds(args, ends[3], 256)?;
        holds(args, ends[4], 256)?;
        let row = args.opt_shape(ends[2]).is_some_and(|s| *s == [maps] && len != maps);
        if !row {
            holds(args, ends[2], len)?;
        }
        sizes.whole = whole;
        sizes.whole[1] = (zeros[1] & 0xffff) | i64::from(row) << 16;
        sizes.number = number;
        windows.check(&sizes)?;
        let flops = sizes.flops() * offsets.len().max(1);
        let windows = windows.clone();
        bound(move |io| {
            for o in &offsets {
                let mut inputs = [std::ptr::null(); 7];
                inputs[0] = io.input::<u8>(0).wrapping_add(o[0]);
                inputs[1] = io.input::<u8>(1).wrapping_add(o[1]);
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
    only(ctx, &text.write())
}

fn load_integer(ctx: &Ctx, node: &NodeView, packed: &[Tensor]) -> Result<Box<dyn Kernel>> {
    let conv = node.op() == "ConvInteger";
    let windows = Windows::load(ctx, packed.first(), !conv)?;
    let attrs = node.attrs().clone();
    let groups = usize::try_from(attrs.int_or("group", 1)?).unwrap_or(0);
    kernel(move |args| {
        let (mut sizes, offsets) = if conv {
            convolution(args, &attrs, groups, false)?
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
