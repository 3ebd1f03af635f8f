//! Weights as numbers, histogram and picture.

use oxrt_tensor::{DType, Tensor};
use serde::Serialize;

const BINS: usize = 48;
/// Side of the picture, in pixels.
const SIDE: usize = 64;
/// Elements that are looked at; beyond, every k-th.
const SAMPLED: usize = 1 << 22;
const SHOWN: usize = 64;

/// What the side panel shows of a tensor.
#[derive(Clone, Debug, Serialize, PartialEq)]
pub(crate) struct Summary {
    /// The first elements, as text.
    pub values: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stats: Option<Stats>,
}

#[derive(Clone, Debug, Serialize, PartialEq)]
pub(crate) struct Stats {
    pub min: f64,
    pub max: f64,
    pub mean: f64,
    pub std: f64,
    pub zeros: f64,
    /// NaN and infinities.
    pub not_finite: usize,
    /// How many elements the figures are of.
    pub sampled: usize,
    pub histogram: Vec<u32>,
    /// Rows of signed levels −127 … 127 (0 is zero, ±127 the largest magnitude), row by row.
    pub picture: Vec<i8>,
    pub picture_width: usize,
}

pub(crate) fn summarise(t: &Tensor) -> Summary {
    if let Some(strings) = t.strings() {
        return Summary { values: strings.iter().take(SHOWN).cloned().collect(), stats: None };
    }
    let Ok(all) = sampled(t) else { return Summary { values: Vec::new(), stats: None } };
    let integers = t.dtype().is_int() || t.dtype() == DType::Bool;
    let show = |x: &f64| {
        if integers {
            format!("{x:.0}")
        } else {
            format!("{x:.5}").trim_end_matches('0').trim_end_matches('.').to_string()
        }
    };
    let values = first(t).iter().map(show).collect();
    let finite: Vec<f64> = all.iter().copied().filter(|x| x.is_finite()).collect();
    let count = finite.len().max(1) as f64;
    let (mut min, mut max) = (f64::INFINITY, f64::NEG_INFINITY);
    finite.iter().for_each(|&x| (min, max) = (min.min(x), max.max(x)));
    if finite.is_empty() {
        (min, max) = (0.0, 0.0);
    }
    let mean = finite.iter().sum::<f64>() / count;
    let std = (finite.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / count).sqrt();
    let mut histogram = vec![0u32; BINS];
    let width = (max - min).max(f64::MIN_POSITIVE);
    for x in &finite {
        histogram[(((x - min) / width * BINS as f64) as usize).min(BINS - 1)] += 1;
    }
    let zeros = finite.iter().filter(|&&x| x == 0.0).count() as f64 / count;
    let (picture, picture_width) = picture(t, min.abs().max(max.abs()));
    let stats = Stats {
        min,
        max,
        mean,
        std,
        zeros,
        not_finite: all.len() - finite.len(),
        sampled: all.len(),
        histogram,
        picture,
        picture_width,
    };
    Summary { values, stats: Some(stats) }
}

/// The tensor's elements, or every k-th of a large one.
fn sampled(t: &Tensor) -> oxrt_tensor::Result<Vec<f64>> {
    let n = t.len();
    match t.dtype().size() {
        Some(_) if n > SAMPLED => {
            let step = n.div_ceil(SAMPLED);
            pick(t, (0..n).step_by(step))
        }
        _ => t.to_f64_vec(),
    }
}

fn first(t: &Tensor) -> Vec<f64> {
    pick(t, 0..t.len().min(SHOWN)).unwrap_or_default()
}

/// Elements by index, without converting the rest.
fn pick(t: &Tensor, indices: impl Iterator<Item = usize>) -> oxrt_tensor::Result<Vec<f64>> {
    let Some(size) = t.dtype().size() else {
        let all = t.to_f64_vec()?;
        return Ok(indices.map(|i| all[i]).collect());
    };
    let bytes = t.bytes();
    let mut picked: Vec<u8> = Vec::new();
    indices.for_each(|i| picked.extend(&bytes[i * size..(i + 1) * size]));
    Tensor::from_bytes(t.dtype(), &[picked.len() / size], &picked)?.to_f64_vec()
}

/// The tensor as rows (its first axis) by columns (the others), made smaller by taking the largest magnitude of each cell.
fn picture(t: &Tensor, largest: f64) -> (Vec<i8>, usize) {
    let rows = if t.rank() > 1 { t.shape()[0] } else { 1 };
    let columns = t.len().checked_div(rows).unwrap_or(0);
    let (height, width) = (rows.min(SIDE), columns.min(SIDE));
    if height == 0 || width == 0 || largest == 0.0 {
        return (vec![0; height * width], width);
    }
    let mut out = Vec::with_capacity(height * width);
    for y in 0..height {
        let row = y * rows / height;
        // Four samples per cell are enough to see structure.
        let at = |x: usize, k: usize| {
            row * columns + (x * columns / width + k * columns.div_ceil(width) / 4).min(columns - 1)
        };
        let Ok(values) = pick(t, (0..width).flat_map(|x| (0..4).map(move |k| (x, k))).map(|(x, k)| at(x, k))) else {
            return (vec![0; height * width], width);
        };
        for cell in values.chunks(4) {
            let x = cell.iter().copied().filter(|x| x.is_finite()).max_by(|a, b| a.abs().total_cmp(&b.abs()));
            out.push((x.unwrap_or(0.0) / largest * 127.0).round() as i8);
        }
    }
    (out, width)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_of_a_small_tensor() {
        let t = Tensor::from_slice(&[2, 2], &[-1f32, 0.0, 1.0, f32::NAN]);
        let s = summarise(&t).stats.unwrap();
        assert_eq!((s.min, s.max, s.mean, s.not_finite, s.sampled), (-1.0, 1.0, 0.0, 1, 4));
        assert_eq!(s.histogram.iter().sum::<u32>(), 3);
        assert_eq!((s.picture, s.picture_width), (vec![-127, 0, 127, 0], 2));
    }

    #[test]
    fn empty_strings_and_packed_types() {
        assert!(summarise(&Tensor::zeros(DType::F32, &[0, 3])).stats.is_some());
        let t = Tensor::from_strings(&[1], vec!["a".into()]).unwrap();
        assert_eq!(summarise(&t), Summary { values: vec!["a".into()], stats: None });
        let t = Tensor::from_i64(DType::I4, &[3], &[-8, 7, 0]).unwrap();
        assert_eq!(summarise(&t).values, ["-8", "7", "0"]);
    }
}
