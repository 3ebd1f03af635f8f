//! Products of floats of 8 bits (e4m3) with constant weights: on Hopper's units, by the text that streams, or by plain multiply-adds.

use super::product::{Method, Product, Sizes, TILES, Types, stream_text};
use super::windows::{self, Text, Windows, batched};
use super::{Entry, c_type, counts, dtype, holds, makes, output_dtype, require};
use crate::backend::Ctx;
use crate::gpu::Params;
use crate::text::{self, Number};
use oxrt_backend::{Kernel, NodeView, Packing, bound, kernel};
use oxrt_ops::quantised::dtype_of;
use oxrt_ops::scalar::Emit;
use oxrt_tensor::{DType, Error, Result, Tensor, bail};

const OPS: &[&str] = &["oxrt.QGemm"];
const F8: DType = DType::F8E4M3FN;

stream_entries!("f8", OPS, streams, mixes: true, narrow: false);
pub(super) const PLAIN: Entry = Entry::new("f8_plain", OPS, supports, pack_plain, load_plain);

fn supports(_: &Ctx, node: &NodeView) -> Option<()> {
    require(node.dtype(0)? == F8 && node.constant(1)?.dtype() == F8 && node.constant(1)?.rank() == 2)?;
    let real = |i: usize| node.dtype(i).is_none_or(|d| d == DType::F32);
    require(node.has(2) && real(2) && real(3) && (4..7).all(|i| !node.has(i)))?;
    require(super::gemm::is_float(node.output_dtype(0)?) && dtype_of(node.attrs(), "y").ok()?.is_float())
}

fn streams(ctx: &Ctx, node: &NodeView) -> Option<()> {
    supports(ctx, node)?;
    let [k, n] = *node.constant(1)?.shape() else { return None };
    // Rows of 16 bytes.
    require(ctx.gpu.arch() == 90 && k * n > 0 && k % 16 == 0 && n % 8 == 0)
}

/// The function `activate`.
fn activate(ctx: &Ctx, node: &NodeView) -> Result<String> {
    let mut e = Emit::default();
    let input = e.input(0);
    let result = oxrt_ops::activation::emit_attrs(&mut e, node.attrs(), input)?;
    let fast = ctx.precision != oxrt_backend::Precision::F32;
    let (body, y) = text::statements(&e.finish(result), &["x".to_string()], Number::F32, fast);
    Ok(format!("DEVICE f32 activate(f32 x) {{ {body}return {y}; }}\n"))
}

fn pack<const I: usize>(ctx: &Ctx, node: &NodeView) -> Result<Packing> {
    let Some(blocks) = TILES[I].streams else { bail!(bug, "a tile that does not stream") };
    let y = output_dtype(node, 0)?;
    let before = format!("typedef f8e4m3 TW;\ntypedef f32 TR;\ntypedef {} TY;\n{}", c_type(y)?, activate(ctx, node)?);
    let code = ctx.code(&stream_text(Method::packed(TILES[I], false, F8), blocks, y, &before)?)?;
    let w = node.constant(1).ok_or_else(|| Error::bug("the weights are not constant"))?;
    // As [n][k].
    Ok(Packing { tensors: vec![code, oxrt_ops::copy::permute(w, &[1, 0])?], consumed: vec![1] })
}

fn load<const I: usize>(ctx: &Ctx, node: &NodeView, packed: &[Tensor]) -> Result<Box<dyn Kernel>> {
    let missing = || Error::invalid("the engine holds no weights for the kernel");
    let types = Types { x: F8, w: F8, residual: DType::F32, y: output_dtype(node, 0)? };
    let product = Product::load(ctx, packed.first(), Method::packed(TILES[I], false, F8), types)?;
    let weights = packed.get(1).ok_or_else(missing)?;
    let [n, k] = *weights.shape() else { return Err(missing()) };
    let weights = ctx.weights(weights)?;
    kernel(move |args| {
        let x = args.shape(0)?;
        counts(x.iter().product())?;
        let m: usize = x[..x.len().saturating_sub(1)].iter().product();
        if x.last() != Some(&k) {
            bail!(invalid, "rows of shape {x:?} for weights of {k} rows");
        }
        makes(args, m * n)?;
        (2..4).try_for_each(|i| holds(args, i, n))?;
        let sizes = Sizes { m, n, k, ldx: k, ldw: k, ldy: n, batch: [1, 1], ..Sizes::default() };
        let plan = product.plan(sizes)?;
        let (product, weights, workspace) = (product.clone(), weights.clone(), plan.workspace());
        bound(move |io| {
            let operands = [io.input(0), weights.ptr().cast_const(), io.input(3), std::ptr::null()];
            let scale = |p: Params| p.ptr(io.input::<u8>(2));
            // SAFETY: buffers have the bound sizes, the weights were packed for this node.
            unsafe { product.run_ended(&plan, io, operands, io.output(0), scale) }
        })
        .workspace(workspace)
        .flops(2 * m * n * k)
        .boxed()
    })
}

fn pack_plain(ctx: &Ctx, node: &NodeView) -> Result<Packing> {
    let text = Text {
        x: c_type(dtype(node, 0)?)?,
        w: c_type(dtype(node, 1)?)?,
        y: c_type(output_dtype(node, 0)?)?,
        sum: "f32",
        channels_last: true,
        transposed: false,
        x_zero: "0.0f",
        w_zero: "0.0f",
        before: &activate(ctx, node)?,
        finish: "v *= ((const f32*)p.in[0])[map]; if (p.in[1]) v += ((const f32*)p.in[1])[map]; return put<TY>(activate(v));",
    };
    super::each::only(ctx, &text.write(windows::Method::Simt))
}

fn load_plain(ctx: &Ctx, node: &NodeView, packed: &[Tensor]) -> Result<Box<dyn Kernel>> {
    let windows = Windows::load(ctx, packed.first(), true, windows::Method::Simt)?;
    let y_bytes = output_dtype(node, 0)?.bytes_for(1);
    kernel(move |args| {
        let (sizes, offsets) = batched(args.shape(0)?, args.shape(1)?, false)?;
        (2..4).try_for_each(|i| holds(args, i, sizes.maps))?;
        windows.check(&sizes)?;
        let flops = sizes.flops() * offsets.len().max(1);
        let windows = windows.clone();
        bound(move |io| {
            for o in &offsets {
                let x = io.input::<u8>(0).wrapping_add(o[0]);
                let inputs = [x, io.input::<u8>(1).wrapping_add(o[1]), io.input(2), io.input(3)];
                // SAFETY: buffers have the bound sizes; offsets lie inside them.
                unsafe { windows.run(&sizes, io, &inputs, io.output::<u8>(0).wrapping_add(o[2] * y_bytes))? };
            }
            Ok(())
        })
        .flops(flops)
        .boxed()
    })
}
