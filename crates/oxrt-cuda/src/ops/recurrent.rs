//! LSTM, GRU and RNN: the input's part of all gates by one product, then a launch or two per step.

use super::gemm::is_float;
use super::windows::{Method, Sizes, Text, Windows};
use super::{Entry, c_type, counts, dtype, holds, output_dtype, require};
use crate::backend::Ctx;
use crate::gpu::Params;
use crate::text::{self, Number};
use oxrt_backend::{BindArgs, Io, Kernel, NodeView, Packing, bound, kernel};
use oxrt_tensor::{DType, Result, Tensor, bail};
use std::fmt::Write;

const TEXT: &str = include_str!("../text/recurrent.cuh");

pub(super) const RECURRENT: Entry = Entry::new("recurrent", &["LSTM", "GRU", "RNN"], supports, pack, load);

/// Gates, and the usual activations of a direction.
fn kind(op: &str) -> (usize, &'static [&'static str]) {
    match op {
        "LSTM" => (4, &["Sigmoid", "Tanh", "Tanh"]),
        "GRU" => (3, &["Sigmoid", "Tanh"]),
        _ => (1, &["Tanh"]),
    }
}

fn directions(node: &NodeView) -> Option<(usize, usize)> {
    // How many, and which of them run backwards, as bits.
    match node.attrs().string_or("direction", "forward").ok()? {
        "forward" => Some((1, 0)),
        "reverse" => Some((1, 1)),
        "bidirectional" => Some((2, 2)),
        _ => None,
    }
}

fn supports(_: &Ctx, node: &NodeView) -> Option<()> {
    let float = |i: usize| !node.has(i) || node.dtype(i).is_some_and(is_float);
    require(node.has(1) && node.has(2) && [0, 1, 2, 3, 5, 6, 7].into_iter().all(float))?;
    require(!node.has(4) || node.dtype(4) == Some(DType::I32))?;
    let outputs = (0..node.num_outputs()).filter(|&i| node.node().output(i).is_some());
    require(outputs.into_iter().all(|i| node.output_dtype(i).is_some_and(is_float)))?;
    // All results have one type.
    let first = (0..node.num_outputs()).find_map(|i| node.output_dtype(i))?;
    require((0..node.num_outputs()).all(|i| node.output_dtype(i).is_none_or(|d| d == first)))?;
    let (n, _) = directions(node)?;
    oxrt_ops::recurrent::activations(node.attrs(), kind(node.op()).1, n).ok().map(|_| ())
}

/// `act0(direction, x)` and so on.
fn activations(node: &NodeView) -> Result<String> {
    let (n, _) = directions(node).unwrap_or((1, 0));
    let usual = kind(node.op()).1;
    let programs = oxrt_ops::recurrent::activations(node.attrs(), usual, n)?;
    let mut out = String::new();
    for (i, _) in usual.iter().enumerate() {
        let _ = write!(out, "DEVICE f32 act{i}(u32 d, f32 x) {{ ");
        for d in 0..n {
            let program = &programs[d * usual.len() + i];
            let (body, y) = text::statements(program, &["x".to_string()], Number::F32, false);
            let _ = write!(out, "if (d == {d}) {{ {body}return {y}; }} ");
        }
        out += "return x; }\n";
    }
    Ok(out)
}

fn flag(node: &NodeView) -> Result<bool> {
    match node.op() {
        "LSTM" => node.attrs().bool_or("input_forget", false),
        "GRU" => node.attrs().bool_or("linear_before_reset", false),
        _ => Ok(false),
    }
}

fn pack(ctx: &Ctx, node: &NodeView) -> Result<Packing> {
    let ty = |i: usize| c_type(node.dtype(i).unwrap_or(DType::F32));
    let y = (0..node.num_outputs()).find_map(|i| node.output_dtype(i)).map_or_else(|| output_dtype(node, 0), Ok)?;
    let biased = format!("if (p.in[0]) v += get<C>(((const {}*)p.in[0])[map]); return v;", ty(3)?);
    let input = Text {
        x: c_type(dtype(node, 0)?)?,
        w: c_type(dtype(node, 1)?)?,
        y: "f32",
        sum: "f32",
        channels_last: true,
        transposed: false,
        x_zero: "0",
        w_zero: "0",
        before: "",
        finish: &biased,
    };
    let steps = format!(
        "typedef {} TR;\ntypedef {} TB;\ntypedef {} TP;\ntypedef {} TH;\ntypedef {} TC;\ntypedef {} TY;\n#define GATES {}\n#define FLAG {}\n{}",
        ty(2)?,
        ty(3)?,
        ty(7)?,
        ty(5)?,
        ty(6)?,
        c_type(y)?,
        kind(node.op()).0,
        u8::from(flag(node)?),
        TEXT.replace("ACTIVATIONS", &activations(node)?)
    );
    Ok(Packing { tensors: vec![ctx.code(&input.write(Method::Simt))?, ctx.code(&steps)?], consumed: Vec::new() })
}

/// Sizes of a layer.
#[derive(Clone, Copy)]
struct Layer {
    gates: usize,
    directions: usize,
    backwards: usize,
    steps: usize,
    batch: usize,
    input: usize,
    hidden: usize,
    batch_first: bool,
}

impl Layer {
    fn state(&self) -> usize {
        self.directions * self.batch * self.hidden
    }

    /// The product that makes the input's part of the gates.
    fn product(&self) -> Sizes {
        let rows = self.gates * self.hidden;
        let m = self.steps * self.batch;
        Sizes {
            groups: [self.directions, 1],
            w_group: [rows * self.input, 0],
            y_group: [m * rows, 0],
            group_maps: 2 * rows,
            ..Sizes::product(m, rows, self.input, self.input, 1)
        }
    }

