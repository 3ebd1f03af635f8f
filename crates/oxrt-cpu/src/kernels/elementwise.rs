//! One instruction of an elementwise program over one tile of floats.
//!
//! Operands are tiles or single values. Comparisons give 1 or 0, as the little language wants.

use super::activation::Map;
use super::math;
use crate::simd::Simd;
use oxrt_ops::scalar::{Binary, Unary};

/// A tile, or one value for all of its elements.
#[derive(Clone, Copy, Debug)]
pub struct Operand {
    /// The elements, or the value.
    pub data: *const f32,
    /// `data` is one value.
    pub uniform: bool,
}

/// A function of two vectors.
trait Zip: Copy {
    fn at<S: Simd>(self, s: S, a: S::F, b: S::F) -> S::F;
}

macro_rules! zips {
    ($($name:ident = |$s:ident, $a:ident, $b:ident| $body:expr;)+) => {$(
        #[derive(Clone, Copy)]
        struct $name;
        impl Zip for $name {
            #[inline(always)]
            fn at<S: Simd>(self, $s: S, $a: S::F, $b: S::F) -> S::F {
                $body
            }
        }
    )+};
}

macro_rules! maps {
    ($($name:ident = |$s:ident, $x:ident| $body:expr;)+) => {$(
        #[derive(Clone, Copy)]
        struct $name;
        impl Map for $name {
            #[inline(always)]
            fn at<S: Simd>(self, $s: S, $x: S::F) -> S::F {
                $body
            }
        }
    )+};
}

#[inline(always)]
fn truth<S: Simd>(s: S, m: S::M) -> S::F {
    s.blend(m, s.splat(1.0), s.zero())
}

#[inline(always)]
fn nonzero<S: Simd>(s: S, x: S::F) -> S::M {
    s.not(s.eq(x, s.zero()))
}

#[inline(always)]
fn is_nan<S: Simd>(s: S, x: S::F) -> S::M {
    s.not(s.eq(x, x))
}

zips! {
    Add = |s, a, b| s.add(a, b);
    Sub = |s, a, b| s.sub(a, b);
    Mul = |s, a, b| s.mul(a, b);
    Div = |s, a, b| s.div(a, b);
    // NaN when either is: the vector minimum gives its second operand then.
    Min = |s, a, b| s.blend(is_nan(s, a), a, s.min(a, b));
    Max = |s, a, b| s.blend(is_nan(s, a), a, s.max(a, b));
    Lt = |s, a, b| truth(s, s.lt(a, b));
    Le = |s, a, b| truth(s, s.le(a, b));
    Gt = |s, a, b| truth(s, s.lt(b, a));
    Ge = |s, a, b| truth(s, s.le(b, a));
    Eq = |s, a, b| truth(s, s.eq(a, b));
    Ne = |s, a, b| truth(s, s.not(s.eq(a, b)));
    And = |s, a, b| truth(s, s.and(nonzero(s, a), nonzero(s, b)));
    Or = |s, a, b| truth(s, s.or(nonzero(s, a), nonzero(s, b)));
    Xor = |s, a, b| {
        let (a, b) = (nonzero(s, a), nonzero(s, b));
        truth(s, s.or(s.and(a, s.not(b)), s.and(b, s.not(a))))
    };
}

maps! {
    Neg = |s, x| s.neg(x);
    Abs = |s, x| s.abs(x);
    Sign = |s, x| {
        let one = s.splat(1.0);
        s.blend(s.lt(s.zero(), x), one, s.blend(s.lt(x, s.zero()), s.neg(one), x))
    };
    Recip = |s, x| s.div(s.splat(1.0), x);
    Sqrt = |s, x| s.sqrt(x);
    Rsqrt = |s, x| s.div(s.splat(1.0), s.sqrt(x));
    Exp = |s, x| math::exp(s, x);
    Log = |s, x| math::log(s, x);
    Floor = |s, x| s.floor(x);
    Ceil = |s, x| s.ceil(x);
    Round = |s, x| s.round(x);
    Trunc = |s, x| s.blend(s.lt(x, s.zero()), s.ceil(x), s.floor(x));
    Erf = |s, x| math::erf(s, x);
    Sigmoid = |s, x| math::sigmoid(s, x);
    Tanh = |s, x| math::tanh(s, x);
    Not = |s, x| truth(s, s.eq(x, s.zero()));
    IsNan = |s, x| truth(s, is_nan(s, x));
    IsInf = |s, x| truth(s, s.eq(s.abs(x), s.splat(f32::INFINITY)));
    Square = |s, x| s.mul(x, x);
    Cube = |s, x| s.mul(s.mul(x, x), x);
}

