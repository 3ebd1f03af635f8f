//! Tiles of products of `f64` and integers: plain code, vectorised by the compiler for each tier. Doubles are multiplied and added
//! in one step where the tier has it; else nothing is fused.

use super::Kernels;
use crate::simd::Simd;

/// Columns of a panel of the right operand.
pub const PANEL: usize = 8;
/// Rows that share what is read of a panel.
pub const ROWS: usize = 8;

/// What products are summed in; integers wrap.
pub trait Scalar: Copy + Default + Send + Sync + 'static {
    /// `self + a · b`, rounded once with `FUSED`, for types that gain by it.
    fn mul_add<const FUSED: bool>(self, a: Self, b: Self) -> Self;
    /// `self - other`.
    fn less(self, other: Self) -> Self;
    /// `self + other`.
    fn more(self, other: Self) -> Self;
    /// The tier's kernel.
    fn kernel(kernels: &Kernels) -> unsafe fn(&ProductTile<Self>);
}

macro_rules! floats {
    ($($t:ident $kernel:ident $fuses:literal)*) => {$(
        impl Scalar for $t {
            #[inline(always)]
            fn mul_add<const FUSED: bool>(self, a: $t, b: $t) -> $t {
                if FUSED && $fuses { a.mul_add(b, self) } else { self + a * b }
            }

            #[inline(always)]
            fn less(self, other: $t) -> $t {
                self - other
            }

            #[inline(always)]
            fn more(self, other: $t) -> $t {
                self + other
            }

            fn kernel(kernels: &Kernels) -> unsafe fn(&ProductTile<$t>) {
                kernels.$kernel
            }
        }
    )*};
}
floats!(f64 product_f64 true f32 product_f32 false);

macro_rules! wrapping {
    ($($t:ident $kernel:ident)*) => {$(
        impl Scalar for $t {
            #[inline(always)]
            fn mul_add<const FUSED: bool>(self, a: $t, b: $t) -> $t {
                self.wrapping_add(a.wrapping_mul(b))
            }

            #[inline(always)]
            fn less(self, other: $t) -> $t {
                self.wrapping_sub(other)
            }

            #[inline(always)]
            fn more(self, other: $t) -> $t {
                self.wrapping_add(other)
            }

            fn kernel(kernels: &Kernels) -> unsafe fn(&ProductTile<$t>) {
                kernels.$kernel
            }
        }
    )*};
}
wrapping!(i32 product_i32 i64 product_i64);

/// Some rows of the left operand by one panel of the right.
pub struct ProductTile<T> {
    /// The inner dimension: the length of a row of `a`.
    pub k: usize,
    /// Row-major.
    pub a: *const T,
    /// `k` rows of [`PANEL`].
    pub b: *const T,
    /// Result.
    pub c: *mut T,
    /// Elements from a row of the result to the next.
    pub stride: usize,
    /// Rows, at most [`ROWS`].
    pub rows: usize,
    /// Columns of the result, at most [`PANEL`].
    pub columns: usize,
}

/// The product of a tile.
///
/// # Safety
/// The pointers cover what the tile says.
#[inline(always)]
pub unsafe fn product_tile<S: Simd, T: Scalar>(_: S, t: &ProductTile<T>) {
    // SAFETY: as the caller promises.
    unsafe {
        let mut first = 0;
        // As many sums as there are registers for.
        if t.rows == ROWS && S::LANES == 16 {
            if S::FUSED {
                rows::<T, ROWS, true>(t, 0)
            } else {
                rows::<T, ROWS, false>(t, 0)
            }
            first = ROWS;
        }
        while first + 4 <= t.rows {
            if S::FUSED {
                rows::<T, 4, true>(t, first)
            } else {
                rows::<T, 4, false>(t, first)
            }
            first += 4;
        }
        for r in first..t.rows {
            if S::FUSED { rows::<T, 1, true>(t, r) } else { rows::<T, 1, false>(t, r) }
        }
    }
}

#[inline(always)]
unsafe fn rows<T: Scalar, const R: usize, const FUSED: bool>(t: &ProductTile<T>, first: usize) {
    let mut sums = [[T::default(); PANEL]; R];
    // SAFETY: inside the tile.
    unsafe {
        let (a, c) = (t.a.add(first * t.k), t.c.add(first * t.stride));
        for p in 0..t.k {
            let b = *t.b.add(p * PANEL).cast::<[T; PANEL]>();
            for r in 0..R {
                let a = *a.add(r * t.k + p);
                for j in 0..PANEL {
                    sums[r][j] = sums[r][j].mul_add::<FUSED>(a, b[j]);
                }
            }
        }
        for (r, sums) in sums.iter().enumerate() {
            // A copy, so that the sums themselves may live in registers.
            let row = *sums;
            core::ptr::copy_nonoverlapping(row.as_ptr(), c.add(r * t.stride), t.columns);
        }
    }
}
