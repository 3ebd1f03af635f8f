//! Quantised operators against the reference evaluator on every tier: within one quantum, and equal nearly everywhere.

use super::tests::{Case, reference_tensors, run};
use crate::simd::Isa;
use oxrt_ir::Attrs;
use oxrt_tensor::{DType, Tensor};

fn bytes(dtype: DType, shape: &[usize], seed: u32) -> Tensor {
    let n = shape.iter().product();
    let low = if dtype == DType::I8 { -128.0 } else { 0.0 };
    // Extremes are frequent: they are what saturates.
    let values = crate::testing::noise(n, seed);
    let values: Vec<i64> =
        values.iter().map(|v| (f64::from(*v) * 150.0 + 128.0).clamp(0.0, 255.0) as i64 + low as i64).collect();
    Tensor::from_i64(dtype, shape, &values).unwrap()
}

fn floats(n: usize, from: f32, to: f32, seed: u32) -> Tensor {
    let values: Vec<f32> =
        crate::testing::noise(n, seed).iter().map(|v| from + (v + 1.0) / 2.0 * (to - from)).collect();
    Tensor::from_slice(&[n], &values)
}

fn table(dtype: DType) -> Tensor {
    let values: Vec<i64> = (0..256).map(|i| (i * 3 / 4 + 20) - if dtype == DType::I8 { 128 } else { 0 }).collect();
    Tensor::from_i64(dtype, &[256], &values).unwrap()
}

fn x(t: Tensor) -> Option<(Tensor, bool)> {
    Some((t, false))
}

fn c(t: Tensor) -> Option<(Tensor, bool)> {
    Some((t, true))
}

/// Runs the case on every tier; at most one element in a hundred may be one quantum off (`step` of a real result).
#[track_caller]
fn check(op: &'static str, attrs: Attrs, inputs: Vec<Option<(Tensor, bool)>>, step: f64) {
    let mut case = Case { op, attrs, inputs, outputs: vec![(DType::U8, Vec::new())] };
    let want = reference_tensors(&case).remove(0);
    case.outputs = vec![(want.dtype(), want.shape().to_vec())];
    let want = want.to_f64_vec().unwrap();
    let different = want.iter().collect::<Vec<_>>().windows(2).filter(|w| w[0] != w[1]).count();
    assert!(different * 4 > want.len() || want.len() < 8, "{op}: a dull case");
    for isa in Isa::all_available() {
        let runs = run(&case, isa);
        assert!(!runs.is_empty(), "no candidate for {op}");
        for (name, got) in runs {
            let got = got[0].to_f64_vec().unwrap();
            let mut apart = 0;
            for (i, (g, w)) in got.iter().zip(&want).enumerate() {
                assert!((g - w).abs() <= step * 1.0001, "{op} by {name} on {}: element {i}: {g} for {w}", isa.name());
                apart += usize::from(g != w && step == 1.0);
            }
            assert!(apart <= 1 + want.len() / 100, "{op} by {name} on {}: {apart} elements are off", isa.name());
        }
    }
}

fn linear(attrs: Attrs, name: &str, scale: f32, zero: i64, dtype: DType) -> Attrs {
    attrs
        .with(&format!("{name}_scale"), scale)
        .with(&format!("{name}_zero"), zero)
        .with(&format!("{name}_dtype"), dtype.to_onnx() as i64)
}

/// (input channels, output channels, groups, kernel, strides, pads, dilation)
const CONVS: &[(usize, usize, usize, [usize; 2], i64, i64, i64)] = &[
    (3, 8, 1, [3, 3], 2, 1, 1),
    (5, 33, 1, [7, 7], 2, 3, 1),
    (16, 40, 1, [1, 1], 1, 0, 1),
    (24, 17, 1, [1, 1], 2, 0, 1),
    (20, 19, 1, [3, 3], 1, 1, 1),
    (20, 12, 1, [3, 2], 1, 2, 2),
    (12, 18, 3, [3, 3], 1, 1, 1),
    (72, 72, 72, [3, 3], 1, 1, 1),
    (19, 19, 19, [5, 5], 2, 2, 1),
    (300, 300, 300, [3, 3], 1, 1, 2),
];

