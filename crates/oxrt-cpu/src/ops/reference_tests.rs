//! Operators against the reference evaluator, over shapes and attributes that kernels tend to get wrong.

use super::tests::{Case, check_reference, floats};
use oxrt_ir::Attrs;
use oxrt_tensor::{DType, Tensor};

fn x(t: Tensor) -> Option<(Tensor, bool)> {
    Some((t, false))
}

fn ints(v: &[i64]) -> Option<(Tensor, bool)> {
    Some((Tensor::from_slice(&[v.len()], v), true))
}

/// A case whose outputs' shapes come from the reference evaluator.
#[track_caller]
fn check(op: &'static str, attrs: Attrs, inputs: Vec<Option<(Tensor, bool)>>) {
    check_to(op, attrs, inputs, 1, 2e-5);
}

#[track_caller]
fn check_to(op: &'static str, attrs: Attrs, inputs: Vec<Option<(Tensor, bool)>>, outputs: usize, tolerance: f64) {
    if oxrt_ops::registry::find(op).is_none() {
        panic!("{op} has no reference");
    }
    let mut case = Case { op, attrs, inputs, outputs: vec![(DType::F32, Vec::new()); outputs] };
    case.outputs = super::tests::reference_tensors(&case).iter().map(|t| (t.dtype(), t.shape().to_vec())).collect();
    check_reference(&case, tolerance);
}

fn attrs() -> Attrs {
    Attrs::new()
}

fn range(shape: &[usize]) -> Tensor {
    Tensor::from_slice(shape, &(0..shape.iter().product::<usize>() as i64).collect::<Vec<_>>())
}

#[test]
fn gathers() {
    for axis in [0, 1, -1] {
        let index = Tensor::from_slice(&[2, 2], &[0i64, -1, 2, 1]);
        check("Gather", attrs().with("axis", axis), vec![x(floats(&[3, 4, 5], 1)), x(index)]);
        let index = Tensor::from_slice(&[2, 2, 3], &[0i64, -1, 2, 1, 0, 0, 1, 1, 2, -3, 2, 1]);
        check("GatherElements", attrs().with("axis", axis), vec![x(floats(&[3, 4, 5], 1)), x(index)]);
    }
    check("Gather", attrs(), vec![x(range(&[4])), x(Tensor::scalar(2i64))]);
    let index = Tensor::from_slice(&[2, 1, 2], &[0i64, 1, 2, -1]);
    check("GatherND", attrs(), vec![x(floats(&[3, 4, 5], 1)), x(index.clone())]);
    check("GatherND", attrs().with("batch_dims", 1), vec![x(floats(&[2, 4, 5], 1)), x(index)]);
}

#[test]
fn scatters() {
    let index = Tensor::from_slice(&[2, 2], &[1i64, 0, 2, -1]);
    for axis in [0, 1] {
        let inputs = vec![x(floats(&[3, 4], 1)), x(index.clone()), x(floats(&[2, 2], 2))];
        check("ScatterElements", attrs().with("axis", axis), inputs);
    }
    check("ScatterND", attrs(), vec![x(floats(&[3, 4, 5], 1)), x(index), x(floats(&[2, 5], 2))]);
}

#[test]
fn pads() {
    for mode in ["constant", "reflect", "edge", "wrap"] {
        let a = attrs().with("mode", mode);
        check("Pad", a.clone(), vec![x(floats(&[3, 4, 5], 1)), ints(&[1, 0, 2, 2, 1, 1])]);
        check("Pad", a.clone(), vec![x(range(&[6])), ints(&[0, 5])]);
        let fill = if mode == "constant" { x(Tensor::scalar(7.5f32)) } else { None };
        check("Pad", a, vec![x(floats(&[3, 4], 1)), ints(&[2, 0]), fill, ints(&[-1])]);
    }
    check("Pad", attrs(), vec![x(floats(&[5, 6], 1)), ints(&[-1, -2, 2, -1])]);
}

#[test]
fn tiles_and_transposes_of_every_element_size() {
    check("Tile", attrs(), vec![x(floats(&[2, 3], 1)), ints(&[2, 3])]);
    check("Tile", attrs(), vec![x(range(&[2, 1, 3])), ints(&[1, 4, 1])]);
    for dtype in [DType::U8, DType::F16, DType::F32, DType::I64] {
        let t = Tensor::from_f64(dtype, &[2, 3, 5], &(0..30).map(f64::from).collect::<Vec<_>>()).unwrap();
        check("Transpose", attrs().with("perm", [1, 2, 0]), vec![x(t)]);
    }
}

