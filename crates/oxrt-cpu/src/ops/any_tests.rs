//! The kernels that are one body over all types, against the reference evaluator.

use super::tests::{Case, floats, reference_tensors, run};
use super::type_tests::{INTEGERS, exact, extremes, x};
use crate::simd::Isa;
use oxrt_ir::Attrs;
use oxrt_tensor::{DType, Tensor};

fn attrs() -> Attrs {
    Attrs::new()
}

fn ints(v: &[i64]) -> (Tensor, bool) {
    (Tensor::from_slice(&[v.len()], v), true)
}

/// Reproducible numbers of a type that no sum or product of a few overflows.
fn numbers(dtype: DType, shape: &[usize], seed: u32) -> Tensor {
    let values: Vec<f64> = floats(shape, seed).to_f64_vec().unwrap().iter().map(|v| (v * 7.0).round() / 4.0).collect();
    let whole: Vec<f64> = values.iter().map(|v| if dtype.is_float() { *v } else { v.trunc().abs() }).collect();
    Tensor::from_f64(dtype, shape, &whole).unwrap()
}

/// Every output of every candidate of every tier, within `tolerance`.
#[track_caller]
pub(super) fn check(
    op: &'static str,
    attrs: Attrs,
    inputs: Vec<Option<(Tensor, bool)>>,
    outputs: usize,
    tolerance: f64,
) {
    let mut case = Case { op, attrs, inputs, outputs: vec![(DType::F32, vec![]); outputs] };
    let want = reference_tensors(&case);
    case.outputs = want.iter().map(|t| (t.dtype(), t.shape().to_vec())).collect();
    for isa in Isa::all_available() {
        let runs = run(&case, isa);
        assert!(!runs.is_empty(), "no candidate for {op}");
        for (name, got) in runs {
            for (got, want) in got.iter().zip(&want) {
                let (g, w) = (got.to_f64_vec().unwrap(), want.to_f64_vec().unwrap());
                for (i, (&g, &w)) in g.iter().zip(&w).enumerate() {
                    let close = g == w || (g - w).abs() <= tolerance * w.abs().max(1.0);
                    assert!(close || (g.is_nan() && w.is_nan()), "{op} by {name}: {i}: {g}, not {w}; {got:?}");
                }
            }
        }
    }
}

#[test]
fn reductions_over_every_type() {
    for dtype in INTEGERS.into_iter().chain([DType::F64, DType::Bool]) {
        let names: &[&'static str] = match dtype {
            DType::Bool => &["ReduceMax", "ReduceMin"],
            _ => super::reduce::OPS,
        };
        for &op in names {
            let tolerance = if dtype == DType::F64 { 1e-12 } else { 0.0 };
            for (shape, axes) in [
                (&[5, 83][..], &[1][..]),
                (&[5, 83], &[0]),
                (&[3, 4, 70, 2], &[1, 2]),
                (&[3, 4, 7, 2], &[0, 2]),
                (&[3, 4, 1, 2], &[-3, 2]),
                (&[6], &[]),
                (&[3, 0, 2], &[1]),
                (&[0, 3], &[1]),
            ] {
                let log = matches!(op, "ReduceLogSum" | "ReduceLogSumExp");
                if log && !dtype.is_float() && shape.contains(&0) {
                    continue; // The logarithm of zero is no integer.
                }
                let wild = matches!(op, "ReduceMax" | "ReduceMin" | "ReduceSum" | "ReduceProd") && dtype.is_int();
                let t = if wild { extremes(dtype, shape, 3) } else { numbers(dtype, shape, 3) };
                for keep in [0, 1] {
                    exact(op, attrs().with("keepdims", keep), vec![x(&t), ints(axes)], tolerance);
                }
            }
        }
    }
}

