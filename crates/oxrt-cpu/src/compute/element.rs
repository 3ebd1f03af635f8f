//! Numbers as tensors hold them, for kernels that are one body over all types.

/// A stored number.
pub trait Element: Copy + PartialOrd + Default + Send + Sync + 'static {
    /// No number is less (minus infinity of floats).
    const LEAST: Self;
    /// No number is greater.
    const MOST: Self;
    /// A key that orders as the numbers do, ascending; NaN comes last, both zeros are one.
    type Key: Copy + Ord + Default + Send + Sync + 'static;

    /// As `f64`, rounded where it does not fit.
    fn to_f64(self) -> f64;
    /// From `f64`; integers are truncated and kept inside their type.
    fn from_f64(v: f64) -> Self;
    /// In 64 bits, for sums and products that wrap.
    fn to_wide(self) -> i64;
    /// The low bits.
    fn from_wide(v: i64) -> Self;
    /// The greater of two; NaN wins.
    fn greater(self, other: Self) -> Self;
    /// The lesser of two; NaN wins.
    fn lesser(self, other: Self) -> Self;
    /// `self + other`; integers wrap.
    fn plus(self, other: Self) -> Self;
    /// `self · other`; integers wrap.
    fn times(self, other: Self) -> Self;
    /// Whether it is NaN.
    fn is_nan(self) -> bool;
    /// See [`Element::Key`].
    fn key(self) -> Self::Key;
}

macro_rules! integers {
    ($($t:ident)*) => {$(
        impl Element for $t {
            const LEAST: $t = $t::MIN;
            const MOST: $t = $t::MAX;
            type Key = $t;

            #[inline(always)]
            fn to_f64(self) -> f64 {
                self as f64
            }

            #[inline(always)]
            fn from_f64(v: f64) -> $t {
                v as $t
            }

            #[inline(always)]
            fn to_wide(self) -> i64 {
                self as i64
            }

            #[inline(always)]
            fn from_wide(v: i64) -> $t {
                v as $t
            }

            #[inline(always)]
            fn greater(self, other: $t) -> $t {
                self.max(other)
            }

            #[inline(always)]
            fn lesser(self, other: $t) -> $t {
                self.min(other)
            }

            #[inline(always)]
            fn plus(self, other: $t) -> $t {
                self.wrapping_add(other)
            }

            #[inline(always)]
            fn times(self, other: $t) -> $t {
                self.wrapping_mul(other)
            }

            #[inline(always)]
            fn is_nan(self) -> bool {
                false
            }

            #[inline(always)]
            fn key(self) -> $t {
                self
            }
        }
    )*};
}
integers!(u8 i8 u16 i16 u32 i32 u64 i64);

macro_rules! floats {
    ($($t:ident $key:ident)*) => {$(
        impl Element for $t {
            const LEAST: $t = $t::NEG_INFINITY;
            const MOST: $t = $t::INFINITY;
            type Key = $key;

            #[inline(always)]
            fn to_f64(self) -> f64 {
                self as f64
            }

            #[inline(always)]
            fn from_f64(v: f64) -> $t {
                v as $t
            }

            #[inline(always)]
            fn to_wide(self) -> i64 {
                self as i64
            }

            #[inline(always)]
            fn from_wide(v: i64) -> $t {
                v as $t
            }

            #[inline(always)]
            fn greater(self, other: $t) -> $t {
                if self > other || self.is_nan() { self } else { other }
            }

            #[inline(always)]
            fn lesser(self, other: $t) -> $t {
                if self < other || self.is_nan() { self } else { other }
            }

            #[inline(always)]
            fn plus(self, other: $t) -> $t {
                self + other
            }

            #[inline(always)]
            fn times(self, other: $t) -> $t {
                self * other
            }

            #[inline(always)]
            fn is_nan(self) -> bool {
                self.is_nan()
            }

            #[inline(always)]
            fn key(self) -> $key {
                if self.is_nan() {
                    return $key::MAX;
                }
                // Adding zero makes one of both zeros; then the bits of negative numbers run backwards.
                let bits = (self + 0.0).to_bits();
                if bits >> ($key::BITS - 1) == 1 { !bits } else { bits | 1 << ($key::BITS - 1) }
            }
        }
    )*};
}
floats!(f32 u32 f64 u64);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_order_as_numbers_do() {
        let rising = [f32::NEG_INFINITY, -1e30, -1.0, -1e-40, 0.0, 1e-40, 1.0, f32::INFINITY, f32::NAN];
        assert!(rising.windows(2).all(|w| w[0].key() < w[1].key()));
        assert_eq!((-0.0f64).key(), 0.0f64.key());
        assert!((-3i8).key() < 2i8.key());
    }
}
