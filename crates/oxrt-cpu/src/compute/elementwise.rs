//! Elementwise programs, run tile by tile so that intermediate results never leave the first cache.

use super::broadcast::Space;
use super::{Reads, Shared, cut};
use crate::kernels::Kernels;
use crate::kernels::elementwise::{ChainStep, Format, Link, Operand};
use crate::pool::ThreadPool;
use core::cell::RefCell;
use oxrt_ops::scalar::{Instr, Program, Unary};

/// Elements of a tile.
const TILE: usize = 512;
/// Fewer elements than this are not worth waking another thread for.
const MIN_PER_TASK: usize = 8 * 1024;

thread_local! {
    /// Tiles of a thread; grows to the largest program's need, once.
    static TILES: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

/// Where an instruction finds an operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// Tile of the thread's scratch.
    Tile(usize),
    /// Operand of the program: wherever that is for this tile.
    Input(usize),
    /// One of the program's constants.
    Const(usize),
}

/// Some instructions that are done together, and the tile of the result.
#[derive(Clone, Debug)]
enum Step {
    One(Instr, [Place; 3], usize),
    /// From a first operand, by links with their other operands.
    Chain(Place, Vec<(Link, Place)>, usize),
}

/// Most links of a chain.
const LINKS: usize = 64;

/// Joins neighbouring instructions whose results nobody else reads, where they are short enough for a chain. `used_once[i]`
/// says so of step `i`'s result.
fn chains(steps: Vec<(Instr, [Place; 3], usize)>, used_once: &[bool]) -> Vec<Step> {
    // The link that an instruction is, with its first operand or with the values that are at hand.
    let link = |instr: &Instr, from: &[Place; 3], hand: Option<Place>| -> Option<(Place, Link, Place)> {
        let (first, link, other) = match *instr {
            Instr::Unary(op, _) => (from[0], Link::Unary(op), from[0]),
            Instr::Binary(..) if from[0] == from[1] => return None,
            Instr::Binary(op, ..) if hand.is_some_and(|h| h == from[1]) => (from[1], Link::Reversed(op), from[0]),
            Instr::Binary(op, ..) => (from[0], Link::Binary(op), from[1]),
            _ => return None,
        };
        (link.is_short() && hand.is_none_or(|h| h == first)).then_some((first, link, other))
    };
    let mut out: Vec<Step> = Vec::new();
    let mut i = 0;
    while i < steps.len() {
        let (instr, from, tile) = &steps[i];
        let mut tile = *tile;
        let Some((first, l, other)) = link(instr, from, None) else {
            out.push(Step::One(*instr, *from, tile));
            i += 1;
            continue;
        };
        let mut links = vec![(l, other)];
        let mut next = i + 1;
        while next < steps.len() && used_once[next - 1] && links.len() < LINKS {
            let (instr, from, to) = &steps[next];
            let Some((_, l, other)) = link(instr, from, Some(Place::Tile(tile))) else { break };
            links.push((l, other));
            tile = *to;
            next += 1;
        }
        if links.len() == 1 {
            out.push(Step::One(*instr, *from, tile));
        } else {
            out.push(Step::Chain(first, links, tile));
        }
        i = next;
    }
    out
}

/// A program bound to shapes.
#[derive(Clone, Debug)]
pub struct Elementwise {
    kernels: &'static Kernels,
    space: Space,
    formats: Vec<Format>,
    out_format: Format,
    steps: Vec<Step>,
    /// Instructions.
    instrs: usize,
    result: Place,
    constants: Vec<f32>,
    tiles: usize,
    /// Rows of the last dimension in one tile.
    tile_rows: usize,
    /// Tasks for the pool.
    parts: usize,
}

/// How an input reaches a tile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Access {
    /// Where it lies.
    Direct,
    /// One value for the whole tile.
    Uniform,
    /// Gathered or converted into a tile of its own.
    Copied,
}