#[test]
fn the_first_k_of_every_type() {
    for dtype in INTEGERS.into_iter().chain([DType::F64, DType::F32, DType::F16]) {
        for (shape, axis, k) in
            [(&[1, 1][..], -1, 1), (&[3, 1000], 1, 7), (&[3, 40, 5], 1, 40), (&[700, 2], 0, 300), (&[4, 3], 1, 0)]
        {
            for largest in [0, 1] {
                let a = attrs().with("axis", axis).with("largest", largest);
                check("TopK", a, vec![Some(x(&extremes(dtype, shape, 7))), Some(ints(&[k]))], 2, 0.0);
            }
        }
    }
}

#[test]
fn makers() {
    for dtype in [DType::F32, DType::F64, DType::I16, DType::I32, DType::I64] {
        let one = |v: f64| Some(x(&Tensor::from_f64(dtype, &[], &[v]).unwrap()));
        check("Range", attrs(), vec![one(3.0), one(200.0), one(7.0)], 1, 1e-7);
        check("Range", attrs(), vec![one(3.0), one(-200.0), one(-7.0)], 1, 1e-7);
        let indices = Tensor::from_slice(&[2, 3], &[0i64, -1, 4, 7, 3, -6]);
        for axis in [0, 1, -1] {
            let values = Tensor::from_f64(dtype, &[2], &[2.0, 5.0]).unwrap();
            let inputs = vec![Some(x(&indices)), Some((Tensor::scalar(5i64), true)), Some(x(&values))];
            check("OneHot", attrs().with("axis", axis), inputs, 1, 0.0);
        }
        for k in [-1, 0, 2, 90] {
            check("EyeLike", attrs().with("k", k), vec![Some(x(&numbers(dtype, &[4, 6], 1)))], 1, 0.0);
        }
        check("Hardmax", attrs().with("axis", 1), vec![Some(x(&numbers(dtype, &[4, 6, 3], 1)))], 1, 0.0);
        let value = Tensor::from_f64(dtype, &[1], &[9.0]).unwrap();
        check("ConstantOfShape", attrs().with("value", value), vec![Some(ints(&[3, 5]))], 1, 0.0);
    }
}

#[test]
fn samples_of_grids() {
    for (data, grid) in
        [(&[2, 3, 5, 7][..], &[2, 4, 9, 2][..]), (&[1, 2, 3, 4, 5], &[1, 2, 3, 4, 3]), (&[1, 2, 6], &[1, 7, 1])]
    {
        for mode in ["linear", "nearest", "cubic"] {
            for padding in ["zeros", "border", "reflection"] {
                for corners in [0, 1] {
                    let a = attrs().with("mode", mode).with("padding_mode", padding).with("align_corners", corners);
                    for dtype in [DType::F32, DType::F64] {
                        // Beyond the border too, and exactly on pixels.
                        let grid = Tensor::from_f64(
                            dtype,
                            grid,
                            &floats(grid, 4).to_f64_vec().unwrap().iter().map(|v| v * 1.6).collect::<Vec<_>>(),
                        )
                        .unwrap();
                        check(
                            "GridSample",
                            a.clone(),
                            vec![Some(x(&numbers(dtype, data, 1))), Some(x(&grid))],
                            1,
                            3e-5,
                        );
                    }
                }
            }
        }
    }
}

#[test]
fn regions_of_interest() {
    // Inside, over the border, far outside, turned round, empty, large enough for many points.
    let rois = [
        [1.0f32, 2.0, 9.0, 7.5],
        [-3.0, -2.0, 4.0, 30.0],
        [100.0, 100.0, 120.0, 130.0],
        [8.0, 8.0, 2.0, 3.0],
        [5.0, 5.0, 5.0, 5.0],
        [0.0, 0.0, 60.0, 50.0],
    ];
    let rois = Tensor::from_slice(&[6, 4], rois.as_flattened());
    let batches = Tensor::from_slice(&[6], &[0i64, 1, 0, -1, 1, 0]);
    for mode in ["avg", "max"] {
        for place in ["half_pixel", "output_half_pixel"] {
            for samples in [0, 2] {
                let a = attrs()
                    .with("mode", mode)
                    .with("coordinate_transformation_mode", place)
                    .with("sampling_ratio", samples)
                    .with("spatial_scale", 0.5f32)
                    .with("output_height", 3)
                    .with("output_width", 2);
                for (dtype, tolerance) in [(DType::F32, 2e-5), (DType::F64, 1e-12)] {
                    let data = numbers(dtype, &[2, 5, 9, 11], 1);
                    let rois = Tensor::from_f64(dtype, rois.shape(), &rois.to_f64_vec().unwrap()).unwrap();
                    let inputs = vec![Some(x(&data)), Some(x(&rois)), Some(x(&batches))];
                    check("RoiAlign", a.clone(), inputs, 1, tolerance);
                }
            }
        }
    }
}

