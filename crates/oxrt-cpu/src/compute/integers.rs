//! Elementwise programs over integers and booleans: 64-bit arithmetic, tile by tile, as the little language defines it.

use super::broadcast::Space;
use super::{Reads, Shared, cut};
use crate::pool::ThreadPool;
use oxrt_ops::scalar::{Binary, Instr, Program, Unary};
use oxrt_tensor::{DType, Error, Result};
use std::sync::atomic::{AtomicBool, Ordering};

/// Elements of a tile.
const TILE: usize = 64;
/// Longest program: its tiles lie on the stack.
pub const MAX_INSTRS: usize = 48;
/// Fewer elements than this are not worth waking another thread for.
const MIN_PER_TASK: usize = 8 * 1024;

/// Whether every instruction has integer arithmetic here.
pub fn supports(program: &Program) -> bool {
    program.instrs.len() <= MAX_INSTRS
        && program.instrs.iter().all(|i| match i {
            Instr::Input(_) | Instr::Select(..) => true,
            Instr::Const(c) => c.fract() == 0.0 && c.abs() < 9e15,
            Instr::Unary(op, _) => matches!(op, Unary::Neg | Unary::Abs | Unary::Sign | Unary::Not | Unary::BitNot),
            Instr::Binary(op, ..) => {
                !matches!(op, Binary::Pow | Binary::Shl | Binary::Shr | Binary::Atan2 | Binary::Fmod)
            }
        })
}

/// Whether elements of the type can be read and written.
pub fn stores(dtype: DType) -> bool {
    use DType::*;
    matches!(dtype, Bool | U8 | I8 | U16 | I16 | U32 | I32 | I64)
}

/// A program bound to shapes.
pub struct Integers {
    program: Program,
    space: Space,
    inputs: Vec<DType>,
    out: DType,
}

impl Integers {
    /// Binds `program`; `None` when the operands do not broadcast to `output`.
    pub fn new(program: &Program, output: &[usize], operands: &[(&[usize], DType)], out: DType) -> Option<Integers> {
        let shapes: Vec<&[usize]> = operands.iter().map(|o| o.0).collect();
        let space = Space::new(output, &shapes)?;
        Some(Integers { program: program.clone(), space, inputs: operands.iter().map(|o| o.1).collect(), out })
    }

    /// Runs it.
    ///
    /// # Errors
    /// When a divisor is zero.
    ///
    /// # Safety
    /// `inputs` and `out` cover the bound shapes; `out` overlaps no input, unless it is one of the same shape and type.
    pub unsafe fn run(&self, pool: &ThreadPool, inputs: &[*const u8], out: *mut u8) -> Result<()> {
        if self.space.is_empty() {
            return Ok(());
        }
        let inner = self.space.dims[self.space.dims.len() - 1];
        let blocks = inner.div_ceil(TILE);
        let lines = self.space.len() / inner * blocks;
        let parts = (self.space.len() / MIN_PER_TASK).clamp(1, 4 * pool.threads()).min(lines);
        let (inputs, out) = (Reads(inputs), Shared(out));
        let zero_divisor = AtomicBool::new(false);
        pool.run(parts, |part| {
            let (start, count) = cut(lines, parts, part);
            for line in start..start + count {
                let (row, first) = (line / blocks, line % blocks * TILE);
                let n = TILE.min(inner - first);
                // SAFETY: tiles are disjoint parts of the output.
                if unsafe { !self.tile(inputs.get(), out.get(), row, first, n) } {
                    zero_divisor.store(true, Ordering::Relaxed);
                }
            }
        });
        if zero_divisor.into_inner() { Err(Error::invalid("integer division by zero")) } else { Ok(()) }
    }

    /// `n` elements of row `row` from element `first`; false when a divisor was zero.
    unsafe fn tile(&self, inputs: &[*const u8], out: *mut u8, row: usize, first: usize, n: usize) -> bool {
        let mut tiles = [[0i64; TILE]; MAX_INSTRS];
        let inner = self.space.dims.len() - 1;
        let mut sound = true;
        for (at, instr) in self.program.instrs.iter().enumerate() {
            let (done, rest) = tiles.split_at_mut(at);
            let to = &mut rest[0][..n];
            match *instr {
                Instr::Input(i) => {
                    let i = usize::from(i);
                    let step = self.space.strides[i][inner];
                    let offset = self.space.offset(i, row, 1) + first * step;
                    // SAFETY: offsets follow the operand's strides.
                    unsafe { read(self.inputs[i], inputs[i], offset, step, to) };
                }
                Instr::Const(c) => to.fill(c as i64),
                Instr::Unary(op, a) => {
                    let a = &done[usize::from(a.0)][..n];
                    match op {
                        Unary::Neg => map(a, to, i64::wrapping_neg),
                        Unary::Abs => map(a, to, i64::wrapping_abs),
                        Unary::Sign => map(a, to, i64::signum),
                        Unary::Not => map(a, to, |x| i64::from(x == 0)),
                        _ => map(a, to, |x| !x),
                    }
                }
                Instr::Binary(op, a, b) => {
                    let (a, b) = (&done[usize::from(a.0)][..n], &done[usize::from(b.0)][..n]);
                    sound &= binary(op, a, b, to);
                }
                Instr::Select(c, a, b) => {
                    let [c, a, b] = [c, a, b].map(|r| &done[usize::from(r.0)][..n]);
                    for i in 0..n {
                        to[i] = if c[i] != 0 { a[i] } else { b[i] };
                    }
                }
            }
        }
        let result = &tiles[self.program.instrs.len() - 1][..n];
        let at = row * self.space.dims[inner] + first;
        // SAFETY: the tile lies inside the output.
        unsafe { write(self.out, out, at, result) };
        sound
    }
}

