//! Convolutions and products with constant weights, multiplied in bfloat16 and summed in single precision.
//!
//! Inputs and results may be of either type. Elsewhere in this crate a node's numbers are exactly those of single precision;
//! these entries are offered only where the build allows bfloat16, or where the operands have it anyway.

use super::conv::{self, Geometry};
use super::gemm;
use super::{Entry, activation, known_shape, makes, require, static_shape};
use crate::backend::{Ctx, bound, kernel};
use crate::compute::conv_bf16::{self, ConvBf16};
use crate::compute::gemm::{Matrix, Size};
use crate::compute::gemm_bf16::{self, Out, Plan};
use crate::kernels::bf16::Bf16Unit;
use oxrt_backend::{Kernel, NodeView, Packing};
use oxrt_ir::{DType, Tensor};
use oxrt_tensor::{Error, Result, bail};

/// `oxrt.Conv`: channels last.
pub(super) const CONV: Entry =
    Entry { name: "conv_bf16", ops: &["oxrt.Conv"], supports: conv_supports, pack: conv_pack, load: conv_load };

/// A product with a constant right operand.
pub(super) const GEMM: Entry = Entry {
    name: "gemm_bf16",
    ops: &["oxrt.Gemm", "Gemm", "MatMul"],
    supports: gemm_supports,
    pack: gemm_pack,
    load: gemm_load,
};

/// Shorter inner products than this waste more of the unit than it gains.
const SHORT: usize = 8;

fn is_half(dtype: Option<DType>) -> Option<bool> {
    match dtype {
        Some(DType::F32) => Some(false),
        Some(DType::BF16) => Some(true),
        _ => None,
    }
}

/// Types that the entries take: operand, weights, addends and result of either width; a bias that is not constant of single
/// precision, because it is added in it.
fn types(node: &NodeView) -> Option<()> {
    Bf16Unit::best()?;
    for i in [0, 1] {
        is_half(node.dtype(i))?;
    }
    if node.has(2) {
        require(node.dtype(2) == Some(DType::F32) || (is_half(node.dtype(2))? && node.constant(2).is_some()))?;
    }
    if node.has(3) {
        is_half(node.dtype(3))?;
    }
    is_half(node.output_dtype(0))?;
    Some(())
}

pub(super) fn conv_supports(node: &NodeView) -> Option<()> {
    types(node)?;
    conv::has_constant_filter(node)?;
    let filter = conv::filter(node, &static_shape(node, 1)?).ok()?;
    let (cg, mg) = (filter.cin / filter.groups, filter.cout / filter.groups);
    require(!filter.is_depthwise() && cg * filter.taps >= SHORT && mg >= 8)
}

/// The constants that are added per column, as single precision; they are packed when they are not so already.
fn pack_bias(node: &NodeView, scale: f32, packing: &mut Packing) -> Result<()> {
    if node.has(2) && (node.dtype(2) == Some(DType::BF16) || scale != 1.0) {
        let bias = node.constant(2).ok_or_else(|| Error::bug("the addend is not constant"))?;
        let bias: Vec<f32> = bias.to_f32_cow()?.iter().map(|v| v * scale).collect();
        packing.tensors.push(super::packed_tensor(&bias));
        packing.consumed.push(2);
    }
    Ok(())
}

/// The values of bfloat16 of packed tensor `i`, checked to be `len` long.
pub(super) fn packed_halves(packed: &[Tensor], i: usize, len: usize) -> Result<Tensor> {
    let tensor = packed.get(i).ok_or_else(|| Error::invalid("packed weights are missing"))?;
    match tensor.get_slice::<u16>() {
        Some(halves) if halves.len() == len => Ok(tensor.clone()),
        _ => Err(Error::invalid(format!("packed weights are {tensor:?}, not {len} values of bfloat16"))
            .help("the engine was built by another version; build it again")),
    }
}

pub(super) fn unit() -> Result<&'static Bf16Unit> {
    Bf16Unit::best().ok_or_else(|| {
        Error::unsupported("the engine multiplies in bfloat16, which this CPU has no unit for")
            .help("build it here, or with `--precision fp32`")
    })
}

fn conv_pack(_: &Ctx, node: &NodeView) -> Result<Packing> {
    let w = node.constant(1).ok_or_else(|| Error::bug("the weights are not constant"))?;
    let filter = conv::filter(node, w.shape())?;
    let mut packed = vec![0u16; conv_bf16::packed_len(&filter)];
    conv_bf16::pack(&filter, &w.to_f32_cow()?, &mut packed);
    let mut packing = Packing { tensors: vec![Tensor::from_slice(&[packed.len()], &packed)], consumed: vec![1] };
    pack_bias(node, 1.0, &mut packing)?;
    Ok(packing)
}

