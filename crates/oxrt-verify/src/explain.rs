//! What a difference looks like: the elements that differ most, and patterns that point to a cause.

use oxrt_tensor::{Result, Tensor};
use serde::Serialize;

/// An element of two tensors that differ.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Element {
    pub index: Vec<usize>,
    pub got: f64,
    pub want: f64,
}

/// The `n` elements that differ most, those that are finite on one side only first.
pub fn worst_elements(got: &Tensor, want: &Tensor, n: usize) -> Result<Vec<Element>> {
    if got.shape() != want.shape() || got.strings().is_some() || want.strings().is_some() {
        return Ok(Vec::new());
    }
    let (a, b) = (got.to_f64_vec()?, want.to_f64_vec()?);
    let distance = |i: usize| match (a[i].is_finite(), b[i].is_finite()) {
        (true, true) => (a[i] - b[i]).abs(),
        (false, false) if a[i] == b[i] || a[i].is_nan() && b[i].is_nan() => 0.0,
        _ => f64::INFINITY,
    };
    let mut worst: Vec<usize> = Vec::new();
    for i in (0..a.len()).filter(|&i| distance(i) > 0.0) {
        let at = worst.partition_point(|&w| distance(w) >= distance(i));
        worst.insert(at, i);
        worst.truncate(n);
    }
    Ok(worst.into_iter().map(|i| Element { index: unravel(i, got.shape()), got: a[i], want: b[i] }).collect())
}

/// Position of flat index `i`.
pub fn unravel(mut i: usize, shape: &[usize]) -> Vec<usize> {
    let mut index = vec![0; shape.len()];
    for (x, &d) in index.iter_mut().zip(shape).rev() {
        *x = i % d.max(1);
        i /= d.max(1);
    }
    index
}

/// A pattern in the difference, in words: another order of the same elements, a factor, an offset, an overflow.
pub fn pattern(got: &Tensor, want: &Tensor) -> Result<Option<String>> {
    if got.strings().is_some() || want.strings().is_some() || got.is_empty() || got.len() != want.len() {
        return Ok(None);
    }
    let (a, b) = (got.to_f64_vec()?, want.to_f64_vec()?);
    let largest = |v: &[f64]| v.iter().filter(|x| x.is_finite()).fold(0f64, |m, x| m.max(x.abs()));
    let scale = largest(&b).max(f64::MIN_POSITIVE);
    let close = |x: f64, y: f64| x == y || (x - y).abs() <= 1e-4 * scale;
    let overflowed = a.iter().zip(&b).filter(|(x, y)| x.is_infinite() && y.is_finite()).count();
    if overflowed > 0 {
        return Ok(Some(format!("{overflowed} elements overflow to infinity; the reference reaches {scale:.4e}")));
    }
    let new_nans = a.iter().zip(&b).filter(|(x, y)| x.is_nan() && !y.is_nan()).count();
    if new_nans > 0 {
        return Ok(Some(format!("{new_nans} elements are NaN")));
    }
    let sorted = |v: &[f64]| {
        let mut v = v.to_vec();
        v.sort_by(f64::total_cmp);
        v
    };
    // Tensors of a few different values would match by chance.
    let (sa, sb) = (sorted(&a), sorted(&b));
    let distinct = sb.windows(2).filter(|w| w[0] != w[1]).count() >= 3;
    if distinct && sa.iter().zip(&sb).all(|(x, y)| close(*x, *y)) {
        return Ok(Some("the same elements in another order: a layout or an axis is mixed up".to_string()));
    }
    if got.shape() != want.shape() {
        return Ok(None);
    }
    let (dot, bb): (f64, f64) = a.iter().zip(&b).fold((0.0, 0.0), |(d, s), (x, y)| (d + x * y, s + y * y));
    let factor = dot / bb;
    if factor.is_finite() && factor != 0.0 && distinct && a.iter().zip(&b).all(|(x, y)| close(*x, factor * y)) {
        return Ok(Some(format!("every element is {factor:.6} times the reference")));
    }
    let offset = a.iter().zip(&b).map(|(x, y)| x - y).sum::<f64>() / a.len() as f64;
    if distinct && a.iter().zip(&b).all(|(x, y)| close(*x - offset, *y)) {
        return Ok(Some(format!("every element is {offset:+.6} off")));
    }
    let differing = a.iter().zip(&b).filter(|(x, y)| !close(**x, **y)).count();
    Ok((differing * 20 <= a.len() && differing > 0).then(|| format!("only {differing} of {} elements differ", a.len())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_told_apart() {
        let want = Tensor::from_slice(&[2, 3], &[1f32, 2.0, 3.0, 4.0, 5.0, 7.0]);
        let say = |v: [f32; 6]| pattern(&Tensor::from_slice(&[2, 3], &v), &want).unwrap().unwrap_or_default();
        assert!(say([1.0, 4.0, 2.0, 5.0, 3.0, 7.0]).contains("another order"));
        assert!(say([2.0, 4.0, 6.0, 8.0, 10.0, 14.0]).contains("2.000000 times"));
        assert!(say([1.5, 2.5, 3.5, 4.5, 5.5, 7.5]).contains("+0.500000 off"));
        assert!(say([1.0, f32::INFINITY, 3.0, 4.0, 5.0, 7.0]).contains("overflow"));
        assert!(say([1.0, f32::NAN, 3.0, 4.0, 5.0, 7.0]).contains("NaN"));
        let e = worst_elements(&Tensor::from_slice(&[2, 3], &[1f32, 2.0, 3.5, 4.0, 5.0, 6.0]), &want, 5).unwrap();
        assert_eq!(e.iter().map(|e| e.index.clone()).collect::<Vec<_>>(), [vec![1, 2], vec![0, 2]]);
    }
}
