//! LSTM, GRU and plain recurrent layers: one product for the inputs of all steps, then one small product per step.
//!
//! Columns of the products are put in groups of one panel's units, all gates of a group side by side: what makes the sums of a
//! group makes its new state at once, and threads keep to their groups, whose weights stay in their caches, through all
//! steps.

use super::gemm::{self, Cut, Matrix, Out, Size};
use super::gemm_bf16::{self, Plan};
use super::{cut, phases};
use crate::kernels::Kernels;
use crate::kernels::activation::Act;
use crate::kernels::bf16::{self, Bf16Tile, Bf16Unit, KB};
use crate::kernels::gemm::GemmTile;
use crate::kernels::recurrent::LstmExtras;
use crate::pool::ThreadPool;

/// Operations of a step that are worth a thread.
const FLOPS_PER_PART: usize = 60_000;
/// Most rows of any tier's microkernel.
const ROWS: usize = 16;

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

    /// Whether the sums of inputs and states only ever occur added, so that one bias does for both.
    pub fn joins(self) -> bool {
        matches!(self, Cell::Lstm | Cell::Rnn(_))
    }
}

/// The columns of a layer's products, in groups: that of unit `u` of gate `g` is `((u / nr) gates + g) nr + u % nr`. Units that
/// fill the last group up are zeros.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Columns {
    /// Gates.
    pub gates: usize,
    /// Units.
    pub hidden: usize,
    /// Units in a group: the columns of a panel.
    pub nr: usize,
}

impl Columns {
    /// Of a cell's products in single precision, or by a unit for bfloat16.
    pub fn of(kernels: &Kernels, unit: Option<&Bf16Unit>, cell: Cell, hidden: usize) -> Columns {
        Columns { gates: cell.gates(), hidden, nr: if unit.is_some() { bf16::NR } else { kernels.nr } }
    }

    /// Groups of units.
    pub fn groups(self) -> usize {
        self.hidden.div_ceil(self.nr)
    }

    /// Columns.
    pub fn count(self) -> usize {
        self.groups() * self.gates * self.nr
    }

    /// Rows of `k` values in ONNX's order, `[gates][hidden][k]`, in the order of the columns.
    pub fn order(self, values: &[f32], k: usize) -> Vec<f32> {
        let mut out = vec![0.0; self.count() * k];
        for (i, row) in values.chunks_exact(k.max(1)).enumerate() {
            let (gate, unit) = (i / self.hidden, i % self.hidden);
            let column = (unit / self.nr * self.gates + gate) * self.nr + unit % self.nr;
            out[column * k..][..k].copy_from_slice(row);
        }
        out
    }
}

/// Packed weights, `k` rows of all columns.
#[derive(Clone, Copy, Debug)]
pub enum Weights {
    /// By [`gemm::pack`].
    F32(*const f32),
    /// By [`gemm_bf16::pack`].
    Bf16(*const u16),
}

/// The product for the inputs of all steps.
#[derive(Clone, Copy, Debug)]
enum Projection {
    F32(Size, Cut),
    Bf16(&'static Bf16Unit, Plan),
}

/// One direction of a layer, bound to sizes.
#[derive(Clone, Copy, Debug)]
pub struct Layer {
    cell: Cell,
    columns: Columns,
    steps: usize,
    batch: usize,
    input: usize,
    projection: Projection,
    /// Threads that share it.
    threads: usize,
    /// From the last step to the first.
    reverse: bool,
}

/// Operands of one direction.
#[derive(Clone, Copy, Debug)]
pub struct Operands {
    /// `[steps][batch][input]`.
    pub x: *const f32,
    /// Input weights.
    pub w: Weights,
    /// Recurrent weights, of the same kind.
    pub r: Weights,
    /// A float per column, added to the inputs' sums.
    pub bias: *const f32,
    /// A float per column, added to the states' sums; null where [`Cell::joins`].
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

/// The parts of a run's workspace.
#[derive(Clone, Copy)]
struct Space {
    /// Sums of the inputs, `[steps][batch][columns]`.
    inputs: *mut f32,
    /// Sums of a step, `[groups][gates][batch][nr]`.
    sums: *mut f32,
    /// States before and after a step, by turns, `[batch][hidden]`.
    states: [*mut f32; 2],
    /// The cell state, or the state behind the reset gate.
    c: *mut f32,
    /// The states, and the one behind the reset gate, in bfloat16, `[batch][hidden]` padded for the unit.
    halves: [*mut u16; 3],
}

// SAFETY: parts of a phase write disjoint groups, and read what the phase before has written.
unsafe impl Sync for Space {}

impl Layer {
    /// Binds a layer to its sizes. With a `unit`, products are of bfloat16. `threads` share it.
    pub fn new(
        kernels: &Kernels,
        unit: Option<&'static Bf16Unit>,
        cell: Cell,
        [steps, batch, input, hidden]: [usize; 4],
        threads: usize,
    ) -> Layer {
        let columns = Columns::of(kernels, unit, cell, hidden);
        let size = Size::plain(steps * batch, columns.count(), input);
        let projection = match unit {
            None => Projection::F32(size, Cut::choose(kernels, size, threads)),
            Some(unit) => Projection::Bf16(unit, Plan::new(unit, size, threads, None)),
        };
        Layer { cell, columns, steps, batch, input, projection, threads, reverse: false }
    }

