//! Kernels that find out the size of their results, on the emulator against the reference evaluator.

use super::tests::{backend, check, run, sample};
use super::wide_tests::{NUMBERS, ints};
use oxrt_tensor::{DType, Tensor};

#[test]
fn places_that_are_not_zero_are_found() {
    for dtype in NUMBERS.into_iter().chain([DType::Bool]) {
        for shape in [vec![], vec![0, 3], vec![5], vec![3, 5, 7], vec![1, 1, 2, 1, 3, 1, 2, 1], vec![9000]] {
            let x: Vec<f64> = sample(DType::F64, &shape, 3).to_f64_vec().unwrap();
            let values: Vec<f64> = x.iter().map(|v| if *v > 0.2 { v.ceil() } else { -0.0 }).collect();
            let x = Tensor::from_f64(dtype, &shape, &values).unwrap();
            check(&format!("({dtype}{shape:?} x) {{ y = NonZero(x) }} => y"), &[x], 0.0);
        }
    }
    let odd = Tensor::from_slice(&[4], &[f32::NAN, -0.0, f32::MIN_POSITIVE / 4.0, f32::NEG_INFINITY]);
    check("(f32[4] x) { y = NonZero(x) } => y", &[odd], 0.0);
    check("(f32[70000] x) { y = NonZero(x) } => y", &[Tensor::from_slice(&[70000], &[1f32; 70000])], 0.0);
}

#[test]
fn conditions_pick_slices() {
    let picks = |n: usize| {
        let x = sample(DType::F64, &[n], 5).to_f64_vec().unwrap();
        Tensor::from_f64(DType::Bool, &[n], &x.iter().map(|v| f64::from(*v > 0.0)).collect::<Vec<_>>()).unwrap()
    };
    for dtype in NUMBERS.into_iter().chain([DType::Bool]) {
        let x = sample(dtype, &[3, 5, 7], 1);
        for (axis, n) in [(0, 3), (1, 5), (-1, 7), (1, 4), (2, 2), (0, 0)] {
            let text = format!("({dtype}[3, 5, 7] x, bool[{n}] c) {{ y = Compress<axis={axis}>(x, c) }} => y");
            check(&text, &[x.clone(), picks(n)], 0.0);
        }
        for n in [105, 60] {
            let text = format!("({dtype}[3, 5, 7] x, bool[{n}] c) {{ y = Compress(x, c) }} => y");
            check(&text, &[x.clone(), picks(n)], 0.0);
        }
    }
    let x = sample(DType::F32, &[5000, 3], 1);
    check("(f32[5000, 3] x, bool[5000] c) { y = Compress<axis=0>(x, c) } => y", &[x.clone(), picks(5000)], 0.0);
    let beyond = Tensor::from_f64(DType::Bool, &[4], &[0.0, 1.0, 0.0, 1.0]).unwrap();
    let text = "(f32[3, 2] x, bool[4] c) { y = Compress<axis=0>(x, c) } => y";
    // The evaluator refuses it as well, so only the way it is told matters here.
    assert!(run(&backend(), text, &[sample(DType::F32, &[3, 2], 1), beyond], 0.0).is_err());
}

#[test]
fn different_elements_are_found() {
    for dtype in NUMBERS {
        for n in [0, 1, 5, 300, 2500] {
            let x = sample(DType::F64, &[n], 3).to_f64_vec().unwrap();
            // Many alike, and many that are there once.
            let values: Vec<f64> = x.iter().map(|v| (v * if n > 1000 { 900.0 } else { 20.0 }).round()).collect();
            let values: Vec<f64> =
                values.iter().map(|v| if dtype.is_float() { *v } else { v.rem_euclid(100.0) }).collect();
            let x = Tensor::from_f64(dtype, &[n], &values).unwrap();
            for (attributes, outputs) in
                [("", "y, i, r, c"), ("<sorted=0>", "y, i, r, c"), ("<axis=0>", "y, i"), ("<sorted=0>", "y")]
            {
                let text = format!("({dtype}[{n}] x) {{ {outputs} = Unique{attributes}(x) }} => {outputs}");
                let names = run(&backend(), &text, std::slice::from_ref(&x), 0.0).unwrap();
                assert_eq!(names, ["unique"], "{text}");
            }
        }
    }
    let odd =
        Tensor::from_slice(&[2, 4], &[f32::NAN, -0.0, 1.0, 0.0, -f32::NAN, f32::INFINITY, 1.0, f32::NEG_INFINITY]);
    for attributes in ["", "<sorted=0>"] {
        let text = format!("(f32[2, 4] x) {{ y, i, r, c = Unique{attributes}(x) }} => y, i, r, c");
        check(&text, std::slice::from_ref(&odd), 0.0);
    }
}

