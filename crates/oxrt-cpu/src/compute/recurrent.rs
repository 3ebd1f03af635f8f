//! LSTM, GRU and plain recurrent layers: one product for the inputs of all steps, then one small product per step.

use super::gemm::{self, Cut, Matrix, Out, Size};
use crate::kernels::Kernels;
use crate::kernels::activation::Act;
use crate::kernels::recurrent::LstmExtras;
use crate::pool::ThreadPool;

/// Which cell.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Cell {
    /// Long short-term memory: gates input, output, forget, cell.
    Lstm,
    /// Gated recurrent unit with the reset gate behind the product (`linear_before_reset`): gates update, reset, hidden.
    Gru,
    /// The same with the reset gate before the product of the hidden gate.
    GruReset,
    /// An activation of the sums.
    Rnn(Act),
}

impl Cell {
    /// Gates.
    pub fn gates(self) -> usize {
        match self {
            Cell::Lstm => 4,
            Cell::Gru | Cell::GruReset => 3,
            Cell::Rnn(_) => 1,
        }
    }
}

/// One direction of a layer, bound to sizes.
#[derive(Clone, Copy, Debug)]
pub struct Layer {
    /// The cell.
    pub cell: Cell,
    /// Steps.
    pub steps: usize,
    /// Sequences side by side.
    pub batch: usize,
    /// Length of a step's input.
    pub input: usize,
    /// Units.
    pub hidden: usize,
    /// From the last step to the first.
    pub reverse: bool,
    /// A thread runs it by itself.
    pub alone: bool,
}

/// Operands of one direction.
#[derive(Clone, Copy, Debug)]
pub struct Operands {
    /// `[steps][batch][input]`.
    pub x: *const f32,
    /// Packed input weights, `input x gates hidden`.
    pub w: *const f32,
    /// Packed recurrent weights, `hidden x gates hidden`; without the hidden gate for [`Cell::GruReset`].
    pub r: *const f32,
    /// Packed recurrent weights of the hidden gate, `hidden x hidden`, of [`Cell::GruReset`].
    pub r_hidden: *const f32,
    /// `gates hidden` floats, added to the inputs' sums.
    pub bias: *const f32,
    /// `gates hidden` floats, added to the states' sums.
    pub state_bias: *const f32,
    /// What an LSTM has beside its gates, if anything.
    pub extras: Option<LstmExtras>,
    /// State before the first step, `[batch][hidden]`, or null for zeros.
    pub h0: *const f32,
    /// Cell state before the first step, or null.
    pub c0: *const f32,
    /// Steps of each sequence, none more than all, or null: behind them the state stays, and `y` is zero.
    pub lengths: *const i32,
    /// All states, or null; steps are `y_step` floats apart.
    pub y: *mut f32,
    /// Floats from one step's states to the next.
    pub y_step: usize,
    /// Last state, or null.
    pub y_h: *mut f32,
    /// Last cell state, or null.
    pub y_c: *mut f32,
}

// SAFETY: a direction writes its own parts of the results and only reads the rest.
unsafe impl Sync for Operands {}

impl Layer {
    fn width(&self) -> usize {
        self.cell.gates() * self.hidden
    }

    /// Floats of workspace.
    pub fn workspace_len(&self) -> usize {
        let state = self.batch * self.hidden;
        (self.steps + 1) * self.batch * self.width() + 3 * state
    }

    /// Operations of one run.
    pub fn flops(&self) -> usize {
        2 * self.steps * self.batch * self.width() * (self.input + self.hidden)
    }

    /// The product of step `i`: there and back through the weights by turns, so that what the cache kept of them at the end of
    /// a step is met first in the next.
    unsafe fn product(
        &self,
        kernels: &Kernels,
        pool: &ThreadPool,
        i: usize,
        size: Size,
        cut: Cut,
        h: *const f32,
        w: *const f32,
        out: Out,
    ) {
        let rows = Matrix { data: h, stride: self.hidden };
        // SAFETY: as the caller promises.
        unsafe {
            if !self.alone {
                return gemm::run(kernels, pool, size, cut, &rows, w, out);
            }
            let tasks = if size.m == 0 || size.n == 0 { 0 } else { cut.tasks() };
            for task in 0..tasks {
                let task = if i.is_multiple_of(2) { task } else { tasks - 1 - task };
                gemm::block(kernels, size, cut, &rows, w, out, task);
            }
        }
    }

