//! Elementwise programs in 64 bits: integers (signed and unsigned) and `f64`, tile by tile, as the little language defines
//! them. Narrower elements are widened when they are read and cut when they are written.

use super::broadcast::Space;
use super::{Reads, Shared, cut};
use crate::pool::ThreadPool;
use core::cell::RefCell;
use core::marker::PhantomData;
use oxrt_ops::scalar::{Binary, Instr, Program, Unary, binary_f64, unary_f64};
use oxrt_tensor::{DType, Error, Result};
use std::sync::atomic::{AtomicBool, Ordering};

/// Elements of a tile.
const TILE: usize = 256;
/// Fewer elements than this are not worth waking another thread for.
const MIN_PER_TASK: usize = 8 * 1024;

thread_local! {
    /// Tiles of a thread, one per instruction; grows to the longest program's need, once.
    static TILES: RefCell<Vec<u64>> = const { RefCell::new(Vec::new()) };
}

/// Whether elements of the type can be read and written.
pub fn stores(dtype: DType) -> bool {
    use DType::*;
    matches!(dtype, Bool | U8 | I8 | U16 | I16 | U32 | I32 | U64 | I64 | F32 | F64)
}

/// What programs compute in: a type of 64 bits for which every pattern of bits is a value.
pub trait Number: Copy + PartialEq + Default + Send + Sync + 'static {
    /// A constant of a program.
    fn constant(value: f64) -> Self;
    /// `op` of every element.
    fn unary(op: Unary, a: &[Self], to: &mut [Self]);
    /// `op` of every pair of elements; false when an integer divisor is zero.
    fn binary(op: Binary, a: &[Self], b: &[Self], to: &mut [Self]) -> bool;
    /// Reads elements `offset`, `offset + step`, … of a tensor.
    ///
    /// # Safety
    /// They lie inside the tensor.
    unsafe fn read(dtype: DType, p: *const u8, offset: usize, step: usize, to: &mut [Self]);
    /// Writes elements `at`, `at + 1`, … of a tensor.
    ///
    /// # Safety
    /// They lie inside the tensor.
    unsafe fn write(dtype: DType, p: *mut u8, at: usize, from: &[Self]);
}

/// A program bound to shapes.
pub struct Wide<T> {
    program: Program,
    space: Space,
    inputs: Vec<DType>,
    out: DType,
    number: PhantomData<T>,
}

impl<T: Number> Wide<T> {
    /// Binds `program`; `None` when the operands do not broadcast to `output`.
    pub fn new(program: &Program, output: &[usize], operands: &[(&[usize], DType)], out: DType) -> Option<Wide<T>> {
        let shapes: Vec<&[usize]> = operands.iter().map(|o| o.0).collect();
        let space = Space::new(output, &shapes)?;
        let inputs = operands.iter().map(|o| o.1).collect();
        Some(Wide { program: program.clone(), space, inputs, out, number: PhantomData })
    }

    /// Runs it.
    ///
    /// # Errors
    /// When an integer divisor is zero.
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
        let parts = pool.parts(self.space.len() / MIN_PER_TASK).min(lines);
        let (inputs, out) = (Reads(inputs), Shared(out));
        let zero_divisor = AtomicBool::new(false);
        pool.run(parts, |part| {
            TILES.with_borrow_mut(|scratch| {
                let need = self.program.instrs.len() * TILE;
                if scratch.len() < need {
                    scratch.resize(need, 0);
                }
                // SAFETY: a number has the size and alignment of `u64`, and all patterns of bits are numbers.
                let tiles = unsafe { core::slice::from_raw_parts_mut(scratch.as_mut_ptr().cast::<T>(), need) };
                let (start, count) = cut(lines, parts, part);
                for line in start..start + count {
                    let (row, first) = (line / blocks, line % blocks * TILE);
                    let n = TILE.min(inner - first);
                    // SAFETY: tiles are disjoint parts of the output.
                    if unsafe { !self.tile(inputs.get(), out.get(), row, first, n, tiles) } {
                        zero_divisor.store(true, Ordering::Relaxed);
                    }
                }
            });
        });
        if zero_divisor.into_inner() { Err(Error::invalid("integer division by zero")) } else { Ok(()) }
    }

    /// `n` elements of row `row` from element `first`; false when a divisor was zero.
    unsafe fn tile(
        &self,
        inputs: &[*const u8],
        out: *mut u8,
        row: usize,
        first: usize,
        n: usize,
        tiles: &mut [T],
    ) -> bool {
        let inner = self.space.dims.len() - 1;
        let mut sound = true;
        for (at, instr) in self.program.instrs.iter().enumerate() {
            let (done, rest) = tiles.split_at_mut(at * TILE);
            let to = &mut rest[..n];
            let of = |r: oxrt_ops::scalar::Reg| &done[usize::from(r.0) * TILE..][..n];
            match *instr {
                Instr::Input(i) => {
                    let i = usize::from(i);
                    let step = self.space.strides[i][inner];
                    let offset = self.space.offset(i, row, 1) + first * step;
                    // SAFETY: offsets follow the operand's strides.
                    unsafe { T::read(self.inputs[i], inputs[i], offset, step, to) };
                }
                Instr::Const(c) => to.fill(T::constant(c)),
                Instr::Unary(op, a) => T::unary(op, of(a), to),
                Instr::Binary(op, a, b) => sound &= T::binary(op, of(a), of(b), to),
                Instr::Select(c, a, b) => {
                    let (c, a, b) = (of(c), of(a), of(b));
                    for i in 0..n {
                        to[i] = if c[i] != T::default() { a[i] } else { b[i] };
                    }
                }
            }
        }
        let result = &tiles[(self.program.instrs.len() - 1) * TILE..][..n];
        let at = row * self.space.dims[inner] + first;
        // SAFETY: the tile lies inside the output.
        unsafe { T::write(self.out, out, at, result) };
        sound
    }
}

