//! One vector type per instruction-set tier, behind one trait.
//!
//! Kernels are written once, generic over [`Simd`], and marked `#[inline(always)]`; the table in
//! [`crate::kernels`] instantiates them inside functions that switch the tier's CPU features on. A value of a
//! tier's type is a promise that the CPU has those features: [`Isa::detect`] is the only safe way to learn it.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
pub mod bytes;
mod portable;

#[cfg(target_arch = "x86_64")]
pub use avx2::Avx2;
#[cfg(target_arch = "x86_64")]
pub use avx512::Avx512;
pub use portable::Portable;

/// The instruction-set tiers, slowest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Isa {
    /// Plain Rust on arrays of eight floats; runs everywhere.
    Portable,
    /// AVX2, FMA and F16C: 8 lanes.
    Avx2,
    /// AVX-512 F, BW, DQ and VL (plus all of AVX2's): 16 lanes.
    Avx512,
}

impl Isa {
    /// Every tier, slowest first.
    pub const ALL: [Isa; 3] = [Isa::Portable, Isa::Avx2, Isa::Avx512];

    /// The name used in engine files, reports and `OXRT_ISA`.
    pub fn name(self) -> &'static str {
        match self {
            Isa::Portable => "portable",
            Isa::Avx2 => "avx2",
            Isa::Avx512 => "avx512",
        }
    }

    /// The tier of that name.
    pub fn from_name(name: &str) -> Option<Isa> {
        Isa::ALL.into_iter().find(|isa| isa.name() == name)
    }

    /// Whether this CPU can execute the tier.
    pub fn available(self) -> bool {
        match self {
            Isa::Portable => true,
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => {
                is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") && is_x86_feature_detected!("f16c")
            }
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => {
                Isa::Avx2.available()
                    && is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512dq")
                    && is_x86_feature_detected!("avx512vl")
            }
            #[cfg(not(target_arch = "x86_64"))]
            _ => false,
        }
    }

    /// The best tier of this CPU, or the one `OXRT_ISA` names when the CPU has it. Read once per process.
    pub fn detect() -> Isa {
        static ISA: std::sync::OnceLock<Isa> = std::sync::OnceLock::new();
        *ISA.get_or_init(|| {
            let forced = std::env::var("OXRT_ISA").ok().and_then(|name| Isa::from_name(name.trim()));
            let best = Isa::ALL.into_iter().rfind(|isa| isa.available()).unwrap_or(Isa::Portable);
            forced.filter(|isa| isa.available()).unwrap_or(best)
        })
    }

    /// The tiers this CPU has, slowest first.
    pub fn all_available() -> Vec<Isa> {
        Isa::ALL.into_iter().filter(|isa| isa.available()).collect()
    }
}

