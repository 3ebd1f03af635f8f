//! `oxrt.BlockGemm` and `oxrt.GatherBlocks`: products with weights of few bits and rows of tables of them, which stay so in memory.

use super::index::{Indices, out_of_range};
use super::quantised::packed_as;
use super::{Entry, float, float_or_absent, holds, makes, pack_nothing, require};
use crate::backend::{Ctx, bound, kernel};
use crate::compute::block_gemm::{Operands, Weights};
use crate::compute::{Shared, cut};
use oxrt_backend::{Kernel, NodeView, Packing};
use oxrt_ir::{DType, Tensor};
use oxrt_tensor::{Error, Result, bail};
use std::sync::atomic::{AtomicBool, Ordering};

pub(super) const BLOCK_GEMM: Entry = Entry { name: "block_gemm", ops: &["oxrt.BlockGemm"], supports, pack, load };

pub(super) const GATHER_BLOCKS: Entry = Entry {
    name: "gather_blocks",
    ops: &["oxrt.GatherBlocks"],
    supports: gather_supports,
    pack: pack_nothing,
    load: gather_load,
};

/// The weights' form, from the type of input 1.
fn weights(node: &NodeView) -> Option<Weights> {
    form(node, 1)
}

/// The form of the codes in input `i`.
fn form(node: &NodeView, i: usize) -> Option<Weights> {
    let &[n, k] = &super::static_shape(node, i)?[..] else { return None };
    let bits = match node.dtype(i)? {
        DType::U2 => 2,
        DType::U4 => 4,
        DType::U8 => 8,
        _ => return None,
    };
    let block = usize::try_from(node.attrs().int_or("block_size", 0).ok()?).ok()?;
    (block > 0 && block.is_multiple_of(16)).then_some(Weights { k, n, bits, block })
}

fn supports(node: &NodeView) -> Option<()> {
    float(node, 0)?;
    float_or_absent(node, 2)?;
    float(node, 3)?;
    float_or_absent(node, 4)?;
    require(node.constant(1).is_some() && node.constant(3).is_some() && node.rank(0)? >= 1)?;
    require(!node.has(4) || node.constant(4).is_some())?;
    weights(node).map(drop)
}

fn pack(ctx: &Ctx, node: &NodeView) -> Result<Packing> {
    let form = weights(node).ok_or_else(|| Error::bug("weights without a form"))?;
    let get = |i: usize| node.constant(i).ok_or_else(|| Error::bug("the weights are not constant"));
    let (codes, scale) = (get(1)?, get(3)?);
    let blocks = form.blocks();
    let numbers = |t: &Tensor| -> Result<Vec<f32>> {
        if t.len() != form.n * blocks {
            bail!(invalid, "{} numbers for {} columns of {blocks} blocks", t.len(), form.n);
        }
        Ok(t.to_f32_cow()?.into_owned())
    };
    let scales = numbers(scale)?;
    let zeros = if node.has(4) { numbers(get(4)?)? } else { vec![0.0; scales.len()] };
    let (bytes, bits) = (codes.bytes(), form.bits);
    // Codes lie one behind the other, the first in the lowest bits.
    let code = |row: usize, column: usize| {
        let at = (column * form.k + row) * bits;
        bytes[at / 8] >> (at % 8) & (0xffu8 >> (8 - bits))
    };
    let packed = form.pack(
        ctx.kernels.lanes,
        code,
        |block, column| scales[column * blocks + block],
        |block, column| zeros[column * blocks + block],
    );
    let mut packing = Packing {
        tensors: vec![
            Tensor::from_slice(&[packed.codes.len()], &packed.codes),
            Tensor::from_slice(&[packed.scales.len()], &packed.scales),
        ],
        consumed: if node.has(4) { vec![1, 3, 4] } else { vec![1, 3] },
    };
    if !packed.zeros.is_empty() {
        packing.tensors.push(Tensor::from_slice(&[packed.zeros.len()], &packed.zeros));
    }
    Ok(packing)
}