    /// Distances as the text lists them.
    fn distances(&self) -> [usize; 7] {
        let (n, b, h, t) = (self.directions, self.batch, self.hidden, self.steps);
        if self.batch_first { [1, t, n * h, h, t * n * h, h, n * h] } else { [b, 1, n * b * h, b * h, h, b * h, h] }
    }
}

fn layer(args: &BindArgs, gates: usize, (directions, backwards): (usize, usize), batch_first: bool) -> Result<Layer> {
    let (&[a, b, input], &[_, _, hidden]) = (args.shape(0)?, args.shape(2)?) else {
        bail!(invalid, "a sequence of shape {:?} and weights of shape {:?}", args.shape(0)?, args.shape(2)?);
    };
    let (steps, batch) = if batch_first { (b, a) } else { (a, b) };
    let layer = Layer { gates, directions, backwards, steps, batch, input, hidden, batch_first };
    let rows = gates * hidden;
    for (i, len) in [
        (1, directions * rows * input),
        (2, directions * rows * hidden),
        (3, 2 * directions * rows),
        (4, batch),
        (5, layer.state()),
        (6, layer.state()),
        (7, 3 * directions * hidden),
    ] {
        holds(args, i, len)?;
    }
    for (i, len) in [steps * layer.state(), layer.state(), layer.state()].into_iter().enumerate() {
        let Some(Some(shape)) = args.outputs.get(i) else { continue };
        if shape.iter().product::<usize>() != len {
            bail!(invalid, "output {i} of shape {shape:?} for {len} elements");
        }
    }
    counts(steps * batch * directions * rows)?;
    Ok(layer)
}

fn load(ctx: &Ctx, node: &NodeView, packed: &[Tensor]) -> Result<Box<dyn Kernel>> {
    let windows = Windows::load(ctx, packed.first(), true, Method::Simt)?;
    let code = packed.get(1);
    let (gates, _) = kind(node.op());
    let two = gates == 3 && !flag(node)?;
    let names: &[&str] = if two { &["step_gates", "step_rest"] } else { &["step"] };
    let steps = names.iter().map(|name| ctx.function(code, name, 0)).collect::<Result<Vec<_>>>()?;
    let (begin, end) = (ctx.function(code, "begin", 0)?, ctx.function(code, "end", 0)?);
    let ways = directions(node).unwrap_or((1, 0));
    let batch_first = node.attrs().bool_or("layout", false)?;
    let clip = node.attrs().get_float("clip")?.map_or(f32::INFINITY, |&c| c.max(0.0));
    let lstm = node.op() == "LSTM";
    kernel(move |args| {
        let layer = layer(args, gates, ways, batch_first)?;
        let product = layer.product();
        windows.check(&product)?;
        // Gates of all steps, both copies of the state, the cells, and what GRU keeps within a step.
        let sizes = [layer.steps * layer.batch * layer.directions * gates * layer.hidden, layer.state()];
        let sizes = sizes.map(|len| len.next_multiple_of(16) * 4);
        let places: Vec<usize> = (0..6).map(|i| if i == 0 { 0 } else { sizes[0] + (i - 1) * sizes[1] }).collect();
        let total = sizes[0] + 5 * sizes[1];
        let warps = layer.directions * layer.batch.div_ceil(4) * layer.hidden;
        let flops = product.flops() + 2 * layer.steps * layer.state() * gates * layer.hidden;
        let (windows, steps, begin, end) = (windows.clone(), steps.clone(), begin.clone(), end.clone());
        bound(move |io: &Io| {
            if layer.state() == 0 {
                return Ok(());
            }
            let part = |i: usize| io.workspace.wrapping_add(places[i]);
            let inputs = [io.input(0), io.input(1), io.input(3)];
            // SAFETY: buffers have the bound sizes, the workspace holds the gates.
            unsafe { windows.run(&product, io, &inputs, part(0))? };
            let params = |now: usize, step: usize| {
                let p = Params::new().ptr(part(0)).ptr(io.input::<u8>(2)).ptr(io.input::<u8>(3));
                let p = p.ptr(if lstm { io.input::<u8>(7) } else { std::ptr::null() }).ptr(io.input::<u8>(4));
                let p = p.ptr(part(1 + now)).ptr(part(2 - now)).ptr(part(3)).ptr(io.input::<u8>(5));
                let p = p.ptr(if lstm { io.input::<u8>(6) } else { std::ptr::null() });
                let p = (0..3).fold(p, |p, i| p.ptr(io.output::<u8>(i).cast_const())).ptr(part(4)).ptr(part(5));
                let l = &layer;
                let p = [l.directions, l.batch, l.hidden, l.steps, step, l.backwards].into_iter().fold(p, Params::u32);
                l.distances().into_iter().fold(p, |p, d| p.i32(d as i64)).f32(clip).finish()
            };
            let each = [layer.state().div_ceil(256), 1, 1];
            // SAFETY: as above; every kernel stays inside the sizes of the layer.
            unsafe {
                // It writes the copy that the first step reads.
                begin.run(io, each, 256, 0, &params(1, 0))?;
                for step in 0..layer.steps {
                    let p = params(step % 2, step);
                    steps.iter().try_for_each(|k| k.run(io, [warps.div_ceil(8), 1, 1], 256, 0, &p))?;
                }
                end.run(io, each, 256, 0, &params(layer.steps % 2, 0))
            }
        })
        .workspace(total)
        .flops(flops)
        .boxed()
    })
}
