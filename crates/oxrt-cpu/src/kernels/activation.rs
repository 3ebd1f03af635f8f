//! The activations a fused step may end with.

use super::math;
use crate::simd::Simd;

/// An activation with its parameters.
#[derive(Clone, Copy, Debug, PartialEq, Default)]
pub enum Act {
    /// The value itself.
    #[default]
    None,
    /// `max(x, 0)`.
    Relu,
    /// `min(max(x, lo), hi)`.
    Clip(f32, f32),
    /// `x < 0 ? alpha x : x`.
    Leaky(f32),
    /// `1 / (1 + e^-x)`.
    Sigmoid,
    /// `x sigmoid(x)`.
    Silu,
    /// `clamp(alpha x + beta, 0, 1)`.
    HardSigmoid(f32, f32),
    /// `x clamp(x / 6 + 1/2, 0, 1)`.
    HardSwish,
    /// Gaussian error linear unit by `erf`.
    GeluErf,
    /// Its approximation by `tanh`.
    GeluTanh,
    /// Hyperbolic tangent.
    Tanh,
}

impl Act {
    /// Few enough instructions to be done in registers, in every kernel that stores results.
    pub fn is_simple(self) -> bool {
        matches!(self, Act::None | Act::Relu | Act::Clip(..) | Act::Leaky(_) | Act::HardSwish)
    }

    /// The activation of one value, by the portable kernel.
    pub fn scalar(self, x: f32) -> f32 {
        // SAFETY: the portable tier runs everywhere.
        let s = unsafe { crate::simd::Portable::assume() };
        let mut v = [x];
        // SAFETY: one float is readable and writable at `v`.
        unsafe { activate(s, v.as_mut_ptr(), 1, 1, 1, self) };
        v[0]
    }
}

/// A function of one vector. (A trait and not a closure: its method can be forced inline, so that it is compiled with the
/// CPU features of the kernel around it.)
pub trait Map: Copy {
    /// The function.
    fn at<S: Simd>(self, s: S, x: S::F) -> S::F;
}

macro_rules! maps {
    ($($(#[$doc:meta])* $name:ident $(($($field:ident),+))? = |$s:ident, $x:ident| $body:expr;)+) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy)]
        pub struct $name $(($(pub maps!(@ty $field)),+))?;
        impl Map for $name {
            #[inline(always)]
            fn at<S: Simd>(self, $s: S, $x: S::F) -> S::F {
                $(let $name($($field),+) = self;)?
                $body
            }
        }
    )+};
    (@ty $field:ident) => { f32 };
}

maps! {
    ClipMap(lo, hi) = |s, x| s.min(s.splat(hi), s.max(s.splat(lo), x));
    LeakyMap(alpha) = |s, x| s.blend(s.lt(x, s.zero()), s.mul(x, s.splat(alpha)), x);
    SigmoidMap = |s, x| math::sigmoid(s, x);
    SiluMap = |s, x| math::silu(s, x);
    HardSigmoidMap(alpha, beta) = |s, x| {
        let y = s.fma(x, s.splat(alpha), s.splat(beta));
        s.min(s.splat(1.0), s.max(s.zero(), y))
    };
    HardSwishMap = |s, x| s.mul(x, HardSigmoidMap(1.0 / 6.0, 0.5).at(s, x));
    GeluErfMap = |s, x| math::gelu_erf(s, x);
    GeluTanhMap = |s, x| math::gelu_tanh(s, x);
    TanhMap = |s, x| math::tanh(s, x);
}

/// The activation where it [is simple](Act::is_simple), else the value itself.
#[inline(always)]
pub fn simple<S: Simd>(s: S, act: Act, x: S::F) -> S::F {
    match act {
        Act::Relu => ClipMap(0.0, f32::INFINITY).at(s, x),
        Act::Clip(lo, hi) => ClipMap(lo, hi).at(s, x),
        Act::Leaky(alpha) => LeakyMap(alpha).at(s, x),
        Act::HardSwish => HardSwishMap.at(s, x),
        _ => x,
    }
}

/// Applies `f` to `rows` rows of `cols` floats, in place.
#[inline(always)]
unsafe fn each<S: Simd, T: Map>(s: S, p: *mut f32, rows: usize, cols: usize, stride: usize, f: T) {
    for r in 0..rows {
        // SAFETY: rows, cols and stride describe memory the caller owns.
        unsafe {
            let row = p.add(r * stride);
            let mut i = 0;
            while i + S::LANES <= cols {
                s.store(row.add(i), f.at(s, s.load(row.add(i))));
                i += S::LANES;
            }
            if i < cols {
                let m = s.first(cols - i);
                s.store_mask(row.add(i), f.at(s, s.load_mask(row.add(i), m)), m);
            }
        }
    }
}

/// The activation over a rectangle of floats, in place.
///
/// # Safety
/// `rows` rows of `cols` floats, `stride` apart, are writable at `p`.
#[inline(always)]
pub unsafe fn activate<S: Simd>(s: S, p: *mut f32, rows: usize, cols: usize, stride: usize, act: Act) {
    // SAFETY: as the caller promises.
    unsafe {
        match act {
            Act::None => {}
            Act::Relu => each(s, p, rows, cols, stride, ClipMap(0.0, f32::INFINITY)),
            Act::Clip(lo, hi) => each(s, p, rows, cols, stride, ClipMap(lo, hi)),
            Act::Leaky(alpha) => each(s, p, rows, cols, stride, LeakyMap(alpha)),
            Act::Sigmoid => each(s, p, rows, cols, stride, SigmoidMap),
            Act::Silu => each(s, p, rows, cols, stride, SiluMap),
            Act::HardSigmoid(alpha, beta) => each(s, p, rows, cols, stride, HardSigmoidMap(alpha, beta)),
            Act::HardSwish => each(s, p, rows, cols, stride, HardSwishMap),
            Act::GeluErf => each(s, p, rows, cols, stride, GeluErfMap),
            Act::GeluTanh => each(s, p, rows, cols, stride, GeluTanhMap),
            Act::Tanh => each(s, p, rows, cols, stride, TanhMap),
        }
    }
}

#[cfg(test)]
#[path = "activation_tests.rs"]
mod tests;
