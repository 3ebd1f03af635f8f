//! LSTM, GRU and RNN of doubles, with weights that only the run knows, or with activations that have no kernel of their own:
//! products of doubles, and the reference evaluator's activations.

use super::{Entry, pack_nothing, require};
use crate::backend::{Ctx, bound, kernel};
use crate::compute::element::Element;
use crate::compute::product::{self, pack_panel};
use crate::compute::{Shared, cut};
use crate::kernels::product::PANEL;
use oxrt_backend::{BindArgs, Bound, Io, Kernel, NodeView};
use oxrt_ir::{DType, Tensor};
use oxrt_ops::recurrent::activations;
use oxrt_ops::scalar::Program;
use oxrt_tensor::{Result, bail};

pub(super) const RECURRENT_ANY: Entry =
    Entry { name: "recurrent_any", ops: &["LSTM", "GRU", "RNN"], supports, pack: pack_nothing, load };

#[derive(Clone, Copy, PartialEq)]
enum Cell {
    Lstm,
    Gru,
    Rnn,
}

impl Cell {
    fn of(op: &str) -> Cell {
        match op {
            "LSTM" => Cell::Lstm,
            "GRU" => Cell::Gru,
            _ => Cell::Rnn,
        }
    }

    fn gates(self) -> usize {
        match self {
            Cell::Lstm => 4,
            Cell::Gru => 3,
            Cell::Rnn => 1,
        }
    }

    fn activations(self) -> &'static [&'static str] {
        match self {
            Cell::Lstm => &["Sigmoid", "Tanh", "Tanh"],
            Cell::Gru => &["Sigmoid", "Tanh"],
            Cell::Rnn => &["Tanh"],
        }
    }
}

/// What the attributes say.
#[derive(Clone)]
struct Spec {
    cell: Cell,
    /// Backwards, per direction.
    ways: Vec<bool>,
    programs: Vec<Program>,
    clip: f64,
    /// `linear_before_reset` of GRU, `input_forget` of LSTM.
    flag: bool,
}

fn spec(node: &NodeView) -> Result<Spec> {
    let (attrs, cell) = (node.attrs(), Cell::of(node.op()));
    let ways = match attrs.string_or("direction", "forward")? {
        "forward" => vec![false],
        "reverse" => vec![true],
        "bidirectional" => vec![false, true],
        other => bail!(invalid, "the direction `{other}` is unknown"),
    };
    let programs = activations(attrs, cell.activations(), ways.len())?;
    let clip = attrs.get_float("clip")?.map_or(f64::INFINITY, |&c| f64::from(c).max(0.0));
    let flag = attrs.bool_or(if cell == Cell::Gru { "linear_before_reset" } else { "input_forget" }, false)?;
    Ok(Spec { cell, ways, programs, clip, flag })
}

fn supports(node: &NodeView) -> Option<()> {
    let dtype = node.dtype(0)?;
    require(matches!(dtype, DType::F32 | DType::F64))?;
    (0..3).try_for_each(|i| require(node.dtype(i)? == dtype && node.rank(i)? == 3))?;
    [3, 5, 6, 7].into_iter().try_for_each(|i| require(!node.has(i) || node.dtype(i)? == dtype))?;
    require(!node.has(4) || node.dtype(4)? == DType::I32)?;
    require(node.attrs().int_or("layout", 0).ok()? == 0)?;
    spec(node).ok().map(drop)
}

fn load(ctx: &Ctx, node: &NodeView, _: &[Tensor]) -> Result<Box<dyn Kernel>> {
    let (spec, ctx) = (spec(node)?, ctx.clone());
    let double = node.dtype(0) == Some(DType::F64);
    kernel(move |args| if double { bind::<f64>(&ctx, &spec, args) } else { bind::<f32>(&ctx, &spec, args) })
}

/// A layer bound to sizes.
#[derive(Clone)]
struct Layer {
    spec: Spec,
    steps: usize,
    batch: usize,
    input: usize,
    hidden: usize,
}

