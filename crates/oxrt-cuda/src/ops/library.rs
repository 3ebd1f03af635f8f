//! Products and pointwise convolutions by cuBLASLt, where it is installed; an activation that it does not know follows in a
//! pass of its own.

use super::gemm::{epilogue_fits, exact, floats, narrow};
use super::map::{Map, MapPlan, text};
use super::{Entry, dtype, makes, output_dtype, require};
use crate::backend::Ctx;
use crate::libraries::ProductSpec;
use oxrt_backend::{Kernel, NodeView, Packing, bound, kernel};
use oxrt_ops::scalar::Emit;
use oxrt_tensor::{DType, Error, Result, Tensor, bail};
use std::sync::Arc;

pub(super) const GEMM: Entry = entry("gemm_cublaslt", &["oxrt.Gemm"]);
pub(super) const CONV: Entry = entry("conv_cublaslt", &["oxrt.Conv"]);

const fn entry(name: &'static str, ops: &'static [&'static str]) -> Entry {
    Entry { name, ops, supports, pack, load, mixes: true, narrow: true, timed: true, counts: false }
}

/// [n, k] of the weights, and whether they lie as [k][n].
fn weight_sizes(node: &NodeView) -> Option<([usize; 2], bool)> {
    let shape = node.ty(1)?.static_shape()?;
    match (node.op(), &shape[..]) {
        ("oxrt.Gemm", &[a, b]) => {
            let rows = node.attrs().bool_or("trans_b", false).ok()?;
            Some(if rows { ([a, b], false) } else { ([b, a], true) })
        }
        ("oxrt.Conv", [n, k, kernel @ ..]) => {
            let all = |name: &str, value: i64| {
                node.attrs().ints(name).ok().map(|list| list.unwrap_or(&[]).iter().all(|&v| v == value))
            };
            let pads = node.attrs().string_or("auto_pad", "NOTSET").ok()? == "NOTSET";
            let plain = kernel.iter().all(|&k| k == 1) && all("strides", 1)? && all("pads", 0)? && pads;
            let whole = node.attrs().int_or("group", 1).ok()? == 1;
            (plain && whole).then_some(([*n, *k], false))
        }
        _ => None,
    }
}

fn supports(ctx: &Ctx, node: &NodeView) -> Option<()> {
    require(ctx.libraries && ctx.gpu.as_cuda()?.libraries.has_matmul())?;
    floats(node)?;
    let of = narrow(ctx, node)?;
    require(!exact(ctx, of))?;
    // The library takes operands of one type, whose rows start at 16 bytes.
    let same = |d: Option<DType>| require(d == Some(of));
    same(node.dtype(0))?;
    same(node.output_dtype(0))?;
    require(!node.has(3) || node.dtype(3) == Some(of))?;
    require(node.constant(1)?.dtype() == DType::F32 && (!node.has(2) || node.constant(2).is_some()))?;
    let ([n, k], _) = weight_sizes(node)?;
    require(n % 8 == 0 && k % 8 == 0)
}

/// Whether an activation follows that the library does not know.
fn follows(node: &NodeView) -> Result<bool> {
    Ok(!matches!(node.attrs().string_or("activation", "none")?, "none" | "relu"))
}

fn pack(ctx: &Ctx, node: &NodeView) -> Result<Packing> {
    let bug = || Error::bug("no weights for a product of the library");
    let of = narrow(ctx, node).ok_or_else(bug)?;
    let ([n, k], turned) = weight_sizes(node).ok_or_else(bug)?;
    let data = node.constant(1).ok_or_else(bug)?.to_f32_cow()?;
    let rows: Vec<f32> = (0..n * k).map(|i| data[if turned { i % k * n + i / k } else { i }]).collect();
    let mut tensors = vec![super::as_factors(&[n, k], rows, of, false)?];
    let mut consumed = vec![1];
    if let Some(bias) = node.constant(2) {
        tensors.push(super::as_type(&[n], &bias.to_f32_cow()?, of)?);
        consumed.push(2);
    }
    if follows(node)? {
        tensors.push(activation_behind(ctx, node, of)?);
    }
    Ok(Packing { tensors, consumed })
}

/// The code of the pass over a result of type `of` that does a node's activation.
pub(super) fn activation_behind(ctx: &Ctx, node: &NodeView, of: DType) -> Result<Tensor> {
    let mut e = Emit::default();
    let x = e.input(0);
    let y = oxrt_ops::activation::emit_attrs(&mut e, node.attrs(), x)?;
    ctx.code(&text(&[of], of, &e.finish(y), true, false)?)
}

fn load(ctx: &Ctx, node: &NodeView, packed: &[Tensor]) -> Result<Box<dyn Kernel>> {
    let missing = || Error::invalid("packed weights are missing");
    let Some(([n, k], _)) = weight_sizes(node) else { bail!(bug, "no weights for a product of the library") };
    let of = output_dtype(node, 0)?;
    if let Some(cuda) = ctx.gpu.as_cuda() {
        cuda.libraries.open(&*ctx.gpu);
    }
    let weights = ctx.weights(packed.first().ok_or_else(missing)?)?;
    let bias = if node.has(2) { Some(ctx.weights(packed.get(1).ok_or_else(missing)?)?) } else { None };
    let after = match follows(node)? {
        true => Some(Arc::new(Map::load(ctx, packed.last(), &[of], of)?)),
        false => None,
    };
    let relu = node.attrs().string_or("activation", "none")? == "relu";
    if dtype(node, 0)? != of {
        bail!(bug, "operands of several types for a product of the library");
    }
    let gpu = ctx.gpu.clone();
    let open = node.ty(0).is_none_or(|t| t.static_shape().is_none());
    kernel(move |args| {
        let x = args.shape(0)?;
        let rows: usize = x[..x.len().saturating_sub(1)].iter().product();
        if x.last() != Some(&k) {
            bail!(invalid, "rows of shape {x:?} for weights of {k} rows");
        }
        makes(args, rows * n)?;
        epilogue_fits(args, n)?;
        let cuda = gpu.as_cuda().ok_or_else(|| Error::unsupported("a product of a library on the emulator"))?;
        cuda.enter()?;
        let bias_ptr = bias.as_ref().map_or(std::ptr::null(), |b| b.ptr().cast_const());
        let m = rows.max(1);
        // Where sizes are open, few kernels serve all of them.
        let chosen_for = if open { m.next_power_of_two() } else { m };
        let spec = ProductSpec { m, chosen_for, n, k, pitch: k, of, bias: bias.is_some(), bias_ptr, relu };
        let product = cuda.libraries.product(&spec)?;
        let plan: Option<MapPlan> =
            after.as_ref().map(|map| map.plan(&[rows * n], &[(vec![1], 0)], (vec![1], 0))).transpose()?;
        // The bias must stay as long as its pointer is in the description.
        let (weights, bias, after) = (weights.clone(), bias.clone(), after.clone());
        let workspace = product.workspace();
        bound(move |io| {
            let _ = &bias;
            if rows == 0 {
                return Ok(());
            }
            let y = io.output::<u8>(0);
            // SAFETY: buffers have the bound sizes, the weights were packed for this node.
            unsafe {
                product.run(io.device.queue, io.input(0), weights.ptr(), io.input(3), y, io.workspace)?;
                match (&after, &plan) {
                    (Some(map), Some(plan)) => plan.run(map, io, &[y.cast_const()], y),
                    _ => Ok(()),
                }
            }
        })
        .workspace(workspace)
        .flops(2 * rows * n * k)
        .boxed()
    })
}
