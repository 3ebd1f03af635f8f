//! Scaled dot-product attention in f64, for `Attention` and `oxrt.Attention`.

use crate::matmul::parallel;
use oxrt_ir::Attrs;
use oxrt_tensor::{Result, bail};

/// Attributes by which attention says where its heads lie and what becomes of its scores; a kernel for these needs to look at no
/// others.
pub const ATTRIBUTES: &[&str] = &[
    "scale",
    "softcap",
    "is_causal",
    "q_num_heads",
    "kv_num_heads",
    "layout",
    "heads",
    "kv_heads",
    "size",
    "value_size",
    "at",
];

/// An operand of attention.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operand {
    Query = 0,
    Key = 1,
    Value = 2,
    Result = 3,
}

/// Where the heads of an operand lie: its sizes, the element at which it begins, and the distances of batches, heads and rows.
/// The elements of a row of a head are neighbours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placed {
    pub batch: usize,
    pub heads: usize,
    pub rows: usize,
    pub size: usize,
    pub at: usize,
    pub steps: [usize; 3],
}

impl Placed {
    /// Reads a shape as the attributes of `Attention` or `oxrt.Attention` say.
    ///
    /// # Errors
    /// A shape that is none of the layout's.
    pub fn new(attrs: &Attrs, operand: Operand, shape: &[usize]) -> Result<Placed> {
        let number = |name: &str| -> Result<usize> {
            match usize::try_from(attrs.int_or(name, 0)?) {
                Ok(n) if n > 0 => Ok(n),
                _ => bail!(invalid, "attention over {shape:?} needs `{name}`"),
            }
        };
        let of_queries = matches!(operand, Operand::Query | Operand::Result);
        let layout = attrs.string_or("layout", "bhsd")?;
        match (layout, shape) {
            ("bhsd", &[batch, heads, rows, size]) => {
                let steps = [heads * rows * size, rows * size, size];
                Ok(Placed { batch, heads, rows, size, at: 0, steps })
            }
            ("bshd", &[batch, rows, heads, size]) => {
                let steps = [rows * heads * size, size, heads * size];
                Ok(Placed { batch, heads, rows, size, at: 0, steps })
            }
            ("bhsd", &[batch, rows, width]) => {
                let heads = number(if of_queries { "q_num_heads" } else { "kv_num_heads" })?;
                if width % heads != 0 {
                    bail!(invalid, "{width} columns in {heads} heads");
                }
                let size = width / heads;
                Ok(Placed { batch, heads, rows, size, at: 0, steps: [rows * width, size, width] })
            }
            ("bsw" | "sbw", &[first, second, width]) => {
                let heads = number(if of_queries { "heads" } else { "kv_heads" })?;
                let size =
                    number(if matches!(operand, Operand::Query | Operand::Key) { "size" } else { "value_size" })?;
                let at = attrs.ints("at")?.and_then(|l| l.get(operand as usize).copied()).unwrap_or(0);
                let at = usize::try_from(at).unwrap_or(usize::MAX);
                if at.saturating_add(heads * size) > width {
                    bail!(invalid, "{heads} heads of {size} from column {at} on, of {width}");
                }
                let (batch, rows, steps) = match layout {
                    "bsw" => (first, second, [second * width, size, width]),
                    _ => (second, first, [width, size, second * width]),
                };
                Ok(Placed { batch, heads, rows, size, at, steps })
            }
            _ => bail!(invalid, "attention of layout `{layout}` over a tensor of shape {shape:?}"),
        }
    }

    /// The heads of a tensor's elements, one after the other.
    pub fn gather(&self, data: &[f64]) -> Heads {
        let Placed { batch, heads, rows, size, at, steps } = *self;
        let mut out = Vec::with_capacity(batch * heads * rows * size);
        for (b, h, r) in indices(batch, heads, rows) {
            let from = at + b * steps[0] + h * steps[1] + r * steps[2];
            out.extend_from_slice(&data[from..from + size]);
        }
        Heads { shape: [batch, heads, rows, size], data: out }
    }

    /// The other way round.
    pub fn scatter(&self, from: &Heads, data: &mut [f64]) {
        let Placed { batch, heads, rows, size, at, steps } = *self;
        for (i, (b, h, r)) in indices(batch, heads, rows).enumerate() {
            let to = at + b * steps[0] + h * steps[1] + r * steps[2];
            data[to..to + size].copy_from_slice(&from.data[i * size..(i + 1) * size]);
        }
    }
}

fn indices(batch: usize, heads: usize, rows: usize) -> impl Iterator<Item = (usize, usize, usize)> {
    (0..batch).flat_map(move |b| (0..heads).flat_map(move |h| (0..rows).map(move |r| (b, h, r))))
}

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

/// Scores of a row to weights, by softmax; a row of which nothing is `open` to be seen has none.
pub fn weigh(scores: &mut [f64], open: bool) {
    if !open {
        return scores.fill(0.0);
    }
    let top = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let top = if top == f64::NEG_INFINITY { 0.0 } else { top };
    scores.iter_mut().for_each(|s| *s = (*s - top).exp());
    let sum: f64 = scores.iter().sum();
    scores.iter_mut().for_each(|s| *s /= if sum == 0.0 { 1.0 } else { sum });
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
            weigh(&mut scores, open);
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
