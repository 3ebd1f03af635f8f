//! Operators that draw: shape, element type, range, distribution, and what a seed fixes.
//!
//! Distributions are checked by moments and counts over many draws, at five standard errors: a right generator
//! fails one check in two million, and the seeds are fixed.

use oxrt_ir::{Symbols, parse_graph};
use oxrt_ops::infer::infer_graph;
use oxrt_ops::{DType, Datum, Interpreter, Tensor};

/// All outputs of the graph.
fn run(text: &str, inputs: Vec<Tensor>) -> Vec<Tensor> {
    let mut graph = parse_graph(text).unwrap_or_else(|e| panic!("{text}: {e}"));
    infer_graph(&mut graph, &mut Symbols::default()).unwrap_or_else(|e| panic!("{text}: {e}"));
    let out = Interpreter::new(&graph).run(inputs.into_iter().map(Datum::from).collect());
    out.unwrap_or_else(|e| panic!("{text}: {e}")).into_iter().map(|d| d.into_tensor().unwrap()).collect()
}

fn one(text: &str, inputs: Vec<Tensor>) -> Tensor {
    run(text, inputs).remove(0)
}

/// Mean, variance and fourth central moment over the squared variance.
fn moments(values: &[f64]) -> (f64, f64, f64) {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let centred = |p: i32| values.iter().map(|v| (v - mean).powi(p)).sum::<f64>() / n;
    (mean, centred(2), centred(4) / centred(2).powi(2))
}

/// Largest distance of the empirical distribution from `cdf`, times √n (Kolmogorov; above 2.7 is one in a million).
fn kolmogorov(values: &[f64], cdf: impl Fn(f64) -> f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let n = sorted.len() as f64;
    let distance = |(i, v): (usize, &f64)| (cdf(*v) - i as f64 / n).abs().max((cdf(*v) - (i + 1) as f64 / n).abs());
    sorted.iter().enumerate().map(distance).fold(0.0, f64::max) * n.sqrt()
}

fn normal_cdf(x: f64) -> f64 {
    0.5 * (1.0 + oxrt_ops::scalar::erf(x / std::f64::consts::SQRT_2))
}

/// Correlation of neighbours.
fn serial(values: &[f64]) -> f64 {
    let (mean, variance, _) = moments(values);
    let sum: f64 = values.windows(2).map(|w| (w[0] - mean) * (w[1] - mean)).sum();
    sum / values.len() as f64 / variance
}

const N: usize = 40_000;

#[test]
fn uniform() {
    let y = one("() { y = RandomUniform<shape=[200, 200], low=-2.0, high=6.0, seed=3.0>() } => y", vec![]);
    assert_eq!((y.dtype(), y.shape()), (DType::F32, &[200, 200][..]));
    let v = y.to_f64_vec().unwrap();
    assert!(v.iter().all(|x| (-2.0..=6.0).contains(x)));
    assert!(kolmogorov(&v, |x| ((x + 2.0) / 8.0).clamp(0.0, 1.0)) < 2.7);
    assert!(serial(&v).abs() < 5.0 / (N as f64).sqrt());
}

#[test]
fn normal() {
    let y = one("() { y = RandomNormal<shape=[40000], mean=3.0, scale=2.0, seed=5.0, dtype=11>() } => y", vec![]);
    assert_eq!(y.dtype(), DType::F64);
    let v = y.to_f64_vec().unwrap();
    let (mean, variance, tail) = moments(&v);
    let error = 5.0 / (N as f64).sqrt();
    assert!((mean - 3.0).abs() < 2.0 * error && (variance / 4.0 - 1.0).abs() < error * 2f64.sqrt());
    assert!((tail - 3.0).abs() < error * 24f64.sqrt());
    assert!(kolmogorov(&v, |x| normal_cdf((x - 3.0) / 2.0)) < 2.7);
    assert!(serial(&v).abs() < error);
}

#[test]
fn like_takes_shape_and_type_of_the_input() {
    let x = Tensor::zeros(DType::F16, &[3, 4]);
    for op in ["RandomNormalLike", "RandomUniformLike"] {
        let y = one(&format!("(f16[3, 4] x) {{ y = {op}<seed=1.0>(x) }} => y"), vec![x.clone()]);
        assert_eq!((y.dtype(), y.shape()), (DType::F16, &[3, 4][..]), "{op}");
        let y = one(&format!("(f16[3, 4] x) {{ y = {op}<seed=1.0, dtype=1>(x) }} => y"), vec![x.clone()]);
        assert_eq!(y.dtype(), DType::F32, "{op}");
    }
    let x = Tensor::zeros(DType::F32, &[N]);
    let v = one("(f32[40000] x) { y = RandomNormalLike<seed=2.0, mean=-1.0>(x) } => y", vec![x.clone()]);
    assert!(kolmogorov(&v.to_f64_vec().unwrap(), |x| normal_cdf(x + 1.0)) < 2.7);
    let v = one("(f32[40000] x) { y = RandomUniformLike<seed=2.0>(x) } => y", vec![x]);
    assert!(kolmogorov(&v.to_f64_vec().unwrap(), |x| x.clamp(0.0, 1.0)) < 2.7);
}