#[test]
fn scatters_that_join() {
    for dtype in INTEGERS.into_iter().chain([DType::F64, DType::F32]) {
        for how in ["none", "add", "mul", "min", "max"] {
            let index = Tensor::from_slice(&[2, 2], &[1i64, 0, 1, -1]);
            let a = attrs().with("reduction", how);
            let inputs =
                vec![Some(x(&numbers(dtype, &[3, 4], 1))), Some(x(&index)), Some(x(&numbers(dtype, &[2, 2], 2)))];
            check("ScatterElements", a.clone().with("axis", 1), inputs, 1, 1e-6);
            let inputs =
                vec![Some(x(&numbers(dtype, &[3, 4, 5], 1))), Some(x(&index)), Some(x(&numbers(dtype, &[2, 5], 2)))];
            check("ScatterND", a, inputs, 1, 1e-6);
        }
    }
}

#[test]
fn running_products() {
    for dtype in INTEGERS.into_iter().chain([DType::F64, DType::F32]) {
        check(
            "CumProd",
            attrs().with("exclusive", 1),
            vec![Some(x(&numbers(dtype, &[3, 5, 2], 1))), Some((Tensor::scalar(1i64), true))],
            1,
            1e-6,
        );
    }
}

#[test]
fn convolutions_with_weights_from_anywhere() {
    for dtype in [DType::F32, DType::F64] {
        for (data, weights, group) in [
            (&[2, 4, 9, 11][..], &[6, 4, 3, 3][..], 1),
            (&[1, 4, 9, 11], &[6, 2, 3, 2], 2),
            (&[1, 3, 17], &[5, 3, 4], 1),
            (&[1, 2, 5, 6, 7], &[3, 2, 2, 3, 2], 1),
        ] {
            let rank = data.len() - 2;
            for bias in [false, true] {
                let a = attrs()
                    .with("group", group)
                    .with("strides", vec![2i64; rank])
                    .with("pads", vec![1i64; 2 * rank])
                    .with("dilations", vec![1i64; rank]);
                let b = bias.then(|| x(&numbers(dtype, &[weights[0]], 3)));
                let w = x(&numbers(dtype, weights, 2));
                check("Conv", a.clone(), vec![Some(x(&numbers(dtype, data, 1))), Some(w), b], 1, 1e-5);
                let mut turned = weights.to_vec();
                (turned[0], turned[1]) = (data[1], weights[0] / group as usize);
                let b = bias.then(|| x(&numbers(dtype, &[weights[0]], 3)));
                let w = x(&numbers(dtype, &turned, 2));
                check("ConvTranspose", a, vec![Some(x(&numbers(dtype, data, 1))), Some(w), b], 1, 1e-5);
            }
        }
    }
}

#[test]
fn products_of_any_operands() {
    for dtype in [DType::F64, DType::F32, DType::I64, DType::U64, DType::I32, DType::U32] {
        for (ta, tb) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
            for addend in [None, Some(&[][..]), Some(&[19]), Some(&[13, 1]), Some(&[13, 19])] {
                let (a, b) = (if ta == 1 { [31, 13] } else { [13, 31] }, if tb == 1 { [19, 31] } else { [31, 19] });
                let mut spec = attrs().with("transA", ta).with("transB", tb);
                if dtype.is_float() {
                    spec = spec.with("alpha", 0.5f32).with("beta", 2.0f32);
                }
                let c = addend.map(|s| x(&numbers(dtype, s, 3)));
                let inputs = vec![Some(x(&numbers(dtype, &a, 1))), Some(x(&numbers(dtype, &b, 2))), c];
                check("Gemm", spec, inputs, 1, 1e-5);
            }
        }
    }
}