#[test]
fn convolutions() {
    for (i, &(cin, cout, group, kernel, stride, pad, dilation)) in CONVS.iter().enumerate() {
        let (x_dtype, y_dtype) = if i % 2 == 0 { (DType::U8, DType::I8) } else { (DType::I8, DType::U8) };
        let k = (kernel[0] * kernel[1] * cin / group) as f32;
        let base = Attrs::new()
            .with("group", group as i64)
            .with("kernel_shape", kernel.map(|k| k as i64).to_vec())
            .with("strides", vec![stride; 2])
            .with("dilations", vec![dilation; 2])
            .with("pads", vec![pad; 4])
            .with("x_zero", if x_dtype == DType::U8 { 119 } else { -9 });
        let data = || x(bytes(x_dtype, &[2, 13, 11, cin], 1));
        let w = || c(bytes(DType::I8, &[cout, cin / group, kernel[0], kernel[1]], 2));
        let scale = || c(floats(cout, 0.3 / k.sqrt() / 60.0, 1.0 / k.sqrt() / 60.0, 3));
        let bias = || c(floats(cout, -20.0, 20.0, 4));
        let y = |a: Attrs| linear(a, "y", 1.1, if y_dtype == DType::U8 { 128 } else { 3 }, y_dtype);
        check("oxrt.QConv", y(base.clone()), vec![data(), w(), scale(), bias()], 1.0);
        // Limits, an activation, a table, asymmetric weights.
        let limited = y(base.clone()).with("y_low", 1).with("activation", "leaky_relu").with("act_alpha", 0.2f32);
        check("oxrt.QConv", limited, vec![data(), w(), scale(), None, None, c(table(DType::U8))], 1.0);
        check("oxrt.QConv", y(base.clone()).with("w_zero", 7), vec![data(), w(), scale(), bias()], 1.0);
        // Reals.
        check("oxrt.QConv", base.clone().with("y_dtype", 1), vec![data(), w(), scale(), bias()], 2e-3);
        // Residuals: of the result's shape, with a table before, and as a row.
        let out = {
            let attrs = base.clone().with("y_dtype", 1);
            let case = Case {
                op: "oxrt.QConv",
                attrs,
                inputs: vec![data(), w(), scale()],
                outputs: vec![(DType::F32, vec![])],
            };
            reference_tensors(&case)[0].shape().to_vec()
        };
        let more = linear(linear(y(base), "mid", 0.9, 100, DType::U8), "r", 0.7, -20, DType::I8);
        let r = || x(bytes(DType::I8, &out, 5));
        check("oxrt.QConv", more.clone(), vec![data(), w(), scale(), bias(), r()], 1.0);
        let tabled = linear(more.clone(), "t", 0.8, 90, DType::U8);
        let inputs = vec![data(), w(), scale(), bias(), r(), None, c(table(DType::U8))];
        check("oxrt.QConv", tabled, inputs, 1.0);
        let row = c(bytes(DType::I8, &[cout], 6));
        check("oxrt.QConv", more, vec![data(), w(), scale(), bias(), row, c(table(DType::I8))], 1.0);
    }
}

#[test]
fn matrix_products() {
    for (dtype, m, k, n) in [(DType::U8, 1, 5, 3), (DType::I8, 37, 70, 65), (DType::U8, 13, 128, 96)] {
        let data = || x(bytes(dtype, &[2, m, k], 1));
        let w = || c(bytes(DType::I8, &[k, n], 2));
        let scale = || c(floats(n, 0.2 / (k as f32).sqrt() / 60.0, 1.0 / (k as f32).sqrt() / 60.0, 3));
        let base = Attrs::new().with("x_zero", 11).with("w_zero", -3);
        let y = |a: Attrs| linear(a, "y", 1.3, 100, DType::U8);
        check("oxrt.QGemm", y(base.clone()), vec![data(), w(), scale(), c(floats(n, -9.0, 9.0, 4))], 1.0);
        check("oxrt.QGemm", base.clone().with("y_dtype", 1), vec![data(), w(), scale()], 2e-3);
        let more = linear(linear(y(base), "mid", 0.9, 10, DType::I8), "r", 0.7, 120, DType::U8);
        check("oxrt.QGemm", more, vec![data(), w(), scale(), None, x(bytes(DType::U8, &[2, m, n], 5))], 1.0);
        for (b_dtype, turned) in [(DType::U8, false), (DType::I8, true)] {
            let b_shape = if turned { [2, n, k] } else { [2, k, n] };
            let b = bytes(b_dtype, &b_shape, 6);
            let middle = |d: DType| if d == DType::U8 { 121 } else { -6 };
            let zeros = Attrs::new().with("a_zero", middle(dtype)).with("b_zero", middle(b_dtype));
            let a = zeros.with("trans_b", i64::from(turned));
            let a = y(a.with("scale", 0.5 / (k as f32).sqrt() / 40.0));
            check("oxrt.QMatMul", a.clone(), vec![data(), x(b.clone())], 1.0);
            check("oxrt.QMatMul", a, vec![data(), x(b), c(table(DType::I8))], 1.0);
        }
    }
}

