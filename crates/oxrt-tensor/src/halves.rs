//! Doubles as half floats, rounded once.
//!
//! The conversions of the `half` crate look at the upper 32 bits of a double alone (or go through single precision), so that
//! a number just beside the middle of two halves is taken for the middle.

use crate::{bf16, f16};

/// The nearest half float, ties to even.
pub fn f16_from_f64(x: f64) -> f16 {
    f16::from_f32(to_odd(x))
}

/// The nearest bfloat16, ties to even.
pub fn bf16_from_f64(x: f64) -> bf16 {
    bf16::from_f32(to_odd(x))
}

/// Single precision, inexact values towards the neighbour with an odd last bit: no later rounding to fewer bits takes it for
/// a tie (Boldo and Melquiond, "Emulation of FMA and correctly rounded sums: proved algorithms using rounding to odd").
fn to_odd(x: f64) -> f32 {
    let near = x as f32;
    if f64::from(near) == x || x.is_nan() {
        return near;
    }
    let bits = near.to_bits();
    // Towards zero first.
    let truncated = if f64::from(near).abs() > x.abs() { bits - 1 } else { bits };
    f32::from_bits(truncated | 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_of_ties() {
        let tiny = 2f64.powi(-40);
        for (x, want) in [(1.0, 1.0), (1.0 + 2f64.powi(-8), 1.0), (1.0 + 2f64.powi(-8) + tiny, 1.0078125)] {
            assert_eq!(bf16_from_f64(x).to_f64(), want);
            assert_eq!(bf16_from_f64(-x).to_f64(), -want);
        }
        assert_eq!(bf16_from_f64(1.0 + 3.0 * 2f64.powi(-8) - tiny).to_f64(), 1.0078125);
        assert_eq!(f16_from_f64(1.0 + 2f64.powi(-11) + tiny).to_f64(), 1.0 + 2f64.powi(-10));
        assert_eq!(f16_from_f64(1.0 + 3.0 * 2f64.powi(-11) - tiny).to_f64(), 1.0 + 2f64.powi(-10));
    }

    #[test]
    fn ends_of_the_range() {
        assert_eq!(f16_from_f64(65519.999).to_f64(), 65504.0);
        assert!(
            f16_from_f64(65520.0).is_infinite()
                && bf16_from_f64(1e300).is_infinite()
                && f16_from_f64(f64::NAN).is_nan()
        );
        assert_eq!((f16_from_f64(1e-300).to_bits(), f16_from_f64(-1e-300).to_bits()), (0, 0x8000));
        // The middle of zero and the least half float, and just above it.
        assert_eq!(f16_from_f64(2f64.powi(-25)).to_bits(), 0);
        assert_eq!(f16_from_f64(2f64.powi(-25) * 1.0000000001).to_bits(), 1);
    }

    #[test]
    fn every_half_float_is_itself() {
        for bits in 0..=u16::MAX {
            let (f, b) = (f16::from_bits(bits), bf16::from_bits(bits));
            assert!(f.is_nan() || f16_from_f64(f.to_f64()).to_bits() == bits);
            assert!(b.is_nan() || bf16_from_f64(b.to_f64()).to_bits() == bits);
        }
    }
}
