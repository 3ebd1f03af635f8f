//! The families beside products, reductions and copies, on the emulator against the reference evaluator.

use super::tests::{backend, check, run, sample};
use oxrt_tensor::{DType, Tensor};

const NUMBERS: [DType; 8] =
    [DType::F32, DType::F16, DType::BF16, DType::F64, DType::I64, DType::I32, DType::I8, DType::U8];
const FLOATS: [DType; 4] = [DType::F32, DType::F16, DType::BF16, DType::F64];

/// What sums in a type may differ by.
fn tolerance(dtype: DType) -> f64 {
    match dtype {
        DType::F16 => 2e-3,
        DType::BF16 => 2e-2,
        DType::F32 => 2e-5,
        _ => 1e-9,
    }
}

fn ints(shape: &[usize], values: &[i64]) -> Tensor {
    Tensor::from_i64(DType::I64, shape, values).unwrap()
}

#[test]
fn pads_fill_and_repeat() {
    for dtype in NUMBERS {
        let x = sample(dtype, &[3, 5, 7], 1);
        for mode in ["constant", "edge", "wrap", "reflect"] {
            for pads in ["1, 0, 2, 0, 3, 1", "-1, 4, -2, 2, -1, 9", "0, 11, 0, 0, 7, 13"] {
                let text = format!("({dtype}[3, 5, 7] x) {{ y = Pad<mode=\"{mode}\">(x, i64[6]{{{pads}}}) }} => y");
                check(&text, std::slice::from_ref(&x), 0.0);
            }
        }
        let fill = sample(dtype, &[], 2);
        let text = format!("({dtype}[3, 5, 7] x, {dtype} f) {{ y = Pad(x, i64[4]{{2, 1, 1, 3}}, f, i64[2]{{-1, 0}}) }} => y");
        check(&text, &[x, fill], 0.0);
    }
}

#[test]
fn places_make_results() {
    for dtype in NUMBERS {
        let x = sample(dtype, &[2, 5, 7], 1);
        for (upper, k) in [(0, -2), (0, 1), (1, 0), (1, 3)] {
            let text = format!("({dtype}[2, 5, 7] x, i64 k) {{ y = Trilu<upper={upper}>(x, k) }} => y");
            check(&text, &[x.clone(), ints(&[], &[k])], 0.0);
        }
        check(&format!("({dtype}[2, 5, 7] x) {{ y = Trilu(x) }} => y"), std::slice::from_ref(&x), 0.0);
        let (hot, values) = (ints(&[2, 3], &[0, -1, 4, 2, 9, -6]), sample(dtype, &[2], 3));
        for axis in [0, 1, -1] {
            let text =
                format!("(i64[2, 3] i, {dtype}[2] v) {{ y = OneHot<axis={axis}>(i, i64{{5}}, v) }} => y");
            check(&text, &[hot.clone(), values.clone()], 0.0);
        }
        let one = |v: f64| Tensor::from_f64(dtype, &[], &[v]).unwrap();
        let text = format!("({dtype}[5, 9] x) {{ y = EyeLike<k=2>(x) }} => y");
        check(&text, &[sample(dtype, &[5, 9], 4)], 0.0);
        if !matches!(dtype, DType::F16 | DType::BF16 | DType::U8) {
            let text = format!("({dtype} a, {dtype} b, {dtype} c) {{ y = Range(a, b, c) }} => y");
            check(&text, &[one(10.0), one(-7.0), one(-3.0)], 0.0);
        }
    }
    let shape = ints(&[2], &[3, 5]);
    check("(i64[2] s) { y = ConstantOfShape<value=i64[1]{-7}>(s) } => y", &[shape], 0.0);
}

#[test]
fn sums_run() {
    for dtype in NUMBERS {
        for shape in [vec![3, 5, 7], vec![2, 300], vec![70, 3], vec![1000]] {
            let x = sample(dtype, &shape, 1);
            for axis in 0..shape.len() {
                for (exclusive, reverse) in [(0, 0), (1, 0), (0, 1), (1, 1)] {
                    let attrs = format!("exclusive={exclusive}, reverse={reverse}");
                    let text =
                        format!("({dtype}{shape:?} x) {{ y = CumSum<{attrs}>(x, i64{{{axis}}}) }} => y");
                    check(&text, std::slice::from_ref(&x), tolerance(dtype) * 4.0);
                }
            }
        }
        let x = sample(dtype, &[4, 9], 2);
        let text = format!("({dtype}[4, 9] x) {{ y = CumProd(x, i64{{1}}) }} => y");
        check(&text, std::slice::from_ref(&x), tolerance(dtype));
    }
}