#[test]
fn casts() {
    let values = [0.0, 1.0, -1.5, 2.5, 100.0, 0.1];
    for from in [DType::F32, DType::F64, DType::F16, DType::BF16, DType::I64, DType::I32, DType::U8, DType::Bool] {
        let positive: Vec<f64> = values.iter().map(|v: &f64| v.abs()).collect();
        let signed = from.is_float() || from.is_signed_int();
        let t = Tensor::from_f64(from, &[6], if signed { &values } else { &positive }).unwrap();
        for to in [DType::F32, DType::F64, DType::I64, DType::I32, DType::Bool, DType::F16] {
            if to == DType::F16 && matches!(from, DType::F64 | DType::I64 | DType::I32) {
                continue;
            }
            check("Cast", attrs().with("to", i64::from(to.to_onnx())), vec![x(t.clone())]);
        }
    }
}

#[test]
fn integers() {
    let (a, b) = (range(&[3, 4]), Tensor::from_slice(&[4], &[2i64, -3, 5, 1]));
    for op in ["Add", "Sub", "Mul", "Div", "Mod", "Min", "Max", "Equal", "Less", "GreaterOrEqual"] {
        check(op, attrs(), vec![x(a.clone()), x(b.clone())]);
    }
    let flags = Tensor::from_slice(&[3, 1], &[true, false, true]);
    check("Where", attrs(), vec![x(flags.clone()), x(a.clone()), x(b)]);
    check("Not", attrs(), vec![x(flags.clone())]);
    check("And", attrs(), vec![x(flags.clone()), x(flags.clone())]);
    check("Where", attrs(), vec![x(flags), x(floats(&[3, 4], 1)), x(Tensor::scalar(-1.0f32))]);
    check("Neg", attrs(), vec![x(a)]);
}

#[test]
fn more_of_slices() {
    let inputs = vec![x(floats(&[5, 6, 7], 1)), ints(&[1, -2]), ints(&[100, -100]), ints(&[0, 2]), ints(&[2, -3])];
    check("Slice", attrs(), inputs);
    check("Slice", attrs(), vec![x(floats(&[5], 1)), ints(&[4]), ints(&[2])]);
}

#[test]
fn quantises() {
    let halves: Vec<f32> = (-40..40).map(|i| i as f32 / 4.0).chain([f32::NAN, f32::INFINITY, -1e30, 1e9]).collect();
    let data = Tensor::from_slice(&[3, 4, 7], &halves);
    let scales = |n: usize| Tensor::from_f64(DType::F32, &[n], &[0.5, 0.25, 0.1, 3.0][..n]).unwrap();
    for dtype in [DType::U8, DType::I8, DType::U16, DType::I16] {
        let zeros = |n: usize| Tensor::from_i64(dtype, &[n], &[3, 0, 9, 1][..n]).unwrap();
        for (axis, n) in [(0, 3), (1, 4), (-2, 4), (1, 1)] {
            let a = || attrs().with("axis", axis);
            check("QuantizeLinear", a(), vec![x(data.clone()), x(scales(n)), x(zeros(n))]);
            let plain = || a().with("output_dtype", dtype.to_onnx() as i64);
            check("QuantizeLinear", plain(), vec![x(data.clone()), x(scales(n))]);
            let small = Tensor::from_i64(dtype, &[3, 4, 2], &(0..24).collect::<Vec<_>>()).unwrap();
            check("DequantizeLinear", a(), vec![x(small.clone()), x(scales(n)), x(zeros(n))]);
            check("DequantizeLinear", a(), vec![x(small), x(scales(n))]);
        }
        // The last axis, an empty tensor, more than one task.
        let wide = Tensor::from_slice(&[2, 3], &[1.0f32, 2.5, -3.5, 1e9, 0.0, 7.0]);
        check("QuantizeLinear", attrs().with("axis", 1), vec![x(wide), x(scales(3)), x(zeros(3))]);
        check("QuantizeLinear", attrs(), vec![x(Tensor::zeros(DType::F32, &[0, 2])), x(scales(1)), x(zeros(1))]);
        check("QuantizeLinear", attrs(), vec![x(floats(&[70_001], 5)), x(scales(1)), x(zeros(1))]);
    }
}
