//! LSTM, GRU and RNN with constant weights and ONNX's default activations (and `Relu` or `Sigmoid` for RNN); LSTM with peepholes,
//! limits and coupled gates too.

use super::bf16::packed_halves;
use super::{Entry, float, float_or_absent, holds, known_shape, packed_floats, packed_tensor, require};
use crate::backend::{Ctx, bound, kernel};
use crate::compute::recurrent::{Cell, Columns, Layer, Operands, Weights};
use crate::compute::{Shared, gemm, gemm_bf16};
use crate::kernels::activation::Act;
use crate::kernels::bf16::Bf16Unit;
use crate::kernels::recurrent::LstmExtras;
use oxrt_backend::{BindArgs, Kernel, NodeView, Packing};
use oxrt_ir::{DType, Tensor};
use oxrt_tensor::{Error, Result, bail};

pub(super) const RECURRENT: Entry = Entry {
    name: "recurrent",
    ops: OPS,
    supports,
    pack: |ctx, node| pack(ctx, node, None),
    load: |ctx, node, packed| load(ctx, node, packed, None),
};

/// The same with products of bfloat16; states and gates stay in single precision.
pub(super) const RECURRENT_BF16: Entry = Entry {
    name: "recurrent_bf16",
    ops: OPS,
    supports: |node| {
        Bf16Unit::best()?;
        supports(node)?;
        (0..node.num_outputs()).try_for_each(|i| require(matches!(node.output_dtype(i), None | Some(DType::F32))))
    },
    pack: |ctx, node| pack(ctx, node, Some(super::bf16::unit()?)),
    load: |ctx, node, packed| load(ctx, node, packed, Some(super::bf16::unit()?)),
};

const OPS: &[&str] = &["LSTM", "GRU", "RNN"];

/// Recurrent weights that stay in a processor's second cache from step to step.
const CACHE_BYTES: usize = 1 << 20;

/// The cell, where its activations are among those that it has kernels for.
fn cell(node: &NodeView) -> Option<Cell> {
    let attrs = node.attrs();
    let names = attrs.get_strings("activations").ok()?.map_or(&[][..], |names| names);
    let usual = |usual: &[&str]| names.iter().zip(usual.iter().cycle()).all(|(a, b)| a.eq_ignore_ascii_case(b));
    match node.op() {
        "LSTM" => usual(&["Sigmoid", "Tanh", "Tanh"]).then_some(Cell::Lstm),
        "GRU" => {
            let linear = attrs.int_or("linear_before_reset", 0).ok()? != 0;
            usual(&["Sigmoid", "Tanh"]).then_some(if linear { Cell::Gru } else { Cell::GruReset })
        }
        _ => [("Tanh", Act::Tanh), ("Relu", Act::Relu), ("Sigmoid", Act::Sigmoid)]
            .into_iter()
            .find_map(|(name, act)| usual(&[name]).then_some(Cell::Rnn(act))),
    }
}

fn supports(node: &NodeView) -> Option<()> {
    for i in [0, 1, 2] {
        float(node, i)?;
    }
    for i in [3, 5, 6] {
        float_or_absent(node, i)?;
    }
    let attrs = node.attrs();
    require(node.constant(1).is_some() && node.constant(2).is_some())?;
    require(!node.has(3) || node.constant(3).is_some())?;
    require(!node.has(4) || node.dtype(4) == Some(DType::I32))?;
    let lstm = cell(node)? == Cell::Lstm;
    // Peepholes.
    float_or_absent(node, 7)?;
    require(lstm || !(node.has(7) || attrs.has("clip") || attrs.int_or("input_forget", 0).ok()? != 0))?;
    require(attrs.int_or("layout", 0).ok()? == 0)
}

