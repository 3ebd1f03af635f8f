//! LSTM, GRU and RNN with constant weights and ONNX's default activations (and `Relu` or `Sigmoid` for RNN); LSTM with peepholes,
//! limits and coupled gates too.

use super::{Entry, float, float_or_absent, holds, known_shape, packed_floats, packed_tensor, require};
use crate::backend::{Ctx, bound, kernel};
use crate::compute::Shared;
use crate::compute::gemm;
use crate::compute::recurrent::{Cell, Layer, Operands};
use crate::kernels::activation::Act;
use crate::kernels::recurrent::LstmExtras;
use oxrt_backend::{BindArgs, Kernel, NodeView, Packing};
use oxrt_ir::{DType, Tensor};
use oxrt_tensor::{Error, Result, bail};

pub(super) const RECURRENT: Entry = Entry { name: "recurrent", ops: &["LSTM", "GRU", "RNN"], supports, pack, load };

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

/// Columns of the recurrent weights whose product waits for the reset gate.
fn hidden_apart(node: &NodeView, hidden: usize) -> usize {
    if cell(node) == Some(Cell::GruReset) { hidden } else { 0 }
}

/// Per direction: packed input weights, packed recurrent weights, those whose product comes after the reset gate (else
/// nothing), and both biases.
fn pack(ctx: &Ctx, node: &NodeView) -> Result<Packing> {
    let get = |i: usize| node.constant(i).ok_or_else(|| Error::bug("the weights are not constant"));
    let (w, r) = (get(1)?, get(2)?);
    let (&[dirs, width, input], &[rows, columns, hidden]) = (w.shape(), r.shape()) else {
        return Err(Error::invalid(format!("weights of shape {:?} and {:?}", w.shape(), r.shape())));
    };
    let biases = if node.has(3) { get(3)?.len() } else { dirs * 2 * width };
    if (rows, columns) != (dirs, width) || biases != dirs * 2 * width {
        return Err(Error::invalid(format!("weights {:?} and {:?}, {biases} biases", w.shape(), r.shape())));
    }
    let (wv, rv) = (w.to_f32_cow()?, r.to_f32_cow()?);
    let bias = if node.has(3) { get(3)?.to_f32_cow()?.into_owned() } else { vec![0.0; dirs * 2 * width] };
    let mut packing = Packing { tensors: Vec::new(), consumed: if node.has(3) { vec![1, 2, 3] } else { vec![1, 2] } };
    let apart = hidden_apart(node, hidden);
    for d in 0..dirs {
        let (wd, rd) = (&wv[d * width * input..][..width * input], &rv[d * width * hidden..][..width * hidden]);
        let (at_once, behind) = rd.split_at((width - apart) * hidden);
        for (values, k) in [(wd, input), (at_once, hidden), (behind, hidden)] {
            let columns = values.len().checked_div(k).unwrap_or(0);
            let mut packed = vec![0.0; gemm::packed_len(ctx.kernels, k, columns)];
            // SAFETY: the weights are `columns` rows of `k`, used transposed.
            unsafe { gemm::pack(ctx.kernels, &ctx.pool, k, columns, values.as_ptr(), 1, k, packed.as_mut_ptr()) };
            packing.tensors.push(packed_tensor(&packed));
        }
        packing.tensors.push(packed_tensor(&bias[d * 2 * width..(d + 1) * 2 * width]));
    }
    Ok(packing)
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

fn load(ctx: &Ctx, node: &NodeView, packed: &[Tensor]) -> Result<Box<dyn Kernel>> {
    let cell = cell(node).ok_or_else(|| Error::bug("activations without a kernel"))?;
    let (w, r) = (known_shape(node, 1)?, known_shape(node, 2)?);
    let (dirs, width, input, hidden) = (w[0], w[1], w[2], r[2]);
    if width != cell.gates() * hidden {
        bail!(invalid, "recurrent weights of shapes {w:?} and {r:?}");
    }
    let apart = hidden_apart(node, hidden);
    let mut weights = Vec::new();
    for d in 0..dirs {
        weights.push((
            packed_floats(packed, 4 * d, gemm::packed_len(ctx.kernels, input, width))?,
            packed_floats(packed, 4 * d + 1, gemm::packed_len(ctx.kernels, hidden, width - apart))?,
            packed_floats(packed, 4 * d + 2, gemm::packed_len(ctx.kernels, hidden, apart))?,
            packed_floats(packed, 4 * d + 3, 2 * width)?,
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
        // Two directions do not wait for each other; with few threads that saves them waiting for each other at every step.
        let apart = dirs == 2 && (2..=4).contains(&ctx.threads());
        let alone = apart || ctx.threads() == 1;
        let layer = Layer { cell, steps, batch, input, hidden, reverse: false, alone };
        let own = layer.workspace_len().next_multiple_of(16);
        bound(move |io| {
            let lengths = io.input::<i32>(4);
            // SAFETY: there is a length for each sequence.
            let too_long = |b: usize| unsafe { usize::try_from(*lengths.add(b)) }.map_or(true, |n| n > steps);
            if !lengths.is_null() && (0..batch).any(too_long) {
                bail!(invalid, "a length of a sequence is not between 0 and {steps}");
            }
            let state = batch * hidden;
            let direction = |d: usize| {
                let (w, r, r_hidden, bias) = &weights[d];
                let floats = |t: &Tensor| t.as_slice::<f32>().as_ptr();
                let at = |p: *const f32, n: usize| if p.is_null() { p } else { p.wrapping_add(n) };
                let out = |i: usize| at(io.output::<f32>(i), d * state).cast_mut();
                let op = Operands {
                    x: io.input(0),
                    w: floats(w),
                    r: floats(r),
                    r_hidden: floats(r_hidden),
                    bias: floats(bias),
                    state_bias: floats(bias).wrapping_add(width),
                    extras: extras.then(|| LstmExtras { peepholes: at(io.input(7), d * 3 * hidden), clip, coupled }),
                    h0: at(io.input(5), d * state),
                    c0: if cell == Cell::Lstm { at(io.input(6), d * state) } else { core::ptr::null() },
                    lengths: io.input(4),
                    y: out(0),
                    y_step: dirs * state,
                    y_h: out(1),
                    y_c: if cell == Cell::Lstm { out(2) } else { core::ptr::null_mut() },
                };
                (Layer { reverse: backwards || d == 1, ..layer }, op)
            };
            let workspace = Shared(io.workspace.cast::<f32>());
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
        .workspace(if apart { 2 } else { 1 } * own * 4)
        .flops(dirs * layer.flops())
        .boxed()
    })
}
