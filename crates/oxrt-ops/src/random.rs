//! Random numbers: SplitMix64, from the attribute `seed` or from a counter of the process.

use oxrt_ir::Attrs;
use oxrt_tensor::Result;
use std::sync::atomic::{AtomicU64, Ordering};

pub struct Random(u64);

impl Random {
    /// From a node's `seed`; without one, every call draws other numbers.
    pub fn of(attrs: &Attrs) -> Result<Random> {
        Ok(attrs.get_float("seed")?.map_or_else(Random::fresh, |s| Random::seeded(s.to_bits() as u64)))
    }

    pub fn seeded(seed: u64) -> Random {
        Random(seed)
    }

    pub fn fresh() -> Random {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Random(NEXT.fetch_add(1, Ordering::Relaxed) << 32)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// In [0, 1).
    pub fn uniform(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Of mean 0 and variance 1 (Box and Muller).
    pub fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.uniform()).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.uniform()).cos()
    }
}
