//! Comparison as the official runner does it.

use oxrt::ops::Datum;
use oxrt::{DType, Tensor};

/// |got - want| ≤ atol + rtol·|want| + largest·max |want|.
#[derive(Clone, Copy, Debug)]
pub struct Tolerance {
    pub rtol: f64,
    pub atol: f64,
    pub largest: f64,
    /// Compares types and shapes alone.
    pub types_only: bool,
}

/// Why the outputs differ, if they do.
pub fn difference(got: &[Datum], want: &[Datum], tolerance: Tolerance) -> Option<String> {
    if got.len() != want.len() {
        return Some(format!("{} outputs, want {}", got.len(), want.len()));
    }
    got.iter().zip(want).enumerate().find_map(|(i, (g, w))| datum(g, w, tolerance, &format!("output {i}")))
}

fn datum(got: &Datum, want: &Datum, tolerance: Tolerance, place: &str) -> Option<String> {
    match (got, want) {
        (Datum::Tensor(g), Datum::Tensor(w)) => tensor(g, w, tolerance).map(|e| format!("{place}: {e}")),
        (Datum::Sequence(g), Datum::Sequence(w)) if g.len() != w.len() => {
            Some(format!("{place}: {} elements, want {}", g.len(), w.len()))
        }
        (Datum::Sequence(g), Datum::Sequence(w)) => {
            let pairs = g.iter().zip(w).enumerate();
            pairs.into_iter().find_map(|(i, (g, w))| datum(g, w, tolerance, &format!("{place}[{i}]")))
        }
        (Datum::Optional(None), Datum::Optional(None)) => None,
        (Datum::Optional(Some(g)), Datum::Optional(Some(w))) => datum(g, w, tolerance, place),
        // A value that is there may stand for an optional that holds it.
        (Datum::Optional(Some(g)), w @ (Datum::Tensor(_) | Datum::Sequence(_))) => datum(g, w, tolerance, place),
        (g @ (Datum::Tensor(_) | Datum::Sequence(_)), Datum::Optional(Some(w))) => datum(g, w, tolerance, place),
        _ => Some(format!("{place}: another kind of value")),
    }
}

fn tensor(got: &Tensor, want: &Tensor, tolerance: Tolerance) -> Option<String> {
    if got.dtype() != want.dtype() || got.shape() != want.shape() {
        return Some(format!("{} {:?}, want {} {:?}", got.dtype(), got.shape(), want.dtype(), want.shape()));
    }
    if tolerance.types_only {
        return None;
    }
    if let (Some(g), Some(w)) = (got.strings(), want.strings()) {
        let bad = g.iter().zip(w).filter(|(g, w)| g != w).count();
        return (bad > 0).then(|| format!("{bad} of {} strings differ", w.len()));
    }
    if want.dtype().is_complex() {
        return (got.bytes() != want.bytes()).then(|| "complex elements differ".to_string());
    }
    let rtol = tolerance.rtol.max(precision(want.dtype()));
    if want.dtype().is_int() && matches!(want.dtype(), DType::I64 | DType::U64) {
        return integers(got, want, tolerance.atol, rtol);
    }
    let (g, w) = match (got.to_f64_vec(), want.to_f64_vec()) {
        (Ok(g), Ok(w)) => (g, w),
        (Err(e), _) | (_, Err(e)) => return Some(e.to_string()),
    };
    let largest = w.iter().filter(|x| x.is_finite()).fold(0f64, |m, x| m.max(x.abs()));
    // Half-precision values are rounded after every node, so errors are relative to the largest of them.
    let part = match want.dtype() {
        _ if tolerance.largest == 0.0 => 0.0,
        DType::F16 => tolerance.largest.max(1.0 / 256.0),
        DType::BF16 => tolerance.largest.max(1.0 / 32.0),
        _ => tolerance.largest,
    };
    let atol = tolerance.atol + part * largest;
    let near = |g: f64, w: f64| g.is_finite() && w.is_finite() && (g - w).abs() <= atol + rtol * w.abs();
    let close = |g: f64, w: f64| g == w || (g.is_nan() && w.is_nan()) || near(g, w);
    let bad: Vec<usize> = (0..w.len()).filter(|&i| !close(g[i], w[i])).collect();
    let first = *bad.first()?;
    let worst = bad.iter().map(|&i| (g[i] - w[i]).abs()).fold(0.0, f64::max);
    Some(format!(
        "{} of {} elements of {} {:?} off by up to {worst:.3e} where the largest is {largest:.3e}; [{first}] is {}, want {}",
        bad.len(),
        w.len(),
        want.dtype(),
        want.shape(),
        g[first],
        w[first]
    ))
}