#[test]
fn channels_are_normalised() {
    for dtype in FLOATS {
        for shape in [vec![3, 5, 7, 2], vec![2, 5], vec![1, 5, 9]] {
            let x = sample(dtype, &shape, 1);
            let v = |seed| sample(dtype, &[5], seed);
            let positive: Vec<f64> = v(5).to_f64_vec().unwrap().iter().map(|v| v * v + 0.5).collect();
            let variance = Tensor::from_f64(dtype, &[5], &positive).unwrap();
            let text = format!(
                "({dtype}{shape:?} x, {dtype}[5] s, {dtype}[5] b, {dtype}[5] m, {dtype}[5] v) {{
                    y = BatchNormalization<epsilon=0.01>(x, s, b, m, v) }} => y"
            );
            check(&text, &[x.clone(), v(2), v(3), v(4), variance], tolerance(dtype) / 2.0);
            for size in [1, 2, 3, 20] {
                let text = format!("({dtype}{shape:?} x) {{ y = LRN<size={size}, alpha=2.0, beta=0.6, bias=1.5>(x) }} => y");
                // Powers in single precision.
                check(&text, std::slice::from_ref(&x), tolerance(dtype).max(2e-6));
            }
        }
    }
}

#[test]
fn lines_of_any_kind_are_normalised() {
    for dtype in FLOATS {
        let x = sample(dtype, &[2, 6, 5, 3], 1);
        let one = std::slice::from_ref(&x);
        let t = tolerance(dtype).max(1e-6);
        for p in [1, 2] {
            for axis in [0, 1, -1] {
                let text =
                    format!("({dtype}[2, 6, 5, 3] x) {{ y = LpNormalization<axis={axis}, p={p}>(x) }} => y");
                check(&text, one, t);
            }
        }
        for axes in ["0, 2, 3", "1", "0, 1, 2, 3", "1, 3"] {
            let text = format!("({dtype}[2, 6, 5, 3] x) {{ y = MeanVarianceNormalization<axes=[{axes}]>(x) }} => y");
            check(&text, one, t * 2.0);
        }
        let (s, b) = (sample(dtype, &[6, 1, 3], 2), sample(dtype, &[3], 3));
        let text = format!(
            "({dtype}[2, 6, 5, 3] x, {dtype}[6, 1, 3] s, {dtype}[3] b) {{
                y, m, i = LayerNormalization<axis=1>(x, s, b) }} => y, m, i"
        );
        check(&text, &[x.clone(), s, b.clone()], t.max(1e-6));
        let text =
            format!("({dtype}[2, 6, 5, 3] x, {dtype}[3] s) {{ y = RMSNormalization<axis=-2>(x, s) }} => y");
        check(&text, &[x.clone(), b], t);
        let (s, b) = (sample(dtype, &[6], 4), sample(dtype, &[6], 5));
        for op in ["InstanceNormalization", "GroupNormalization<num_groups=2>"] {
            let text = format!("({dtype}[2, 6, 5, 3] x, {dtype}[6] s, {dtype}[6] b) {{ y = {op}(x, s, b) }} => y");
            check(&text, &[x.clone(), s.clone(), b.clone()], t);
        }
        for axis in [0, 1, -1] {
            let text = format!("({dtype}[2, 6, 5, 3] x) {{ y = Hardmax<axis={axis}>(x) }} => y");
            check(&text, one, 0.0);
        }
    }
    let x = Tensor::from_f64(DType::F32, &[3, 4], &[2.0, 5.0, 5.0, 1.0, f64::NAN, 1.0, 2.0, 0.0, 0.0, 0.0, 0.0, 0.0]);
    check("(f32[3, 4] x) { y = Hardmax(x) } => y", &[x.unwrap()], 0.0);
}