    /// The same from the last step to the first, or from the first to the last.
    pub fn reversed(self, reverse: bool) -> Layer {
        Layer { reverse, ..self }
    }

    fn half_stride(&self) -> usize {
        match self.projection {
            Projection::F32(..) => 0,
            // Off a power of two by a line, so that rows spread over the sets of the first cache.
            Projection::Bf16(..) => self.columns.hidden.next_multiple_of(KB) + KB,
        }
    }

    /// Bytes of workspace.
    pub fn workspace_bytes(&self) -> usize {
        let states = 3 * self.batch * self.columns.hidden;
        let floats = (self.steps + 1) * self.batch * self.columns.count() + states;
        let halves = 3 * self.batch * self.half_stride();
        let plan = match self.projection {
            Projection::F32(..) => 0,
            Projection::Bf16(_, plan) => plan.workspace_bytes(),
        };
        (4 * floats + 2 * halves).next_multiple_of(64) + plan
    }

    /// Operations of one run.
    pub fn flops(&self) -> usize {
        self.steps * self.step_flops(self.input + self.columns.hidden)
    }

    fn step_flops(&self, k: usize) -> usize {
        2 * self.batch * self.columns.gates * self.columns.hidden * k
    }

    /// Runs it.
    ///
    /// # Safety
    /// The operands cover the sizes; `workspace` has [`Layer::workspace_bytes`] and is aligned for floats.
    pub unsafe fn run(&self, kernels: &Kernels, pool: &ThreadPool, op: &Operands, workspace: *mut u8) {
        let (count, hidden) = (self.columns.count(), self.columns.hidden);
        let state = self.batch * hidden;
        // SAFETY: the parts of the workspace follow each other; the rest is the caller's promise.
        unsafe {
            let inputs = workspace.cast::<f32>();
            let sums = inputs.add(self.steps * self.batch * count);
            let states = sums.add(self.batch * count);
            let halves = states.add(3 * state).cast::<u16>();
            let half = self.batch * self.half_stride();
            let space = Space {
                inputs,
                sums,
                states: [states, states.add(state)],
                c: states.add(2 * state),
                halves: [halves, halves.add(half), halves.add(2 * half)],
            };
            let start = |from: *const f32, to: *mut f32| {
                if from.is_null() {
                    core::ptr::write_bytes(to, 0, state);
                } else {
                    core::ptr::copy_nonoverlapping(from, to, state);
                }
            };
            start(op.h0, space.states[0]);
            start(op.c0, space.c);
            let rows = Matrix { data: op.x, stride: self.input };
            match (self.projection, op.w) {
                (Projection::F32(size, cut), Weights::F32(w)) => {
                    let out = Out { bias: op.bias, ..Out::plain(inputs, count) };
                    gemm::run(kernels, pool, size, cut, &rows, w, out);
                }
                (Projection::Bf16(unit, plan), Weights::Bf16(w)) => {
                    core::ptr::write_bytes(halves, 0, 3 * half);
                    for b in 0..self.batch {
                        let to = space.halves[0].add(b * self.half_stride());
                        (unit.narrow)(space.states[0].add(b * hidden), hidden, to);
                    }
                    let out = gemm_bf16::Out {
                        c: inputs.cast(),
                        c_half: false,
                        c_stride: count,
                        bias: op.bias,
                        residual: core::ptr::null(),
                        residual_half: false,
                        residual_stride: count,
                        act: Act::None,
                    };
                    let used = halves.add(3 * half).cast::<u8>().offset_from(workspace) as usize;
                    let own = workspace.add(used.next_multiple_of(64));
                    gemm_bf16::run(unit, pool, &plan, &rows, w, &out, own);
                }
                _ => debug_assert!(false, "weights of another kind than the layer was bound for"),
            }
            // The hidden gate of `GruReset` waits for the reset gate.
            let phases = if self.cell == Cell::GruReset { 2 } else { 1 };
            let groups = self.columns.groups();
            let worth = self.step_flops(hidden).div_ceil(FLOPS_PER_PART).min(groups);
            let parts = if self.threads > 1 { phases::parts(pool, worth) } else { 1 };
            let (space, op) = (&space, &op);
            phases::run(pool, parts, phases * self.steps, |part, phase| {
                let (first, count) = cut(groups, parts, part);
                for i in 0..count {
                    // There and back through the weights by turns, so that what the cache kept of them is met first.
                    let group = first + if phase.is_multiple_of(2) { i } else { count - 1 - i };
                    self.group(kernels, op, space, phase / phases, phase % phases == 1, group);
                }
                if let Projection::Bf16(unit, _) = self.projection {
                    (unit.release)();
                }
            });
            for (from, to) in [(space.states[self.steps % 2], op.y_h), (space.c, op.y_c)] {
                if !to.is_null() {
                    core::ptr::copy_nonoverlapping(from, to, state);
                }
            }
        }
    }