#[test]
fn pools_of_any_type() {
    for dtype in [DType::F32, DType::F64, DType::U8, DType::I8] {
        for data in [&[2, 3, 9, 11][..], &[1, 2, 13], &[1, 2, 5, 6, 7]] {
            let rank = data.len() - 2;
            let a = attrs()
                .with("kernel_shape", vec![3i64; rank])
                .with("strides", vec![2i64; rank])
                .with("pads", vec![1i64; 2 * rank])
                .with("ceil_mode", 1);
            let t = || vec![Some(x(&numbers(dtype, data, 1)))];
            check("MaxPool", a.clone(), t(), 1, 0.0);
            for order in [0, 1] {
                check("MaxPool", a.clone().with("storage_order", order), t(), 2, 0.0);
            }
            if dtype.is_float() {
                for padded in [0, 1] {
                    check("AveragePool", a.clone().with("count_include_pad", padded), t(), 1, 1e-6);
                }
                for p in [1, 2, 3] {
                    check("LpPool", a.clone().with("p", p), t(), 1, 1e-5);
                }
            }
        }
    }
}

#[test]
fn norms_of_any_form() {
    for dtype in [DType::F32, DType::F64] {
        let t = || Some(x(&numbers(dtype, &[3, 6, 5, 7], 1)));
        let v = |n: usize, seed: u32| Some(x(&numbers(dtype, &[n], seed)));
        for axis in [0, 1, -1] {
            check("Softmax", attrs().with("axis", axis), vec![t()], 1, 1e-5);
            check("LogSoftmax", attrs().with("axis", axis), vec![t()], 1, 1e-5);
            for p in [1, 2] {
                check("LpNormalization", attrs().with("axis", axis).with("p", p), vec![t()], 1, 1e-5);
            }
        }
        check("LayerNormalization", attrs(), vec![t(), v(7, 2), v(7, 3)], 3, 2e-5);
        check("LayerNormalization", attrs().with("axis", 2), vec![t(), v(7, 2), None], 3, 2e-5);
        check("RMSNormalization", attrs(), vec![t(), v(7, 2)], 1, 2e-5);
        check("InstanceNormalization", attrs(), vec![t(), v(6, 2), v(6, 3)], 1, 2e-5);
        check("GroupNormalization", attrs().with("num_groups", 2), vec![t(), v(6, 2), v(6, 3)], 1, 2e-5);
        let squares = Some(x(&Tensor::from_f64(dtype, &[6], &[1.0, 2.0, 0.5, 3.0, 4.0, 0.25]).unwrap()));
        check("BatchNormalization", attrs(), vec![t(), v(6, 2), v(6, 3), v(6, 4), squares], 1, 2e-5);
        check("LRN", attrs().with("size", 3).with("alpha", 0.5f32), vec![t()], 1, 1e-5);
        check("LRN", attrs().with("size", 4).with("beta", 0.6f32), vec![t()], 1, 1e-5);
    }
}

#[test]
fn rows_of_equal_elements_have_no_variance() {
    let row = Tensor::from_slice(&[2, 3], &[-0.197_109_67f32, -0.197_109_67, -0.197_109_67, 0.1, 0.1, 0.1]);
    let scale = Tensor::from_slice(&[3], &[3.25f32, 1.25, 1.0]);
    check("LayerNormalization", attrs(), vec![Some(x(&row)), Some(x(&scale)), None], 1, 0.0);
}

