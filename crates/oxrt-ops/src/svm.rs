//! Support vector machines: kernels, decisions between pairs of classes, and their probabilities.

use oxrt_ir::Attrs;
use oxrt_tensor::{Result, bail};

/// A kernel function with its three parameters.
pub struct Kernel {
    kind: Kind,
    gamma: f64,
    coef0: f64,
    degree: f64,
}

enum Kind {
    Linear,
    Poly,
    Rbf,
    Sigmoid,
}

impl Kernel {
    pub fn of(attrs: &Attrs) -> Result<Kernel> {
        let kind = match attrs.string_or("kernel_type", "LINEAR")? {
            "LINEAR" => Kind::Linear,
            "POLY" => Kind::Poly,
            "RBF" => Kind::Rbf,
            "SIGMOID" => Kind::Sigmoid,
            other => bail!(invalid, "the kernel `{other}` is unknown"),
        };
        let params = attrs.get_floats("kernel_params")?.map(Vec::as_slice).unwrap_or_default();
        let [gamma, coef0, degree] = match *params {
            [g, c, d, ..] => [g, c, d].map(f64::from),
            [] => [0.0; 3],
            _ => bail!(invalid, "`kernel_params` has {} elements, not gamma, coef0 and degree", params.len()),
        };
        Ok(Kernel { kind, gamma, coef0, degree })
    }

    pub fn linear() -> Kernel {
        Kernel { kind: Kind::Linear, gamma: 0.0, coef0: 0.0, degree: 0.0 }
    }

    pub fn value(&self, x: &[f64], y: &[f32]) -> f64 {
        let pairs = || x.iter().zip(y).map(|(a, b)| (*a, *b as f64));
        let dot = || pairs().map(|(a, b)| a * b).sum::<f64>();
        match self.kind {
            Kind::Linear => dot(),
            Kind::Poly => (self.gamma * dot() + self.coef0).powf(self.degree),
            Kind::Sigmoid => (self.gamma * dot() + self.coef0).tanh(),
            Kind::Rbf => (-self.gamma * pairs().map(|(a, b)| (a - b) * (a - b)).sum::<f64>()).exp(),
        }
    }
}

/// A float list attribute, empty when absent.
pub fn floats<'a>(attrs: &'a Attrs, name: &str) -> Result<&'a [f32]> {
    Ok(attrs.get_floats(name)?.map(Vec::as_slice).unwrap_or_default())
}

/// Probabilities of `k` classes from those of pairs, `r[i][j]` that of i against j (Wu, Lin and Weng 2004, method 2, as
/// libsvm iterates it).
pub fn coupled(r: &[f64], k: usize) -> Vec<f64> {
    let at = |i: usize, j: usize| r[i * k + j];
    let mut q = vec![0.0; k * k];
    for t in 0..k {
        for j in (0..k).filter(|&j| j != t) {
            q[t * k + t] += at(j, t) * at(j, t);
            q[t * k + j] = -at(j, t) * at(t, j);
        }
    }
    let mut p = vec![1.0 / k as f64; k];
    for _ in 0..k.max(100) {
        let mut qp: Vec<f64> = (0..k).map(|t| (0..k).map(|j| q[t * k + j] * p[j]).sum()).collect();
        let mut pqp: f64 = p.iter().zip(&qp).map(|(a, b)| a * b).sum();
        if qp.iter().all(|v| (v - pqp).abs() < 0.005 / k as f64) {
            break;
        }
        for t in 0..k {
            let own = q[t * k + t];
            let step = (pqp - qp[t]) / own;
            p[t] += step;
            pqp = (pqp + step * (step * own + 2.0 * qp[t])) / ((1.0 + step) * (1.0 + step));
            for j in 0..k {
                qp[j] = (qp[j] + step * q[t * k + j]) / (1.0 + step);
                p[j] /= 1.0 + step;
            }
        }
    }
    p
}