    /// What step `step` does to a group of units; `behind` the reset gate, where the cell has one before its last product.
    unsafe fn group(&self, kernels: &Kernels, op: &Operands, space: &Space, step: usize, behind: bool, group: usize) {
        let Columns { gates, hidden, nr } = self.columns;
        let batch = self.batch;
        let (unit0, units) = (group * nr, nr.min(hidden - group * nr));
        let t = if self.reverse { self.steps - 1 - step } else { step };
        let gate_step = batch * nr;
        let which = match (self.cell, behind) {
            (Cell::GruReset, false) => 0..2,
            (Cell::GruReset, true) => 2..3,
            _ => 0..gates,
        };
        // SAFETY: groups own their columns, units and sums; the rest is the caller's promise.
        unsafe {
            let (old, new) = (space.states[step % 2], space.states[(step + 1) % 2]);
            let sums = space.sums.add(group * gates * gate_step);
            let x = space.inputs.add(t * batch * self.columns.count() + group * gates * nr);
            for gate in which {
                let column = (group * gates + gate) * nr;
                let x = if self.cell.joins() { x.add(gate * nr) } else { core::ptr::null() };
                let bias = if op.state_bias.is_null() { op.state_bias } else { op.state_bias.add(column) };
                let to = sums.add(gate * gate_step);
                match (self.projection, op.r) {
                    (Projection::Bf16(unit, _), Weights::Bf16(r)) => {
                        let h = space.halves[if behind { 2 } else { step % 2 }];
                        self.product_bf16(unit, h, r, column, x, bias, to);
                    }
                    (_, Weights::F32(r)) => {
                        self.product(kernels, if behind { space.c } else { old }, r, column, x, bias, to);
                    }
                    _ => debug_assert!(false, "weights of another kind than the layer was bound for"),
                }
            }
            for b in 0..batch {
                let at = b * hidden + unit0;
                let (sums, x, old, new) = (sums.add(b * nr), x.add(b * self.columns.count()), old.add(at), new.add(at));
                let c = space.c.add(at);
                let over = !op.lengths.is_null() && t >= *op.lengths.add(b) as usize;
                let mut made = new;
                let mut half = space.halves[(step + 1) % 2];
                if self.cell == Cell::GruReset && !behind {
                    (kernels.gru_reset)(x.add(nr), sums.add(gate_step), old, c, units);
                    (made, half) = (c, space.halves[2]);
                } else if over {
                    core::ptr::copy_nonoverlapping(old, new, units);
                } else {
                    match self.cell {
                        Cell::Lstm => match &op.extras {
                            None => (kernels.lstm_cell)(sums, gate_step, c, new, units),
                            Some(extras) => {
                                let mut extras = *extras;
                                if !extras.peepholes.is_null() {
                                    extras.peepholes = extras.peepholes.add(unit0);
                                }
                                (kernels.lstm_cell_with)(sums, gate_step, c, new, units, &extras);
                            }
                        },
                        Cell::Gru => (kernels.gru_cell)(x, nr, sums, gate_step, old, new, units, true),
                        Cell::GruReset => (kernels.gru_cell)(x, nr, sums, gate_step, old, new, units, false),
                        Cell::Rnn(act) => {
                            (kernels.activate)(sums, 1, units, nr, act);
                            core::ptr::copy_nonoverlapping(sums, new, units);
                        }
                    }
                }
                if let Projection::Bf16(unit, _) = self.projection {
                    (unit.narrow)(made, units, half.add(b * self.half_stride() + unit0));
                }
                if !op.y.is_null() && made == new {
                    let y = op.y.add(t * op.y_step + at);
                    if over {
                        core::ptr::write_bytes(y, 0, units);
                    } else {
                        core::ptr::copy_nonoverlapping(new, y, units);
                    }
                }
            }
        }
    }

