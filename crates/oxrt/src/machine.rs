//! What depends on the machine: its ceilings, its best kernels, keys of cached engines.

use oxrt_cpu::CpuBackend;
use oxrt_tensor::{Result, map_file};
use serde::Serialize;
use std::path::Path;

/// What the processor does at best, measured.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Ceilings {
    /// fp32 multiply-adds of all threads, counted as two operations.
    pub gflops: f64,
    /// The same for products of bfloat16 summed in fp32, where the processor has a unit for them.
    pub bf16_gflops: Option<f64>,
    /// Reading memory with all threads.
    pub gb_per_s: f64,
}

/// Measures the ceilings (takes a fraction of a second); 0 threads means all.
pub fn measure_ceilings(threads: usize) -> Ceilings {
    let backend = CpuBackend::new(threads);
    let c = oxrt_cpu::ceiling::measure(oxrt_cpu::kernels::Kernels::best(), backend.pool());
    Ceilings { gflops: c.fma_gflops, bf16_gflops: c.bf16_gflops, gb_per_s: c.read_gbs }
}

/// The kernels that engines built here use: `avx512`.
pub fn best_target() -> String {
    oxrt_backend::Backend::target(&CpuBackend::new(1))
}

/// Key of an engine in a cache: content of the model, the build options, this version, this machine's kernels.
pub fn cache_key(model: &Path, options: &str) -> Result<u64> {
    let map = map_file(model)?;
    let mut hash = xxhash_rust::xxh3::Xxh3::new();
    hash.update(map.as_ref());
    hash.update(options.as_bytes());
    hash.update(env!("CARGO_PKG_VERSION").as_bytes());
    hash.update(best_target().as_bytes());
    Ok(hash.digest())
}