#[test]
fn casts_between_all_types() {
    use DType::*;
    let all = [F32, F64, F16, BF16, I64, I32, I16, I8, U64, U32, U16, U8, Bool];
    let values: Vec<f64> = (0..300).map(|i| f64::from(i % 128)).collect();
    for from in all {
        for to in all {
            let t = Tensor::from_f64(from, &[300], &values).unwrap();
            check("Cast", attrs().with("to", to.to_onnx() as i64), vec![Some(x(&t))], 1, 0.0);
        }
    }
    // Rounded once: by way of f32 both would become even neighbours.
    let wide = Tensor::from_slice(&[2], &[2049i64 * (1 << 40) + 1, 1025]);
    check("Cast", attrs().with("to", BF16.to_onnx() as i64), vec![Some(x(&wide))], 1, 0.0);
}

#[test]
fn the_nearest_of_every_type() {
    for dtype in INTEGERS.into_iter().chain([DType::F64, DType::F16, DType::F32, DType::Bool]) {
        for (shape, scales) in
            [(&[1, 2, 5, 7][..], &[1.0f32, 1.0, 2.0, 1.6][..]), (&[3, 8], &[0.5, 0.3]), (&[4], &[3.0])]
        {
            for place in ["half_pixel", "asymmetric", "align_corners"] {
                for rounding in ["round_prefer_floor", "floor", "ceil"] {
                    let a = attrs().with("coordinate_transformation_mode", place).with("nearest_mode", rounding);
                    let scales = (Tensor::from_slice(&[scales.len()], scales), true);
                    check("Resize", a, vec![Some(x(&numbers(dtype, shape, 1))), None, Some(scales)], 1, 0.0);
                }
            }
        }
    }
}

/// Half floats go through the roundings of the function body: nearly every element has the reference's bits. (Rounded once, a
/// third of them would have a neighbour's.)
#[test]
fn softmax_of_halves_is_rounded_step_by_step() {
    for (shape, axis) in [(vec![40, 37], -1), (vec![3, 1000], 1), (vec![5, 19, 33], 1)] {
        let x = super::tests::floats(&shape, 3);
        let x =
            Tensor::from_f64(DType::F16, &shape, &x.to_f64_vec().unwrap().iter().map(|v| 4.0 * v).collect::<Vec<_>>());
        let case = Case {
            op: "Softmax",
            attrs: Attrs::new().with("axis", axis),
            inputs: vec![Some((x.unwrap(), false))],
            outputs: vec![(DType::F16, shape)],
        };
        let want = reference_tensors(&case).remove(0);
        for isa in Isa::all_available() {
            let runs = run(&case, isa);
            let (_, got) = runs.iter().find(|(name, _)| *name == "softmax_f16").expect("a kernel of half floats");
            let pairs = got[0].bytes().chunks(2).zip(want.bytes().chunks(2));
            let same = pairs.filter(|(g, w)| g == w).count();
            assert!(same * 100 >= want.len() * 98, "{same} of {} alike", want.len());
        }
    }
}

/// Linear and cubic, with weights of more inputs where an axis shrinks.
#[test]
fn blends_of_every_type() {
    for dtype in [DType::U8, DType::I8, DType::I32, DType::F64, DType::F32] {
        for (mode, antialias) in [("linear", 0), ("cubic", 0), ("linear", 1), ("cubic", 1)] {
            for (shape, sizes) in [(&[1, 2, 5, 7][..], &[1i64, 2, 11, 4][..]), (&[3, 80], &[3, 3]), (&[4], &[9])] {
                for place in ["half_pixel", "align_corners"] {
                    let a = attrs()
                        .with("mode", mode)
                        .with("antialias", antialias)
                        .with("coordinate_transformation_mode", place);
                    let sizes = (Tensor::from_slice(&[sizes.len()], sizes), true);
                    let tolerance = if dtype == DType::F32 { 1e-5 } else { 0.0 };
                    check("Resize", a, vec![Some(x(&numbers(dtype, shape, 1))), None, None, Some(sizes)], 1, tolerance);
                }
            }
        }
    }
}