    /// The sums of a panel of columns, for all sequences: states times weights, and what is added of `x` and `bias`.
    unsafe fn product(
        &self,
        kernels: &Kernels,
        h: *const f32,
        r: *const f32,
        column: usize,
        x: *const f32,
        bias: *const f32,
        to: *mut f32,
    ) {
        let Columns { hidden, nr, .. } = self.columns;
        let count = self.columns.count();
        let mut row = 0;
        while row < self.batch {
            let rows = kernels.mr.min(self.batch - row);
            let mut pointers = [h; ROWS];
            // SAFETY: rows of the state, of the inputs' sums and of the result; no tier's microkernel takes more than `ROWS`.
            unsafe {
                for (i, p) in pointers.iter_mut().enumerate().take(rows) {
                    *p = h.add((row + i) * hidden);
                }
                kernels.gemm[rows - 1][1](&GemmTile {
                    a: pointers.as_ptr(),
                    a_tap: rows,
                    a_offset: 0,
                    taps: 1,
                    kc: hidden,
                    b: r.add(column * hidden),
                    c: to.add(row * nr),
                    c_stride: nr,
                    cols: nr,
                    accumulate: false,
                    finish: true,
                    bias,
                    residual: if x.is_null() { x } else { x.add(row * count) },
                    residual_stride: count,
                    act: Act::None,
                    ahead: core::ptr::null(),
                    ahead_lines: 0,
                });
            }
            row += rows;
        }
    }

    /// [`Layer::product`] in bfloat16.
    unsafe fn product_bf16(
        &self,
        unit: &Bf16Unit,
        h: *const u16,
        r: *const u16,
        column: usize,
        x: *const f32,
        bias: *const f32,
        to: *mut f32,
    ) {
        let Columns { hidden, nr, .. } = self.columns;
        let k = hidden.next_multiple_of(KB);
        // SAFETY: rows of the state, of the inputs' sums and of the result.
        unsafe {
            for b in 0..self.batch {
                let from = if x.is_null() { bias } else { x.add(b * self.columns.count()) };
                core::ptr::copy_nonoverlapping(from, to.add(b * nr), nr);
            }
            let mut row = 0;
            while row < self.batch {
                let rows = unit.mr.min(self.batch - row);
                (unit.tile)(&Bf16Tile {
                    a: h.add(row * self.half_stride()),
                    a_stride: self.half_stride(),
                    rows,
                    k,
                    b: r.add(column * k),
                    c: to.add(row * nr),
                    accumulate: true,
                });
                row += rows;
            }
        }
    }
}