fn conv_load(ctx: &Ctx, node: &NodeView, packed: &[Tensor]) -> Result<Box<dyn Kernel>> {
    let unit = unit()?;
    let shape = known_shape(node, 1)?;
    let filter = conv::filter(node, &shape)?;
    let w = packed_halves(packed, 0, conv_bf16::packed_len(&filter))?;
    let bias = if packed.len() > 1 { Some(super::packed_floats(packed, 1, filter.cout)?) } else { None };
    let geometry = Geometry::of(node, filter, &shape, true)?;
    let act = activation(node.attrs())?;
    let halves = Halves::of(node)?;
    let ctx = ctx.clone();
    kernel(move |args| {
        let y: usize = args.output(0)?.iter().product();
        let window = geometry.window(args)?;
        let threads = ctx.threads();
        let conv = match halves.input {
            true => ConvBf16::new::<u16>(unit, filter, window, threads),
            false => ConvBf16::new::<f32>(unit, filter, window, threads),
        };
        let (workspace, flops) = (conv.workspace_bytes(), 2 * y * filter.taps * (filter.cin / filter.groups));
        let (ctx, w, bias) = (ctx.clone(), w.clone(), bias.clone());
        bound(move |io| {
            let out = Out {
                c: io.output(0),
                c_half: halves.output,
                c_stride: filter.cout,
                bias: bias.as_ref().map_or(io.input(2), |b| b.as_slice::<f32>().as_ptr()),
                residual: io.input(3),
                residual_half: halves.residual,
                residual_stride: filter.cout,
                act,
            };
            let w = w.as_slice::<u16>().as_ptr();
            // SAFETY: buffers have the bound sizes and types, the weights were packed for this filter.
            unsafe {
                match halves.input {
                    true => conv.run(&ctx.pool, io.input::<u16>(0), w, &out, io.workspace),
                    false => conv.run(&ctx.pool, io.input::<f32>(0), w, &out, io.workspace),
                }
            }
        })
        .workspace(workspace)
        .flops(flops)
        .boxed()
    })
}

/// Which of a node's tensors are bfloat16.
#[derive(Clone, Copy)]
struct Halves {
    input: bool,
    residual: bool,
    output: bool,
}

impl Halves {
    fn of(node: &NodeView) -> Result<Halves> {
        let is = |dtype| is_half(dtype).ok_or_else(|| Error::bug("a product of other types than it was chosen for"));
        Ok(Halves {
            input: is(node.dtype(0))?,
            residual: node.has(3) && is(node.dtype(3))?,
            output: is(node.output_dtype(0))?,
        })
    }
}

pub(super) fn gemm_supports(node: &NodeView) -> Option<()> {
    types(node)?;
    require(node.constant(1)?.rank() == 2 && node.rank(0)? >= 1)?;
    let spec = gemm::spec(node).ok()?;
    require(!spec.trans_a)?;
    let (k, n, ..) = gemm::operand(&static_shape(node, 1)?, spec.trans_b);
    if node.has(2) {
        require(gemm::is_row(&static_shape(node, 2)?, n))?;
        require(spec.beta == 1.0 || node.constant(2).is_some())?;
    }
    require(k >= SHORT && n >= 8)
}

fn gemm_pack(_: &Ctx, node: &NodeView) -> Result<Packing> {
    let spec = gemm::spec(node)?;
    let w = node.constant(1).ok_or_else(|| Error::bug("the right operand is not constant"))?;
    let scaled: Vec<f32> = w.to_f32_cow()?.iter().map(|v| v * spec.alpha).collect();
    let (k, n, row, col) = gemm::operand(w.shape(), spec.trans_b);
    let mut packed = vec![0u16; gemm_bf16::packed_len(k, n)];
    gemm_bf16::pack(k, n, &scaled, row, col, &mut packed);
    let mut packing = Packing { tensors: vec![Tensor::from_slice(&[packed.len()], &packed)], consumed: vec![1] };
    pack_bias(node, spec.beta, &mut packing)?;
    Ok(packing)
}

fn gemm_load(ctx: &Ctx, node: &NodeView, packed: &[Tensor]) -> Result<Box<dyn Kernel>> {
    let unit = unit()?;
    let spec = gemm::spec(node)?;
    let (k, n, ..) = gemm::operand(&known_shape(node, 1)?, spec.trans_b);
    let w = packed_halves(packed, 0, gemm_bf16::packed_len(k, n))?;
    let bias = if packed.len() > 1 { Some(super::packed_floats(packed, 1, n)?) } else { None };
    let halves = Halves::of(node)?;
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
        let as_it_lies = halves.input && k.is_multiple_of(unit.step);
        let plan = Plan::new(unit, Size::plain(m, n, k), ctx.threads(), as_it_lies.then_some(k));
        let (ctx, w, bias, act) = (ctx.clone(), w.clone(), bias.clone(), spec.act);
        // A residual is read just before its tile is written.
        let in_place: &[usize] = if has_residual && halves.residual == halves.output { &[3] } else { &[] };
        bound(move |io| {
            let out = Out {
                c: io.output(0),
                c_half: halves.output,
                c_stride: n,
                bias: bias.as_ref().map_or(io.input(2), |b| b.as_slice::<f32>().as_ptr()),
                residual: io.input(3),
                residual_half: halves.residual,
                residual_stride: n,
                act,
            };
            let w = w.as_slice::<u16>().as_ptr();
            // SAFETY: buffers have the bound sizes and types, the weights were packed for this product.
            unsafe {
                if halves.input {
                    let rows = Matrix { data: io.input::<u16>(0), stride: k };
                    gemm_bf16::run(unit, &ctx.pool, &plan, &rows, w, &out, io.workspace);
                } else {
                    let rows = Matrix { data: io.input::<f32>(0), stride: k };
                    gemm_bf16::run(unit, &ctx.pool, &plan, &rows, w, &out, io.workspace);
                }
            }
        })
        .workspace(plan.workspace_bytes())
        .in_place(in_place)
        .flops(2 * m * n * k)
        .boxed()
    })
}
