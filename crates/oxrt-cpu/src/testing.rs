//! What the tests of this crate share.

use crate::kernels::Kernels;

/// Reproducible noise in `[-1, 1)`.
pub fn noise(n: usize, seed: u32) -> Vec<f32> {
    let mut state = seed.wrapping_mul(747_796_405).wrapping_add(1);
    (0..n)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 23) as f32 - 1.0
        })
        .collect()
}

/// Runs the check once per tier of this machine.
pub fn every_tier(check: impl Fn(&'static Kernels)) {
    for kernels in Kernels::all() {
        check(kernels);
    }
}

/// Asserts `|got - want| <= abs + rel * |want|` everywhere, and that NaN and infinities stand in the same places.
#[track_caller]
pub fn close(got: &[f32], want: &[f64], abs: f64, rel: f64, what: &str) {
    assert_eq!(got.len(), want.len(), "{what}: lengths");
    for (i, (&g, &w)) in got.iter().zip(want).enumerate() {
        let g = f64::from(g);
        let same = if w.is_nan() {
            g.is_nan()
        } else if w.is_infinite() {
            g == w
        } else {
            (g - w).abs() <= abs + rel * w.abs()
        };
        assert!(same, "{what}: element {i}: got {g}, want {w}");
    }
}
