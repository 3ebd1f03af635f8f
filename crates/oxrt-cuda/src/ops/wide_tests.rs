//! The families beside products, reductions and copies, on the emulator against the reference evaluator.

use super::tests::{backend, check, run, sample};
use oxrt_tensor::{DType, Tensor};

pub(super) const NUMBERS: [DType; 8] =
    [DType::F32, DType::F16, DType::BF16, DType::F64, DType::I64, DType::I32, DType::I8, DType::U8];
const FLOATS: [DType; 4] = [DType::F32, DType::F16, DType::BF16, DType::F64];

/// What sums in a type may differ by.
pub(super) fn tolerance(dtype: DType) -> f64 {
    match dtype {
        DType::F16 => 2e-3,
        DType::BF16 => 2e-2,
        DType::F32 => 2e-5,
        _ => 1e-9,
    }
}

pub(super) fn ints(shape: &[usize], values: &[i64]) -> Tensor {
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
        let text =
            format!("({dtype}[3, 5, 7] x, {dtype} f) {{ y = Pad(x, i64[4]{{2, 1, 1, 3}}, f, i64[2]{{-1, 0}}) }} => y");
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
            let text = format!("(i64[2, 3] i, {dtype}[2] v) {{ y = OneHot<axis={axis}>(i, i64{{5}}, v) }} => y");
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
                    let text = format!("({dtype}{shape:?} x) {{ y = CumSum<{attrs}>(x, i64{{{axis}}}) }} => y");
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
                let text =
                    format!("({dtype}{shape:?} x) {{ y = LRN<size={size}, alpha=2.0, beta=0.6, bias=1.5>(x) }} => y");
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
                let text = format!("({dtype}[2, 6, 5, 3] x) {{ y = LpNormalization<axis={axis}, p={p}>(x) }} => y");
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
        let text = format!("({dtype}[2, 6, 5, 3] x, {dtype}[3] s) {{ y = RMSNormalization<axis=-2>(x, s) }} => y");
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
            let layouts =
                [(vec![], 1, 0), (vec![10], 1, 0), (vec![7], -1, 0), (vec![3, 4, 7], 1, 3), (vec![3, 10, 2], 2, 4)];
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
        for (x, out) in
            [(vec![2, 3, 9], vec![5]), (vec![2, 11, 6, 5], vec![3, 4]), (vec![1, 2, 4, 3, 5], vec![2, 3, 2])]
        {
            let rank = x.len() - 2;
            let grid = [&x[..1], &out[..], &[rank]].concat();
            let spread: Vec<f64> = sample(dtype, &grid, 2).to_f64_vec().unwrap().iter().map(|v| v * 1.7).collect();
            let points = Tensor::from_f64(dtype, &grid, &spread).unwrap();
            let image = sample(dtype, &x, 1);
            for mode in ["nearest", "linear", "cubic"] {
                for padding in ["zeros", "border", "reflection"] {
                    // Where corners lie is the same text's business in every type.
                    for corners in if dtype == DType::F32 { 0..2 } else { 0..1 } {
                        let attrs = format!("mode=\"{mode}\", padding_mode=\"{padding}\", align_corners={corners}");
                        let text =
                            format!("({dtype}{x:?} x, {dtype}{grid:?} g) {{ y = GridSample<{attrs}>(x, g) }} => y");
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
    for dtype in
        [DType::F32, DType::F16, DType::BF16, DType::F64, DType::I64, DType::I32, DType::I8, DType::U8, DType::U64]
    {
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

/// Numbers as they stand in a graph's text.
pub(super) fn list(t: &Tensor) -> String {
    t.to_f64_vec().unwrap().iter().map(|v| format!("{v}")).collect::<Vec<_>>().join(", ")
}

#[test]
fn windows_of_every_kind() {
    let cases: [(&[usize], &[usize], &str); 9] = [
        (&[2, 3, 9], &[4, 3, 3], "pads=[1, 2], strides=[2]"),
        (&[1, 6, 8, 7], &[9, 2, 3, 2], "group=3, pads=[1, 0, 2, 1], dilations=[2, 1]"),
        (&[1, 4, 5, 4, 6], &[3, 4, 2, 3, 1], "strides=[1, 2, 2], pads=[0, 1, 0, 1, 1, 0]"),
        (&[2, 70, 9, 9], &[66, 70, 1, 1], ""),
        (&[2, 5, 9, 11], &[5, 1, 3, 3], "group=5, auto_pad=\"SAME_UPPER\", strides=[2, 2]"),
        (&[2, 3, 9], &[3, 4, 3], "strides=[2], output_padding=[1], pads=[1, 0]"),
        (&[1, 6, 5, 7], &[6, 2, 3, 2], "group=3, strides=[3, 2], dilations=[2, 1], pads=[1, 0, 0, 1]"),
        (&[1, 4, 3, 4, 2], &[4, 3, 2, 3, 2], "strides=[2, 1, 3], output_padding=[1, 0, 2]"),
        (&[1, 2, 4, 4], &[2, 3, 3, 3], "strides=[2, 2], output_shape=[8, 9]"),
    ];
    for (i, (x, w, attrs)) in cases.into_iter().enumerate() {
        let op = if i < 5 { "Conv" } else { "ConvTranspose" };
        let groups: usize = attrs.split("group=").nth(1).map_or(1, |s| s.split(',').next().unwrap().parse().unwrap());
        let maps = if i < 5 { w[0] } else { w[1] * groups };
        for dtype in FLOATS {
            let (a, b, c) = (sample(dtype, x, 1), sample(dtype, w, 2), sample(dtype, &[maps], 3));
            let text =
                format!("({dtype}{x:?} x, {dtype}{w:?} w, {dtype}[{maps}] b) {{ y = {op}<{attrs}>(x, w, b) }} => y");
            let names = check(&text, &[a.clone(), b.clone(), c], tolerance(dtype) * 2.0);
            assert_eq!(names, ["conv_any"]);
            check(
                &format!("({dtype}{x:?} x, {dtype}{w:?} w) {{ y = {op}<{attrs}>(x, w) }} => y"),
                &[a, b],
                tolerance(dtype) * 2.0,
            );
        }
        // Channels last, with all that is fused.
        let mut last = vec![x[0]];
        last.extend(&x[2..]);
        last.push(x[1]);
        let (a, b, c) = (sample(DType::F32, &last, 1), sample(DType::F32, w, 2), sample(DType::F32, &[maps], 3));
        let kernel = format!("kernel_shape={:?}", &w[2..]);
        let attrs = if attrs.is_empty() { kernel } else { format!("{kernel}, {attrs}") };
        let text = format!(
            "(f32{last:?} x) {{ y = oxrt.{op}<activation=\"silu\", {attrs}>(x, f32{w:?}{{{}}}, f32[{maps}]{{{}}}) }} => y",
            list(&b),
            list(&c)
        );
        let names = check(&text, &[a], 1e-4);
        assert!(names.contains(&"conv_any"));
    }
}

#[test]
fn products_of_any_operands() {
    for dtype in [DType::F32, DType::F16, DType::BF16, DType::F64, DType::I32, DType::I64, DType::U64] {
        for (a, b, m, n) in [(0, 0, 5, 7), (1, 0, 70, 3), (0, 1, 3, 66), (1, 1, 4, 4)] {
            let k = 19;
            let x = if a == 1 { [k, m] } else { [m, k] };
            let w = if b == 1 { [n, k] } else { [k, n] };
            for c in [vec![], vec![n], vec![m, 1], vec![m, n]] {
                let attrs = format!("transA={a}, transB={b}, alpha=0.5, beta=2.0");
                let text =
                    format!("({dtype}{x:?} x, {dtype}{w:?} w, {dtype}{c:?} c) {{ y = Gemm<{attrs}>(x, w, c) }} => y");
                let inputs = [sample(dtype, &x, 1), sample(dtype, &w, 2), sample(dtype, &c, 3)];
                assert_eq!(check(&text, &inputs, tolerance(dtype)), ["gemm_any"]);
            }
            let text = format!("({dtype}{x:?} x, {dtype}{w:?} w) {{ y = Gemm<transA={a}, transB={b}>(x, w) }} => y");
            check(&text, &[sample(dtype, &x, 1), sample(dtype, &w, 2)], tolerance(dtype));
        }
        let (a, b) = (sample(dtype, &[2, 1, 3, 5, 9], 1), sample(dtype, &[4, 3, 9, 6], 2));
        let text = format!("({dtype}[2, 1, 3, 5, 9] a, {dtype}[4, 3, 9, 6] b) {{ y = MatMul(a, b) }} => y");
        assert!(check(&text, &[a, b], tolerance(dtype)).contains(&"gemm_any"));
    }
}

#[test]
fn layers_recur() {
    let (steps, batch, input, hidden) = (4, 5, 3, 7);
    for (op, gates, extra) in [
        (
            "LSTM",
            4,
            vec![
                "",
                "input_forget=1",
                "clip=0.5",
                "activations=[\"HardSigmoid\", \"Relu\", \"Softsign\"], activation_alpha=[0.3]",
            ],
        ),
        ("GRU", 3, vec!["", "linear_before_reset=1", "clip=0.4"]),
        ("RNN", 1, vec!["", "activations=[\"Relu\"]", "activations=[\"LeakyRelu\"], activation_alpha=[0.2]"]),
    ] {
        for dtype in [DType::F32, DType::F16] {
            for direction in ["forward", "reverse", "bidirectional"] {
                for extra in &extra {
                    let n = if direction == "bidirectional" { 2 } else { 1 };
                    if n == 2 && extra.starts_with("activations") {
                        continue;
                    }
                    for (layout, full) in [(0, true), (0, false), (1, true)] {
                        let x_shape = if layout == 0 { [steps, batch, input] } else { [batch, steps, input] };
                        let state = if layout == 0 { [n, batch, hidden] } else { [batch, n, hidden] };
                        let rows = gates * hidden;
                        let mut declared = format!(
                            "{dtype}{x_shape:?} x, {dtype}[{n}, {rows}, {input}] w, {dtype}[{n}, {rows}, {hidden}] r"
                        );
                        let mut inputs = vec![
                            sample(dtype, &x_shape, 1),
                            sample(dtype, &[n, rows, input], 2),
                            sample(dtype, &[n, rows, hidden], 3),
                        ];
                        let mut names = "x, w, r".to_string();
                        if full {
                            declared += &format!(", {dtype}[{n}, {}] b, i32[{batch}] l, {dtype}{state:?} h", 2 * rows);
                            names += ", b, l, h";
                            inputs.push(sample(dtype, &[n, 2 * rows], 4));
                            inputs.push(Tensor::from_i64(DType::I32, &[batch], &[4, 2, 3, 0, 1]).unwrap());
                            inputs.push(sample(dtype, &state, 5));
                            if op == "LSTM" {
                                declared += &format!(", {dtype}{state:?} c, {dtype}[{n}, {}] p", 3 * hidden);
                                names += ", c, p";
                                inputs.push(sample(dtype, &state, 6));
                                inputs.push(sample(dtype, &[n, 3 * hidden], 7));
                            }
                        }
                        let comma = if extra.is_empty() { "" } else { ", " };
                        let outputs = if op == "LSTM" { "y, h1, c1" } else { "y, h1" };
                        let text = format!(
                            "({declared}) {{ {outputs} = {op}<hidden_size={hidden}, direction=\"{direction}\", layout={layout}{comma}{extra}>({names}) }} => {outputs}"
                        );
                        check(&text, &inputs, if dtype == DType::F32 { 1e-5 } else { 2e-3 });
                    }
                }
            }
        }
    }
}

#[test]
fn elements_go_where_they_are_told() {
    for dtype in NUMBERS {
        let x = sample(dtype, &[4, 3, 5], 1);
        for (batch, time) in [(1, 0), (0, 2), (2, 1)] {
            let lengths: Vec<i64> = (0..[4, 3, 5][batch] as i64).map(|i| i % ([4, 3, 5][time] as i64 + 1)).collect();
            let n = lengths.len();
            let text = format!(
                "({dtype}[4, 3, 5] x, i64[{n}] l) {{ y = ReverseSequence<batch_axis={batch}, time_axis={time}>(x, l) }} => y"
            );
            check(&text, &[x.clone(), ints(&[n], &lengths)], 0.0);
        }
        let u = sample(dtype, &[4, 2, 5], 2);
        for (mode, starts) in [("linear", [0, 1, -1, -3]), ("circular", [2, 7, -1, 0])] {
            let text = format!(
                "({dtype}[4, 3, 5] c, {dtype}[4, 2, 5] u, i64[4] w) {{ y = TensorScatter<mode=\"{mode}\">(c, u, w) }} => y"
            );
            check(&text, &[x.clone(), u.clone(), ints(&[4], &starts)], 0.0);
        }
        let x = sample(dtype, &[2, 1, 2, 2], 3);
        let at = ints(&[2, 1, 2, 2], &[0, 3, 9, 15, 17, 18, 31, 25]);
        let text = format!(
            "({dtype}[2, 1, 2, 2] x, i64[2, 1, 2, 2] i) {{ y = MaxUnpool<kernel_shape=[2, 2], strides=[2, 2]>(x, i) }} => y"
        );
        check(&text, &[x.clone(), at.clone()], 0.0);
        let text = format!(
            "({dtype}[2, 1, 2, 2] x, i64[2, 1, 2, 2] i) {{ y = MaxUnpool<kernel_shape=[2, 2], strides=[2, 2]>(x, i, i64[4]{{2, 1, 5, 6}}) }} => y"
        );
        check(&text, &[x, at], 0.0);
    }
    check("(f32[3, 5] x) { y = BitCast<to=6>(x) } => y", &[sample(DType::F32, &[3, 5], 1)], 0.0);
}

#[test]
fn pools_that_say_more() {
    for (shape, attrs) in [
        (vec![2, 3, 11], "kernel_shape=[3], strides=[2], pads=[1, 0]"),
        (vec![2, 3, 6, 7], "kernel_shape=[3, 2], strides=[2, 1], pads=[1, 1, 0, 1], ceil_mode=1"),
        (vec![1, 2, 5, 4, 6], "kernel_shape=[2, 2, 3], dilations=[2, 1, 1]"),
    ] {
        for dtype in FLOATS {
            let x = sample(dtype, &shape, 1);
            for p in [1, 2, 3] {
                let text = format!("({dtype}{shape:?} x) {{ y = LpPool<p={p}, {attrs}>(x) }} => y");
                check(&text, std::slice::from_ref(&x), tolerance(dtype).max(1e-6));
            }
            for order in [0, 1] {
                let text =
                    format!("({dtype}{shape:?} x) {{ y, i = MaxPool<storage_order={order}, {attrs}>(x) }} => y, i");
                assert_eq!(check(&text, std::slice::from_ref(&x), 0.0), ["pool_any"]);
            }
        }
    }
    let x = Tensor::from_f64(DType::F32, &[1, 1, 6], &[1.0, 1.0, f64::NAN, 2.0, f64::NEG_INFINITY, f64::NEG_INFINITY]);
    check("(f32[1, 1, 6] x) { y, i = MaxPool<kernel_shape=[2], strides=[2]>(x) } => y, i", &[x.unwrap()], 0.0);
}

#[test]
fn columns_fold_and_taps_move() {
    for dtype in FLOATS {
        let t = tolerance(dtype);
        for (image, block, columns, attrs) in [
            ("5, 6", "2, 3", [2, 12, 16], ""),
            ("5, 6", "2, 2", [1, 8, 12], "strides=[2, 1], pads=[1, 0, 1, 0], dilations=[1, 2]"),
            ("7", "3", [2, 6, 5], ""),
        ] {
            let n = image.split(',').count();
            let text = format!(
                "({dtype}{columns:?} x) {{ y = Col2Im<{attrs}>(x, i64[{n}]{{{image}}}, i64[{n}]{{{block}}}) }} => y"
            );
            check(&text, &[sample(dtype, &columns, 1)], t);
        }
        let (x, w) = (sample(dtype, &[2, 4, 6, 7], 1), sample(dtype, &[18, 2, 3, 2], 2));
        let (o, b, m) = (sample(dtype, &[2, 24, 3, 6], 3), sample(dtype, &[18], 4), sample(dtype, &[2, 12, 3, 6], 5));
        let attrs = "group=2, offset_group=2, strides=[2, 1], pads=[1, 0, 1, 0]";
        let text = format!(
            "({dtype}[2, 4, 6, 7] x, {dtype}[18, 2, 3, 2] w, {dtype}[2, 24, 3, 6] o, {dtype}[18] b, {dtype}[2, 12, 3, 6] m) {{
                y = DeformConv<{attrs}>(x, w, o, b, m) }} => y"
        );
        check(&text, &[x.clone(), w.clone(), o.clone(), b, m], t * 2.0);
        let text = format!(
            "({dtype}[2, 4, 6, 7] x, {dtype}[18, 2, 3, 2] w, {dtype}[2, 24, 3, 6] o) {{ y = DeformConv<{attrs}>(x, w, o) }} => y"
        );
        check(&text, &[x, w, o], t * 2.0);
    }
}

/// One node of every family, in types that make its text differ, for the compiler of real GPUs.
pub(super) fn nodes() -> Vec<String> {
    let mut nodes: Vec<String> = [
        "(i64[2, 5] x) { y = OneHot<axis=0>(x, i64{5}, f16[2]{0, 1}) } => y",
        "(i32 a, i32 b, i32 c) { y = Range(a, b, c) } => y",
        "(f32 a, f32 b, f32 c) { y = Range(a, b, c) } => y",
        "(f16[5, 9] x) { y = EyeLike<k=2>(x) } => y",
        "(i64[2] s) { y = ConstantOfShape<value=i64[1]{-7}>(s) } => y",
        "(f32[2, 3, 7, 8] x, f32[4, 4] r, i64[4] b) { y = RoiAlign(x, r, b) } => y",
        "(f16[2, 3, 7, 8] x, f32[4, 4] r, i64[4] b) { y = RoiAlign<mode=\"max\">(x, r, b) } => y",
        "(f16[2, 3, 5, 10] x, f16[9, 4] c, f16[9, 4] s, i64[2, 5] p) { y = RotaryEmbedding<rotary_embedding_dim=8>(x, c, s, p) } => y",
        "(f32[2, 5, 24] x, f32[2, 5, 4] c, f32[2, 5, 4] s) { y = RotaryEmbedding<interleaved=1, num_heads=3>(x, c, s) } => y",
        "(f64[9] x) { y, i = TopK(x, i64[1]{3}) } => y, i",
        "(f16[2, 5, 64] q, f16[2, 5, 64] k, f32[2, 5, 64] g, f32[2, 5, 2] r) { y, s = LinearAttention<q_num_heads=2, kv_num_heads=2>(q, k, k, _, g, r) } => y, s",
        "(f16[2, 5, 9] x, f16[5, 1, 4] w) { y, s = CausalConvWithState<activation=\"silu\">(x, w) } => y, s",
        "(f32[1, 400, 1] x, f32[64] w) { y = STFT(x, i64{16}, w) } => y",
        "(f64[3, 33, 2] x) { y = DFT<inverse=1, onesided=1>(x) } => y",
        "(f16[2, 1, 64] q, f16[2, 4, 5, 16] p) { y, a, b, s = Attention<q_num_heads=4, kv_num_heads=4, is_causal=1, left_window_size=3>(q, q, q, _, p, p) } => y, a, b, s",
        "(f32[2, 4, 3, 20] q, bool[3, 3] m, i64[2] n) { y = Attention<is_causal=1>(q, q, q, m, _, _, n) } => y",
        "(f64[9] x) { y, i, r, c = Unique<sorted=0>(x) } => y, i, r, c",
        "(f32[2, 9] x) { y = NonZero(x) } => y",
        "(bool[2, 9] x) { y = NonZero(x) } => y",
        "(f16[2, 9] x, bool[9] c) { y = Compress<axis=1>(x, c) } => y",
        "(f32[2, 9, 4] b, f32[2, 3, 9] s) { y = NonMaxSuppression(b, s, i64{5}, 0.5, 0.1) } => y",
        "(f32[2, 9, 4] b, f32[2, 3, 9] s) { y = NonMaxSuppression<center_point_box=1>(b, s, i64{5}) } => y",
        "(f16[9] x) { y, i = TopK<largest=0>(x, i64[1]{3}) } => y, i",
        "(i8[9] x) { y, i = TopK(x, i64[1]{3}) } => y, i",
        "(f32[3, 4, 5] x, f32[3, 4, 5] w, f32[3] b) { y = Conv(x, w, b) } => y",
        "(f16[3, 4, 5, 5] x, f16[4, 2, 3, 3] w) { y = ConvTranspose(x, w) } => y",
        "(f32[1, 5, 5, 5, 4] x) { y = oxrt.Conv<kernel_shape=[1, 1, 1], activation=\"silu\">(x, f32[8, 4, 1, 1, 1]{1}) } => y",
        "(u8[2, 5, 9] a, i8[9, 7] b, u8 p, i8[7] q) { y = MatMulInteger(a, b, p, q) } => y",
        "(u8[2, 4, 6, 5] x, u8[6, 4, 3, 3] w, u8 p) { y = ConvInteger(x, w, p) } => y",
        "(u8[5, 9] a, i8[9, 7] b) { y = oxrt.QMatMul<scale=0.5, y_scale=2.0>(a, b) } => y",
        "(u8[5, 32] x, u8[5, 8] r) { y = oxrt.QGemm<mid_scale=1.0, r_scale=0.5, y_scale=0.5, activation=\"silu\">(x, i8[32, 8]{1}, f32[8]{1}, f32[8]{0}, r) } => y",
        "(i8[5, 32] x) { y = oxrt.QGemm<y_dtype=1>(x, i8[32, 8]{1}, f32[8]{1}) } => y",
        "(u8[5, 32] x, u8[5, 16] r) { y = oxrt.QGemm<mid_scale=1.0, r_scale=0.5, y_scale=0.5, activation=\"silu\">(x, i8[32, 16]{1}, f32[16]{1}, f32[16]{0}, r) } => y",
        "(f8e4m3fn[5, 32] x) { y = oxrt.QGemm<y_dtype=10, activation=\"silu\">(x, f8e4m3fn[32, 16]{1}, f32[16]{1}, f32[16]{0}) } => y",
        "(f8e4m3fn[5, 32] x) { y = oxrt.QGemm<y_dtype=1>(x, f8e4m3fn[32, 16]{1}, f32[16]{1}) } => y",
        "(i8[2, 6, 8, 24] x) { y = oxrt.QConv<kernel_shape=[1, 1], y_scale=2.0, y_dtype=3>(x, i8[40, 24, 1, 1]{1}, f32[40]{0.5}, f32[40]{0}, _, i8[256]{0}) } => y",
        "(u8[2, 6, 8, 32] x, u8[2, 6, 8, 40] r) { y = oxrt.QConv<kernel_shape=[1, 1], x_zero=3, mid_scale=1.0, r_scale=0.5, y_scale=2.0>(x, i8[40, 32, 1, 1]{1}, f32[40]{0.5}, f32[40]{0}, r) } => y",
        "(u8[2, 6, 7, 16] x) { y = oxrt.MaxPool<kernel_shape=[3, 3]>(x) } => y",
        "(f8e4m3fn[5, 32] x, f8e4m3fn[5, 16] r) { y = oxrt.QGemm<mid_scale=1.0, mid_dtype=17, r_scale=0.5, r_dtype=17, y_scale=0.5, y_dtype=17, y_low=0>(x, f8e4m3fn[32, 16]{1}, f32[16]{1}, f32[16]{0}, r) } => y",
        "(f8e4m3fn[2, 6, 7, 16] x) { y = oxrt.QConv<kernel_shape=[3, 3], y_scale=2.0, y_dtype=17>(x, f8e4m3fn[16, 16, 3, 3]{1}, f32[16]{0.5}) } => y",
        "(f8e4m3fn[2, 6, 7, 3] x) { y = oxrt.QConv<kernel_shape=[3, 3], y_dtype=10>(x, f8e4m3fn[16, 3, 3, 3]{1}, f32[16]{0.5}) } => y",
        "(f8e4m3fn[2, 6, 7, 16] x) { y = oxrt.QConv<kernel_shape=[3, 3], group=16, y_scale=2.0, y_dtype=17>(x, f8e4m3fn[16, 1, 3, 3]{1}, f32[16]{0.5}) } => y",
        "(f16[8] x) { y = QuantizeLinear<output_dtype=17>(x, f16{2}) } => y",
        "(f8e4m3fn[8] x) { y = DequantizeLinear(x, f16{2}) } => y",
        "(u8[2, 6, 7, 16] x) { y = oxrt.QConv<kernel_shape=[3, 3], group=16, y_scale=2.0>(x, i8[16, 1, 3, 3]{1}, f32[16]{0.5}) } => y",
        "(i8[5, 32] x) { y = oxrt.QGemm<y_dtype=10>(x, i8[32, 16]{1}, f32[16]{1}) } => y",
        "(u8[2, 6, 7, 16] x) { y = oxrt.QConv<kernel_shape=[3, 3], y_dtype=1>(x, i8[16, 16, 3, 3]{1}, f32[16]{0.5}) } => y",
        "(i8[2, 6, 7, 3] x) { y = oxrt.QConv<kernel_shape=[3, 3], y_scale=2.0, y_dtype=3>(x, i8[16, 3, 3, 3]{1}, f32[16]{0.5}) } => y",
        "(u8[2, 6, 7, 16] x) { y = oxrt.QConv<kernel_shape=[3, 3], y_scale=2.0>(x, i8[9, 16, 3, 3]{1}, f32[9]{0.5}) } => y",
        "(u8[2, 6, 7, 3] x) { y = oxrt.QConv<kernel_shape=[3, 3], y_scale=2.0, y_dtype=3>(x, i8[9, 3, 3, 3]{1}, f32[9]{0.5}) } => y",
        "(u8[3, 7] a, i8[7] b) { y = oxrt.QBinary<op=\"mul\", a_scale=0.5, b_scale=2.0, b_dtype=3, y_scale=4.0>(a, b) } => y",
        "(u8[3, 50] x, f16[256] t) { y = oxrt.Lookup(x, t) } => y",
        "(u8[2, 4, 2, 11] x) { y = oxrt.QGlobalAveragePool<x_scale=0.5, y_scale=0.25>(x) } => y",
        "(f32[9] x) { y, s, z = DynamicQuantizeLinear(x) } => y, s, z",
        "(f16[8] x) { y = QuantizeLinear(x, f16{2}, i8{1}) } => y",
        "(u8[8] x) { y = DequantizeLinear(x, 2.0, u8{128}) } => y",
        "(f32[4, 5, 3] x, f32[2, 28, 3] w, f32[2, 28, 7] r) { y, h, c = LSTM<hidden_size=7, direction=\"bidirectional\">(x, w, r) } => y, h, c",
        "(f16[4, 5, 3] x, f16[1, 21, 3] w, f16[1, 21, 7] r) { y, h = GRU<hidden_size=7>(x, w, r) } => y, h",
        "(f32[4, 5, 3] x, f32[1, 21, 3] w, f32[1, 21, 7] r) { y, h = GRU<hidden_size=7, linear_before_reset=1>(x, w, r) } => y, h",
        "(f32[4, 5, 3] x, f32[1, 7, 3] w, f32[1, 7, 7] r) { y, h = RNN<hidden_size=7>(x, w, r) } => y, h",
        "(f32[4, 3, 5] x, i64[3] l) { y = ReverseSequence(x, l) } => y",
        "(f16[4, 9] a, f16[9, 6] b, f16[6] c) { y = Gemm<alpha=0.5>(a, b, c) } => y",
        "(i32[4, 9] a, i32[9, 6] b, i32[6] c) { y = Gemm(a, b, c) } => y",
        "(i64[4, 9] a, i64[9, 6] b) { y = MatMul(a, b) } => y",
        "(f16[4, 3, 5] c, f16[4, 2, 5] u, i64[4] w) { y = TensorScatter(c, u, w) } => y",
        "(f16[4, 3, 5] c, f16[4, 2, 5] u) { y = TensorScatter<mode=\"circular\">(c, u) } => y",
        "(f32[2, 1, 2, 2] x, i64[2, 1, 2, 2] i) { y = MaxUnpool<kernel_shape=[2, 2], strides=[2, 2]>(x, i) } => y",
        "(f32[3, 5] x) { y = BitCast<to=6>(x) } => y",
        "(f32[2, 3, 11] x) { y = LpPool<kernel_shape=[3]>(x) } => y",
        "(f16[2, 3, 11] x) { y, i = MaxPool<kernel_shape=[3]>(x) } => y, i",
        "(f32[2, 12, 16] x) { y = Col2Im(x, i64[2]{5, 6}, i64[2]{2, 3}) } => y",
        "(f32[2, 4, 6, 7] x, f32[18, 4, 1, 1] w, f32[2, 2, 6, 7] o) { y = DeformConv(x, w, o) } => y",
    ]
    .map(String::from)
    .to_vec();
    for mode in ["constant", "edge", "wrap", "reflect"] {
        nodes.push(format!("(f16[3, 5] x) {{ y = Pad<mode=\"{mode}\">(x, i64[4]{{1, 0, 2, 0}}) }} => y"));
    }
    for dtype in [DType::F32, DType::F16, DType::F64, DType::I64] {
        nodes.push(format!("({dtype}[5, 7] x, i64 k) {{ y = Trilu(x, k) }} => y"));
        nodes.push(format!("({dtype}[5, 7] x) {{ y = CumSum<exclusive=1, reverse=1>(x, i64{{1}}) }} => y"));
        for reduction in ["add", "mul", "max", "min"] {
            let attrs = format!("reduction=\"{reduction}\"");
            nodes.push(format!(
                "({dtype}[5] x, i64[9] i, {dtype}[9] u) {{ y = ScatterElements<{attrs}>(x, i, u) }} => y"
            ));
            nodes.push(format!("({dtype}[5] x, i32[9, 1] i, {dtype}[9] u) {{ y = ScatterND<{attrs}>(x, i, u) }} => y"));
        }
    }
    for dtype in [DType::F32, DType::F16, DType::F64] {
        let v = format!("{dtype}[5]");
        nodes.push(format!(
            "({dtype}[3, 5, 7] x, {v} s, {v} b, {v} m, {v} v) {{ y = BatchNormalization(x, s, b, m, v) }} => y"
        ));
        for op in [
            "LRN<size=3>",
            "LpNormalization<p=1>",
            "LpNormalization",
            "MeanVarianceNormalization<axes=[0, 2]>",
            "Hardmax",
        ] {
            nodes.push(format!("({dtype}[3, 5, 7] x) {{ y = {op}(x) }} => y"));
        }
        nodes.push(format!(
            "({dtype}[3, 5, 7] x, {dtype}[5, 1] s, {dtype}[7] b) {{ y, m = LayerNormalization<axis=1>(x, s, b) }} => y, m"
        ));
        nodes.push(format!("({dtype}[3, 5, 7] x, {v} s, {v} b) {{ y = InstanceNormalization(x, s, b) }} => y"));
        for mode in ["nearest", "linear", "cubic"] {
            for padding in ["zeros", "border", "reflection"] {
                nodes.push(format!(
                    "({dtype}[2, 3, 4, 4] x, {dtype}[2, 3, 4, 2] g) {{ y = GridSample<mode=\"{mode}\", padding_mode=\"{padding}\">(x, g) }} => y"
                ));
            }
        }
        nodes.push(format!("({dtype}[2, 3, 4] x, {dtype}[2, 3, 1] g) {{ y = GridSample(x, g) }} => y"));
        nodes.push(format!("({dtype}[2, 3, 4, 4, 4] x, {dtype}[2, 3, 4, 2, 3] g) {{ y = GridSample(x, g) }} => y"));
    }
    nodes
}

#[test]
fn spectra_are_summed_up() {
    for dtype in FLOATS {
        let t = tolerance(dtype) * 20.0;
        for n in [1, 2, 7, 12, 100] {
            let (real, complex) = (sample(dtype, &[2, n, 3, 1], 1), sample(dtype, &[2, n, 3, 2], 2));
            for attributes in ["<inverse=1>", "<onesided=1>", ""] {
                let text = format!("({dtype}[2, {n}, 3, 1] x) {{ y = DFT{attributes}(x, _, i64{{1}}) }} => y");
                check(&text, std::slice::from_ref(&real), t);
            }
            for (attributes, length) in [
                ("", "_"),
                ("<inverse=1>", "i64{9}"),
                ("<inverse=1, onesided=1>", "_"),
                ("<inverse=1, onesided=1>", "i64{11}"),
            ] {
                let half = attributes.contains("onesided");
                if n == 1 && length == "_" && half {
                    continue;
                }
                let text = format!("({dtype}[2, {n}, 3, 2] x) {{ y = DFT{attributes}(x, {length}, i64{{-3}}) }} => y");
                let names = run(&backend(), &text, std::slice::from_ref(&complex), t).unwrap();
                // The evaluator's roundings are asked for.
                assert_eq!(names.is_empty(), dtype == DType::F32 && !half, "{text}");
            }
        }
        let x = sample(dtype, &[2, 50, 1], 3);
        for given in ["i64{5}, w", "i64{3}, w, i64{16}", "i64{7}, _, i64{9}"] {
            for onesided in [0, 1] {
                let text = format!(
                    "({dtype}[2, 50, 1] x, {dtype}[16] w) {{ y = STFT<onesided={onesided}>(x, {given}) }} => y"
                );
                check(&text, &[x.clone(), sample(dtype, &[16], 4)], t);
            }
        }
    }
}