/// Whole vectors may be read and written: tiles are allocated in multiples of this many floats.
pub const TILE_ROUND: usize = 16;

#[inline(always)]
unsafe fn map<S: Simd, T: Map>(s: S, a: *const f32, out: *mut f32, n: usize, f: T) {
    let mut i = 0;
    // SAFETY: `n` elements on both sides; the mask keeps the last vector inside.
    unsafe {
        while i + S::LANES <= n {
            s.store(out.add(i), f.at(s, s.load(a.add(i))));
            i += S::LANES;
        }
        if i < n {
            let m = s.first(n - i);
            s.store_mask(out.add(i), f.at(s, s.load_mask(a.add(i), m)), m);
        }
    }
}

#[inline(always)]
unsafe fn zip<S: Simd, T: Zip>(s: S, a: Operand, b: Operand, out: *mut f32, n: usize, f: T) {
    let mut i = 0;
    // SAFETY: tiles have `n` elements, uniform operands one; the mask keeps the last vector inside.
    unsafe {
        match (a.uniform, b.uniform) {
            (false, false) => {
                while i + S::LANES <= n {
                    s.store(out.add(i), f.at(s, s.load(a.data.add(i)), s.load(b.data.add(i))));
                    i += S::LANES;
                }
                if i < n {
                    let m = s.first(n - i);
                    s.store_mask(out.add(i), f.at(s, s.load_mask(a.data.add(i), m), s.load_mask(b.data.add(i), m)), m);
                }
            }
            (false, true) => {
                let bv = s.splat(*b.data);
                while i + S::LANES <= n {
                    s.store(out.add(i), f.at(s, s.load(a.data.add(i)), bv));
                    i += S::LANES;
                }
                if i < n {
                    let m = s.first(n - i);
                    s.store_mask(out.add(i), f.at(s, s.load_mask(a.data.add(i), m), bv), m);
                }
            }
            (true, false) => {
                let av = s.splat(*a.data);
                while i + S::LANES <= n {
                    s.store(out.add(i), f.at(s, av, s.load(b.data.add(i))));
                    i += S::LANES;
                }
                if i < n {
                    let m = s.first(n - i);
                    s.store_mask(out.add(i), f.at(s, av, s.load_mask(b.data.add(i), m)), m);
                }
            }
            (true, true) => {
                let v = f.at(s, s.splat(*a.data), s.splat(*b.data));
                while i < n {
                    s.store_mask(out.add(i), v, s.first(n - i));
                    i += S::LANES;
                }
            }
        }
    }
}

/// Element by element, for what has no vector form.
#[inline(always)]
unsafe fn each(a: *const f32, out: *mut f32, n: usize, f: impl Fn(f32) -> f32) {
    for i in 0..n {
        // SAFETY: `n` elements on both sides.
        unsafe { *out.add(i) = f(*a.add(i)) };
    }
}

#[inline(always)]
unsafe fn each2(a: Operand, b: Operand, out: *mut f32, n: usize, f: impl Fn(f32, f32) -> f32) {
    let (sa, sb) = (usize::from(!a.uniform), usize::from(!b.uniform));
    for i in 0..n {
        // SAFETY: tiles have `n` elements, uniform operands one.
        unsafe { *out.add(i) = f(*a.data.add(i * sa), *b.data.add(i * sb)) };
    }
}