/// Per direction: packed input weights, packed recurrent weights, and the biases of both products as [`Operands`] has them.
fn pack(ctx: &Ctx, node: &NodeView, unit: Option<&'static Bf16Unit>) -> Result<Packing> {
    let get = |i: usize| node.constant(i).ok_or_else(|| Error::bug("the weights are not constant"));
    let cell = cell(node).ok_or_else(|| Error::bug("activations without a kernel"))?;
    let (w, r) = (get(1)?, get(2)?);
    let (&[dirs, width, input], &[rows, columns, hidden]) = (w.shape(), r.shape()) else {
        return Err(Error::invalid(format!("weights of shape {:?} and {:?}", w.shape(), r.shape())));
    };
    let biases = if node.has(3) { get(3)?.len() } else { dirs * 2 * width };
    if (rows, columns) != (dirs, width) || biases != dirs * 2 * width || width != cell.gates() * hidden {
        return Err(Error::invalid(format!("weights {:?} and {:?}, {biases} biases", w.shape(), r.shape())));
    }
    let (wv, rv) = (w.to_f32_cow()?, r.to_f32_cow()?);
    let bias = if node.has(3) { get(3)?.to_f32_cow()?.into_owned() } else { vec![0.0; dirs * 2 * width] };
    let mut packing = Packing { tensors: Vec::new(), consumed: if node.has(3) { vec![1, 2, 3] } else { vec![1, 2] } };
    let columns = Columns::of(ctx.kernels, unit, cell, hidden);
    for d in 0..dirs {
        for (values, k) in [(&wv[d * width * input..], input), (&rv[d * width * hidden..], hidden)] {
            let (ordered, n) = (columns.order(&values[..width * k], k), columns.count());
            packing.tensors.push(match unit {
                None => {
                    let mut packed = vec![0.0; gemm::packed_len(ctx.kernels, k, n)];
                    // SAFETY: the weights are `n` rows of `k`, used transposed.
                    unsafe { gemm::pack(ctx.kernels, &ctx.pool, k, n, ordered.as_ptr(), 1, k, packed.as_mut_ptr()) };
                    packed_tensor(&packed)
                }
                Some(_) => {
                    let mut packed = vec![0u16; gemm_bf16::packed_len(k, n)];
                    gemm_bf16::pack(k, n, &ordered, 1, k, &mut packed);
                    Tensor::from_slice(&[packed.len()], &packed)
                }
            });
        }
        let (mut input, state) = (bias[2 * d * width..][..width].to_vec(), &bias[(2 * d + 1) * width..][..width]);
        if cell.joins() {
            input.iter_mut().zip(state).for_each(|(i, s)| *i += s);
        }
        packing.tensors.push(packed_tensor(&columns.order(&input, 1)));
        packing.tensors.push(packed_tensor(&if cell.joins() { Vec::new() } else { columns.order(state, 1) }));
    }
    Ok(packing)
}

/// Packed weights of `k` rows of `n` columns.
fn packed_weights(
    ctx: &Ctx,
    packed: &[Tensor],
    i: usize,
    (k, n): (usize, usize),
    unit: Option<&Bf16Unit>,
) -> Result<Tensor> {
    match unit {
        None => packed_floats(packed, i, gemm::packed_len(ctx.kernels, k, n)),
        Some(_) => packed_halves(packed, i, gemm_bf16::packed_len(k, n)),
    }
}

/// Refuses states and results of another size.
fn makes_states(args: &BindArgs, steps: usize, dirs: usize, batch: usize, hidden: usize) -> Result<()> {
    let state = dirs * batch * hidden;
    holds(args, 4, batch)?;
    holds(args, 5, state)?;
    holds(args, 6, state)?;
    for (i, len) in [steps * state, state, state].into_iter().enumerate() {
        let Some(Some(shape)) = args.outputs.get(i) else { continue };
        if shape.iter().product::<usize>() != len {
            bail!(invalid, "output {i} of shape {shape:?} for {len} elements");
        }
    }
    Ok(())
}

