//! CPU backend: packed kernels in portable, AVX2 and AVX-512 tiers.

pub mod ceiling;
pub mod compute;
pub mod kernels;
pub mod pool;
pub mod simd;

#[cfg(test)]
mod testing;