/// A vector instruction set over `f32` and `i32` lanes.
///
/// # Safety of use
/// The methods are safe to *call* only where the tier's CPU features are enabled; every kernel is reached through the
/// wrappers of [`crate::kernels`], which enable them, and through [`Isa::available`], which checks the CPU. Values are
/// created by the `unsafe` [`Simd::assume`] only. Pointer methods need the lanes they touch to be valid memory.
#[allow(clippy::missing_safety_doc)]
pub trait Simd: Copy + Send + Sync + 'static {
    /// `LANES` floats.
    type F: Copy;
    /// `LANES` 32-bit integers.
    type I: Copy;
    /// One truth value per lane.
    type M: Copy;
    /// Floats per vector.
    const LANES: usize;
    /// Rows of the matrix microkernel.
    const MR: usize;
    /// Vectors per row of the matrix microkernel.
    const NV: usize;
    /// Products and sums are rounded once.
    const FUSED: bool;

    /// The token. The CPU must have the tier's features.
    unsafe fn assume() -> Self;

    fn splat(self, x: f32) -> Self::F;
    unsafe fn load(self, p: *const f32) -> Self::F;
    unsafe fn store(self, p: *mut f32, v: Self::F);
    /// The lanes `0..n` (all of them for `n >= LANES`).
    fn first(self, n: usize) -> Self::M;
    /// Loads the lanes of `m`, zero elsewhere; other lanes' memory is not touched.
    unsafe fn load_mask(self, p: *const f32, m: Self::M) -> Self::F;
    /// Stores the lanes of `m`; other lanes' memory is not touched.
    unsafe fn store_mask(self, p: *mut f32, v: Self::F, m: Self::M);
    fn add(self, a: Self::F, b: Self::F) -> Self::F;
    fn sub(self, a: Self::F, b: Self::F) -> Self::F;
    fn mul(self, a: Self::F, b: Self::F) -> Self::F;
    fn div(self, a: Self::F, b: Self::F) -> Self::F;
    /// `a * b + c` (fused where the tier has it).
    fn fma(self, a: Self::F, b: Self::F, c: Self::F) -> Self::F;
    /// `a < b ? a : b`, so a NaN in either operand gives `b`.
    fn min(self, a: Self::F, b: Self::F) -> Self::F;
    /// `a > b ? a : b`, so a NaN in either operand gives `b`.
    fn max(self, a: Self::F, b: Self::F) -> Self::F;
    fn abs(self, a: Self::F) -> Self::F;
    fn neg(self, a: Self::F) -> Self::F;
    fn sqrt(self, a: Self::F) -> Self::F;
    fn floor(self, a: Self::F) -> Self::F;
    fn ceil(self, a: Self::F) -> Self::F;
    /// To the nearest integer, ties to even.
    fn round(self, a: Self::F) -> Self::F;
    fn lt(self, a: Self::F, b: Self::F) -> Self::M;
    fn le(self, a: Self::F, b: Self::F) -> Self::M;
    fn eq(self, a: Self::F, b: Self::F) -> Self::M;
    fn and(self, a: Self::M, b: Self::M) -> Self::M;
    fn or(self, a: Self::M, b: Self::M) -> Self::M;
    fn not(self, a: Self::M) -> Self::M;
    /// `m ? a : b`.
    fn blend(self, m: Self::M, a: Self::F, b: Self::F) -> Self::F;
    /// To the nearest integer; out-of-range lanes are unspecified.
    fn to_int(self, a: Self::F) -> Self::I;
    fn int_to_float(self, a: Self::I) -> Self::F;
    fn int_splat(self, a: i32) -> Self::I;
    fn int_add(self, a: Self::I, b: Self::I) -> Self::I;
    fn int_sub(self, a: Self::I, b: Self::I) -> Self::I;
    fn int_and(self, a: Self::I, b: Self::I) -> Self::I;
    fn int_or(self, a: Self::I, b: Self::I) -> Self::I;
    fn int_shl<const N: u32>(self, a: Self::I) -> Self::I;
    /// Arithmetic shift right.
    fn int_sar<const N: u32>(self, a: Self::I) -> Self::I;
    /// Shift left by `n`.
    fn int_shl_by(self, a: Self::I, n: u32) -> Self::I;
    /// Arithmetic shift right by `n`.
    fn int_sar_by(self, a: Self::I, n: u32) -> Self::I;
    fn bits(self, a: Self::F) -> Self::I;
    fn as_float(self, a: Self::I) -> Self::F;
    fn sum(self, a: Self::F) -> f32;
    fn max_lane(self, a: Self::F) -> f32;
    fn min_lane(self, a: Self::F) -> f32;
    /// `LANES` IEEE half floats, widened.
    unsafe fn load_f16(self, p: *const u16) -> Self::F;
    /// Narrowed to IEEE half floats, ties to even.
    unsafe fn store_f16(self, p: *mut u16, v: Self::F);
    /// `LANES` bfloat16 values, widened.
    unsafe fn load_bf16(self, p: *const u16) -> Self::F;
    /// The bfloat16 values of the lanes of `m`, widened, zero elsewhere; other lanes' memory is not touched.
    #[inline(always)]
    unsafe fn load_bf16_mask(self, p: *const u16, m: Self::M) -> Self::F {
        let mut lanes = [0.0f32; 16];
        // SAFETY: no tier has more than sixteen lanes; those of the mask are readable as the caller promises.
        unsafe {
            self.store(lanes.as_mut_ptr(), self.blend(m, self.splat(1.0), self.zero()));
            for (i, lane) in lanes.iter_mut().enumerate().take(Self::LANES) {
                if *lane != 0.0 {
                    *lane = f32::from_bits(u32::from(*p.add(i)) << 16);
                }
            }
            self.load(lanes.as_ptr())
        }
    }
    /// Narrowed to bfloat16, ties to even, NaN kept NaN.
    unsafe fn store_bf16(self, p: *mut u16, v: Self::F);
    /// Asks for the cache line at `p` to come to the second cache; any address is fine.
    fn prefetch(self, p: *const f32);

    /// The signed integers of `BITS` bits that stand from bit `at` on in every lane.
    #[inline(always)]
    fn code<const BITS: u32>(self, a: Self::I, at: u32) -> Self::F {
        self.int_to_float(self.int_sar_by(self.int_shl_by(a, 32 - BITS - at), 32 - BITS))
    }

    #[inline(always)]
    fn zero(self) -> Self::F {
        self.splat(0.0)
    }
}

#[cfg(test)]
mod tests;