fn map(a: &[i64], to: &mut [i64], f: impl Fn(i64) -> i64) {
    for (to, &a) in to.iter_mut().zip(a) {
        *to = f(a);
    }
}

fn zip(a: &[i64], b: &[i64], to: &mut [i64], f: impl Fn(i64, i64) -> i64) -> bool {
    for ((to, &a), &b) in to.iter_mut().zip(a).zip(b) {
        *to = f(a, b);
    }
    true
}

/// False when a divisor is zero; the result there is zero.
fn binary(op: Binary, a: &[i64], b: &[i64], to: &mut [i64]) -> bool {
    let truth = i64::from;
    match op {
        Binary::Add => zip(a, b, to, i64::wrapping_add),
        Binary::Sub => zip(a, b, to, i64::wrapping_sub),
        Binary::Mul => zip(a, b, to, i64::wrapping_mul),
        Binary::Min => zip(a, b, to, i64::min),
        Binary::Max => zip(a, b, to, i64::max),
        Binary::Lt => zip(a, b, to, |a, b| truth(a < b)),
        Binary::Le => zip(a, b, to, |a, b| truth(a <= b)),
        Binary::Gt => zip(a, b, to, |a, b| truth(a > b)),
        Binary::Ge => zip(a, b, to, |a, b| truth(a >= b)),
        Binary::Eq => zip(a, b, to, |a, b| truth(a == b)),
        Binary::Ne => zip(a, b, to, |a, b| truth(a != b)),
        Binary::And => zip(a, b, to, |a, b| truth(a != 0 && b != 0)),
        Binary::Or => zip(a, b, to, |a, b| truth(a != 0 || b != 0)),
        Binary::Xor => zip(a, b, to, |a, b| truth((a != 0) != (b != 0))),
        Binary::BitAnd => zip(a, b, to, |a, b| a & b),
        Binary::BitOr => zip(a, b, to, |a, b| a | b),
        Binary::BitXor => zip(a, b, to, |a, b| a ^ b),
        Binary::Div => {
            zip(a, b, to, |a, b| if b == 0 { 0 } else { a.wrapping_div(b) });
            !b.contains(&0)
        }
        Binary::Mod => {
            zip(a, b, to, |a, b| {
                let r = if b == 0 { 0 } else { a.wrapping_rem(b) };
                if r != 0 && (r < 0) != (b < 0) { r + b } else { r }
            });
            !b.contains(&0)
        }
        // `supports` let nothing else through.
        Binary::Pow | Binary::Shl | Binary::Shr | Binary::Atan2 | Binary::Fmod => false,
    }
}

/// Calls a macro with the Rust type of an integer or boolean element type.
macro_rules! with_type {
    ($dtype:expr, $run:ident) => {
        match $dtype {
            DType::Bool | DType::U8 => $run!(u8),
            DType::I8 => $run!(i8),
            DType::U16 => $run!(u16),
            DType::I16 => $run!(i16),
            DType::U32 => $run!(u32),
            DType::I32 => $run!(i32),
            _ => $run!(i64),
        }
    };
}

/// Reads elements `offset`, `offset + step`, ….
unsafe fn read(dtype: DType, p: *const u8, offset: usize, step: usize, to: &mut [i64]) {
    macro_rules! run {
        ($t:ty) => {
            // SAFETY: the caller keeps the elements inside the operand.
            unsafe {
                let p = p.cast::<$t>().add(offset);
                to.iter_mut().enumerate().for_each(|(i, to)| *to = i64::from(*p.add(i * step)));
            }
        };
    }
    with_type!(dtype, run);
}

unsafe fn write(dtype: DType, p: *mut u8, at: usize, from: &[i64]) {
    if dtype == DType::Bool {
        // SAFETY: as below.
        from.iter().enumerate().for_each(|(i, &v)| unsafe { *p.add(at + i) = u8::from(v != 0) });
        return;
    }
    macro_rules! run {
        ($t:ty) => {
            // SAFETY: the caller keeps the elements inside the output.
            unsafe {
                let p = p.cast::<$t>().add(at);
                from.iter().enumerate().for_each(|(i, &v)| *p.add(i) = v as $t);
            }
        };
    }
    with_type!(dtype, run);
}
