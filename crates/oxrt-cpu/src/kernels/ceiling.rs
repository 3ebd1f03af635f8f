//! Loops that do nothing but arithmetic or nothing but reading: the measures of [`crate::ceiling`].

use crate::simd::Simd;

/// Independent accumulators of [`fma_loop`]: enough to hide the latency, few enough for sixteen registers.
pub const CHAINS: usize = 12;

/// `rounds` rounds of [`CHAINS`] fused multiply-adds.
///
/// # Safety
/// A vector is writable at `out`.
#[inline(always)]
pub unsafe fn fma_loop<S: Simd>(s: S, rounds: usize, out: *mut f32) {
    let (a, b) = (s.splat(0.999), s.splat(1e-9));
    let mut acc = [b; CHAINS];
    for _ in 0..rounds {
        for chain in &mut acc {
            *chain = s.fma(*chain, a, b);
        }
    }
    let mut total = s.zero();
    for chain in acc {
        total = s.add(total, chain);
    }
    // SAFETY: as the caller promises.
    unsafe { s.store(out, total) };
}

/// Sums `n` floats.
///
/// # Safety
/// `n` floats are readable at `p`, a vector is writable at `out`.
#[inline(always)]
pub unsafe fn read_loop<S: Simd>(s: S, p: *const f32, n: usize, out: *mut f32) {
    let mut acc = [s.zero(); 4];
    let mut i = 0;
    while i + 4 * S::LANES <= n {
        for (j, chain) in acc.iter_mut().enumerate() {
            // SAFETY: four vectors are left.
            *chain = s.add(*chain, unsafe { s.load(p.add(i + j * S::LANES)) });
        }
        i += 4 * S::LANES;
    }
    // SAFETY: as the caller promises.
    unsafe { s.store(out, s.add(s.add(acc[0], acc[1]), s.add(acc[2], acc[3]))) };
}
