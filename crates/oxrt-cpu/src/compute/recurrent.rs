//! LSTM, GRU and plain recurrent layers: one product for the inputs of all steps, then one small product per step.

use super::gemm::{self, Cut, Matrix, Out, Size};
use crate::kernels::Kernels;
use crate::kernels::activation::Act;
use crate::pool::ThreadPool;

/// Which cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cell {
    /// Long short-term memory: gates input, output, forget, cell.
    Lstm,
    /// Gated recurrent unit with the reset gate behind the product: gates update, reset, hidden.
    Gru,
    /// `tanh` of the sums.
    Rnn,
}

impl Cell {
    /// Gates.
    pub fn gates(self) -> usize {
        match self {
            Cell::Lstm => 4,
            Cell::Gru => 3,
            Cell::Rnn => 1,
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
}

/// Operands of one direction.
#[derive(Clone, Copy, Debug)]
pub struct Operands {
    /// `[steps][batch][input]`.
    pub x: *const f32,
    /// Packed input weights, `input x gates hidden`.
    pub w: *const f32,
    /// Packed recurrent weights, `hidden x gates hidden`.
    pub r: *const f32,
    /// `gates hidden` floats, added to the inputs' sums.
    pub bias: *const f32,
    /// `gates hidden` floats, added to the states' sums.
    pub state_bias: *const f32,
    /// State before the first step, `[batch][hidden]`, or null for zeros.
    pub h0: *const f32,
    /// Cell state before the first step, or null.
    pub c0: *const f32,
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
            let size = Size::plain(self.batch, width, n);
            let cut = Cut::choose(kernels, size, pool.threads());
            for i in 0..self.steps {
                let t = if self.reverse { self.steps - 1 - i } else { i };
                let x = inputs.add(t * self.batch * width);
                let mut out = Out { bias: op.state_bias, ..Out::plain(sums, width) };
                if self.cell != Cell::Gru {
                    // The inputs' sums join at once.
                    out.residual = x;
                    out.residual_stride = width;
                }
                if self.cell == Cell::Rnn {
                    out.act = Act::Tanh;
                    out.c = next;
                }
                gemm::run(kernels, pool, size, cut, &Matrix { data: h, stride: n }, op.r, out);
                for b in 0..self.batch {
                    let sums = sums.add(b * width);
                    match self.cell {
                        Cell::Lstm => (kernels.lstm_cell)(sums, c.add(b * n), next.add(b * n), n),
                        Cell::Gru => (kernels.gru_cell)(x.add(b * width), sums, h.add(b * n), next.add(b * n), n),
                        Cell::Rnn => {}
                    }
                }
                if !op.y.is_null() {
                    core::ptr::copy_nonoverlapping(next, op.y.add(t * op.y_step), state);
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