/// Every form of a transform, in lengths with and without large primes, of axes that are not the last.
#[test]
fn fourier_transforms() {
    let one = |v: i64| Some((Tensor::from_slice(&[], &[v]), true));
    for dtype in [DType::F32, DType::F64, DType::F16] {
        let tolerance = if dtype == DType::F64 { 1e-12 } else { 2e-4 };
        for (shape, axis) in [(&[2, 12, 1][..], 1i64), (&[2, 14, 3, 2], -3), (&[1, 9, 2], -2), (&[3, 22, 1], 1)] {
            for (inverse, half) in [(0, 0), (1, 0), (0, 1), (1, 1)] {
                let bad = half == 1 && (inverse == 1) != (shape[shape.len() - 1] == 2);
                for length in [None, Some(7), Some(16), Some(30)].into_iter().filter(|_| !bad) {
                    let a = attrs().with("inverse", inverse).with("onesided", half);
                    let inputs = vec![Some(x(&floats_of(dtype, shape))), length.and_then(one), one(axis)];
                    check("DFT", a, inputs, 1, tolerance);
                }
            }
        }
        for (parts, half) in [(1, 1), (1, 0), (2, 0)] {
            for n in [8, 15, 14, 11] {
                let window = floats_of(dtype, &[n]);
                let a = attrs().with("onesided", half);
                let inputs = vec![Some(x(&floats_of(dtype, &[2, 40, parts]))), one(5), Some(x(&window)), one(n as i64)];
                check("STFT", a, inputs, 1, tolerance);
            }
        }
    }
}

fn floats_of(dtype: DType, shape: &[usize]) -> Tensor {
    let values: Vec<f64> = crate::testing::noise(shape.iter().product(), 7).into_iter().map(f64::from).collect();
    Tensor::from_f64(dtype, shape, &values).unwrap()
}

#[test]
fn moved_taps() {
    for (c, m, group, shifts, [kh, kw], stride, pad) in [
        (4, 6, 1, 1, [3, 3], 1, 1),
        (6, 4, 2, 3, [3, 2], 2, 0),
        (4, 33, 1, 2, [1, 1], 1, 0),
        (3, 5, 1, 1, [3, 3], 1, 2),
    ] {
        for (with_bias, with_mask, dtype) in
            [(false, false, DType::F32), (true, true, DType::F32), (false, true, DType::F64), (true, false, DType::F64)]
        {
            let (height, width) = (9, 11);
            let out = |n: usize, k: usize| (n + 2 * pad - k) / stride + 1;
            let (oh, ow) = (out(height, kh), out(width, kw));
            let of = |shape: &[usize]| x(&floats_of(dtype, shape));
            let a = attrs()
                .with("group", group as i64)
                .with("offset_group", shifts as i64)
                .with("strides", vec![stride as i64; 2])
                .with("pads", vec![pad as i64; 4]);
            let inputs = vec![
                Some(of(&[2, c, height, width])),
                Some(of(&[m, c / group, kh, kw])),
                Some(of(&[2, shifts * kh * kw * 2, oh, ow])),
                with_bias.then(|| of(&[m])),
                with_mask.then(|| of(&[2, shifts * kh * kw, oh, ow])),
            ];
            check("DeformConv", a, inputs, 1, if dtype == DType::F64 { 1e-12 } else { 1e-4 });
        }
    }
}

#[test]
fn columns_become_images() {
    for (image, block, more) in [
        (&[5i64, 5][..], &[1i64, 5][..], attrs()),
        (&[6, 7], &[3, 2], attrs().with("strides", vec![2i64, 1]).with("pads", vec![1i64, 0, 1, 1])),
    ] {
        let taps: i64 = block.iter().product();
        let length = if image[0] == 5 { 5 } else { 3 * 7 };
        let columns = floats_of(DType::F32, &[2, 3 * taps as usize, length]);
        check("Col2Im", more, vec![Some(x(&columns)), Some(ints(image)), Some(ints(block))], 1, 1e-5);
    }
}

