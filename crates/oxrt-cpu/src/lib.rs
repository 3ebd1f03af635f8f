//! CPU backend: packed kernels in portable, AVX2 and AVX-512 tiers
