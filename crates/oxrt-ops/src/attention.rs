//! Scaled dot-product attention in f64, for `Attention` and `oxrt.Attention`.

use crate::matmul::parallel;
use oxrt_tensor::{Result, bail};

/// [batch, heads, length, size], row-major.
pub struct Heads {
    pub shape: [usize; 4],
    pub data: Vec<f64>,
}

impl Heads {
    pub fn new(shape: &[usize], data: Vec<f64>) -> Result<Heads> {
        let Ok(shape) = <[usize; 4]>::try_from(shape) else {
            bail!(invalid, "{shape:?} is not [batch, heads, length, size]")
        };
        Ok(Heads { shape, data })
    }

    fn row(&self, b: usize, h: usize, s: usize) -> &[f64] {
        let [_, heads, length, size] = self.shape;
        let at = ((b * heads + h) * length + s) * size;
        &self.data[at..at + size]
    }
}

/// Which of the scores are wanted besides the result.
#[derive(Clone, Copy, PartialEq)]
pub enum Scores {
    Product,
    Capped,
    Biased,
    Softmax,
}

pub struct Attend<'a> {
    pub scale: f64,
    /// `softcap · tanh(score / softcap)`; 0 for none.
    pub softcap: f64,
    /// What is added to the score of query i and key j: (batch, head, i, j); -∞ forbids.
    pub bias: &'a (dyn Fn(usize, usize, usize, usize) -> f64 + Sync),
    pub want: Option<Scores>,
}

/// The result [batch, heads, queries, size of v], and the wanted scores [batch, heads, queries, keys].
/// A query that may look at no key gives zeros.
pub fn attend(q: &Heads, k: &Heads, v: &Heads, how: &Attend) -> Result<(Heads, Vec<f64>)> {
    let ([b, h, sq, d], [_, hk, sk, _]) = (q.shape, k.shape);
    let dv = v.shape[3];
    if k.shape[0] != b || k.shape[3] != d || v.shape[..3] != k.shape[..3] || hk == 0 || h % hk != 0 {
        bail!(invalid, "queries {:?}, keys {:?} and values {:?} do not fit", q.shape, k.shape, v.shape);
    }
    crate::copy::checked_len(&[b, h, sq, sk])?;
    let work = (b * h * sq).saturating_mul(sk * (d + dv));
    let parts = parallel(b * h, work, |job| {
        let (batch, head) = (job / h, job % h);
        let shared = head / (h / hk);
        let (mut out, mut seen) = (vec![0.0; sq * dv], Vec::new());
        for i in 0..sq {
            let query = q.row(batch, head, i);
            let dot = |j| query.iter().zip(k.row(batch, shared, j)).map(|(a, b)| a * b).sum::<f64>() * how.scale;
            let mut scores: Vec<f64> = (0..sk).map(dot).collect();
            let mut keep = |stage: Scores, scores: &[f64]| {
                if how.want == Some(stage) {
                    seen.extend_from_slice(scores);
                }
            };
            keep(Scores::Product, &scores);
            if how.softcap > 0.0 {
                scores.iter_mut().for_each(|s| *s = (*s / how.softcap).tanh() * how.softcap);
            }
            keep(Scores::Capped, &scores);
            let mut open = false;
            for (j, s) in scores.iter_mut().enumerate() {
                let bias = (how.bias)(batch, head, i, j);
                open |= bias != f64::NEG_INFINITY;
                *s += bias;
            }
            keep(Scores::Biased, &scores);
            if open {
                let top = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                let top = if top == f64::NEG_INFINITY { 0.0 } else { top };
                scores.iter_mut().for_each(|s| *s = (*s - top).exp());
                let sum: f64 = scores.iter().sum();
                scores.iter_mut().for_each(|s| *s /= if sum == 0.0 { 1.0 } else { sum });
            } else {
                scores.fill(0.0);
            }
            keep(Scores::Softmax, &scores);
            let row = &mut out[i * dv..(i + 1) * dv];
            for (j, &p) in scores.iter().enumerate().filter(|p| *p.1 != 0.0) {
                row.iter_mut().zip(v.row(batch, shared, j)).for_each(|(y, v)| *y += p * v);
            }
        }
        (out, seen)
    });
    let (out, seen): (Vec<Vec<f64>>, Vec<Vec<f64>>) = parts.into_iter().unzip();
    Ok((Heads { shape: [b, h, sq, dv], data: out.concat() }, seen.concat()))
}