/// `out = op(a)` for `n` elements.
///
/// # Safety
/// `n` floats are readable at `a` and writable at `out` (which may be `a`).
#[inline(always)]
pub unsafe fn unary<S: Simd>(s: S, op: Unary, a: *const f32, out: *mut f32, n: usize) {
    // SAFETY: as the caller promises.
    unsafe {
        match op {
            Unary::Neg => map(s, a, out, n, Neg),
            Unary::Abs => map(s, a, out, n, Abs),
            Unary::Sign => map(s, a, out, n, Sign),
            Unary::Recip => map(s, a, out, n, Recip),
            Unary::Sqrt => map(s, a, out, n, Sqrt),
            Unary::Rsqrt => map(s, a, out, n, Rsqrt),
            Unary::Exp => map(s, a, out, n, Exp),
            Unary::Log => map(s, a, out, n, Log),
            Unary::Floor => map(s, a, out, n, Floor),
            Unary::Ceil => map(s, a, out, n, Ceil),
            Unary::Round => map(s, a, out, n, Round),
            Unary::Trunc => map(s, a, out, n, Trunc),
            Unary::Erf => map(s, a, out, n, Erf),
            Unary::Sigmoid => map(s, a, out, n, Sigmoid),
            Unary::Tanh => map(s, a, out, n, Tanh),
            Unary::Not => map(s, a, out, n, Not),
            Unary::IsNan => map(s, a, out, n, IsNan),
            Unary::IsInf => map(s, a, out, n, IsInf),
            Unary::Sin => each(a, out, n, f32::sin),
            Unary::Cos => each(a, out, n, f32::cos),
            Unary::Tan => each(a, out, n, f32::tan),
            Unary::Asin => each(a, out, n, f32::asin),
            Unary::Acos => each(a, out, n, f32::acos),
            Unary::Atan => each(a, out, n, f32::atan),
            Unary::Sinh => each(a, out, n, f32::sinh),
            Unary::Cosh => each(a, out, n, f32::cosh),
            Unary::Asinh => each(a, out, n, |x| f64::from(x).asinh() as f32),
            Unary::Acosh => each(a, out, n, |x| f64::from(x).acosh() as f32),
            Unary::Atanh => each(a, out, n, |x| f64::from(x).atanh() as f32),
            Unary::BitNot => each(a, out, n, |x| !(x as i64) as f32),
        }
    }
}

/// `out = op(a, b)` for `n` elements.
///
/// # Safety
/// As [`unary`], for each operand that is a tile; uniform operands are one readable float.
#[inline(always)]
pub unsafe fn binary<S: Simd>(s: S, op: Binary, a: Operand, b: Operand, out: *mut f32, n: usize) {
    // SAFETY: as the caller promises.
    unsafe {
        match op {
            Binary::Add => zip(s, a, b, out, n, Add),
            Binary::Sub => zip(s, a, b, out, n, Sub),
            Binary::Mul => zip(s, a, b, out, n, Mul),
            Binary::Div => zip(s, a, b, out, n, Div),
            Binary::Min => zip(s, a, b, out, n, Min),
            Binary::Max => zip(s, a, b, out, n, Max),
            Binary::Lt => zip(s, a, b, out, n, Lt),
            Binary::Le => zip(s, a, b, out, n, Le),
            Binary::Gt => zip(s, a, b, out, n, Gt),
            Binary::Ge => zip(s, a, b, out, n, Ge),
            Binary::Eq => zip(s, a, b, out, n, Eq),
            Binary::Ne => zip(s, a, b, out, n, Ne),
            Binary::And => zip(s, a, b, out, n, And),
            Binary::Or => zip(s, a, b, out, n, Or),
            Binary::Xor => zip(s, a, b, out, n, Xor),
            Binary::Pow if b.uniform && !a.uniform && *b.data == 2.0 => map(s, a.data, out, n, Square),
            Binary::Pow if b.uniform && !a.uniform && *b.data == 3.0 => map(s, a.data, out, n, Cube),
            Binary::Pow => each2(a, b, out, n, f32::powf),
            Binary::Atan2 => each2(a, b, out, n, f32::atan2),
            Binary::Fmod => each2(a, b, out, n, |a, b| a % b),
            // The rest is rare: by the definition.
            op => each2(a, b, out, n, |a, b| oxrt_ops::scalar::binary_f64(op, a.into(), b.into()) as f32),
        }
    }
}

/// The lanes `m` of an operand from element `i` on.
#[inline(always)]
unsafe fn lanes<S: Simd>(s: S, o: Operand, i: usize, m: S::M) -> S::F {
    // SAFETY: the caller keeps the lanes inside the tile.
    unsafe { if o.uniform { s.splat(*o.data) } else { s.load_mask(o.data.add(i), m) } }
}

/// `out = c != 0 ? a : b` for `n` elements.
///
/// # Safety
/// As [`binary`].
#[inline(always)]
pub unsafe fn select<S: Simd>(s: S, c: Operand, a: Operand, b: Operand, out: *mut f32, n: usize) {
    let mut i = 0;
    while i < n {
        let m = s.first(n - i);
        // SAFETY: tiles have `n` elements, uniform operands one; the mask keeps the last vector inside.
        unsafe {
            let (c, a, b) = (lanes(s, c, i, m), lanes(s, a, i, m), lanes(s, b, i, m));
            s.store_mask(out.add(i), s.blend(nonzero(s, c), a, b), m);
        }
        i += S::LANES;
    }
}

/// What a step of a chain does to the values at hand, of which the last step's are made.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Link {
    /// A function of them.
    Unary(Unary),
    /// A function of them and another operand.
    Binary(Binary),
    /// A function of another operand and them.
    Reversed(Binary),
}

