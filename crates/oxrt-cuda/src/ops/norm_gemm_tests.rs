//! Products of normalised rows on the emulator: every tile, against the reference evaluator.

use super::tests::{backend, check_with, narrow, sample, streaming};
use oxrt_ir::parse_graph;
use oxrt_ops::Interpreter;
use oxrt_tensor::{DType, Tensor};

/// Rows whose mean is far from zero beside what they differ from it, as those of real networks can be.
fn rows(m: usize, k: usize, attrs: &str) -> [Tensor; 2] {
    let values: Vec<f64> = (sample(DType::F32, &[m, k], 5).to_f64_vec().unwrap().into_iter().enumerate())
        .map(|(i, v)| v * (1.0 + (i / k % 3) as f64) + (i / k % 5) as f64 * 4.0)
        .collect();
    let x = Tensor::from_f64(DType::F16, &[m, k], &values).unwrap();
    let mut g = parse_graph(&format!("(f16[{m}, {k}] x) {{ m = oxrt.NormFactors<{attrs}>(x) }} => m")).unwrap();
    oxrt_ops::infer::infer_graph(&mut g, &mut Default::default()).unwrap();
    let told = Interpreter::new(&g).run(vec![x.clone().into()]).unwrap().remove(0);
    let told = told.as_tensor().unwrap().clone();
    [x, told]
}

/// The tiles that ran. `after` stands behind the weights, `result` is what the node gives.
fn product(m: usize, k: usize, n: usize, attrs: &str, after: &str, more: &[Tensor], result: &str) -> usize {
    let weights = sample(DType::F32, &[k, n], 6).to_f64_vec().unwrap();
    // Weights far from zero on average: what a mean contributes has to go out.
    let list: Vec<String> = weights.iter().map(|w| format!("{:.4}", (w + 0.5) * 2.0 / (k as f64).sqrt())).collect();
    let mut inputs: Vec<Tensor> = rows(m, k, attrs.split(", act").next().unwrap()).into();
    let others: String = more.iter().enumerate().map(|(i, t)| format!(", {}{:?} r{i}", t.dtype(), t.shape())).collect();
    inputs.extend_from_slice(more);
    let text = format!(
        "(f16[{m}, {k}] x, f32[{m}, 2] m{others}) {{ {result} = oxrt.NormGemm<{attrs}>(x, f32[{k}, {n}]{{{}}}, {after}) }} => {result}",
        list.join(", ")
    );
    check_with(&narrow(), &text, &inputs, 0.01).len()
}

#[test]
fn factors_are_those_of_rows() {
    for (m, k) in [(5, 8), (300, 64), (9, 200), (2, 776), (3, 7), (2, 2048), (1, 1030)] {
        for attrs in ["norm=\"layer\"", "norm=\"rms\", epsilon=0.1"] {
            let [x, _] = rows(m, k, attrs);
            let text = format!("(f16[{m}, {k}] x) {{ m = oxrt.NormFactors<{attrs}>(x) }} => m");
            check_with(&backend(), &text, &[x], 2e-3);
        }
    }
}

#[test]
fn rows_are_normalised() {
    let residual = sample(DType::F16, &[300, 200], 7);
    // Several tiles of rows, columns that fill neither tiles nor pieces, depths that fill no slice.
    let tiles = product(300, 72, 200, "norm=\"layer\"", "f32[200]{0.5}, r0, m", &[residual], "y");
    assert_eq!(tiles, streaming());
}

#[test]
fn splits_normalise_once() {
    let attrs = "norm=\"rms\", epsilon=0.01, activation=\"gelu\"";
    assert_eq!(product(70, 2048, 64, attrs, "_, _, m", &[], "y"), streaming());
}