    /// Runs it.
    ///
    /// # Safety
    /// The operands cover the sizes; `workspace` has [`Layer::workspace_len`] floats.
    pub unsafe fn run(&self, kernels: &Kernels, pool: &ThreadPool, op: &Operands, workspace: *mut f32) {
        let (width, n) = (self.width(), self.hidden);
        let state = self.batch * n;
        // SAFETY: the parts of the workspace follow each other; the rest is the caller's promise.
        unsafe {
            let inputs = workspace;
            let sums = inputs.add(self.steps * self.batch * width);
            let (mut h, mut next) = (sums.add(self.batch * width), sums.add(self.batch * width + state));
            let c = sums.add(self.batch * width + 2 * state);
            let start = |from: *const f32, to: *mut f32| {
                if from.is_null() {
                    core::ptr::write_bytes(to, 0, state);
                } else {
                    core::ptr::copy_nonoverlapping(from, to, state);
                }
            };
            start(op.h0, h);
            start(op.c0, c);
            let size = Size::plain(self.steps * self.batch, width, self.input);
            let out = Out { bias: op.bias, ..Out::plain(inputs, width) };
            let rows = Matrix { data: op.x, stride: self.input };
            gemm::run(kernels, pool, size, Cut::choose(kernels, size, pool.threads()), &rows, op.w, out);
            // The product of the hidden gate waits for the reset gate, where that comes first.
            let at_once = if self.cell == Cell::GruReset { 2 * n } else { width };
            let size = Size::plain(self.batch, at_once, n);
            // Several blocks of columns for a thread by itself too.
            let threads = pool.threads().max(if self.alone { 2 } else { 1 });
            let cut = Cut::choose(kernels, size, threads);
            let hidden_size = Size::plain(self.batch, n, n);
            let hidden_cut = Cut::choose(kernels, hidden_size, threads);
            for i in 0..self.steps {
                let t = if self.reverse { self.steps - 1 - i } else { i };
                let x = inputs.add(t * self.batch * width);
                let mut out = Out { bias: op.state_bias, ..Out::plain(sums, width) };
                if !matches!(self.cell, Cell::Gru | Cell::GruReset) {
                    // The inputs' sums join at once.
                    out.residual = x;
                    out.residual_stride = width;
                }
                if let Cell::Rnn(act) = self.cell {
                    out.act = act;
                    out.c = next;
                }
                self.product(kernels, pool, i, size, cut, h, op.r, out);
                if self.cell == Cell::GruReset {
                    // A GRU has no cell state: the gated state lies in its place.
                    for b in 0..self.batch {
                        (kernels.gru_reset)(x.add(b * width), sums.add(b * width), h.add(b * n), c.add(b * n), n);
                    }
                    let out = Out { bias: op.state_bias.add(2 * n), ..Out::plain(sums.add(2 * n), width) };
                    self.product(kernels, pool, i, hidden_size, hidden_cut, c, op.r_hidden, out);
                }
                for b in 0..self.batch {
                    let (sums, old, new) = (sums.add(b * width), h.add(b * n), next.add(b * n));
                    if !op.lengths.is_null() && t >= *op.lengths.add(b) as usize {
                        core::ptr::copy_nonoverlapping(old, new, n);
                        continue;
                    }
                    match self.cell {
                        Cell::Lstm => match &op.extras {
                            None => (kernels.lstm_cell)(sums, c.add(b * n), new, n),
                            Some(extras) => (kernels.lstm_cell_with)(sums, c.add(b * n), new, n, extras),
                        },
                        Cell::Gru => (kernels.gru_cell)(x.add(b * width), sums, old, new, n, true),
                        Cell::GruReset => (kernels.gru_cell)(x.add(b * width), sums, old, new, n, false),
                        Cell::Rnn(_) => {}
                    }
                }
                if !op.y.is_null() {
                    let y = op.y.add(t * op.y_step);
                    core::ptr::copy_nonoverlapping(next, y, state);
                    for b in (0..self.batch).filter(|&b| !op.lengths.is_null() && t >= *op.lengths.add(b) as usize) {
                        core::ptr::write_bytes(y.add(b * n), 0, n);
                    }
                }
                core::mem::swap(&mut h, &mut next);
            }
            for (from, to) in [(h, op.y_h), (c, op.y_c)] {
                if !to.is_null() {
                    core::ptr::copy_nonoverlapping(from, to, state);
                }
            }
        }
    }
}