#[test]
fn bernoulli() {
    let p = Tensor::from_slice(&[4, 10_000], &[0.0f32, 0.25, 0.9, 1.0].map(|p| vec![p; 10_000]).concat());
    let y = one("(f32[4, 10000] x) { y = Bernoulli<seed=7.0, dtype=7>(x) } => y", vec![p]);
    assert_eq!(y.dtype(), DType::I64);
    let v = y.to_f64_vec().unwrap();
    for (row, p) in v.chunks(10_000).zip([0.0, 0.25, 0.9, 1.0f64]) {
        assert!(row.iter().all(|x| *x == 0.0 || *x == 1.0));
        let share = row.iter().sum::<f64>() / 10_000.0;
        assert!((share - p).abs() <= 5.0 * (p * (1.0 - p) / 10_000.0).sqrt(), "{share} of {p}");
    }
}

#[test]
fn multinomial() {
    let weights = [0.1f64, 0.2, 0.7];
    let logits: Vec<f32> = weights.iter().map(|w| (w.ln() + 3.0) as f32).collect();
    let x = Tensor::from_slice(&[1, 3], &logits);
    let y = one("(f32[1, 3] x) { y = Multinomial<sample_size=20000, seed=11.0>(x) } => y", vec![x]);
    assert_eq!((y.dtype(), y.shape()), (DType::I32, &[1, 20_000][..]));
    let v = y.to_i64_vec().unwrap();
    for (class, w) in weights.iter().enumerate() {
        let share = v.iter().filter(|&&c| c == class as i64).count() as f64 / 20_000.0;
        assert!((share - w).abs() < 5.0 * (w * (1.0 - w) / 20_000.0).sqrt(), "class {class}: {share}");
    }
}

#[test]
fn dropout_in_training_keeps_the_mean() {
    let x = Tensor::from_slice(&[N], &vec![2.0f32; N]);
    let text = "(f32[40000] x) { y, m = Dropout<seed=9>(x, 0.25, bool{1}) } => y, m";
    let out = run(text, vec![x]);
    let (y, kept) = (out[0].to_f64_vec().unwrap(), out[1].to_i64_vec().unwrap());
    assert_eq!(out[1].dtype(), DType::Bool);
    for (y, k) in y.iter().zip(&kept) {
        assert!((y - if *k == 1 { 2.0 / 0.75 } else { 0.0 }).abs() < 1e-6);
    }
    let share = kept.iter().sum::<i64>() as f64 / N as f64;
    assert!((share - 0.75).abs() < 5.0 * (0.75f64 * 0.25 / N as f64).sqrt(), "{share} kept");
    let still = run(
        "(f32[3] x) { y, m = Dropout<seed=9>(x, 0.25, bool{0}) } => y, m",
        vec![Tensor::from_slice(&[3], &[1f32, 2.0, 3.0])],
    );
    assert_eq!(still[0].to_f64_vec().unwrap(), [1.0, 2.0, 3.0]);
}

#[test]
fn a_seed_fixes_the_draw_and_no_seed_does_not() {
    let x = Tensor::from_slice(&[64], &[0.5f32; 64]);
    for (call, seeded) in [
        ("RandomNormalLike<SEED>(x)", "seed=4.0"),
        ("RandomUniformLike<SEED>(x)", "seed=4.0"),
        ("RandomNormal<shape=[64]SEED>()", ", seed=4.0"),
        ("RandomUniform<shape=[64]SEED>()", ", seed=4.0"),
        ("Bernoulli<SEED>(x)", "seed=4.0"),
        ("Dropout<SEED>(x, 0.5, bool{1})", "seed=4"),
    ] {
        let draw = |seed: &str| {
            let call = call.replace("SEED", seed).replace("<>", "");
            one(&format!("(f32[64] x) {{ y = {call} }} => y"), vec![x.clone()])
        };
        assert_eq!(draw(seeded), draw(seeded), "{call}");
        assert_ne!(draw(seeded), draw(&seeded.replace('4', "5")), "{call}");
        assert_ne!(draw(""), draw(""), "{call}");
    }
}