/// Extras of LSTM cells, both directions, sequences of different lengths.
#[test]
fn lstm_extras() {
    let constant = |shape: &[usize]| Some((floats_of(DType::F32, shape), true));
    for (peepholes, clip, coupled) in
        [(true, None, 0), (false, Some(0.3f32), 0), (true, Some(0.5), 1), (false, None, 1)]
    {
        let mut a = attrs().with("hidden_size", 19).with("direction", "bidirectional").with("input_forget", coupled);
        if let Some(c) = clip {
            a = a.with("clip", c);
        }
        let lengths = Tensor::from_slice(&[3], &[5i32, 2, 0]);
        let inputs = vec![
            Some(x(&floats_of(DType::F32, &[5, 3, 7]))),
            constant(&[2, 76, 7]),
            constant(&[2, 76, 19]),
            constant(&[2, 152]),
            Some(x(&lengths)),
            Some(x(&floats_of(DType::F32, &[2, 3, 19]))),
            None,
            if peepholes { constant(&[2, 57]) } else { None },
        ];
        check("LSTM", a, inputs, 3, 1e-4);
    }
}

/// A mask that speaks of the first keys hides the others.
#[test]
fn short_masks() {
    let of = |shape: &[usize]| Some(x(&floats_of(DType::F32, shape)));
    for (mask, causal) in [(of(&[5, 4]), 0), (of(&[2, 1, 5, 3]), 1), (Some(x(&numbers(DType::Bool, &[5, 6], 3))), 0)] {
        let a = attrs().with("is_causal", causal);
        check("Attention", a, vec![of(&[2, 3, 5, 8]), of(&[2, 3, 9, 8]), of(&[2, 3, 9, 8]), mask], 1, 1e-4);
    }
}

/// Doubles; scores at every stage, windows and numbers of valid keys of either type.
#[test]
fn attention_of_every_kind() {
    for (dtype, tolerance) in [(DType::F64, 1e-12), (DType::F32, 2e-5)] {
        let of = |shape: &[usize]| Some(x(&floats_of(dtype, shape)));
        let valid = || Some(x(&Tensor::from_slice(&[2], &[4i64, 7])));
        let plain = || vec![of(&[2, 4, 5, 19]), of(&[2, 2, 8, 19]), of(&[2, 2, 8, 6])];
        let cached = || [plain(), vec![None, of(&[2, 2, 3, 19]), of(&[2, 2, 3, 6])]].concat();
        for mode in 0..4 {
            let a = attrs().with("qk_matmul_output_mode", mode).with("is_causal", mode % 2).with("softcap", 2.0f32);
            check("Attention", a.clone(), [plain(), vec![of(&[5, 8])]].concat(), 4, tolerance);
            check("Attention", a.clone(), cached(), 4, tolerance);
            let flat = a.with("q_num_heads", 4).with("kv_num_heads", 2);
            let inputs = vec![
                of(&[2, 5, 76]),
                of(&[2, 8, 38]),
                of(&[2, 8, 12]),
                Some(x(&numbers(DType::Bool, &[2, 1, 5, 7], 3))),
            ];
            check("Attention", flat, inputs, 4, tolerance);
        }
        for (left, right, causal) in [(2, -1, 1), (1, 2, 0), (-1, 0, 0), (0, 0, 1)] {
            let a = attrs().with("left_window_size", left).with("right_window_size", right).with("is_causal", causal);
            check("Attention", a.clone(), cached(), 3, tolerance);
            check("Attention", a, [plain(), vec![None, None, None, valid()]].concat(), 1, tolerance);
        }
        check("Attention", attrs(), vec![of(&[1, 2, 3, 4]), of(&[1, 2, 0, 4]), of(&[1, 2, 0, 5])], 4, tolerance);
        let a = attrs().with("layout", "bshd").with("is_causal", 1);
        check("oxrt.Attention", a, vec![of(&[2, 5, 4, 3]), of(&[2, 5, 2, 3]), of(&[2, 5, 2, 3])], 1, tolerance);
    }
}