fn load(ctx: &Ctx, node: &NodeView, packed: &[Tensor]) -> Result<Box<dyn Kernel>> {
    let form = weights(node).ok_or_else(|| Error::bug("weights without a form"))?;
    let lanes = ctx.kernels.lanes;
    let codes = packed_as::<i32>(packed, 0, form.codes_len(lanes))?;
    let scales = packed_as::<f32>(packed, 1, form.scales_len(lanes))?;
    let zeros = if packed.len() > 2 { Some(packed_as::<f32>(packed, 2, form.scales_len(lanes))?) } else { None };
    let ctx = ctx.clone();
    kernel(move |args| {
        let x = args.shape(0)?;
        if x.last() != Some(&form.k) {
            bail!(invalid, "weights for {} columns cannot take a tensor of shape {x:?}", form.k);
        }
        let m: usize = x[..x.len() - 1].iter().product();
        makes(args, m * form.n)?;
        holds(args, 2, form.n)?;
        let (ctx, codes, scales, zeros) = (ctx.clone(), codes.clone(), scales.clone(), zeros.clone());
        let workspace = form.workspace_len(ctx.kernels, m, ctx.threads()) * 4;
        bound(move |io| {
            let op = Operands {
                x: io.input(0),
                codes: codes.as_slice::<i32>().as_ptr(),
                scales: scales.as_slice::<f32>().as_ptr(),
                zeros: zeros.as_ref().map_or(core::ptr::null(), |z| z.as_slice::<f32>().as_ptr()),
                bias: io.input(2),
                y: io.output(0),
            };
            // SAFETY: buffers have the bound sizes, the weights were packed for these kernels.
            unsafe { form.run(ctx.kernels, &ctx.pool, m, &op, io.workspace.cast()) }
        })
        .workspace(workspace)
        .flops(2 * m * form.n * form.k)
        .boxed()
    })
}

fn gather_supports(node: &NodeView) -> Option<()> {
    float(node, 2)?;
    float_or_absent(node, 3)?;
    require(matches!(node.dtype(1)?, DType::I64 | DType::I32))?;
    form(node, 0).map(drop)
}

fn gather_load(ctx: &Ctx, node: &NodeView, _: &[Tensor]) -> Result<Box<dyn Kernel>> {
    let form = form(node, 0).ok_or_else(|| Error::bug("a table without a form"))?;
    let wide = node.dtype(1) == Some(DType::I64);
    let ctx = ctx.clone();
    kernel(move |args| {
        let rows: usize = args.shape(1)?.iter().product();
        let Weights { k, n, bits, block } = form;
        let blocks = form.blocks();
        makes(args, rows * k)?;
        holds(args, 2, n * blocks)?;
        holds(args, 3, n * blocks)?;
        let ctx = ctx.clone();
        bound(move |io| {
            let indices = Indices::of(io, wide);
            let codes = Shared(io.inputs[0].cast_mut());
            let (scales, zeros) = (Shared(io.input::<f32>(2).cast_mut()), Shared(io.input::<f32>(3).cast_mut()));
            let (y, sound) = (Shared(io.output::<f32>(0)), AtomicBool::new(true));
            let parts = ctx.pool.parts(rows * k / 4096).min(rows.max(1));
            ctx.pool.run(parts, |part| {
                let (start, count) = cut(rows, parts, part);
                for i in start..start + count {
                    // SAFETY: indices are checked; rows of the result are disjoint.
                    unsafe {
                        let Some(row) = indices.at(i, n) else {
                            sound.store(false, Ordering::Relaxed);
                            continue;
                        };
                        for b in 0..blocks {
                            let scale = *scales.at(row * blocks + b);
                            let zero = if zeros.get().is_null() { 0.0 } else { *zeros.at(row * blocks + b) };
                            for column in b * block..k.min((b + 1) * block) {
                                let at = (row * k + column) * bits;
                                let code = *codes.at(at / 8) >> (at % 8) & (0xffu8 >> (8 - bits));
                                *y.at(i * k + column) = (f32::from(code) - zero) * scale;
                            }
                        }
                    }
                }
            });
            if sound.into_inner() { Ok(()) } else { Err(out_of_range()) }
        })
        .boxed()
    })
}