#[test]
fn quanta_and_back() {
    for real in FLOATS {
        let x = {
            let wide: Vec<f64> = sample(real, &[3, 10, 7], 1).to_f64_vec().unwrap().iter().map(|v| v * 90.0).collect();
            Tensor::from_f64(real, &[3, 10, 7], &wide).unwrap()
        };
        for dtype in [DType::U8, DType::I8, DType::U16, DType::I16, DType::I32] {
            let layouts = [(vec![], 1, 0), (vec![10], 1, 0), (vec![7], -1, 0), (vec![3, 4, 7], 1, 3), (vec![3, 10, 2], 2, 4)];
            for (shape, axis, block) in layouts {
                let positive: Vec<f64> =
                    sample(real, &shape, 2).to_f64_vec().unwrap().iter().map(|v| v.abs() + 0.25).collect();
                let scale = Tensor::from_f64(real, &shape, &positive).unwrap();
                let zero = sample(dtype, &shape, 3);
                let attrs = format!("axis={axis}, block_size={block}");
                let text = format!(
                    "({real}[3, 10, 7] x, {real}{shape:?} s, {dtype}{shape:?} z) {{ y = QuantizeLinear<{attrs}>(x, s, z) }} => y"
                );
                check(&text, &[x.clone(), scale.clone(), zero.clone()], 0.0);
                let q = sample(dtype, &[3, 10, 7], 4);
                let text = format!(
                    "({dtype}[3, 10, 7] x, {real}{shape:?} s, {dtype}{shape:?} z) {{ y = DequantizeLinear<{attrs}>(x, s, z) }} => y"
                );
                check(&text, &[q.clone(), scale.clone(), zero], 1e-7);
                let text =
                    format!("({dtype}[3, 10, 7] x, {real}{shape:?} s) {{ y = DequantizeLinear<{attrs}>(x, s) }} => y");
                check(&text, &[q, scale], 1e-7);
            }
        }
    }
    let values = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1e30, 0.5, 1.5, -0.5, 2.5];
    let x = Tensor::from_f64(DType::F32, &[8], &values).unwrap();
    check("(f32[8] x) { y = QuantizeLinear(x, 1.0, i8{3}) } => y", &[x], 0.0);
}

#[test]
fn updates_are_combined() {
    for dtype in NUMBERS {
        let x = sample(dtype, &[5, 6, 7], 1);
        for reduction in ["add", "mul", "max", "min"] {
            for axis in 0..3 {
                let mut shape = vec![4, 5, 6];
                shape[axis] = 9;
                let n: i64 = shape.iter().product::<usize>() as i64;
                let at = ints(&shape, &(0..n).map(|i| (i * 7 % 11) % 5 - 2).collect::<Vec<_>>());
                let text = format!(
                    "({dtype}[5, 6, 7] x, i64{shape:?} i, {dtype}{shape:?} u) {{
                        y = ScatterElements<axis={axis}, reduction=\"{reduction}\">(x, i, u) }} => y"
                );
                check(&text, &[x.clone(), at, sample(dtype, &shape, 2)], tolerance(dtype) * 2.0);
            }
            let at = ints(&[8, 2], &[0, 1, 4, -1, 0, 1, 2, 2, 0, 1, -5, 5, 3, 0, 4, 5]);
            let text = format!(
                "({dtype}[5, 6, 7] x, i64[8, 2] i, {dtype}[8, 7] u) {{ y = ScatterND<reduction=\"{reduction}\">(x, i, u) }} => y"
            );
            check(&text, &[x.clone(), at, sample(dtype, &[8, 7], 3)], tolerance(dtype) * 2.0);
        }
    }
    let text = "(f32[4] x, i64[1, 1] i, f32[1] u) { y = ScatterND<reduction=\"add\">(x, i, u) } => y";
    let bad = [sample(DType::F32, &[4], 1), ints(&[1, 1], &[7]), sample(DType::F32, &[1], 2)];
    // The evaluator refuses it too: what is asked for is that nothing is written outside.
    assert!(run(&backend(), text, &bad, 0.0).is_err());
}

#[test]
fn grids_are_sampled() {
    for dtype in [DType::F32, DType::F16, DType::F64] {
        for (x, out) in [(vec![2, 3, 9], vec![5]), (vec![2, 11, 6, 5], vec![3, 4]), (vec![1, 2, 4, 3, 5], vec![2, 3, 2])] {
            let rank = x.len() - 2;
            let grid = [&x[..1], &out[..], &[rank]].concat();
            let spread: Vec<f64> = sample(dtype, &grid, 2).to_f64_vec().unwrap().iter().map(|v| v * 1.7).collect();
            let points = Tensor::from_f64(dtype, &grid, &spread).unwrap();
            let image = sample(dtype, &x, 1);
            for mode in ["nearest", "linear", "cubic"] {
                for padding in ["zeros", "border", "reflection"] {
                    for corners in [0, 1] {
                        let attrs = format!("mode=\"{mode}\", padding_mode=\"{padding}\", align_corners={corners}");
                        let text = format!("({dtype}{x:?} x, {dtype}{grid:?} g) {{ y = GridSample<{attrs}>(x, g) }} => y");
                        let t = if dtype == DType::F32 { 1e-4 } else { tolerance(dtype) };
                        check(&text, &[image.clone(), points.clone()], t);
                    }
                }
            }
        }
    }
}