#[test]
fn integer_products_are_exact() {
    for (a, b) in [(DType::U8, DType::U8), (DType::U8, DType::I8), (DType::I8, DType::U8), (DType::I8, DType::I8)] {
        let one = |dtype, v: i64| x(Tensor::from_i64(dtype, &[], &[v]).unwrap());
        for constant in [false, true] {
            let right = Some((bytes(b, &[19, 40], 2), constant));
            check("MatMulInteger", Attrs::new(), vec![x(bytes(a, &[3, 5, 19], 1)), right.clone()], 0.0);
            let inputs = vec![x(bytes(a, &[3, 5, 19], 1)), right, one(a, 100), one(b, 33)];
            check("MatMulInteger", Attrs::new(), inputs, 0.0);
        }
        let attrs = Attrs::new().with("pads", vec![1i64, 0, 2, 1]).with("strides", vec![1i64, 2]).with("group", 2i64);
        let (data, w) = (bytes(a, &[2, 6, 7, 9], 3), bytes(b, &[10, 3, 3, 2], 4));
        check("ConvInteger", attrs, vec![x(data), c(w), one(a, 77), one(b, 5)], 0.0);
    }
}

#[test]
fn bytes_by_element() {
    for (a, b) in [(DType::U8, DType::I8), (DType::I8, DType::U8), (DType::U8, DType::U8)] {
        for op in ["add", "sub", "mul"] {
            for (sa, sb) in [
                (vec![2, 3, 70], vec![2, 3, 70]),
                (vec![2, 5, 3, 40], vec![2, 1, 1, 40]),
                (vec![4, 9], vec![]),
                (vec![3, 1, 8], vec![1, 7, 1]),
            ] {
                let attrs = linear(linear(Attrs::new(), "a", 0.317, 5, a), "b", 0.213, 60, b);
                let attrs = linear(attrs, "y", if op == "mul" { 9.0 } else { 0.4 }, 10, DType::U8).with("op", op);
                check("oxrt.QBinary", attrs, vec![x(bytes(a, &sa, 1)), x(bytes(b, &sb, 2))], 1.0);
            }
        }
    }
    for dtype in [DType::U8, DType::I8] {
        check("oxrt.Lookup", Attrs::new(), vec![x(bytes(dtype, &[3, 211], 1)), c(table(DType::I8))], 0.0);
        let real = Tensor::from_slice(&[256], &(0..256).map(|i| i as f32 * 0.1).collect::<Vec<_>>());
        check("oxrt.Lookup", Attrs::new(), vec![x(bytes(dtype, &[100], 1)), c(real)], 0.0);
    }
}

#[test]
fn pools_and_resizes_of_bytes() {
    for dtype in [DType::U8, DType::I8] {
        let data = || x(bytes(dtype, &[2, 7, 9, 70], 1));
        let from = linear(Attrs::new(), "x", 0.2, if dtype == DType::U8 { 125 } else { -2 }, dtype);
        check("oxrt.QGlobalAveragePool", linear(from.clone(), "y", 0.03, 128, DType::U8), vec![data()], 1.0);
        check("oxrt.QGlobalAveragePool", from.with("y_dtype", 1), vec![data()], 1e-4);
        let window = Attrs::new()
            .with("kernel_shape", vec![3i64, 3])
            .with("strides", vec![2i64, 2])
            .with("pads", vec![1i64, 1, 1, 1]);
        check("oxrt.MaxPool", window, vec![data()], 0.0);
        let scales = Tensor::from_slice(&[4], &[1.0f32, 1.0, 2.0, 1.5]);
        check("oxrt.Resize", Attrs::new(), vec![data(), None, c(scales)], 0.0);
    }
}

#[test]
fn dynamic_quantisation() {
    for n in [1usize, 7, 1000, 50_000] {
        for (from, to) in [(-1.0, 3.0), (0.5, 2.0), (-4.0, -1.0)] {
            let data = floats(n, from, to, 9);
            let mut case = Case {
                op: "DynamicQuantizeLinear",
                attrs: Attrs::new(),
                inputs: vec![x(data)],
                outputs: vec![(DType::U8, vec![n]), (DType::F32, vec![]), (DType::U8, vec![])],
            };
            let want = reference_tensors(&case);
            case.outputs = want.iter().map(|t| (t.dtype(), t.shape().to_vec())).collect();
            for isa in Isa::all_available() {
                let runs = run(&case, isa);
                assert!(!runs.is_empty());
                runs.iter().for_each(|(_, got)| assert_eq!(got, &want, "{}", isa.name()));
            }
        }
    }
}