impl Link {
    /// Whether a chain can have it: a few instructions, so that all values stay in registers.
    pub fn is_short(self) -> bool {
        match self {
            Link::Unary(op) => {
                matches!(
                    op,
                    Unary::Neg | Unary::Abs | Unary::Sqrt | Unary::Recip | Unary::Floor | Unary::Ceil | Unary::Round
                )
            }
            Link::Binary(op) | Link::Reversed(op) => {
                matches!(op, Binary::Add | Binary::Sub | Binary::Mul | Binary::Div | Binary::Min | Binary::Max)
            }
        }
    }
}

/// A step of a chain.
#[derive(Clone, Copy, Debug)]
pub struct ChainStep {
    /// What it does.
    pub link: Link,
    /// The other operand of a function of two.
    pub other: Operand,
}

/// `V` vectors from element `i` on, of the lanes `m`, through all steps of a chain.
#[inline(always)]
unsafe fn through<S: Simd, const V: usize>(s: S, steps: &[ChainStep], a: Operand, out: *mut f32, i: usize, m: S::M) {
    // SAFETY: the caller keeps the lanes inside the tiles.
    unsafe {
        let mut v = [s.zero(); V];
        for j in 0..V {
            v[j] = lanes(s, a, i + j * S::LANES, m);
        }
        for step in steps {
            macro_rules! map {
                ($f:expr) => {
                    for j in 0..V {
                        v[j] = $f.at(s, v[j]);
                    }
                };
            }
            macro_rules! zip {
                ($f:expr, |$v:ident, $o:ident| ($a:expr, $b:expr)) => {
                    if step.other.uniform {
                        let $o = s.splat(*step.other.data);
                        for j in 0..V {
                            let $v = v[j];
                            v[j] = $f.at(s, $a, $b);
                        }
                    } else {
                        for j in 0..V {
                            let $v = v[j];
                            let $o = s.load_mask(step.other.data.add(i + j * S::LANES), m);
                            v[j] = $f.at(s, $a, $b);
                        }
                    }
                };
            }
            match step.link {
                Link::Unary(Unary::Neg) => map!(Neg),
                Link::Unary(Unary::Abs) => map!(Abs),
                Link::Unary(Unary::Sqrt) => map!(Sqrt),
                Link::Unary(Unary::Recip) => map!(Recip),
                Link::Unary(Unary::Floor) => map!(Floor),
                Link::Unary(Unary::Ceil) => map!(Ceil),
                Link::Unary(Unary::Round) => map!(Round),
                // The order of operands decides what is kept of zeros' signs and of two NaNs; only addition and product are
                // free of it.
                Link::Binary(Binary::Add) | Link::Reversed(Binary::Add) => zip!(Add, |v, o| (v, o)),
                Link::Binary(Binary::Mul) | Link::Reversed(Binary::Mul) => zip!(Mul, |v, o| (v, o)),
                Link::Binary(Binary::Sub) => zip!(Sub, |v, o| (v, o)),
                Link::Binary(Binary::Div) => zip!(Div, |v, o| (v, o)),
                Link::Binary(Binary::Min) => zip!(Min, |v, o| (v, o)),
                Link::Binary(Binary::Max) => zip!(Max, |v, o| (v, o)),
                Link::Reversed(Binary::Sub) => zip!(Sub, |v, o| (o, v)),
                Link::Reversed(Binary::Div) => zip!(Div, |v, o| (o, v)),
                Link::Reversed(Binary::Min) => zip!(Min, |v, o| (o, v)),
                Link::Reversed(Binary::Max) => zip!(Max, |v, o| (o, v)),
                other => debug_assert!(false, "{other:?} in a chain"),
            }
        }
        for j in 0..V {
            s.store_mask(out.add(i + j * S::LANES), v[j], m);
        }
    }
}

/// A chain of steps for `n` elements, each of which the values pass through in registers. Only steps that are short
/// ([`Link::is_short`]).
///
/// # Safety
/// As [`binary`], for the operand and those of the steps.
#[inline(always)]
pub unsafe fn chain<S: Simd>(s: S, steps: &[ChainStep], a: Operand, out: *mut f32, n: usize) {
    const V: usize = 8;
    let all = s.first(S::LANES);
    let mut i = 0;
    // SAFETY: whole groups of vectors, then single ones; the mask keeps the last vector inside.
    unsafe {
        while i + V * S::LANES <= n {
            through::<S, V>(s, steps, a, out, i, all);
            i += V * S::LANES;
        }
        while i < n {
            through::<S, 1>(s, steps, a, out, i, s.first(n - i));
            i += S::LANES;
        }
    }
}