fn bind<E: Element>(ctx: &Ctx, spec: &Spec, args: &BindArgs) -> Result<Box<dyn Bound>> {
    let (&[steps, batch, input], &[dirs, width, _], &[_, _, hidden]) = (args.shape(0)?, args.shape(1)?, args.shape(2)?)
    else {
        bail!(invalid, "sequences and weights have three dimensions");
    };
    let state = dirs * batch * hidden;
    let wants = [
        (1, vec![dirs, width, input]),
        (2, vec![dirs, width, hidden]),
        (3, vec![dirs, 2 * width]),
        (4, vec![batch]),
        (5, vec![dirs, batch, hidden]),
        (6, vec![dirs, batch, hidden]),
        (7, vec![dirs, 3 * hidden]),
    ];
    for (i, want) in wants {
        if let Some(found) = args.opt_shape(i).filter(|&s| s != want) {
            bail!(invalid, "input {i} should have the shape {want:?}, found {found:?}");
        }
    }
    if dirs != spec.ways.len() || width != spec.cell.gates() * hidden {
        bail!(invalid, "weights {:?} of {} directions", args.shape(1)?, spec.ways.len());
    }
    for (i, len) in [steps * state, state, state].into_iter().enumerate() {
        if let Some(Some(shape)) = args.outputs.get(i)
            && shape.iter().product::<usize>() != len
        {
            bail!(invalid, "output {i} of shape {shape:?} for {len} elements");
        }
    }
    let layer = Layer { spec: spec.clone(), steps, batch, input, hidden };
    let (workspace, ctx) = (layer.room() * 8, ctx.clone());
    let flops = 2 * dirs * steps * batch * width * (input + hidden);
    bound(move |io| layer.run::<E>(&ctx, io)).workspace(workspace).flops(flops).boxed()
}

impl Layer {
    /// Rows of products that do not wait for the reset gate.
    fn at_once(&self) -> usize {
        let gates = self.spec.cell.gates();
        self.hidden * if self.spec.cell == Cell::Gru && !self.spec.flag { 2 } else { gates }
    }

    /// Lengths of the parts of the workspace.
    fn parts(&self) -> [usize; 9] {
        let (width, h, b) = (self.spec.cell.gates() * self.hidden, self.hidden, self.batch);
        let rest = width - self.at_once();
        [
            self.steps * b * self.input,
            self.steps * b * width,
            product::packed_len(self.input, width),
            product::packed_len(h, self.at_once()),
            product::packed_len(h, rest),
            b * width,
            b * h,
            b * h,
            b * h,
        ]
    }

    fn room(&self) -> usize {
        self.parts().iter().sum()
    }

    fn run<E: Element>(&self, ctx: &Ctx, io: &Io) -> Result<()> {
        let lengths = io.input::<i32>(4);
        let length = |b: usize| {
            if lengths.is_null() {
                return Ok(self.steps);
            }
            // SAFETY: there is a length for each sequence.
            usize::try_from(unsafe { *lengths.add(b) })
        };
        if (0..self.batch).any(|b| length(b).map_or(true, |n| n > self.steps)) {
            bail!(invalid, "a length of a sequence is not between 0 and {}", self.steps);
        }
        let length = |b: usize| length(b).unwrap_or(0);
        let mut at = 0;
        let [x, inputs, w, r, rest, sums, h, c, gated] = self.parts().map(|len| {
            at += len;
            Shared(io.workspace.cast::<f64>().wrapping_add(at - len))
        });
        // SAFETY: buffers have the bound sizes, the parts of the workspace follow each other.
        unsafe {
            let data = Shared(io.input::<E>(0).cast_mut());
            (0..self.steps * self.batch * self.input).for_each(|i| *x.at(i) = (*data.at(i)).to_f64());
            for d in 0..self.spec.ways.len() {
                self.direction::<E>(ctx, io, d, [x, inputs, w, r, rest, sums, h, c, gated], &length);
            }
        }
        Ok(())
    }

