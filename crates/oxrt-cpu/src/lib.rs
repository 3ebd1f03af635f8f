//! CPU backend: packed kernels in portable, AVX2 and AVX-512 tiers.

mod backend;
pub mod ceiling;
pub mod compute;
mod half;
pub mod kernels;
mod ops;
pub mod pool;
pub mod simd;

pub use backend::CpuBackend;

#[cfg(test)]
mod testing;