/// The element types a tile is read from and written to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// 32-bit float: used where it lies.
    F32,
    /// IEEE half.
    F16,
    /// bfloat16.
    Bf16,
    /// One byte, 0 or 1.
    Bool,
    /// Unsigned byte.
    U8,
    /// Signed byte.
    I8,
    /// 32-bit integer.
    I32,
    /// 64-bit integer.
    I64,
}

impl Format {
    /// Bytes of one element.
    pub fn size(self) -> usize {
        match self {
            Format::F32 | Format::I32 => 4,
            Format::F16 | Format::Bf16 => 2,
            Format::Bool | Format::U8 | Format::I8 => 1,
            Format::I64 => 8,
        }
    }
}

/// Reads `n` elements as floats.
///
/// # Safety
/// `n` elements of the format are readable at `p`, `n` floats rounded up to [`TILE_ROUND`] writable at `out`.
#[inline(always)]
pub unsafe fn widen<S: Simd>(s: S, format: Format, p: *const u8, out: *mut f32, n: usize) {
    // SAFETY: whole vectors while they last, then single elements.
    unsafe {
        match format {
            Format::F32 => core::ptr::copy_nonoverlapping(p.cast(), out, n),
            Format::F16 => {
                let p = p.cast::<u16>();
                let mut i = 0;
                while i + S::LANES <= n {
                    s.store(out.add(i), s.load_f16(p.add(i)));
                    i += S::LANES;
                }
                while i < n {
                    *out.add(i) = half::f16::from_bits(*p.add(i)).to_f32();
                    i += 1;
                }
            }
            Format::Bf16 => {
                let p = p.cast::<u16>();
                let mut i = 0;
                while i + S::LANES <= n {
                    s.store(out.add(i), s.load_bf16(p.add(i)));
                    i += S::LANES;
                }
                while i < n {
                    *out.add(i) = half::bf16::from_bits(*p.add(i)).to_f32();
                    i += 1;
                }
            }
            Format::Bool | Format::U8 => (0..n).for_each(|i| *out.add(i) = f32::from(*p.add(i))),
            Format::I8 => (0..n).for_each(|i| *out.add(i) = f32::from(*p.cast::<i8>().add(i))),
            Format::I32 => (0..n).for_each(|i| *out.add(i) = *p.cast::<i32>().add(i) as f32),
            Format::I64 => (0..n).for_each(|i| *out.add(i) = *p.cast::<i64>().add(i) as f32),
        }
    }
}

/// Writes `n` floats as elements; integers are truncated, booleans are "not zero".
///
/// # Safety
/// `n` floats are readable at `p`, `n` elements of the format writable at `out`.
#[inline(always)]
pub unsafe fn narrow<S: Simd>(s: S, format: Format, p: *const f32, out: *mut u8, n: usize) {
    // SAFETY: whole vectors while they last, then single elements.
    unsafe {
        match format {
            Format::F32 => core::ptr::copy_nonoverlapping(p, out.cast(), n),
            Format::F16 => {
                let out = out.cast::<u16>();
                let mut i = 0;
                while i + S::LANES <= n {
                    s.store_f16(out.add(i), s.load(p.add(i)));
                    i += S::LANES;
                }
                while i < n {
                    *out.add(i) = half::f16::from_f32(*p.add(i)).to_bits();
                    i += 1;
                }
            }
            Format::Bf16 => {
                let out = out.cast::<u16>();
                let mut i = 0;
                while i + S::LANES <= n {
                    s.store_bf16(out.add(i), s.load(p.add(i)));
                    i += S::LANES;
                }
                while i < n {
                    *out.add(i) = half::bf16::from_f32(*p.add(i)).to_bits();
                    i += 1;
                }
            }
            Format::Bool => (0..n).for_each(|i| *out.add(i) = u8::from(*p.add(i) != 0.0)),
            Format::U8 => (0..n).for_each(|i| *out.add(i) = *p.add(i) as i64 as u8),
            Format::I8 => (0..n).for_each(|i| *out.cast::<i8>().add(i) = *p.add(i) as i64 as i8),
            Format::I32 => (0..n).for_each(|i| *out.cast::<i32>().add(i) = *p.add(i) as i64 as i32),
            Format::I64 => (0..n).for_each(|i| *out.cast::<i64>().add(i) = *p.add(i) as i64),
        }
    }
}
