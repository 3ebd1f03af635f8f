//! Kernels of every element type against the reference evaluator, whose results they give exactly.

use super::tests::{Case, reference_tensors, run};
use crate::simd::Isa;
use oxrt_ir::Attrs;
use oxrt_tensor::{DType, Tensor};

pub(super) const INTEGERS: [DType; 8] =
    [DType::U8, DType::I8, DType::U16, DType::I16, DType::U32, DType::I32, DType::U64, DType::I64];
const LENGTHS: [usize; 5] = [0, 1, 7, 257, 16_411];

/// Elements that overflow, divide badly or compare unlike their neighbours, from one long line of them.
pub(super) fn extremes(dtype: DType, shape: &[usize], seed: usize) -> Tensor {
    let n = shape.iter().product::<usize>();
    let at = |i: usize| (i + seed).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 17;
    if dtype.is_float() {
        let special = [0.0, -0.0, f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1e-310, 1e300, -1.5, 2.0, 3.0];
        let value = |i: usize| {
            if i.is_multiple_of(3) { special[at(i) % special.len()] } else { at(i) as f64 % 1000.0 / 8.0 - 60.0 }
        };
        return Tensor::from_f64(dtype, shape, &(0..n).map(value).collect::<Vec<_>>()).unwrap();
    }
    let value = |i: usize| [at(i) as i64 % 7 - 3, at(i) as i64, i64::MIN, i64::MAX, -1, 127, 1 << 31][at(i) % 7];
    Tensor::from_i64(dtype, shape, &(0..n).map(value).collect::<Vec<_>>()).unwrap()
}

/// Without zeros, for divisors.
fn not_zero(t: &Tensor) -> Tensor {
    let fixed: Vec<i64> = t.to_i64_vec().unwrap().into_iter().map(|v| if v == 0 { 3 } else { v }).collect();
    Tensor::from_i64(t.dtype(), t.shape(), &fixed).unwrap()
}

/// Every candidate of every tier gives the reference's elements; floats within `tolerance`, 0 for bit for bit (but for
/// what a NaN carries, and which zero is the least).
#[track_caller]
pub(super) fn exact(op: &'static str, attrs: Attrs, inputs: Vec<(Tensor, bool)>, tolerance: f64) {
    let mut case =
        Case { op, attrs, inputs: inputs.into_iter().map(Some).collect(), outputs: vec![(DType::F32, vec![])] };
    let want = reference_tensors(&case).remove(0);
    case.outputs = vec![(want.dtype(), want.shape().to_vec())];
    for isa in Isa::all_available() {
        let runs = run(&case, isa);
        let dtype = case.inputs[0].as_ref().unwrap().0.dtype();
        assert!(!runs.is_empty(), "no candidate for {op} of {dtype}");
        for (name, got) in runs {
            if !want.dtype().is_float() {
                assert!(got[0].bytes() == want.bytes(), "{op} of {dtype} by {name}: {:?}, not {want:?}", got[0]);
                continue;
            }
            let (got, want) = (got[0].to_f64_vec().unwrap(), want.to_f64_vec().unwrap());
            for (i, (&g, &w)) in got.iter().zip(&want).enumerate() {
                let close = g == w || (g - w).abs() <= tolerance * w.abs().max(1.0);
                let signs = g != 0.0 || matches!(op, "Min" | "Max") || tolerance > 0.0 || g.to_bits() == w.to_bits();
                assert!((g.is_nan() && w.is_nan()) || (close && signs), "{op} of {dtype} by {name}: {i}: {g}, not {w}");
            }
        }
    }
}

pub(super) fn x(t: &Tensor) -> (Tensor, bool) {
    (t.clone(), false)
}