impl Elementwise {
    /// Binds `program` to an output shape and its operands' shapes and formats. `None` when they do not broadcast.
    pub fn new(
        kernels: &'static Kernels,
        program: &Program,
        output: &[usize],
        operands: &[(&[usize], Format)],
        out_format: Format,
        threads: usize,
    ) -> Option<Elementwise> {
        let shapes: Vec<&[usize]> = operands.iter().map(|o| o.0).collect();
        let space = Space::new(output, &shapes)?;
        let mut places: Vec<Place> = Vec::new();
        let mut constants = Vec::new();
        let mut steps = Vec::new();
        // Last use of each instruction's result, to reuse tiles.
        let mut last = vec![0usize; program.instrs.len()];
        for (i, instr) in program.instrs.iter().enumerate() {
            instr.operands().for_each(|r| last[usize::from(r.0)] = i);
        }
        // The first tiles belong to the inputs that need gathering.
        let mut tiles = operands.len();
        let mut free: Vec<usize> = Vec::new();
        for (i, instr) in program.instrs.iter().enumerate() {
            let place = match *instr {
                Instr::Input(input) => {
                    if usize::from(input) >= operands.len() {
                        return None;
                    }
                    Place::Input(input.into())
                }
                Instr::Const(c) => {
                    constants.push(c as f32);
                    Place::Const(constants.len() - 1)
                }
                _ => {
                    let mut from = [Place::Const(0); 3];
                    for (slot, r) in from.iter_mut().zip(instr.operands()) {
                        *slot = places[usize::from(r.0)];
                    }
                    // Taken before the operands are given back: a select reads all three to the end.
                    let tile = free.pop().unwrap_or_else(|| {
                        tiles += 1;
                        tiles - 1
                    });
                    for r in instr.operands() {
                        let r = usize::from(r.0);
                        if let Place::Tile(t) = places[r] {
                            if last[r] == i && !free.contains(&t) {
                                free.push(t);
                            }
                        }
                    }
                    steps.push((*instr, from, tile));
                    Place::Tile(tile)
                }
            };
            places.push(place);
        }
        let result = *places.last()?;
        // How often the result of each step is read, the program's own counting too.
        let mut used = vec![0usize; program.instrs.len()];
        program.instrs.iter().for_each(|instr| instr.operands().for_each(|r| used[usize::from(r.0)] += 1));
        *used.last_mut()? += 1;
        let made = |instr: &Instr| !matches!(instr, Instr::Input(_) | Instr::Const(_));
        let used_once: Vec<bool> =
            (program.instrs.iter().zip(&used)).filter(|(instr, _)| made(instr)).map(|(_, &n)| n == 1).collect();
        let instrs = steps.len();
        let steps = chains(steps, &used_once);
        let inner = space.dims[space.dims.len() - 1];
        let outer = if space.dims.len() > 1 { space.dims[space.dims.len() - 2] } else { 1 };
        let tile_rows = (TILE / inner.max(1)).clamp(1, outer.max(1));
        let parts = crate::pool::parts(space.len() / MIN_PER_TASK, threads);
        Some(Elementwise {
            kernels,
            formats: operands.iter().map(|o| o.1).collect(),
            out_format,
            steps,
            instrs,
            result,
            constants,
            tiles: tiles + 1,
            tile_rows,
            parts,
            space,
        })
    }

    /// Elements of the output.
    pub fn len(&self) -> usize {
        self.space.len()
    }

    /// Whether the output has no elements.
    pub fn is_empty(&self) -> bool {
        self.space.is_empty()
    }

    /// Operations of one run.
    pub fn flops(&self) -> usize {
        self.len() * self.instrs
    }

    /// Runs it.
    ///
    /// # Safety
    /// `inputs` and `out` cover the bound shapes; `out` overlaps no input, unless it is one of the same shape and format.
    pub unsafe fn run(&self, pool: &ThreadPool, inputs: &[*const u8], out: *mut u8) {
        if self.is_empty() {
            return;
        }
        let (inputs, out) = (Reads(inputs), Shared(out));
        let rank = self.space.dims.len();
        let inner = self.space.dims[rank - 1];
        let rows = self.space.len() / inner;
        if rows >= self.parts * self.tile_rows || inner <= TILE {
            // Parts are whole groups of rows.
            let parts = self.parts.min(rows.div_ceil(self.tile_rows));
            pool.run(parts, |part| {
                let (start, count) = cut(rows, parts, part);
                // SAFETY: parts are disjoint rows of the output.
                unsafe { self.run_rows(inputs.get(), out.get(), start, count, 0, inner) };
            });
        } else {
            // Few long rows: parts are pieces of each row.
            let parts = self.parts.div_ceil(rows).max(1);
            pool.run(rows * parts, |part| {
                let blocks = inner.div_ceil(TILE);
                let (start, count) = cut(blocks, parts, part % parts);
                let (first, end) = (start * TILE, ((start + count) * TILE).min(inner));
                if first < end {
                    // SAFETY: parts are disjoint pieces of the output.
                    unsafe { self.run_rows(inputs.get(), out.get(), part / parts, 1, first, end) };
                }
            });
        }
    }

    /// Rows `start..start + count`, of each the elements `first..end`.
    unsafe fn run_rows(
        &self,
        inputs: &[*const u8],
        out: *mut u8,
        start: usize,
        count: usize,
        first: usize,
        end: usize,
    ) {
        TILES.with_borrow_mut(|scratch| {
            if scratch.len() < self.tiles * TILE {
                scratch.resize(self.tiles * TILE, 0.0);
            }
            let tiles = scratch.as_mut_ptr();
            let outer = if self.space.dims.len() > 1 { self.space.dims[self.space.dims.len() - 2] } else { 1 };
            let inner = self.space.dims[self.space.dims.len() - 1];
            let mut row = start;
            while row < start + count {
                // Rows of one tile share all but the second-to-last index.
                let rows = self.tile_rows.min(start + count - row).min(outer - row % outer);
                let mut at = first;
                while at < end {
                    let len = (end - at).min(TILE);
                    // SAFETY: the tile lies inside the output; scratch has `tiles` tiles.
                    unsafe {
                        let size = self.out_format.size();
                        self.tile(inputs, out.add((row * inner + at) * size), row, rows, at, len, tiles);
                    }
                    at += len;
                }
                row += rows;
            }
        });
    }

