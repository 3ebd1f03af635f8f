//! What this machine can do at best: arithmetic and memory ceilings, to compare kernels with.

use crate::compute::Shared;
use crate::kernels::Kernels;
use crate::kernels::bf16::{Bf16Tile, Bf16Unit, KB, NR};
use crate::pool::ThreadPool;
use std::time::Instant;

/// Measured ceilings of a number of threads together.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ceilings {
    /// Threads that worked at once.
    pub threads: usize,
    /// Fused multiply-adds, two operations each, per nanosecond (GFLOP/s).
    pub fma_gflops: f64,
    /// Products of bfloat16 summed in single precision on the CPU's unit for them, two operations each (GFLOP/s); `None` without
    /// a unit.
    pub bf16_gflops: Option<f64>,
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

/// GFLOP/s of one tile of the unit for bfloat16 over and over, operands in the first cache, on every thread of the pool.
pub fn bf16_gflops(unit: &Bf16Unit, pool: &ThreadPool) -> f64 {
    const K: usize = 256;
    const TILES: usize = 2000;
    let threads = pool.threads();
    // Rows a line apart from a power of two, as a product lays them.
    let stride = K + KB;
    let (a, b) = (vec![0u16; unit.mr * stride], vec![0u16; K * NR]);
    let mut sums = vec![0f32; threads * unit.mr * NR];
    let (a, b, c) = (Shared(a.as_ptr().cast_mut()), Shared(b.as_ptr().cast_mut()), Shared(sums.as_mut_ptr()));
    let seconds = best(7, || {
        pool.run(threads, |i| {
            // SAFETY: every task writes its own sums; operands have the sizes that the tile says.
            unsafe {
                let tile = Bf16Tile {
                    a: a.get(),
                    a_stride: stride,
                    rows: unit.mr,
                    k: K,
                    b: b.get(),
                    c: c.at(i * unit.mr * NR),
                    accumulate: true,
                };
                (0..TILES).for_each(|_| (unit.tile)(&tile));
            }
            (unit.release)();
        });
    });
    (2 * threads * TILES * unit.mr * NR * K) as f64 / seconds / 1e9
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
        bf16_gflops: Bf16Unit::best().map(|unit| bf16_gflops(unit, pool)),
        read_gbs: bytes / read / 1e9,
        copy_gbs: 2.0 * bytes / copy / 1e9,
    }
}
