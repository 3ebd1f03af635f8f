//! Resizing along any axes: every output row is a weighted sum of input rows, and then, when the last axis changes too,
//! every element of it a weighted sum of that row's elements.

use super::element::Element;
use super::{Shared, cut};
use crate::kernels::Kernels;
use crate::pool::ThreadPool;
use core::cell::RefCell;
use oxrt_ops::resample::Taps;

/// The inputs of every output position along one axis.
#[derive(Clone, Debug, PartialEq)]
pub struct AxisTaps {
    /// Inputs per output.
    pub taps: usize,
    /// `taps` input positions per output.
    pub index: Vec<usize>,
    /// Their weights.
    pub weight: Vec<f64>,
    /// The same in single precision.
    pub narrow: Vec<f32>,
}

impl AxisTaps {
    /// An axis that stays as it is.
    pub fn identity(n: usize) -> AxisTaps {
        AxisTaps { taps: 1, index: (0..n).collect(), weight: vec![1.0; n], narrow: vec![1.0; n] }
    }

    /// An axis of `n` inputs by the list of every output's; shorter lists are filled up with weights of 0.
    pub fn new(list: Option<&Taps>, n: usize) -> AxisTaps {
        let Some(list) = list else { return AxisTaps::identity(n) };
        let taps = list.iter().map(Vec::len).max().unwrap_or(1).max(1);
        let mut axis = AxisTaps { taps, index: Vec::new(), weight: Vec::new(), narrow: Vec::new() };
        for inputs in list {
            let last = inputs.last().map_or(0, |t| t.0);
            let all = inputs.iter().copied().chain(core::iter::repeat((last, 0.0))).take(taps);
            for (index, weight) in all {
                axis.index.push(index);
                axis.weight.push(weight);
                axis.narrow.push(weight as f32);
            }
        }
        axis
    }

    fn is_identity(&self, n: usize) -> bool {
        *self == AxisTaps::identity(n)
    }

    /// Outputs.
    pub fn outputs(&self) -> usize {
        self.index.len() / self.taps
    }

    /// Only copies.
    fn is_copy(&self) -> bool {
        self.taps == 1 && self.weight.iter().all(|&w| w == 1.0)
    }
}

/// A resize bound to sizes.
#[derive(Clone, Debug)]
pub struct Resample {
    shape: Vec<usize>,
    axes: Vec<AxisTaps>,
    /// Inputs of one output row, before the last axis.
    rows: usize,
    last_changes: bool,
}