    /// One tile: `rows` rows of `len` elements from element `at` (whole rows when there is more than one).
    unsafe fn tile(
        &self,
        inputs: &[*const u8],
        out: *mut u8,
        row: usize,
        rows: usize,
        at: usize,
        len: usize,
        tiles: *mut f32,
    ) {
        let n = rows * len;
        let rank = self.space.dims.len();
        let kernels = self.kernels;
        let mut found = [Operand { data: core::ptr::null(), uniform: true }; MAX_INPUTS];
        // SAFETY: offsets follow the operands' strides; tiles are disjoint parts of the scratch.
        unsafe {
            for (i, operand) in found.iter_mut().enumerate().take(inputs.len()) {
                let strides = &self.space.strides[i];
                let step = strides[rank - 1];
                let row_step = if rank > 1 { strides[rank - 2] } else { 0 };
                let format = self.formats[i];
                let offset = self.space.offset(i, row, 1) + at * step;
                let base = inputs[i].add(offset * format.size());
                let own = tiles.add(i * TILE);
                let access = if step == 0 && (rows == 1 || row_step == 0) {
                    Access::Uniform
                } else if format == Format::F32 && step == 1 && (rows == 1 || row_step == len) {
                    Access::Direct
                } else {
                    Access::Copied
                };
                *operand = match access {
                    Access::Direct => Operand { data: base.cast(), uniform: false },
                    Access::Uniform => {
                        (kernels.widen)(format, base, own, 1);
                        Operand { data: own, uniform: true }
                    }
                    Access::Copied => {
                        for r in 0..rows {
                            let base = base.add(r * row_step * format.size());
                            let own = own.add(r * len);
                            match step {
                                1 => (kernels.widen)(format, base, own, len),
                                0 => {
                                    (kernels.widen)(format, base, own, 1);
                                    let value = *own;
                                    (0..len).for_each(|j| *own.add(j) = value);
                                }
                                _ => (0..len).for_each(|j| {
                                    (kernels.widen)(format, base.add(j * step * format.size()), own.add(j), 1);
                                }),
                            }
                        }
                        Operand { data: own, uniform: false }
                    }
                };
            }
            let get = |place: Place| match place {
                Place::Tile(t) => Operand { data: tiles.add(t * TILE), uniform: false },
                Place::Input(i) => found[i],
                Place::Const(c) => Operand { data: self.constants.as_ptr().add(c), uniform: true },
            };
            let steps = self.steps.len();
            for (i, step) in self.steps.iter().enumerate() {
                let (Step::One(_, _, tile) | Step::Chain(_, _, tile)) = step;
                // The last result goes where it belongs, when no conversion stands between.
                let to =
                    if i + 1 == steps && self.out_format == Format::F32 { out.cast() } else { tiles.add(tile * TILE) };
                let (instr, from) = match step {
                    Step::One(instr, from, _) => (instr, from),
                    Step::Chain(first, links, _) => {
                        let none = ChainStep { link: Link::Unary(Unary::Neg), other: get(*first) };
                        let mut steps = [none; LINKS];
                        for (step, (link, other)) in steps.iter_mut().zip(links) {
                            *step = ChainStep { link: *link, other: get(*other) };
                        }
                        (kernels.chain)(&steps[..links.len()], get(*first), to, n);
                        continue;
                    }
                };
                match *instr {
                    Instr::Unary(op, _) => {
                        let a = get(from[0]);
                        if a.uniform {
                            (kernels.unary)(op, a.data, to, 1);
                            let value = *to;
                            (0..n).for_each(|j| *to.add(j) = value);
                        } else {
                            (kernels.unary)(op, a.data, to, n);
                        }
                    }
                    Instr::Binary(op, ..) => (kernels.binary)(op, get(from[0]), get(from[1]), to, n),
                    Instr::Select(..) => (kernels.select)(get(from[0]), get(from[1]), get(from[2]), to, n),
                    Instr::Input(_) | Instr::Const(_) => {}
                }
            }
            if steps > 0 && self.out_format == Format::F32 {
                return;
            }
            let result = get(self.result);
            if result.uniform {
                let spread = tiles.add((self.tiles - 1) * TILE);
                (0..n).for_each(|j| *spread.add(j) = *result.data);
                (kernels.narrow)(self.out_format, spread, out, n);
            } else {
                (kernels.narrow)(self.out_format, result.data, out, n);
            }
        }
    }
}

/// Most inputs a program may have.
pub const MAX_INPUTS: usize = 32;

#[cfg(test)]
#[path = "elementwise_tests.rs"]
mod tests;
