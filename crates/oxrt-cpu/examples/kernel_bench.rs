//! Speed of the kernels, and their share of the machine's ceiling.
//!
//! `cargo run --release -p oxrt-cpu --example kernel_bench [-- threads [filter]]`

use oxrt_cpu::ceiling;
use oxrt_cpu::compute::gemm::{self, Cut, Matrix, Out, Size};
use oxrt_cpu::kernels::Kernels;
use oxrt_cpu::pool::ThreadPool;
use std::time::Instant;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let threads = args.first().and_then(|a| a.parse().ok()).unwrap_or(1);
    let filter = args.get(1).cloned().unwrap_or_default();
    let pool = ThreadPool::new(threads);
    let kernels = Kernels::best();
    println!("{} on {} threads", kernels.isa.name(), pool.threads());
    let wanted = |name: &str| name.contains(&filter);
    if wanted("gemm") {
        for (m, k, n) in [
            (1024, 1024, 1024),
            (128, 768, 768),
            (128, 768, 3072),
            (128, 3072, 768),
            (197, 768, 3072),
            (3136, 64, 64),
            (3136, 64, 256),
            (3136, 256, 64),
            (784, 512, 128),
            (196, 256, 1024),
            (196, 1024, 256),
            (49, 512, 2048),
            (49, 2048, 512),
            (1, 2048, 1000),
            (12544, 16, 16),
            (196, 112, 672),
        ] {
            bench_gemm(kernels, &pool, m, k, n);
        }
    }
    if wanted("memory") {
        println!("{:?}", ceiling::measure(kernels, &pool));
    }
}

/// Prints the best of the timed calls against the arithmetic ceiling measured next to them.
fn report(kernels: &Kernels, pool: &ThreadPool, name: &str, flops: f64, mut f: impl FnMut()) {
    f();
    let start = Instant::now();
    f();
    let once = start.elapsed().as_secs_f64();
    let calls = (0.05 / once).clamp(5.0, 2000.0) as usize;
    let mut times: Vec<f64> = (0..calls)
        .map(|_| {
            let start = Instant::now();
            f();
            start.elapsed().as_secs_f64()
        })
        .collect();
    times.sort_by(f64::total_cmp);
    let ceiling = ceiling::fma_gflops(kernels, pool);
    let rate = flops / times[0] / 1e9;
    println!(
        "{name:40} best {:9.1} us  median {:9.1} us  {rate:7.1} GFLOP/s  {:5.1} % of {ceiling:.0}",
        times[0] * 1e6,
        times[calls / 2] * 1e6,
        rate / ceiling * 100.0
    );
}

fn noise(n: usize) -> Vec<f32> {
    let mut state = 1u32;
    (0..n)
        .map(|_| {
            state = state.wrapping_mul(1664525).wrapping_add(1013904223);
            (state >> 8) as f32 / (1 << 23) as f32 - 1.0
        })
        .collect()
}

fn bench_gemm(kernels: &Kernels, pool: &ThreadPool, m: usize, k: usize, n: usize) {
    let (a, b, mut c) = (noise(m * k), noise(k * n), vec![0.0f32; m * n]);
    let mut packed = vec![0.0f32; gemm::packed_len(kernels, k, n)];
    // SAFETY: the buffers have the sizes named.
    unsafe { gemm::pack(kernels, pool, k, n, b.as_ptr(), n, 1, packed.as_mut_ptr()) };
    let size = Size::plain(m, n, k);
    let cut = Cut::choose(kernels, size, pool.threads());
    let rows = Matrix { data: a.as_ptr(), stride: k };
    let out = Out::plain(c.as_mut_ptr(), n);
    report(kernels, pool, &format!("gemm {m}x{k}x{n}"), 2.0 * (m * k * n) as f64, || {
        // SAFETY: as above.
        unsafe { gemm::run(kernels, pool, size, cut, &rows, packed.as_ptr(), out) }
    });
}
