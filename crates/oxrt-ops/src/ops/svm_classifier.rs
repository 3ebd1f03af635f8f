//! <https://onnx.ai/onnx/operators/onnx_aionnxml_SVMClassifier.html>

use crate::def::OpDef;
use crate::eval::{Datum, Eval};
use crate::infer::Infer;
use crate::ml::{Labels, Rows, both_classes, greatest, post_transform};
use crate::svm::{Kernel, coupled, floats};
use oxrt_ir::{Attrs, Dim};
use oxrt_tensor::{DType, Result, Tensor, bail};

/// The class, by votes of the machines of all pairs, and the scores: of the pairs, or probabilities of the classes when
/// `prob_a` and `prob_b` are given. Without support vectors, one linear machine per class.
pub const OP: OpDef = OpDef::new("ai.onnx.ml.SVMClassifier", &[1], 1..=1, infer, eval).examples(&[
    (
        "(f32[2, 1] x) { y, s = ai.onnx.ml.SVMClassifier<classlabels_ints=[3, 5], coefficients=[1.0, -1.0], rho=[0.0], support_vectors=[1.0, -1.0], vectors_per_class=[1, 1]>(x) } => y",
        &["x = 2 -2"],
        "3 5",
    ),
    (
        "(f32[2, 1] x) { y, s = ai.onnx.ml.SVMClassifier<classlabels_ints=[3, 5], coefficients=[1.0, -1.0], rho=[0.0], support_vectors=[1.0, -1.0], vectors_per_class=[1, 1]>(x) } => s",
        &["x = 2 -2"],
        "-4 4 4 -4",
    ),
]);

/// The shape of the machines.
struct Machines<'a> {
    classes: usize,
    /// Support vectors per class; empty for linear machines.
    counts: Vec<usize>,
    coefficients: &'a [f32],
    rho: &'a [f32],
    vectors: &'a [f32],
    /// (prob_a, prob_b)
    probabilities: Option<(&'a [f32], &'a [f32])>,
}

impl Machines<'_> {
    fn of(attrs: &Attrs) -> Result<Machines<'_>> {
        let classes = Labels::of(attrs)?.len();
        let counts = attrs.ints_or("vectors_per_class", &[])?;
        let counts: Option<Vec<usize>> = counts.iter().map(|&c| usize::try_from(c).ok().filter(|&c| c < 1 << 31)).collect();
        let Some(counts) = counts else { bail!(invalid, "a negative number of vectors") };
        let counts = if counts.iter().sum::<usize>() == 0 { Vec::new() } else { counts };
        let (a, b) = (floats(attrs, "prob_a")?, floats(attrs, "prob_b")?);
        let m = Machines {
            classes,
            counts,
            coefficients: floats(attrs, "coefficients")?,
            rho: floats(attrs, "rho")?,
            vectors: floats(attrs, "support_vectors")?,
            probabilities: (!a.is_empty()).then_some((a, b)),
        };
        let pairs = m.pairs();
        let total: usize = m.counts.iter().sum();
        let fits = match m.counts.is_empty() {
            true => !m.rho.is_empty(),
            false => {
                m.counts.len() == classes
                    && classes > 1
                    && m.rho.len() >= pairs
                    && m.coefficients.len() >= total.saturating_mul(classes - 1)
                    && m.probabilities.is_none_or(|(a, b)| a.len() >= pairs && b.len() >= pairs)
            }
        };
        if classes == 0 || !fits {
            bail!(invalid, "coefficients, offsets or vectors are too few for {classes} classes");
        }
        Ok(m)
    }

    fn pairs(&self) -> usize {
        self.classes * self.classes.saturating_sub(1) / 2
    }

    fn scores(&self) -> usize {
        match self.counts.is_empty() || self.probabilities.is_some() {
            true => self.classes.max(2),
            false => self.pairs().max(2),
        }
    }
}

fn infer(ctx: &mut Infer) -> Result<()> {
    let scores = Machines::of(ctx.attrs())?.scores();
    let labels = Labels::of(ctx.attrs())?.dtype();
    let rows = match ctx.dims(0) {
        Some([r, _]) => r.clone(),
        Some([_]) => Dim::Const(1),
        _ => ctx.fresh(),
    };
    ctx.set(0, labels, Some(vec![rows.clone()]));
    ctx.set(1, DType::F32, Some(vec![rows, Dim::from(scores)]));
    Ok(())
}