#[test]
fn regions_are_pooled() {
    let rois = [0.5, 1.0, 6.5, 5.0, -2.0, -1.0, 3.0, 9.0, 2.0, 2.0, 2.5, 2.25, 0.0, 0.0, 20.0, 20.0];
    for dtype in [DType::F32, DType::F16, DType::F64] {
        let x = sample(dtype, &[2, 3, 7, 8], 1);
        let rois = Tensor::from_f64(dtype, &[4, 4], &rois).unwrap();
        for mode in ["avg", "max"] {
            for place in ["half_pixel", "output_half_pixel"] {
                for samples in [0, 2] {
                    let attrs = format!(
                        "mode=\"{mode}\", coordinate_transformation_mode=\"{place}\", sampling_ratio={samples}, \
                         output_height=3, output_width=2, spatial_scale=0.75"
                    );
                    let text = format!(
                        "({dtype}[2, 3, 7, 8] x, {dtype}[4, 4] r, i64[4] b) {{ y = RoiAlign<{attrs}>(x, r, b) }} => y"
                    );
                    let t = if dtype == DType::F16 { 3e-3 } else { 1e-5 };
                    check(&text, &[x.clone(), rois.clone(), ints(&[4], &[0, 1, 1, 0])], t);
                }
            }
        }
    }
}

#[test]
fn pairs_are_turned() {
    for dtype in [DType::F32, DType::F16, DType::BF16] {
        for interleaved in [0, 1] {
            let t = tolerance(dtype) / 2.0;
            let (c, s) = (sample(dtype, &[9, 4], 2), sample(dtype, &[9, 4], 3));
            let p = ints(&[2, 5], &[0, 3, 8, 1, 2, 4, 4, 7, 0, 5]);
            let x = sample(dtype, &[2, 3, 5, 10], 1);
            let text = format!(
                "({dtype}[2, 3, 5, 10] x, {dtype}[9, 4] c, {dtype}[9, 4] s, i64[2, 5] p) {{
                    y = RotaryEmbedding<interleaved={interleaved}, rotary_embedding_dim=8>(x, c, s, p) }} => y"
            );
            check(&text, &[x, c.clone(), s.clone(), p], t);
            let x = sample(dtype, &[2, 5, 24], 1);
            let (c, s) = (sample(dtype, &[2, 5, 4], 2), sample(dtype, &[2, 5, 4], 3));
            let text = format!(
                "({dtype}[2, 5, 24] x, {dtype}[2, 5, 4] c, {dtype}[2, 5, 4] s) {{
                    y = RotaryEmbedding<interleaved={interleaved}, num_heads=3>(x, c, s) }} => y"
            );
            check(&text, &[x, c, s], t);
        }
    }
}

#[test]
fn first_of_lines() {
    for dtype in [
        DType::F32,
        DType::F16,
        DType::BF16,
        DType::F64,
        DType::I64,
        DType::I32,
        DType::I8,
        DType::U8,
        DType::U64,
    ] {
        for (shape, axis, k) in [
            (vec![3, 7, 2], 1, 4),
            (vec![5], 0, 5),
            (vec![2, 1025], -1, 1025),
            (vec![5000], 0, 3),
            (vec![3001, 2], 0, 1500),
            (vec![2, 3], -1, 0),
        ] {
            let x = sample(dtype, &shape, 1);
            for largest in [0, 1] {
                let text = format!(
                    "({dtype}{shape:?} x) {{ y, i = TopK<axis={axis}, largest={largest}>(x, i64[1]{{{k}}}) }} => y, i"
                );
                check(&text, std::slice::from_ref(&x), 0.0);
            }
        }
    }
    let values = [0.0, -0.0, f64::NAN, f64::INFINITY, -1.0, f64::NEG_INFINITY, -0.0, 0.0, f64::NAN];
    let x = Tensor::from_f64(DType::F32, &[9], &values).unwrap();
    for largest in [0, 1] {
        let text = format!("(f32[9] x) {{ y, i = TopK<largest={largest}>(x, i64[1]{{9}}) }} => y, i");
        check(&text, std::slice::from_ref(&x), 0.0);
    }
}