thread_local! {
    /// One input row per thread, blended.
    static ROW: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

thread_local! {
    /// Sums of a row, or a line and its outputs, in double precision.
    static LINE: RefCell<Vec<f64>> = const { RefCell::new(Vec::new()) };
}

/// Most rows that are blended into one.
const MAX_ROWS: usize = 64;

impl Resample {
    /// A resize of a tensor of `shape` by the given taps per axis. `None` when one output needs too many inputs.
    pub fn new(shape: &[usize], axes: Vec<AxisTaps>) -> Option<Resample> {
        let last = shape.len().checked_sub(1)?;
        let rows = axes[..last].iter().map(|a| a.taps).product();
        let last_changes = !axes[last].is_identity(shape[last]);
        (rows <= MAX_ROWS).then(|| Resample { shape: shape.to_vec(), axes, rows, last_changes })
    }

    /// Runs it.
    ///
    /// # Safety
    /// The pointers cover the input's and the output's shapes.
    pub unsafe fn run(&self, kernels: &Kernels, pool: &ThreadPool, x: *const f32, y: *mut f32) {
        let last = self.shape.len() - 1;
        let outer: usize = self.axes[..last].iter().map(AxisTaps::outputs).product();
        let (n_in, n_out) = (self.shape[last], self.axes[last].outputs());
        if outer * n_out == 0 {
            return;
        }
        let (x, y) = (Shared(x.cast_mut()), Shared(y));
        let parts = pool.parts(outer * n_out / 4096).min(outer);
        let copies = self.axes[..last].iter().all(AxisTaps::is_copy);
        pool.run(parts, |part| {
            let (start, count) = cut(outer, parts, part);
            ROW.with_borrow_mut(|row| {
                if self.last_changes && row.len() < n_in {
                    row.resize(n_in, 0.0);
                }
                for o in start..start + count {
                    let mut pointers = [core::ptr::null::<f32>(); MAX_ROWS];
                    let mut weights = [1.0f32; MAX_ROWS];
                    self.inputs(o, x.get(), &mut pointers, &mut weights);
                    // SAFETY: input rows exist by construction of the taps; output rows are disjoint between parts.
                    unsafe {
                        let to = y.at(o * n_out);
                        match (copies, self.last_changes) {
                            (true, false) => core::ptr::copy_nonoverlapping(pointers[0], to, n_in),
                            (true, true) => self.along(pointers[0], to),
                            (false, false) => {
                                (kernels.weighted_rows)(pointers.as_ptr(), weights.as_ptr(), self.rows, n_in, to);
                            }
                            (false, true) => {
                                let p = row.as_mut_ptr();
                                (kernels.weighted_rows)(pointers.as_ptr(), weights.as_ptr(), self.rows, n_in, p);
                                self.along(p, to);
                            }
                        }
                    }
                }
            });
        });
    }

    /// Input rows and weights of output row `o`.
    fn inputs(
        &self,
        mut o: usize,
        x: *const f32,
        pointers: &mut [*const f32; MAX_ROWS],
        weights: &mut [f32; MAX_ROWS],
    ) {
        let last = self.shape.len() - 1;
        let mut step = self.shape[last];
        pointers[0] = x;
        let mut count = 1;
        for d in (0..last).rev() {
            let axis = &self.axes[d];
            let at = o % axis.outputs();
            o /= axis.outputs();
            // Later taps first, so that the first `count` entries are still there to multiply.
            for t in (0..axis.taps).rev() {
                let (index, weight) = (axis.index[at * axis.taps + t], axis.narrow[at * axis.taps + t]);
                for i in 0..count {
                    pointers[t * count + i] = pointers[i].wrapping_add(index * step);
                    weights[t * count + i] = weights[i] * weight;
                }
            }
            count *= axis.taps;
            step *= self.shape[d];
        }
    }

    /// The last axis of one row.
    unsafe fn along(&self, x: *const f32, y: *mut f32) {
        let axis = &self.axes[self.shape.len() - 1];
        // SAFETY: positions lie inside the row.
        unsafe { along(x, &axis.index, &axis.narrow, axis.taps, y) }
    }
}

/// Every output of a line: `taps` inputs of `x` each, by their weights.
///
/// # Safety
/// The positions lie inside the line, and `y` has room for the outputs.
unsafe fn along<T: Element + core::ops::Mul<Output = T> + core::ops::Add<Output = T>>(
    x: *const T,
    index: &[usize],
    weight: &[T],
    taps: usize,
    y: *mut T,
) {
    /// A number of taps that the compiler knows.
    unsafe fn fixed<T: Element + core::ops::Mul<Output = T> + core::ops::Add<Output = T>, const N: usize>(
        x: *const T,
        index: &[usize],
        weight: &[T],
        y: *mut T,
    ) {
        for (o, (index, weight)) in index.as_chunks::<N>().0.iter().zip(weight.as_chunks::<N>().0).enumerate() {
            let mut sum = T::default();
            for t in 0..N {
                // SAFETY: as the caller promises.
                sum = sum + unsafe { *x.add(index[t]) } * weight[t];
            }
            // SAFETY: as above.
            unsafe { *y.add(o) = sum };
        }
    }
    // SAFETY: as the caller promises.
    unsafe {
        match taps {
            1 => fixed::<T, 1>(x, index, weight, y),
            2 => fixed::<T, 2>(x, index, weight, y),
            3 => fixed::<T, 3>(x, index, weight, y),
            4 => fixed::<T, 4>(x, index, weight, y),
            5 => fixed::<T, 5>(x, index, weight, y),
            6 => fixed::<T, 6>(x, index, weight, y),
            8 => fixed::<T, 8>(x, index, weight, y),
            _ => {
                for (o, (index, weight)) in index.chunks(taps).zip(weight.chunks(taps)).enumerate() {
                    let parts = index.iter().zip(weight);
                    *y.add(o) = parts.fold(T::default(), |sum, (&i, &w)| sum + *x.add(i) * w);
                }
            }
        }
    }
}

/// A resize axis by axis, with sums in double precision.
#[derive(Clone, Debug)]
pub struct Separable {
    len: usize,
    passes: Vec<Along>,
}

/// A pass along one axis.
#[derive(Clone, Debug)]
struct Along {
    outer: usize,
    inputs: usize,
    inner: usize,
    axis: AxisTaps,
}

impl Separable {
    /// A resize of a tensor of `shape` by the given taps per axis.
    pub fn new(shape: &[usize], axes: Vec<AxisTaps>) -> Separable {
        let (mut shape, len) = (shape.to_vec(), shape.iter().product());
        let mut passes = Vec::new();
        for (d, axis) in axes.into_iter().enumerate().filter(|(d, a)| !a.is_identity(shape[*d])).collect::<Vec<_>>() {
            let (outer, inner) = (shape[..d].iter().product(), shape[d + 1..].iter().product());
            let inputs = shape[d];
            shape[d] = axis.outputs();
            passes.push(Along { outer, inputs, inner, axis });
        }
        Separable { len, passes }
    }

    /// Doubles of workspace.
    pub fn workspace_len(&self) -> usize {
        let between = self.passes.split_last().map_or(&[][..], |p| p.1);
        2 * between.iter().map(Along::len).max().unwrap_or(0)
    }

    /// Runs it.
    ///
    /// # Safety
    /// The pointers cover the input's and the output's shapes and the workspace.
    pub unsafe fn run<E: Element>(&self, pool: &ThreadPool, x: *const E, y: *mut E, workspace: *mut f64) {
        let rooms = [workspace, workspace.wrapping_add(self.workspace_len() / 2)];
        // SAFETY: passes read what the one before wrote, or the input.
        unsafe {
            match self.passes.split_last() {
                None => core::ptr::copy_nonoverlapping(x, y, self.len),
                Some((only, [])) => only.run(pool, x, y),
                Some((last, [first, rest @ ..])) => {
                    first.run(pool, x, rooms[0]);
                    for (i, pass) in rest.iter().enumerate() {
                        pass.run(pool, rooms[i % 2].cast_const(), rooms[(i + 1) % 2]);
                    }
                    last.run(pool, rooms[rest.len() % 2].cast_const(), y);
                }
            }
        }
    }
}

impl Along {
    /// Elements of the result.
    fn len(&self) -> usize {
        self.outer * self.axis.outputs() * self.inner
    }

    unsafe fn run<A: Element, B: Element>(&self, pool: &ThreadPool, x: *const A, y: *mut B) {
        let Along { outer, inputs, inner, ref axis } = *self;
        let (outputs, taps) = (axis.outputs(), axis.taps);
        let rows = outer * outputs;
        let (x, y) = (Shared(x.cast_mut()), Shared(y));
        if inner == 1 {
            // Lines: in double precision, each in one go.
            let parts = pool.parts(self.len() * taps / 8192).min(outer.max(1));
            return pool.run(parts, |part| {
                let (start, count) = cut(outer, parts, part);
                LINE.with_borrow_mut(|line| {
                    line.resize(inputs + outputs, 0.0);
                    let (from, to) = line.split_at_mut(inputs);
                    for o in start..start + count {
                        // SAFETY: lines are disjoint parts of both sides.
                        unsafe {
                            (0..inputs).for_each(|i| from[i] = (*x.at(o * inputs + i)).to_f64());
                            along(from.as_ptr(), &axis.index, &axis.weight, taps, to.as_mut_ptr());
                            (0..outputs).for_each(|i| *y.at(o * outputs + i) = B::from_f64(to[i]));
                        }
                    }
                });
            });
        }
        let parts = pool.parts(self.len() * taps / 8192).min(rows.max(1));
        pool.run(parts, |part| {
            let (start, count) = cut(rows, parts, part);
            LINE.with_borrow_mut(|sums| {
                sums.resize(inner, 0.0);
                for row in start..start + count {
                    let (o, at) = (row / outputs, row % outputs * taps);
                    sums.fill(0.0);
                    for (&place, &w) in axis.index[at..at + taps].iter().zip(&axis.weight[at..at + taps]) {
                        // SAFETY: input rows exist by construction of the taps.
                        unsafe {
                            let from = x.at((o * inputs + place) * inner);
                            sums.iter_mut().enumerate().for_each(|(i, sum)| *sum += w * (*from.add(i)).to_f64());
                        }
                    }
                    for (i, &sum) in sums.iter().enumerate() {
                        // SAFETY: output rows are disjoint.
                        unsafe { *y.at(row * inner + i) = B::from_f64(sum) };
                    }
                }
            });
        });
    }
}