fn eval(ctx: &Eval) -> Result<Vec<Datum>> {
    let (x, attrs) = (Rows::of(ctx.tensor(0)?)?, ctx.attrs());
    let m = Machines::of(attrs)?;
    let total: usize = m.counts.iter().sum();
    let wanted = if m.counts.is_empty() { (m.coefficients.len(), m.classes) } else { (m.vectors.len(), total) };
    if wanted.1.checked_mul(x.columns) != Some(wanted.0) {
        bail!(invalid, "{} vector elements for {} vectors of {} columns", wanted.0, wanted.1, x.columns);
    }
    let kernel = if m.counts.is_empty() { Kernel::linear() } else { Kernel::of(attrs)? };
    let name = attrs.string_or("post_transform", "NONE")?;
    let transform = post_transform(name)?;
    let positive = m.coefficients.iter().all(|&c| c >= 0.0);
    let (mut best, mut out) = (Vec::with_capacity(x.rows), Vec::new());
    for i in 0..x.rows {
        let row = x.row(i);
        let (class, mut scores) = if m.counts.is_empty() { linear(&m, row) } else { voted(&m, &kernel, row) };
        let class = match (m.counts.is_empty(), m.rho.len() == 1 && m.classes == 2) {
            // One score for two classes is that of the second.
            (true, true) => {
                let top = scores[class];
                (if positive { top >= 0.5 } else { top > 0.0 } || class == 1) as usize
            }
            _ => class,
        };
        best.push(class);
        match scores[..] {
            [s] => {
                scores = both_classes(s, name, name == "NONE").to_vec();
                if name == "PROBIT" {
                    transform(&mut scores);
                }
            }
            _ => transform(&mut scores),
        }
        out.extend(scores);
    }
    let labels = Labels::of(attrs)?.pick(&best)?;
    Ok(vec![labels.into(), Tensor::from_f64(DType::F32, &[x.rows, m.scores()], &out)?.into()])
}

/// One machine per class.
fn linear(m: &Machines, row: &[f64]) -> (usize, Vec<f64>) {
    let weights = m.coefficients.chunks(row.len().max(1));
    let score = |w: &[f32]| row.iter().zip(w).map(|(a, b)| a * *b as f64).sum::<f64>() + m.rho[0] as f64;
    let mut scores: Vec<f64> = weights.map(score).collect();
    scores.resize(m.classes, m.rho[0] as f64);
    (greatest(&scores), scores)
}

/// One machine per pair of classes.
fn voted(m: &Machines, kernel: &Kernel, row: &[f64]) -> (usize, Vec<f64>) {
    let (k, total) = (m.classes, m.counts.iter().sum::<usize>());
    let values: Vec<f64> = match row.len() {
        0 => vec![kernel.value(row, &[]); total],
        n => m.vectors.chunks(n).map(|v| kernel.value(row, v)).collect(),
    };
    let starts: Vec<usize> = m.counts.iter().scan(0, |at, n| Some(std::mem::replace(at, *at + n))).collect();
    // The coefficients of class `of` against another lie in a row of their own.
    let part = |row: usize, of: usize| -> f64 {
        let places = starts[of]..starts[of] + m.counts[of];
        places.map(|v| m.coefficients[row * total + v] as f64 * values[v]).sum()
    };
    let (mut scores, mut votes) = (Vec::new(), vec![0.0; k]);
    for i in 0..k {
        for j in i + 1..k {
            let sum = part(j - 1, i) + part(i, j) + m.rho[scores.len()] as f64;
            votes[if sum > 0.0 { i } else { j }] += 1.0;
            scores.push(sum);
        }
    }
    let class = greatest(&votes);
    let Some((a, b)) = m.probabilities else { return (class, scores) };
    let mut pairs = vec![0.0; k * k];
    let mut at = 0;
    for i in 0..k {
        for j in i + 1..k {
            let p = 1.0 / (1.0 + (scores[at] * a[at] as f64 + b[at] as f64).exp());
            let p = p.clamp(1e-7, 1.0 - 1e-7);
            (pairs[i * k + j], pairs[j * k + i]) = (p, 1.0 - p);
            at += 1;
        }
    }
    let estimates = coupled(&pairs, k);
    (class, estimates)
}
