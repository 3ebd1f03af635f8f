//! Comparison of tensors: largest absolute and relative error, relative L2 error, cosine, units in the
//! last place.

mod explain;
mod store;

pub use explain::{Element, pattern, unravel, worst_elements};
pub use store::Store;

use oxrt_tensor::{Result, Tensor};
use serde::Serialize;

/// How far `got` is from `want`.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Comparison {
    pub name: String,
    pub shape: Vec<usize>,
    /// max |got - want|
    pub max_abs: f64,
    /// max |got - want| / |want|, over elements with |want| > 1e-6 · max |want|
    pub max_rel: f64,
    /// ‖got - want‖ / ‖want‖
    pub rel_l2: f64,
    /// got·want / (‖got‖ ‖want‖)
    pub cosine: f64,
    /// Largest distance in units in the last place of f32, over the same elements as `max_rel`.
    pub max_ulp: f64,
    /// Elements that are NaN or infinite in one and not (the same) in the other.
    pub non_finite: usize,
    /// Elements outside atol + rtol·|want|.
    pub outside: usize,
    /// Where `max_abs` is, as an index into the flat tensor, with both values.
    pub worst: Option<(usize, f64, f64)>,
    pub passed: bool,
    /// Why shapes or types cannot be compared at all.
    pub mismatch: Option<String>,
}

/// Compares elementwise: an element passes when |got - want| ≤ atol + rtol·|want|, or both are the same
/// infinity, or both NaN. Strings must be equal.
pub fn compare(name: &str, got: &Tensor, want: &Tensor, rtol: f64, atol: f64) -> Result<Comparison> {
    let mut c =
        Comparison { name: name.to_string(), shape: got.shape().to_vec(), cosine: 1.0, ..Comparison::default() };
    if got.shape() != want.shape() || got.dtype() != want.dtype() {
        c.mismatch = Some(format!("got {} {:?}, want {} {:?}", got.dtype(), got.shape(), want.dtype(), want.shape()));
        return Ok(c);
    }
    if let (Some(a), Some(b)) = (got.strings(), want.strings()) {
        c.outside = a.iter().zip(b).filter(|(a, b)| a != b).count();
        c.passed = c.outside == 0;
        return Ok(c);
    }
    let (a, b) = (got.to_f64_vec()?, want.to_f64_vec()?);
    let largest = b.iter().filter(|x| x.is_finite()).fold(0f64, |m, x| m.max(x.abs()));
    let (mut dot, mut aa, mut bb, mut dd) = (0.0, 0.0, 0.0, 0.0);
    for (i, (&x, &y)) in a.iter().zip(&b).enumerate() {
        if !x.is_finite() || !y.is_finite() {
            let same = x == y || x.is_nan() && y.is_nan();
            c.non_finite += !same as usize;
            continue;
        }
        let d = (x - y).abs();
        if d > c.max_abs || c.worst.is_none() {
            c.worst = Some((i, x, y));
            c.max_abs = c.max_abs.max(d);
        }
        if y.abs() > 1e-6 * largest {
            c.max_rel = c.max_rel.max(d / y.abs());
            c.max_ulp = c.max_ulp.max(d / ulp(y));
        }
        c.outside += (d > atol + rtol * y.abs()) as usize;
        dot += x * y;
        aa += x * x;
        bb += y * y;
        dd += d * d;
    }
    if aa > 0.0 && bb > 0.0 {
        c.cosine = dot / (aa.sqrt() * bb.sqrt());
    } else if aa != bb {
        c.cosine = 0.0;
    }
    c.rel_l2 = if bb > 0.0 { (dd / bb).sqrt() } else { dd.sqrt() };
    c.passed = c.outside == 0 && c.non_finite == 0;
    Ok(c)
}

impl Comparison {
    /// Judges a float tensor by its relative L2 error instead of element by element: the measure for arithmetic in lower
    /// precision, whose errors are relative to the sums that they come from and not to each result.
    pub fn judge_by_l2(&mut self, limit: f64) {
        self.passed = self.mismatch.is_none() && self.non_finite == 0 && self.rel_l2 <= limit;
    }
}

/// Distance between f32 neighbours at `y`.
fn ulp(y: f64) -> f64 {
    let exponent = y.abs().log2().floor().max(-126.0);
    2f64.powf(exponent - 23.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn t(v: &[f32]) -> Tensor {
        Tensor::from_slice(&[v.len()], v)
    }

    #[test]
    fn metrics() {
        let c = compare("y", &t(&[1.0, 2.0, 3.0]), &t(&[1.0, 2.0, 3.5]), 1e-3, 1e-6).unwrap();
        assert_eq!((c.max_abs, c.outside, c.passed, c.worst), (0.5, 1, false, Some((2, 3.0, 3.5))));
        assert!((c.max_rel - 0.5 / 3.5).abs() < 1e-12);
        let next = f32::from_bits(1f32.to_bits() + 1);
        assert_eq!(compare("y", &t(&[next]), &t(&[1.0]), 1e-3, 0.0).unwrap().max_ulp, 1.0);
    }

    #[test]
    fn infinities_and_nans_must_agree() {
        let (inf, nan) = (f32::INFINITY, f32::NAN);
        assert!(compare("y", &t(&[inf, nan]), &t(&[inf, nan]), 0.0, 0.0).unwrap().passed);
        assert!(!compare("y", &t(&[inf]), &t(&[-inf]), 1.0, 1.0).unwrap().passed);
        assert!(!compare("y", &t(&[nan]), &t(&[0.0]), 1.0, 1.0).unwrap().passed);
    }

    #[test]
    fn other_shapes_are_a_mismatch() {
        let c = compare("y", &t(&[1.0]), &Tensor::scalar(1f32), 1.0, 1.0).unwrap();
        assert!(c.mismatch.is_some() && !c.passed);
    }
}
