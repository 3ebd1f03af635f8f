//! One pass of a Fourier transform: plain code, vectorised by the compiler for each tier. Nothing is fused and the order is that
//! of `oxrt_ops::fft32`, so that results in single precision are its, bit for bit.

use crate::simd::Simd;
use core::ops::{Add, Mul, Neg, Sub};

/// Single or double precision.
pub trait Real:
    Copy
    + Default
    + Send
    + Sync
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Neg<Output = Self>
    + 'static
{
    /// The nearest number.
    fn of(v: f64) -> Self;
    /// The tier's kernel.
    fn pass(kernels: &super::Kernels) -> unsafe fn(&Pass<Self>);
}

impl Real for f32 {
    fn of(v: f64) -> f32 {
        v as f32
    }
    fn pass(kernels: &super::Kernels) -> unsafe fn(&Pass<f32>) {
        kernels.fft_pass_f32
    }
}

impl Real for f64 {
    fn of(v: f64) -> f64 {
        v
    }
    fn pass(kernels: &super::Kernels) -> unsafe fn(&Pass<f64>) {
        kernels.fft_pass_f64
    }
}

/// Complex numbers, real and imaginary parts apart.
#[derive(Clone, Copy, Debug)]
pub struct Parts<T> {
    /// Real parts.
    pub re: *mut T,
    /// Imaginary parts.
    pub im: *mut T,
}

impl<T: Copy> Parts<T> {
    /// Number `i`.
    ///
    /// # Safety
    /// There are more.
    #[inline(always)]
    pub unsafe fn get(self, i: usize) -> (T, T) {
        // SAFETY: as the caller promises.
        unsafe { (*self.re.add(i), *self.im.add(i)) }
    }

    /// Sets number `i`.
    ///
    /// # Safety
    /// There are more, and nobody else uses it.
    #[inline(always)]
    pub unsafe fn set(self, i: usize, v: (T, T)) {
        // SAFETY: as the caller promises.
        unsafe {
            *self.re.add(i) = v.0;
            *self.im.add(i) = v.1;
        }
    }

    /// Those from `i` on.
    #[inline(always)]
    pub fn at(self, i: usize) -> Parts<T> {
        Parts { re: self.re.wrapping_add(i), im: self.im.wrapping_add(i) }
    }
}

/// A pass of Stockham's form: `done * radix * rest` numbers.
#[derive(Clone, Copy, Debug)]
pub struct Pass<T> {
    /// 2, 3, 4 or 5.
    pub radix: usize,
    /// Product of the radices of earlier passes.
    pub done: usize,
    /// Product of the radices of later ones.
    pub rest: usize,
    /// The sign of the angle.
    pub inverse: bool,
    /// Factors of inputs `1..radix`, `rest` each.
    pub factors: Parts<T>,
    /// The numbers.
    pub from: Parts<T>,
    /// Result.
    pub to: Parts<T>,
}

/// The pass.
///
/// # Safety
/// The pointers cover what the description says; `from` and `to` do not overlap.
#[inline(always)]
pub unsafe fn fft_pass<S: Simd, T: Real>(_: S, p: &Pass<T>) {
    // SAFETY: as the caller promises.
    unsafe {
        match (p.radix, p.inverse) {
            (2, false) => pass::<T, 2, false>(p),
            (2, true) => pass::<T, 2, true>(p),
            (3, false) => pass::<T, 3, false>(p),
            (3, true) => pass::<T, 3, true>(p),
            (4, false) => pass::<T, 4, false>(p),
            (4, true) => pass::<T, 4, true>(p),
            (_, false) => pass::<T, 5, false>(p),
            (_, true) => pass::<T, 5, true>(p),
        }
    }
}

#[inline(always)]
unsafe fn pass<T: Real, const R: usize, const INVERSE: bool>(p: &Pass<T>) {
    let (done, rest) = (p.done, p.rest);
    // SAFETY: indices are below the product of the sizes.
    unsafe {
        for k in 0..done {
            let from = p.from.at(rest * R * k);
            let to = p.to.at(rest * k);
            for i in 0..rest {
                let mut part = [(T::default(), T::default()); R];
                for j in 0..R {
                    part[j] = from.get(i + rest * j);
                }
                butterfly::<T, R, INVERSE>(&mut part);
                to.set(i, part[0]);
                for j in 1..R {
                    let (v, w) = (part[j], p.factors.get((j - 1) * rest + i));
                    let turned = if INVERSE {
                        (v.0 * w.0 - v.1 * w.1, v.0 * w.1 + v.1 * w.0)
                    } else {
                        (v.0 * w.0 + v.1 * w.1, v.1 * w.0 - v.0 * w.1)
                    };
                    to.set(i + rest * done * j, turned);
                }
            }
        }
    }
}

#[inline(always)]
fn add<T: Real>(a: (T, T), b: (T, T)) -> (T, T) {
    (a.0 + b.0, a.1 + b.1)
}

#[inline(always)]
fn sub<T: Real>(a: (T, T), b: (T, T)) -> (T, T) {
    (a.0 - b.0, a.1 - b.1)
}

/// The transform of `R` numbers in place.
#[inline(always)]
fn butterfly<T: Real, const R: usize, const INVERSE: bool>(p: &mut [(T, T); R]) {
    let sign = if INVERSE { 1.0 } else { -1.0 };
    match R {
        2 => (p[0], p[1]) = (add(p[0], p[1]), sub(p[0], p[1])),
        3 => {
            let (a, t1, t2) = (p[0], add(p[1], p[2]), sub(p[1], p[2]));
            let (half, wi) = (T::of(-0.5), T::of(sign * 0.866_025_403_784_438_6));
            p[0] = add(a, t1);
            let ca = (a.0 + t1.0 * half, a.1 + t1.1 * half);
            let cb = (-t2.1 * wi, t2.0 * wi);
            (p[1], p[2]) = (add(ca, cb), sub(ca, cb));
        }
        4 => {
            let (t2, t1) = (add(p[0], p[2]), sub(p[0], p[2]));
            let (t3, t4) = (add(p[1], p[3]), sub(p[1], p[3]));
            let t4 = if INVERSE { (-t4.1, t4.0) } else { (t4.1, -t4.0) };
            (p[0], p[2]) = (add(t2, t3), sub(t2, t3));
            (p[1], p[3]) = (add(t1, t4), sub(t1, t4));
        }
        _ => {
            let (r1, r2) = (T::of(0.309_016_994_374_947_45), T::of(-0.809_016_994_374_947_5));
            let i1 = T::of(sign * 0.951_056_516_295_153_5);
            let i2 = T::of(sign * 0.587_785_252_292_473_1);
            let (a, t1, t4) = (p[0], add(p[1], p[4]), sub(p[1], p[4]));
            let (t2, t3) = (add(p[2], p[3]), sub(p[2], p[3]));
            p[0] = add(add(a, t1), t2);
            let pair = |wa: T, wb: T, xa: T, xb: T| {
                let ca = (a.0 + wa * t1.0 + wb * t2.0, a.1 + wa * t1.1 + wb * t2.1);
                let cb = (-(xa * t4.1 + xb * t3.1), xa * t4.0 + xb * t3.0);
                (add(ca, cb), sub(ca, cb))
            };
            (p[1], p[4]) = pair(r1, r2, i1, i2);
            (p[2], p[3]) = pair(r2, r1, i2, -i1);
        }
    }
}