#[test]
fn linear_attention() {
    for (dtype, tolerance) in [(DType::F64, 1e-12), (DType::F32, 2e-4)] {
        for (rule, gated, delta) in
            [("linear", false, false), ("gated", true, false), ("delta", false, true), ("gated_delta", true, true)]
        {
            for (steps, hq, hk, dk, dv, wide) in
                [(7, 4, 2, 8, 35, true), (3, 1, 1, 5, 64, false), (0, 2, 1, 3, 4, true)]
            {
                let of = |shape: &[usize]| Some(x(&floats_of(dtype, shape)));
                let a =
                    attrs().with("q_num_heads", hq as i64).with("kv_num_heads", hk as i64).with("update_rule", rule);
                let inputs = vec![
                    of(&[2, steps, hq * dk]),
                    of(&[2, steps, hk * dk]),
                    of(&[2, steps, hk * dv]),
                    if wide { of(&[2, hk, dk, dv]) } else { None },
                    if gated { of(&[2, steps, if wide { hk * dk } else { hk }]) } else { None },
                    if delta { of(&[2, steps, if wide { hk } else { 1 }]) } else { None },
                ];
                check("LinearAttention", a.clone(), inputs.clone(), 2, tolerance);
                check("LinearAttention", a.with("scale", 0.5f32), inputs, 1, tolerance);
            }
        }
    }
}

#[test]
fn convolution_of_the_past() {
    for (dtype, tolerance) in [(DType::F64, 1e-12), (DType::F32, 2e-5)] {
        for (length, taps) in [(9, 4), (2, 5), (1, 4), (6, 1), (0, 3)] {
            for (bias, state, act) in [(true, true, "silu"), (false, false, "none"), (true, false, "swish")] {
                let of = |shape: &[usize]| Some(x(&floats_of(dtype, shape)));
                let inputs = vec![
                    of(&[2, 3, length]),
                    of(&[3, 1, taps]),
                    if bias { of(&[3]) } else { None },
                    if state { of(&[2, 3, taps - 1]) } else { None },
                ];
                check("CausalConvWithState", attrs().with("activation", act), inputs, 2, tolerance);
            }
        }
    }
}

/// Doubles, other activations, weights of the run, limits of every cell.
#[test]
fn recurrent_layers_of_every_kind() {
    for (op, gates, names) in [
        ("LSTM", 4usize, vec!["HardSigmoid", "Relu", "Softsign"]),
        ("GRU", 3, vec!["HardSigmoid", "ScaledTanh"]),
        ("RNN", 1, vec!["LeakyRelu"]),
    ] {
        for (dtype, direction, flag, own) in [
            (DType::F64, "forward", 0, false),
            (DType::F32, "reverse", 1, true),
            (DType::F64, "bidirectional", 0, true),
        ] {
            let dirs = if direction == "bidirectional" { 2 } else { 1 };
            let mut a = attrs().with("hidden_size", 11).with("direction", direction).with("clip", 0.7f32);
            a = match op {
                "LSTM" => a.with("input_forget", flag),
                "GRU" => a.with("linear_before_reset", flag),
                _ => a,
            };
            if own {
                let names: Vec<String> = names.iter().cycle().take(names.len() * dirs).map(|s| s.to_string()).collect();
                a = a.with("activations", names).with("activation_alpha", vec![0.3f32; dirs]);
            }
            let of = |shape: &[usize]| Some(x(&floats_of(dtype, shape)));
            let lengths = Tensor::from_slice(&[3], &[5i32, 2, 0]);
            let mut inputs = vec![
                of(&[5, 3, 7]),
                of(&[dirs, gates * 11, 7]),
                of(&[dirs, gates * 11, 11]),
                of(&[dirs, 2 * gates * 11]),
                Some(x(&lengths)),
                of(&[dirs, 3, 11]),
            ];
            if op == "LSTM" {
                inputs.extend([of(&[dirs, 3, 11]), of(&[dirs, 33])]);
            }
            let tolerance = if dtype == DType::F64 { 1e-12 } else { 1e-5 };
            check(op, a, inputs, if op == "LSTM" { 3 } else { 2 }, tolerance);
        }
    }
}