    /// # Safety
    /// Buffers have the bound sizes; `x` holds the input.
    unsafe fn direction<E: Element>(
        &self,
        ctx: &Ctx,
        io: &Io,
        d: usize,
        [x, inputs, w, r, rest, sums, h, c, gated]: [Shared<f64>; 9],
        length: &dyn Fn(usize) -> usize,
    ) {
        let Layer { ref spec, steps, batch, input, hidden: n } = *self;
        let (dirs, cell) = (spec.ways.len(), spec.cell);
        let (width, at_once) = (cell.gates() * n, self.at_once());
        let of = |i: usize| Shared(io.input::<E>(i).cast_mut());
        let (weights, recurrence, bias, peepholes) = (of(1), of(2), of(3), of(7));
        // SAFETY: as the caller promises.
        unsafe {
            let pack = |from: Shared<E>, first: usize, k: usize, columns: usize, to: Shared<f64>| {
                let panels = columns.div_ceil(PANEL);
                let parts = ctx.pool.parts(panels * PANEL * k / 4096).min(panels.max(1));
                ctx.pool.run(parts, |part| {
                    let (start, count) = cut(panels, parts, part);
                    for p in start..start + count {
                        pack_panel(k, columns, p, to.at(p * PANEL * k), |row, column| {
                            (*from.at((d * width + first + column) * k + row)).to_f64()
                        });
                    }
                });
            };
            pack(weights, 0, input, width, w);
            pack(recurrence, 0, n, at_once, r);
            pack(recurrence, at_once, n, width - at_once, rest);
            let multiply = |m: usize, k: usize, columns: usize, a: Shared<f64>, b: Shared<f64>, to: Shared<f64>| {
                product::products(ctx.kernels, &ctx.pool, (m, k, columns), &[(0, 0)], a.get(), b.get(), to.get());
            };
            multiply(steps * batch, input, width, x, w, inputs);
            let bias = |i: usize| if bias.get().is_null() { 0.0 } else { (*bias.at(d * 2 * width + i)).to_f64() };
            let peephole =
                |i: usize| if peepholes.get().is_null() { 0.0 } else { (*peepholes.at(d * 3 * n + i)).to_f64() };
            for (input, to) in [(of(5), h), (of(6), c)] {
                let start =
                    |i: usize| if input.get().is_null() { 0.0 } else { (*input.at(d * batch * n + i)).to_f64() };
                (0..batch * n).for_each(|i| *to.at(i) = start(i));
            }
            let each = cell.activations().len();
            let programs = &spec.programs[d * each..(d + 1) * each];
            let mut stack = Vec::new();
            let mut act = |i: usize, v: f64| programs[i].eval_f64(&[v.clamp(-spec.clip, spec.clip)], &mut stack);
            let y = io.output::<E>(0);
            for i in 0..steps {
                let t = if spec.ways[d] { steps - 1 - i } else { i };
                multiply(batch, n, at_once, h, r, sums);
                let row =
                    |b: usize| (inputs.at((t * batch + b) * width), sums.at(b * at_once), h.at(b * n), c.at(b * n));
                if cell == Cell::Gru && at_once < width {
                    for b in 0..batch {
                        let (x, s, h, _) = row(b);
                        for k in 0..n {
                            let sum = *x.add(n + k) + *s.add(n + k) + bias(n + k) + bias(width + n + k);
                            *gated.at(b * n + k) = act(0, sum) * *h.add(k);
                        }
                    }
                    multiply(batch, n, n, gated, rest, sums_behind(sums, batch * at_once));
                }
                for b in 0..batch {
                    let to = if y.is_null() { y } else { y.add(((t * dirs + d) * batch + b) * n) };
                    if t >= length(b) {
                        (0..n).filter(|_| !to.is_null()).for_each(|k| *to.add(k) = E::default());
                        continue;
                    }
                    let (x, s, h, c) = row(b);
                    for k in 0..n {
                        let sum = |g: usize| {
                            *x.add(g * n + k) + *s.add(g * n + k) + bias(g * n + k) + bias(width + g * n + k)
                        };
                        let old = *h.add(k);
                        let new = match cell {
                            Cell::Rnn => act(0, sum(0)),
                            Cell::Gru => {
                                let update = act(0, sum(0));
                                let (x_part, own) = (*x.add(2 * n + k) + bias(2 * n + k), bias(width + 2 * n + k));
                                let fresh = if at_once < width {
                                    x_part + *sums_behind(sums, batch * at_once).at(b * n + k) + own
                                } else {
                                    x_part + act(0, sum(1)) * (*s.add(2 * n + k) + own)
                                };
                                (1.0 - update) * act(1, fresh) + update * old
                            }
                            Cell::Lstm => {
                                let state = *c.add(k);
                                let i = act(0, sum(0) + peephole(k) * state);
                                let f = if spec.flag { 1.0 - i } else { act(0, sum(2) + peephole(2 * n + k) * state) };
                                let state = f * state + i * act(1, sum(3));
                                *c.add(k) = state;
                                act(0, sum(1) + peephole(n + k) * state) * act(2, state)
                            }
                        };
                        *h.add(k) = new;
                        if !to.is_null() {
                            *to.add(k) = E::from_f64(new);
                        }
                    }
                }
            }
            for (output, from) in [(io.output::<E>(1), h), (io.output::<E>(2), c)] {
                if !output.is_null() {
                    (0..batch * n).for_each(|i| *output.add(d * batch * n + i) = E::from_f64(*from.at(i)));
                }
            }
        }
    }
}

/// The sums of the hidden gate, behind those of the others.
fn sums_behind(sums: Shared<f64>, len: usize) -> Shared<f64> {
    Shared(sums.get().wrapping_add(len))
}
