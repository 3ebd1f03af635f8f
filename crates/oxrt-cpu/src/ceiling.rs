//! What this machine can do at best: arithmetic and memory ceilings, to compare kernels with.

use crate::compute::Shared;
use crate::kernels::Kernels;
use crate::pool::ThreadPool;
use std::time::Instant;

/// Measured ceilings of a number of threads together.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ceilings {
    /// Threads that worked at once.
    pub threads: usize,
    /// Fused multiply-adds, two operations each, per nanosecond (GFLOP/s).
    pub fma_gflops: f64,
    /// Reading memory far larger than the caches, GB/s.
    pub read_gbs: f64,
    /// Copying such memory, bytes read plus bytes written, GB/s.
    pub copy_gbs: f64,
}

/// The best of several timings, in seconds.
fn best(times: usize, mut f: impl FnMut()) -> f64 {
    (0..times)
        .map(|_| {
            let start = Instant::now();
            f();
            start.elapsed().as_secs_f64()
        })
        .fold(f64::INFINITY, f64::min)
}

/// GFLOP/s of a loop of independent fused multiply-adds on every thread of the pool.
pub fn fma_gflops(kernels: &Kernels, pool: &ThreadPool) -> f64 {
    let rounds = 200_000;
    let threads = pool.threads();
    let mut sink = vec![0.0f32; threads * 64];
    let out = Shared(sink.as_mut_ptr());
    let seconds = best(7, || {
        // SAFETY: every task writes its own 64 floats, more than a vector.
        pool.run(threads, |i| unsafe { (kernels.fma_loop)(rounds, out.at(i * 64)) });
    });
    (threads * rounds * crate::kernels::ceiling::CHAINS * kernels.lanes * 2) as f64 / seconds / 1e9
}

/// All ceilings. Takes some hundred milliseconds and 256 MiB.
pub fn measure(kernels: &Kernels, pool: &ThreadPool) -> Ceilings {
    let floats = 32 << 20;
    let mut a = vec![1.0f32; floats];
    let mut b = vec![0.0f32; floats];
    let (src, dst) = (Shared(a.as_mut_ptr()), Shared(b.as_mut_ptr()));
    let parts = pool.threads() * 8;
    let mut sink = vec![0.0f32; parts * 64];
    let out = Shared(sink.as_mut_ptr());
    let read = best(5, || {
        pool.run(parts, |i| {
            let (start, len) = crate::compute::cut(floats, parts, i);
            // SAFETY: parts are disjoint pieces of the buffer.
            unsafe { (kernels.read_loop)(src.at(start), len, out.at(i * 64)) };
        });
    });
    let copy = best(5, || {
        pool.run(parts, |i| {
            let (start, len) = crate::compute::cut(floats, parts, i);
            // SAFETY: parts are disjoint pieces of the buffers.
            unsafe { core::ptr::copy_nonoverlapping(src.at(start), dst.at(start), len) };
        });
    });
    let bytes = (floats * 4) as f64;
    Ceilings {
        threads: pool.threads(),
        fma_gflops: fma_gflops(kernels, pool),
        read_gbs: bytes / read / 1e9,
        copy_gbs: 2.0 * bytes / copy / 1e9,
    }
}