/// Relative precision below which elements cannot be told apart: the official runner allows 2⁻⁶ for bfloat16.
fn precision(dtype: DType) -> f64 {
    match dtype {
        DType::BF16 => 1.0 / 64.0,
        _ => 0.0,
    }
}

/// Beyond 2⁵³ an f64 would hide differences.
fn integers(got: &Tensor, want: &Tensor, atol: f64, rtol: f64) -> Option<String> {
    let wide = |t: &Tensor| -> Vec<i128> {
        match t.dtype() {
            DType::U64 => t.as_slice::<u64>().iter().map(|&x| x.into()).collect(),
            _ => t.as_slice::<i64>().iter().map(|&x| x.into()).collect(),
        }
    };
    let (g, w) = (wide(got), wide(want));
    let far = |g: i128, w: i128| g != w && (g - w).unsigned_abs() as f64 > atol + rtol * w.unsigned_abs() as f64;
    let first = (0..w.len()).find(|&i| far(g[i], w[i]))?;
    Some(format!("{} {:?}: [{first}] is {}, want {}", want.dtype(), want.shape(), g[first], w[first]))
}

#[cfg(test)]
mod tests {
    use super::*;

    const STRICT: Tolerance = Tolerance { rtol: 1e-3, atol: 1e-7, largest: 0.0, types_only: false };

    fn t(values: &[f32]) -> Datum {
        Tensor::from_slice(&[values.len()], values).into()
    }

    #[test]
    fn tensors() {
        assert_eq!(difference(&[t(&[1.0, f32::NAN])], &[t(&[1.0005, f32::NAN])], STRICT), None);
        assert!(difference(&[t(&[1.0])], &[t(&[1.01])], STRICT).is_some());
        assert!(difference(&[t(&[1.0])], &[t(&[f32::INFINITY])], STRICT).is_some());
        assert!(difference(&[t(&[f32::NAN])], &[t(&[0.0])], STRICT).is_some());
        assert!(difference(&[t(&[1.0])], &[t(&[1.0, 2.0])], Tolerance { types_only: true, ..STRICT }).is_some());
        assert_eq!(difference(&[t(&[1.0])], &[t(&[2.0])], Tolerance { types_only: true, ..STRICT }), None);
    }

    #[test]
    fn large_integers() {
        let i = |x: i64| Datum::from(Tensor::scalar(x));
        let exact = Tolerance { rtol: 0.0, atol: 0.0, largest: 0.0, types_only: false };
        assert!(difference(&[i(i64::MAX)], &[i(i64::MAX - 1)], exact).is_some());
    }

    #[test]
    fn sequences_and_optionals() {
        let none = Datum::Optional(None);
        let some = Datum::Optional(Some(Box::new(t(&[1.0]))));
        assert_eq!(difference(std::slice::from_ref(&some), &[t(&[1.0])], STRICT), None);
        assert!(difference(std::slice::from_ref(&none), std::slice::from_ref(&some), STRICT).is_some());
        assert_eq!(difference(std::slice::from_ref(&none), std::slice::from_ref(&none), STRICT), None);
        assert!(difference(&[Datum::Sequence(vec![])], &[Datum::Sequence(vec![some])], STRICT).is_some());
    }
}