#[inline(always)]
fn map<T: Copy>(a: &[T], to: &mut [T], f: impl Fn(T) -> T) {
    for (to, &a) in to.iter_mut().zip(a) {
        *to = f(a);
    }
}

#[inline(always)]
fn zip<T: Copy>(a: &[T], b: &[T], to: &mut [T], f: impl Fn(T, T) -> T) -> bool {
    for ((to, &a), &b) in to.iter_mut().zip(a).zip(b) {
        *to = f(a, b);
    }
    true
}

/// Calls a macro with the Rust type of an element type that [`stores`] names.
macro_rules! with_type {
    ($dtype:expr, $run:ident) => {
        match $dtype {
            DType::Bool | DType::U8 => $run!(u8),
            DType::I8 => $run!(i8),
            DType::U16 => $run!(u16),
            DType::I16 => $run!(i16),
            DType::U32 => $run!(u32),
            DType::I32 => $run!(i32),
            DType::U64 => $run!(u64),
            DType::F32 => $run!(f32),
            DType::F64 => $run!(f64),
            _ => $run!(i64),
        }
    };
}

/// Reads and writes by conversions between the stored type and `$wide`; `$zero` is its zero.
macro_rules! memory {
    ($wide:ty, $zero:expr) => {
        unsafe fn read(dtype: DType, p: *const u8, offset: usize, step: usize, to: &mut [$wide]) {
            macro_rules! run {
                ($t:ty) => {
                    // SAFETY: the caller keeps the elements inside the operand.
                    unsafe {
                        let p = p.cast::<$t>().add(offset);
                        match step {
                            0 => to.fill(*p as $wide),
                            1 => to.iter_mut().enumerate().for_each(|(i, to)| *to = *p.add(i) as $wide),
                            _ => to.iter_mut().enumerate().for_each(|(i, to)| *to = *p.add(i * step) as $wide),
                        }
                    }
                };
            }
            with_type!(dtype, run);
        }

        unsafe fn write(dtype: DType, p: *mut u8, at: usize, from: &[$wide]) {
            if dtype == DType::Bool {
                // SAFETY: as below.
                from.iter().enumerate().for_each(|(i, &v)| unsafe { *p.add(at + i) = u8::from(v != $zero) });
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
    };
}

/// Integers of 64 bits: what signed and unsigned ones share, and by name what they do not.
macro_rules! integer {
    ($t:ident, $abs:expr, $sign:expr, $modulo:expr) => {
        impl Number for $t {
            fn constant(value: f64) -> $t {
                value as i64 as $t
            }

            fn unary(op: Unary, a: &[$t], to: &mut [$t]) {
                match op {
                    Unary::Neg => map(a, to, $t::wrapping_neg),
                    Unary::Abs => map(a, to, $abs),
                    Unary::Sign => map(a, to, $sign),
                    Unary::Not => map(a, to, |x| $t::from(x == 0)),
                    Unary::BitNot => map(a, to, |x| !x),
                    Unary::Floor | Unary::Ceil | Unary::Round | Unary::Trunc => to.copy_from_slice(a),
                    Unary::IsNan | Unary::IsInf => to.fill(0),
                    other => map(a, to, |x| unary_f64(other, x as i64 as f64) as i64 as $t),
                }
            }

            fn binary(op: Binary, a: &[$t], b: &[$t], to: &mut [$t]) -> bool {
                let truth = $t::from;
                let modulo: fn($t, $t) -> $t = $modulo;
                match op {
                    Binary::Add => zip(a, b, to, $t::wrapping_add),
                    Binary::Sub => zip(a, b, to, $t::wrapping_sub),
                    Binary::Mul => zip(a, b, to, $t::wrapping_mul),
                    Binary::Min => zip(a, b, to, $t::min),
                    Binary::Max => zip(a, b, to, $t::max),
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
                    Binary::Shl => zip(a, b, to, |a, b| if (0..64).contains(&b) { a << b } else { 0 }),
                    // Beyond all bits only the sign is left.
                    Binary::Shr => zip(a, b, to, |a, b| {
                        if (0..64).contains(&b) {
                            a >> b
                        } else if $t::MIN == 0 {
                            0
                        } else {
                            a >> 63
                        }
                    }),
                    Binary::Div => {
                        zip(a, b, to, |a, b| if b == 0 { 0 } else { a.wrapping_div(b) });
                        !b.contains(&0)
                    }
                    Binary::Mod => {
                        zip(a, b, to, |a, b| if b == 0 { 0 } else { modulo(a, b) });
                        !b.contains(&0)
                    }
                    Binary::Fmod => {
                        zip(a, b, to, |a, b| if b == 0 { 0 } else { a.wrapping_rem(b) });
                        !b.contains(&0)
                    }
                    // The exponent is signed, as in the reference evaluator.
                    Binary::Pow => zip(a, b, to, |a, b| match b as i64 {
                        b if b >= 0 => a.wrapping_pow(u32::try_from(b).unwrap_or(u32::MAX)),
                        b => (a as i64 as f64).powf(b as f64) as i64 as $t,
                    }),
                    Binary::Atan2 => {
                        zip(a, b, to, |a, b| binary_f64(op, a as i64 as f64, b as i64 as f64) as i64 as $t)
                    }
                }
            }

            memory!($t, 0);
        }
    };
}

integer!(i64, i64::wrapping_abs, i64::signum, |a, b| {
    let r = a.wrapping_rem(b);
    if r != 0 && (r < 0) != (b < 0) { r + b } else { r }
});
integer!(u64, |x| x, |x| u64::from(x != 0), |a, b| a % b);

impl Number for f64 {
    fn constant(value: f64) -> f64 {
        value
    }

    fn unary(op: Unary, a: &[f64], to: &mut [f64]) {
        match op {
            // Inside the loop the choice would keep these from being vectorised.
            Unary::Neg => map(a, to, |x| -x),
            Unary::Abs => map(a, to, f64::abs),
            Unary::Recip => map(a, to, |x| 1.0 / x),
            Unary::Sqrt => map(a, to, f64::sqrt),
            Unary::Rsqrt => map(a, to, |x| 1.0 / x.sqrt()),
            Unary::Not => map(a, to, |x| f64::from(x == 0.0)),
            other => map(a, to, |x| unary_f64(other, x)),
        }
    }

    fn binary(op: Binary, a: &[f64], b: &[f64], to: &mut [f64]) -> bool {
        let truth = |t: bool| f64::from(t);
        match op {
            Binary::Add => zip(a, b, to, |a, b| a + b),
            Binary::Sub => zip(a, b, to, |a, b| a - b),
            Binary::Mul => zip(a, b, to, |a, b| a * b),
            Binary::Div => zip(a, b, to, |a, b| a / b),
            Binary::Min => zip(a, b, to, |a, b| if a.is_nan() || a < b { a } else { b }),
            Binary::Max => zip(a, b, to, |a, b| if a.is_nan() || a > b { a } else { b }),
            Binary::Lt => zip(a, b, to, |a, b| truth(a < b)),
            Binary::Le => zip(a, b, to, |a, b| truth(a <= b)),
            Binary::Gt => zip(a, b, to, |a, b| truth(a > b)),
            Binary::Ge => zip(a, b, to, |a, b| truth(a >= b)),
            Binary::Eq => zip(a, b, to, |a, b| truth(a == b)),
            Binary::Ne => zip(a, b, to, |a, b| truth(a != b)),
            other => zip(a, b, to, |a, b| binary_f64(other, a, b)),
        }
    }

    memory!(f64, 0.0);
}