#[test]
fn elementwise_over_every_type() {
    for dtype in INTEGERS.into_iter().chain([DType::F64]) {
        for n in LENGTHS {
            let (a, b) = (extremes(dtype, &[n], 1), extremes(dtype, &[n], 5));
            for op in ["Add", "Sub", "Mul", "Min", "Max", "Equal", "Less", "LessOrEqual", "Greater", "GreaterOrEqual"] {
                exact(op, Attrs::new(), vec![x(&a), x(&b)], 0.0);
            }
            let b = if dtype.is_float() { b } else { not_zero(&b) };
            exact("Div", Attrs::new(), vec![x(&a), x(&b)], 0.0);
            exact("Mod", Attrs::new().with("fmod", i64::from(dtype.is_float())), vec![x(&a), x(&b)], 0.0);
            for op in ["Abs", "Neg", "Sign"] {
                exact(op, Attrs::new(), vec![x(&a)], 0.0);
            }
            if dtype.is_float() {
                for op in ["Sqrt", "Exp", "Floor", "Sigmoid", "Erf", "IsNaN", "Reciprocal"] {
                    exact(op, Attrs::new(), vec![x(&a)], 0.0);
                }
            } else {
                exact("BitwiseXor", Attrs::new(), vec![x(&a), x(&b)], 0.0);
                exact("Pow", Attrs::new(), vec![x(&a), x(&b)], 0.0);
            }
        }
        let (a, b) = (extremes(dtype, &[5, 1, 31], 1), extremes(dtype, &[3, 1], 2));
        exact("Sub", Attrs::new(), vec![x(&a), x(&b)], 0.0);
        let flags = Tensor::from_slice(&[3, 1], &[true, false, true]);
        exact("Where", Attrs::new(), vec![x(&flags), x(&a), x(&b)], 0.0);
    }
    for direction in ["LEFT", "RIGHT"] {
        for dtype in [DType::U8, DType::U16, DType::U32, DType::U64] {
            let (a, b) = (extremes(dtype, &[257], 1), extremes(dtype, &[257], 2));
            exact("BitShift", Attrs::new().with("direction", direction), vec![x(&a), x(&b)], 0.0);
        }
    }
}

#[test]
fn products_over_every_type() {
    let shapes: [(&[usize], &[usize]); 8] = [
        (&[1, 1], &[1, 1]),
        (&[5, 7], &[7, 3]),
        (&[13, 31], &[31, 17]),
        (&[67, 101], &[101, 43]),
        (&[2, 1, 5, 7], &[3, 7, 11]),
        (&[0, 3], &[3, 5]),
        (&[3, 0], &[0, 5]),
        (&[7, 3], &[3, 0]),
    ];
    for (a, b) in shapes {
        for dtype in [DType::F64, DType::I32, DType::U32, DType::I64, DType::U64] {
            let (a, b) = (extremes(dtype, a, 1), extremes(dtype, b, 2));
            exact("MatMul", Attrs::new(), vec![x(&a), x(&b)], fused(dtype));
        }
        let (m, n) = (a[a.len() - 2], b[b.len() - 1]);
        for (left, right) in
            [(DType::U8, DType::U8), (DType::U8, DType::I8), (DType::I8, DType::U8), (DType::I8, DType::I8)]
        {
            let (a, b) = (extremes(left, a, 1), extremes(right, b, 2));
            exact("MatMulInteger", Attrs::new(), vec![x(&a), x(&b)], 0.0);
            let scalars = vec![x(&a), x(&b), x(&extremes(left, &[], 3)), (extremes(right, &[], 4), true)];
            exact("MatMulInteger", Attrs::new(), scalars, 0.0);
            let vectors = vec![x(&a), (b, true), x(&extremes(left, &[m], 3)), (extremes(right, &[n], 4), true)];
            exact("MatMulInteger", Attrs::new(), vectors, 0.0);
        }
    }
    for dtype in [DType::F64, DType::I64] {
        let (a, b) = (extremes(dtype, &[11], 1), extremes(dtype, &[11, 5], 2));
        exact("MatMul", Attrs::new(), vec![x(&a), x(&b)], fused(dtype));
        exact("MatMul", Attrs::new(), vec![x(&extremes(dtype, &[3, 11], 1)), x(&a)], fused(dtype));
    }
}

/// What rounding once may change in sums of doubles that nearly cancel.
fn fused(dtype: DType) -> f64 {
    if dtype == DType::F64 { 1e-10 } else { 0.0 }
}

#[test]
fn running_sums_over_every_type() {
    let axis = (Tensor::from_slice(&[], &[1i64]), true);
    for dtype in INTEGERS.into_iter().chain([DType::F64]) {
        for shape in [[3, 0, 2], [1, 1, 1], [2, 31, 3]] {
            for (exclusive, reverse) in [(0, 0), (1, 0), (0, 1), (1, 1)] {
                let attrs = Attrs::new().with("exclusive", exclusive).with("reverse", reverse);
                exact("CumSum", attrs, vec![x(&extremes(dtype, &shape, 1)), axis.clone()], 0.0);
            }
        }
    }
}

#[test]
fn positions_of_extremes_over_every_type() {
    for dtype in INTEGERS.into_iter().chain([DType::F64]) {
        for shape in [[0, 3, 2], [1, 1, 1], [3, 31, 7]] {
            for (op, axis) in [("ArgMax", 1), ("ArgMin", 1), ("ArgMax", 2), ("ArgMin", -1)] {
                for last in [0, 1] {
                    let attrs = Attrs::new().with("axis", axis).with("select_last_index", last);
                    exact(op, attrs, vec![x(&extremes(dtype, &shape, 1))], 0.0);
                }
            }
        }
    }
}