/// Boxes of many sizes, in clusters, some of them twice.
fn boxes(batches: usize, n: usize, seed: u64) -> Tensor {
    let x = sample(DType::F32, &[batches * n, 4], seed).to_f64_vec().unwrap();
    let mut values = Vec::new();
    for (i, b) in x.chunks(4).enumerate() {
        let (y, x) = ((b[0] * 3.0).round() * 4.0 + b[1], (b[1] * 3.0).round() * 4.0 + b[0]);
        let (h, w) = (b[2].abs() * 3.0 + 0.5, b[3].abs() * 3.0 + 0.5);
        // Corners in either order.
        values.extend(if i % 3 == 0 { [y + h, x, y, x + w] } else { [y, x, y + h, x + w] });
        if i % 7 == 6 {
            let at = values.len();
            values.copy_within(at - 8..at - 4, at - 4);
        }
    }
    Tensor::from_f64(DType::F32, &[batches, n, 4], &values).unwrap()
}

#[test]
fn overlapping_boxes_are_suppressed() {
    for (batches, classes, n) in [(1, 1, 1), (2, 3, 40), (1, 2, 700), (1, 1, 2500), (1, 3, 0), (0, 2, 5)] {
        let b = boxes(batches, n, 7);
        // Equal scores among them.
        let s = sample(DType::F32, &[batches, classes, n], 9).to_f64_vec().unwrap();
        let s: Vec<f64> = s.iter().map(|v| (v * 200.0).round() / 200.0).collect();
        let s = Tensor::from_f64(DType::F32, &[batches, classes, n], &s).unwrap();
        let types = format!("f32[{batches}, {n}, 4] b, f32[{batches}, {classes}, {n}] s");
        for options in
            ["i64{1000000}, 0.5, 0.1", "i64{7}, 0.3", "i64{3000}, 0.0, -0.5", "i64{0}, 0.5", "_, 0.5", "i64{-3}"]
        {
            for centred in [0, 1] {
                let text =
                    format!("({types}) {{ y = NonMaxSuppression<center_point_box={centred}>(b, s, {options}) }} => y");
                check(&text, &[b.clone(), s.clone()], 0.0);
            }
        }
        let text = format!("({types}, i64[1] m, f32[1] l, f32 t) {{ y = NonMaxSuppression(b, s, m, l, t) }} => y");
        let (m, l) = (ints(&[1], &[9]), Tensor::from_slice(&[1], &[0.45f32]));
        check(&text, &[b.clone(), s.clone(), m, l, Tensor::from_slice(&[], &[-0.2f32])], 0.0);
    }
    // Scores that are no numbers, boxes without end, and a share that is the limit exactly.
    let odd = Tensor::from_slice(&[1, 1, 6], &[f32::NAN, 0.0, -0.0, f32::INFINITY, f32::NEG_INFINITY, -f32::NAN]);
    let mut b = boxes(1, 6, 3).to_f64_vec().unwrap();
    (b[0], b[5], b[10]) = (f64::INFINITY, f64::NAN, f64::NEG_INFINITY);
    let b = Tensor::from_f64(DType::F32, &[1, 6, 4], &b).unwrap();
    for options in ["i64{6}, 0.4", "i64{6}, 0.4, 0.0", "i64{6}, -1.0", "i64{6}, 2.0"] {
        let text = format!("(f32[1, 6, 4] b, f32[1, 1, 6] s) {{ y = NonMaxSuppression(b, s, {options}) }} => y");
        check(&text, &[b.clone(), odd.clone()], 0.0);
    }
    let b = Tensor::from_slice(&[1, 2, 4], &[0f32, 0.0, 1.0, 2.0, 0.0, 0.5, 1.0, 1.4]);
    let text = "(f32[1, 2, 4] b, f32[1, 1, 2] s) { y = NonMaxSuppression(b, s, i64{5}, 0.45) } => y";
    check(text, &[b, Tensor::from_slice(&[1, 1, 2], &[0.9f32, 0.8])], 0.0);
}
