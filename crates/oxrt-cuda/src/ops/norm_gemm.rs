//! Products whose rows are normalised on the way (`oxrt.NormGemm`, decision 0025).

use super::gemm::{epilogue_fits, floats, narrow, pack_rows, rows_stream, types, weight_sizes, weights_fixed};
use super::product::{Method, Product, Sizes, TILES, beginning, stream_text};
use super::{Entry, holds, makes, require};
use crate::backend::Ctx;
use crate::gpu::Params;
use oxrt_backend::{Kernel, NodeView, Packing, bound, kernel};
use oxrt_tensor::{DType, Error, Result, Tensor, bail};

stream_entries!("norm_gemm", &["oxrt.NormGemm"], supports, mixes: true, narrow: true);

fn supports(ctx: &Ctx, node: &NodeView) -> Option<()> {
    let of = narrow(ctx, node)?;
    floats(node)?;
    weights_fixed(node)?;
    let [n, k] = weight_sizes(node).ok()?;
    require(k > 0 && of.bytes_for(1) == 2)?;
    rows_stream(ctx, node, n, k)?;
    require(node.dtype(4) == Some(DType::F32))
}

fn pack<const I: usize>(ctx: &Ctx, node: &NodeView) -> Result<Packing> {
    let Some(blocks) = TILES[I].streams else { bail!(bug, "a tile that does not stream") };
    let of = narrow(ctx, node).ok_or_else(|| Error::bug("no narrow type for a product"))?;
    let types = types(node, of)?;
    let centred = u8::from(node.attrs().string_or("norm", "layer")? == "layer");
    let before = format!("#define NORMED 1\n#define CENTERED {centred}\n{}", beginning(node, types, true)?);
    let code = ctx.code(&stream_text(Method::packed(TILES[I], false, of), blocks, types.y, &before)?)?;
    let [n, k] = weight_sizes(node)?;
    let weights = pack_rows(ctx, node, of, k)?;
    // What a row's mean is multiplied by: sums of the weights as they were rounded, so that it goes out exactly.
    let rounded = weights.to_f32_cow()?;
    let sums: Vec<f32> = rounded.chunks(k).map(|row| row.iter().map(|&w| w as f64).sum::<f64>() as f32).collect();
    Ok(Packing { tensors: vec![code, weights, Tensor::from_slice(&[n], &sums)], consumed: vec![1] })
}

fn load<const I: usize>(ctx: &Ctx, node: &NodeView, packed: &[Tensor]) -> Result<Box<dyn Kernel>> {
    let part = |i: usize| packed.get(i).ok_or_else(|| Error::invalid("packed weights are missing"));
    let of = part(1)?.dtype();
    let product = Product::load(ctx, packed.first(), Method::packed(TILES[I], false, of), types(node, of)?)?;
    let [n, k] = weight_sizes(node)?;
    let (weights, sums) = (ctx.weights(part(1)?)?, ctx.weights(part(2)?)?);
    kernel(move |args| {
        let x = args.shape(0)?;
        let m: usize = x[..x.len().saturating_sub(1)].iter().product();
        if x.last() != Some(&k) {
            bail!(invalid, "rows of shape {x:?} for weights of {k} rows");
        }
        makes(args, m * n)?;
        epilogue_fits(args, n)?;
        holds(args, 4, m * 2)?;
        let sizes = Sizes { m, n, k, ldx: k, ldw: k, ldy: n, batch: [1, 1], ..Sizes::default() };
        let plan = product.plan(sizes)?;
        let (product, weights, sums) = (product.clone(), weights.clone(), sums.clone());
        let (workspace, flops) = (plan.workspace(), plan.flops());
        bound(move |io| {
            let operands = [io.input(0), weights.ptr().cast_const(), io.input(2), io.input(3)];
            let ends = |p: Params| p.ptr(io.input::<u8>(4)).ptr(sums.ptr());
            // SAFETY: buffers have the bound sizes, the weights were packed for this node.
            unsafe { product.run_ended(&plan, io, operands, io.output(0), ends) }
        })
        .workspace(workspace)
        .flops(flops)
        .boxed()
    })
}