fn load(ctx: &Ctx, node: &NodeView, packed: &[Tensor], unit: Option<&'static Bf16Unit>) -> Result<Box<dyn Kernel>> {
    let cell = cell(node).ok_or_else(|| Error::bug("activations without a kernel"))?;
    let (w, r) = (known_shape(node, 1)?, known_shape(node, 2)?);
    let (dirs, width, input, hidden) = (w[0], w[1], w[2], r[2]);
    if width != cell.gates() * hidden {
        bail!(invalid, "recurrent weights of shapes {w:?} and {r:?}");
    }
    let columns = Columns::of(ctx.kernels, unit, cell, hidden);
    let n = columns.count();
    let mut weights = Vec::new();
    for d in 0..dirs {
        weights.push((
            packed_weights(ctx, packed, 4 * d, (input, n), unit)?,
            packed_weights(ctx, packed, 4 * d + 1, (hidden, n), unit)?,
            packed_floats(packed, 4 * d + 2, n)?,
            packed_floats(packed, 4 * d + 3, if cell.joins() { 0 } else { n })?,
        ));
    }
    let (clip, coupled) =
        (node.attrs().float_or("clip", f32::INFINITY)?.max(0.0), node.attrs().bool_or("input_forget", false)?);
    let extras = node.has(7) || clip < f32::INFINITY || coupled;
    let backwards = node.attrs().string_or("direction", "forward")? == "reverse";
    let ctx = ctx.clone();
    kernel(move |args| {
        let &[steps, batch, columns] = args.shape(0)? else { bail!(invalid, "a sequence has three dimensions") };
        if columns != input {
            bail!(invalid, "weights for {input} columns cannot take {columns}");
        }
        makes_states(args, steps, dirs, batch, hidden)?;
        holds(args, 7, dirs * 3 * hidden)?;
        let (ctx, weights) = (ctx.clone(), weights.clone());
        // Two directions do not wait for each other, which saves few threads the waiting at every step; unless the weights of
        // one direction are more than a thread's caches hold, and half of them are not.
        let bytes = n * hidden * if unit.is_some() { 2 } else { 4 };
        let apart = dirs == 2 && (2..=4).contains(&ctx.threads()) && bytes <= CACHE_BYTES;
        let threads = if apart { 1 } else { ctx.threads() };
        let layer = Layer::new(ctx.kernels, unit, cell, [steps, batch, input, hidden], threads);
        let own = layer.workspace_bytes().next_multiple_of(64);
        bound(move |io| {
            let lengths = io.input::<i32>(4);
            // SAFETY: there is a length for each sequence.
            let too_long = |b: usize| unsafe { usize::try_from(*lengths.add(b)) }.map_or(true, |n| n > steps);
            if !lengths.is_null() && (0..batch).any(too_long) {
                bail!(invalid, "a length of a sequence is not between 0 and {steps}");
            }
            let state = batch * hidden;
            let direction = |d: usize| {
                let (w, r, bias, state_bias) = &weights[d];
                let floats = |t: &Tensor| t.as_slice::<f32>().as_ptr();
                let packed = |t: &Tensor| match unit {
                    None => Weights::F32(floats(t)),
                    Some(_) => Weights::Bf16(t.as_slice::<u16>().as_ptr()),
                };
                let at = |p: *const f32, n: usize| if p.is_null() { p } else { p.wrapping_add(n) };
                let out = |i: usize| at(io.output::<f32>(i), d * state).cast_mut();
                let op = Operands {
                    x: io.input(0),
                    w: packed(w),
                    r: packed(r),
                    bias: floats(bias),
                    state_bias: if cell.joins() { core::ptr::null() } else { floats(state_bias) },
                    extras: extras.then(|| LstmExtras {
                        peepholes: at(io.input(7), d * 3 * hidden),
                        peephole_step: hidden,
                        clip,
                        coupled,
                    }),
                    h0: at(io.input(5), d * state),
                    c0: if cell == Cell::Lstm { at(io.input(6), d * state) } else { core::ptr::null() },
                    lengths: io.input(4),
                    y: out(0),
                    y_step: dirs * state,
                    y_h: out(1),
                    y_c: if cell == Cell::Lstm { out(2) } else { core::ptr::null_mut() },
                };
                (layer.reversed(backwards || d == 1), op)
            };
            let workspace = Shared(io.workspace);
            if apart {
                let both = [direction(0), direction(1)];
                // SAFETY: buffers have the bound sizes, the weights were packed for these kernels; directions write parts of the
                // results of their own and have workspaces of their own.
                ctx.pool
                    .run(2, |d| unsafe { both[d].0.run(ctx.kernels, &ctx.pool, &both[d].1, workspace.at(d * own)) });
            } else {
                for (layer, op) in (0..dirs).map(direction) {
                    // SAFETY: as above.
                    unsafe { layer.run(ctx.kernels, &ctx.pool, &op, workspace.get()) }
                }
            }
            Ok(())
        })
        .workspace(if apart { 2 } else { 1 } * own)
        .flops(dirs * layer.flops())
        .boxed()
    })
}
