//! Products and pools of bytes, and products of floats of 8 bits, on the emulator.

use super::tests::{check, sample, streaming};
use super::wide_tests::list;
use oxrt_tensor::{DType, Tensor};

/// Bytes that use their whole range.
fn bytes(dtype: DType, shape: &[usize], seed: u64) -> Tensor {
    let n: usize = shape.iter().product();
    let low = if dtype == DType::I8 { -128 } else { 0 };
    let values: Vec<i64> =
        (0..n as u64).map(|i| ((i + seed).wrapping_mul(2654435761) >> 7 & 255) as i64 + low).collect();
    Tensor::from_i64(dtype, shape, &values).unwrap()
}

/// Shapes of images and filters that stream, with attributes.
fn streamed_filters() -> Vec<(Vec<usize>, Vec<usize>, &'static str)> {
    vec![
        (vec![2, 9, 7, 16], vec![32, 16, 3, 3], "pads=[1, 1, 1, 1]"),
        (vec![2, 8, 9, 144], vec![16, 144, 3, 3], "pads=[2, 0, 1, 2], strides=[2, 1]"),
        (vec![1, 9, 9, 32], vec![80, 32, 3, 2], "dilations=[2, 3]"),
        (vec![3, 5, 6, 32], vec![16, 32, 1, 1], "strides=[2, 2]"),
        (vec![2, 11, 48], vec![16, 48, 3], "auto_pad=\"SAME_UPPER\", strides=[2]"),
        (vec![2, 15, 14, 3], vec![16, 3, 7, 7], "pads=[3, 3, 3, 3], strides=[2, 2]"),
    ]
}

#[test]
fn bytes_are_multiplied() {
    // Scales are powers of two, so that every rounding is exact and halves are met.
    let end = "y_scale=64.0, y_zero=3";
    for x in [DType::U8, DType::I8] {
        let y = if x == DType::U8 { end.to_string() } else { format!("{end}, y_dtype=3, y_low=-100") };
        for (m, k, n) in [(1, 8, 8), (5, 37, 7), (70, 72, 67), (9, 400, 40)] {
            let (a, w) = (bytes(x, &[m, k], 1), bytes(DType::I8, &[k, n], 2));
            let weights = format!("i8[{k}, {n}]{{{}}}, f32[{n}]{{0.25}}, f32[{n}]{{-8}}", list(&w));
            for attrs in ["x_zero=5", "x_zero=5, w_zero=-2, activation=\"relu\""] {
                let text = format!("({x}[{m}, {k}] x) {{ y = oxrt.QGemm<{attrs}, {y}>(x, {weights}) }} => y");
                let names = check(&text, std::slice::from_ref(&a), 0.0);
                assert_eq!(names.contains(&"q_mma_64x64"), !attrs.contains("w_zero"));
            }
            let r = bytes(x, &[m, n], 3);
            let t = bytes(x, &[256], 4);
            let r_dtype = if x == DType::U8 { 2 } else { 3 };
            let both = format!(
                "mid_scale=16.0, mid_zero=1, mid_dtype={r_dtype}, r_scale=32.0, r_zero=-3, r_dtype={r_dtype}, t_scale=8.0, t_zero=7, t_dtype={r_dtype}"
            );
            let text = format!(
                "({x}[{m}, {k}] x, {x}[{m}, {n}] r) {{ y = oxrt.QGemm<x_zero=5, {both}, {y}>(x, {weights}, r, {x}[256]{{{}}}, {x}[256]{{{}}}) }} => y",
                list(&t),
                list(&t)
            );
            check(&text, &[a.clone(), r], 0.0);
            let row = bytes(x, &[n], 5);
            let text = format!(
                "({x}[{m}, {k}] x, {x}[{n}] r) {{ y = oxrt.QGemm<x_zero=5, {both}, {y}>(x, {weights}, r) }} => y"
            );
            check(&text, &[a.clone(), row], 0.0);
            let text = format!("({x}[{m}, {k}] x) {{ y = oxrt.QGemm<x_zero=5, y_dtype=1>(x, {weights}) }} => y");
            check(&text, &[a], 1e-6);
        }
        for w in [DType::U8, DType::I8] {
            for (a, b, turned) in [
                (vec![2, 3, 5, 9], vec![2, 3, 9, 7], 0),
                (vec![2, 1, 3, 1, 5, 9], vec![1, 4, 3, 2, 7, 9], 1),
                (vec![9], vec![9, 4], 0),
            ] {
                let text = format!(
                    "({x}{a:?} a, {w}{b:?} b) {{ y = oxrt.QMatMul<a_zero=3, b_zero=1, scale=0.5, trans_b={turned}, {y}>(a, b) }} => y"
                );
                check(&text, &[bytes(x, &a, 1), bytes(w, &b, 2)], 0.0);
            }
            let (a, b) = (bytes(x, &[2, 5, 9], 1), bytes(w, &[9, 7], 2));
            let text =
                format!("({x}[2, 5, 9] a, {w}[9, 7] b, {x} p, {w}[7] q) {{ y = MatMulInteger(a, b, p, q) }} => y");
            check(&text, &[a.clone(), b.clone(), bytes(x, &[], 3), bytes(w, &[7], 4)], 0.0);
            check(&format!("({x}[2, 5, 9] a, {w}[9, 7] b) {{ y = MatMulInteger(a, b) }} => y"), &[a, b], 0.0);
            let (a, b) = (bytes(x, &[2, 4, 6, 5], 1), bytes(w, &[6, 2, 3, 3], 2));
            let text = format!(
                "({x}[2, 4, 6, 5] x, {w}[6, 2, 3, 3] w, {x} p, {w}[6] q) {{ y = ConvInteger<group=2, pads=[1, 0, 1, 2]>(x, w, p, q) }} => y"
            );
            check(&text, &[a, b, bytes(x, &[], 3), bytes(w, &[6], 4)], 0.0);
        }
        for (shape, w, attrs) in [
            (vec![2, 6, 7, 5], vec![9, 5, 3, 3], "pads=[1, 1, 1, 1], strides=[2, 1]"),
            (vec![1, 6, 6, 32], vec![64, 8, 3, 3], "group=4, dilations=[2, 1]"),
            (vec![2, 5, 6, 32], vec![70, 32, 3, 3], "pads=[1, 1, 1, 1]"),
            (vec![2, 5, 6, 40], vec![24, 40, 3, 2], "pads=[1, 1, 1, 1]"),
            (vec![1, 4, 3, 5, 16], vec![9, 16, 2, 1, 2], "pads=[1, 0, 1, 0, 1, 0]"),
            (vec![2, 9, 12], vec![12, 1, 3], "group=12, pads=[1, 1]"),
        ] {
            let image = bytes(x, &shape, 1);
            let text = format!(
                "({x}{shape:?} x) {{ y = oxrt.QConv<kernel_shape={:?}, {attrs}, x_zero=7, {y}>(x, i8{w:?}{{{}}}, f32[{}]{{0.5}}, f32[{}]{{3}}) }} => y",
                &w[2..],
                list(&bytes(DType::I8, &w, 2)),
                w[0],
                w[0]
            );
            check(&text, &[image], 0.0);
        }
    }
}

#[test]
fn bytes_are_streamed() {
    let streamed = |text: &str, inputs: &[Tensor]| {
        let names = check(text, inputs, 1e-6);
        assert_eq!(names.iter().filter(|n| n.starts_with("q_stream")).count(), streaming(), "{names:?}");
    };
    for (x, zero) in [(DType::U8, 9), (DType::I8, 0)] {
        let code = if x == DType::U8 { 2 } else { 3 };
        let y = format!("y_scale=256.0, y_zero=3, y_dtype={code}");
        let (low, high) = if x == DType::U8 { (0, 255) } else { (-128, 127) };
        let y = format!("{y}, y_low={low}, y_high={high}");
        let both = format!(
            "mid_scale=64.0, mid_zero=1, mid_dtype={code}, mid_low={low}, mid_high={high}, r_scale=32.0, r_zero=-3, r_dtype={code}"
        );
        // Parts of tiles, of slices, of splits.
        let few = if x == DType::U8 { 0 } else { 2 };
        for (m, k, n) in [(1, 1040, 16), (70, 144, 208), (260, 32, 80)].into_iter().skip(few) {
            let (a, w) = (bytes(x, &[m, k], 1), bytes(DType::I8, &[k, n], 2));
            let weights = format!("i8[{k}, {n}]{{{}}}, f32[{n}]{{0.25}}, f32[{n}]{{-8}}", list(&w));
            let head = format!("({x}[{m}, {k}] x) {{ y = oxrt.QGemm<x_zero={zero}");
            streamed(&format!("{head}, activation=\"relu\", {y}>(x, {weights}) }} => y"), std::slice::from_ref(&a));
            streamed(&format!("{head}, y_dtype=1>(x, {weights}) }} => y"), std::slice::from_ref(&a));
            streamed(&format!("{head}, y_dtype=10>(x, {weights}) }} => y"), std::slice::from_ref(&a));
            for r in [vec![m, n], vec![n]] {
                let text = format!(
                    "({x}[{m}, {k}] x, {x}{r:?} r) {{ y = oxrt.QGemm<x_zero={zero}, {both}, {y}>(x, {weights}, r) }} => y"
                );
                streamed(&text, &[a.clone(), bytes(x, &r, 3)]);
            }
            let t = bytes(x, &[256], 4);
            let text = format!(
                "({x}[{m}, {k}] x, {x}[{m}, {n}] r) {{ y = oxrt.QGemm<x_zero={zero}, {both}, t_scale=8.0, t_zero=7, t_dtype={code}, {y}>(x, {weights}, r, {x}[256]{{{}}}, {x}[256]{{{}}}) }} => y",
                list(&t),
                list(&t)
            );
            streamed(&text, &[a, bytes(x, &[m, n], 3)]);
        }
        let one_channel = (vec![2, 6, 7, 1], vec![32, 1, 3, 3], "pads=[1, 1, 1, 1]");
        for (shape, w, attrs) in streamed_filters().into_iter().chain([one_channel]).skip(2 * few) {
            let ones = format!("f32[{}]{{0.5}}, f32[{}]{{3}}", w[0], w[0]);
            for out in [y.as_str(), "y_dtype=1", "y_dtype=10"] {
                let text = format!(
                    "({x}{shape:?} x) {{ y = oxrt.QConv<kernel_shape={:?}, {attrs}, x_zero={zero}, {out}>(x, i8{w:?}{{{}}}, {ones}) }} => y",
                    &w[2..],
                    list(&bytes(DType::I8, &w, 2)),
                );
                streamed(&text, &[bytes(x, &shape, 1)]);
            }
        }
    }
}

#[test]
fn bytes_of_lines_and_in_pairs() {
    let streamed = |text: &str, inputs: &[Tensor]| {
        let names = check(text, inputs, 0.0);
        assert_eq!(names.iter().filter(|n| n.starts_with("q_stream")).count(), streaming(), "{names:?}");
    };
    // What a Relu makes of a rounding, to a finer scale and with another zero point.
    let relu: Vec<i64> = (0..256)
        .map(|b| ((f64::from(b as u8 as i8) * 1.3).round_ties_even() as i64).clamp(0, 255) - 128)
        .map(|q| q.min(127))
        .collect();
    let relu = list(&Tensor::from_i64(DType::I8, &[256], &relu).unwrap());
    let y = "y_scale=256.0, y_dtype=3";
    let both = "mid_scale=64.0, mid_dtype=3, r_scale=32.0, r_zero=-3, r_dtype=3";
    for (m, k, n) in [(70, 144, 200), (3, 32, 24)] {
        let weights =
            format!("i8[{k}, {n}]{{{}}}, f32[{n}]{{0.25}}, f32[{n}]{{-8}}", list(&bytes(DType::I8, &[k, n], 2)));
        let (a, r) = (bytes(DType::I8, &[m, k], 1), bytes(DType::I8, &[m, n], 3));
        let table = format!("i8[256]{{{relu}}}");
        let head = format!("(i8[{m}, {k}] x, i8[{m}, {n}] r) {{ y = oxrt.QGemm<x_zero=3, {both}, {y}>(x, {weights}");
        streamed(&format!("{head}, r) }} => y"), &[a.clone(), r.clone()]);
        streamed(&format!("{head}, r, {table}) }} => y"), &[a, r]);
    }
    for (shape, w) in [(vec![2, 5, 6, 24], vec![40, 24, 1, 1]), (vec![2, 9, 72], vec![24, 72, 1])] {
        let maps = w[0];
        let (x, n) = (bytes(DType::I8, &shape, 1), shape.len());
        let mut out = shape.clone();
        out[n - 1] = maps;
        let scales: Vec<String> = (0..maps).map(|i| format!("{}", 0.25 * (1 + i % 3) as f32)).collect();
        let scales = scales.join(", ");
        let weights =
            format!("i8{w:?}{{{}}}, f32[{maps}]{{{scales}}}, f32[{maps}]{{{scales}}}", list(&bytes(DType::I8, &w, 2)));
        let kernel = format!("kernel_shape={:?}, x_zero=-5", &w[2..]);
        let text = format!(
            "(i8{shape:?} x, i8{out:?} r) {{ y = oxrt.QConv<{kernel}, {both}, {y}>(x, {weights}, r, i8[256]{{{relu}}}) }} => y"
        );
        streamed(&text, &[x.clone(), bytes(DType::I8, &out, 3)]);
        streamed(&format!("(i8{shape:?} x) {{ y = oxrt.QConv<{kernel}, y_dtype=1>(x, {weights}) }} => y"), &[x]);
    }
}

#[test]
fn bytes_of_single_channels() {
    for (x, zero) in [(DType::U8, 9), (DType::I8, -3)] {
        let code = if x == DType::U8 { 2 } else { 3 };
        for (shape, w, attrs) in [
            (vec![2, 9, 12, 24], vec![24, 1, 3, 3], "pads=[1, 1, 1, 1]"),
            (vec![1, 11, 10, 12], vec![12, 1, 5, 5], "pads=[2, 2, 2, 2], strides=[2, 2]"),
            (vec![2, 13, 7], vec![7, 1, 3], "dilations=[2]"),
            (vec![1, 9, 40, 16], vec![16, 1, 3, 3], "pads=[0, 1, 1, 0], dilations=[1, 2]"),
        ] {
            let (maps, weights) = (w[0], list(&bytes(DType::I8, &w, 2)));
            let image = bytes(x, &shape, 1);
            let low = if x == DType::U8 { 0 } else { -128 };
            for out in [
                format!("y_scale=64.0, y_zero=3, y_dtype={code}, y_low={low}, y_high={}", low + 255),
                "y_dtype=1".into(),
                "y_dtype=10".into(),
            ] {
                let text = format!(
                    "({x}{shape:?} x) {{ y = oxrt.QConv<kernel_shape={:?}, group={maps}, {attrs}, activation=\"relu\", x_zero={zero}, {out}>(x, i8{w:?}{{{weights}}}, f32[{maps}]{{0.5}}, f32[{maps}]{{3}}) }} => y",
                    &w[2..]
                );
                let names = check(&text, std::slice::from_ref(&image), 1e-6);
                assert_eq!(names[0], "q_depthwise");
            }
        }
    }
}

#[test]
fn floats_of_8_bits() {
    let f8 = |t: &Tensor| Tensor::from_f64(DType::F8E4M3FN, t.shape(), &t.to_f64_vec().unwrap()).unwrap();
    // Every finite one, and the middles between neighbours.
    let codes: Vec<u8> = (0..=255).filter(|c| c & 0x7f != 0x7f).collect();
    let all = Tensor::from_bytes(DType::F8E4M3FN, &[codes.len()], &codes).unwrap();
    let name = format!("f8e4m3fn[{}]", codes.len());
    check(&format!("({name} x) {{ y = DequantizeLinear(x, f32{{0.5}}) }} => y"), std::slice::from_ref(&all), 0.0);
    let mut values = all.to_f64_vec().unwrap();
    let middles: Vec<f64> = values.windows(2).map(|w| (w[0] + w[1]) / 2.0).collect();
    values.extend(middles);
    values.extend([1e9, -1e9, 460.0, 470.0, 1e-9]);
    let reals = Tensor::from_f64(DType::F32, &[values.len()], &values).unwrap();
    let text = format!("(f32[{}] x) {{ y = QuantizeLinear<output_dtype=17>(x, f32{{0.5}}) }} => y", values.len());
    check(&text, &[reals], 0.0);
    for (m, k, n) in [(1, 1040, 16), (70, 144, 208), (130, 32, 72), (5, 37, 7)] {
        let (a, w) = (f8(&sample(DType::F32, &[m, k], 1)), f8(&sample(DType::F32, &[k, n], 2)));
        let weights = format!("f8e4m3fn[{k}, {n}]{{{}}}, f32[{n}]{{0.25}}, f32[{n}]{{-8}}", list(&w));
        for (attrs, tolerance) in [("y_dtype=1, activation=\"silu\"", 1e-5), ("y_dtype=10", 1e-3), ("y_dtype=16", 1e-2)]
        {
            let text = format!("(f8e4m3fn[{m}, {k}] x) {{ y = oxrt.QGemm<{attrs}>(x, {weights}) }} => y");
            let names = check(&text, std::slice::from_ref(&a), tolerance);
            assert_eq!(
                names.iter().filter(|n| n.starts_with("f8_stream")).count(),
                if k % 16 == 0 { streaming() } else { 0 }
            );
        }
    }
}

/// Small integers as floats of 8 bits: sums of their products are exact, and roundings of those meet halves.
fn small(shape: &[usize], seed: u64) -> Tensor {
    let whole: Vec<f64> =
        bytes(DType::I8, shape, seed).to_f64_vec().unwrap().iter().map(|v| (v / 16.0).trunc()).collect();
    Tensor::from_f64(DType::F8E4M3FN, shape, &whole).unwrap()
}

const F8: &str = "f8e4m3fn";

#[test]
fn floats_of_8_bits_end_products() {
    let ends = [
        "y_scale=8.0, y_dtype=17",
        "y_scale=2.0, y_dtype=17, y_low=0, y_high=128",
        "y_scale=0.5, y_dtype=17, activation=\"relu\"",
        "y_dtype=10",
    ];
    for (m, k, n) in [(1, 1040, 16), (70, 144, 208), (130, 32, 80), (5, 37, 7)] {
        let w = format!("{F8}[{k}, {n}]{{{}}}, f32[{n}]{{0.25}}, f32[{n}]{{-8}}", list(&small(&[k, n], 2)));
        let x = small(&[m, k], 1);
        let streams = if k % 16 == 0 { streaming() } else { 0 };
        for end in ends {
            let text = format!("({F8}[{m}, {k}] x) {{ y = oxrt.QGemm<{end}>(x, {w}) }} => y");
            let names = check(&text, std::slice::from_ref(&x), if end == "y_dtype=10" { 1e-3 } else { 0.0 });
            assert_eq!(names.iter().filter(|n| n.starts_with("f8_stream")).count(), streams, "{names:?}");
        }
        for middle in ["mid_dtype=1", "mid_scale=4.0, mid_dtype=17, mid_low=0"] {
            for r in [vec![m, n], vec![n]] {
                let text = format!(
                    "({F8}[{m}, {k}] x, {F8}{r:?} r) {{ y = oxrt.QGemm<{middle}, r_scale=32.0, r_dtype=17, {}>(x, {w}, r) }} => y",
                    ends[1]
                );
                let names = check(&text, &[x.clone(), small(&r, 3)], 0.0);
                assert_eq!(names.iter().filter(|n| n.starts_with("f8_stream")).count(), streams, "{names:?}");
            }
        }
    }
}

#[test]
fn floats_of_8_bits_are_convolved() {
    let others = [
        (vec![2, 6, 7, 24], vec![9, 24, 3, 3], "pads=[1, 1, 1, 1]"),
        (vec![1, 4, 3, 5, 16], vec![9, 16, 2, 1, 2], "pads=[1, 0, 1, 0, 1, 0]"),
        (vec![2, 9, 12, 24], vec![24, 1, 3, 3], "group=24, pads=[1, 1, 1, 1]"),
        (vec![1, 11, 10, 12], vec![12, 1, 5, 5], "group=12, pads=[2, 2, 2, 2], strides=[2, 2]"),
    ];
    for (shape, w, attrs) in streamed_filters().into_iter().chain(others) {
        let maps = w[0];
        let weights = format!("{F8}{w:?}{{{}}}, f32[{maps}]{{0.5}}, f32[{maps}]{{3}}", list(&small(&w, 2)));
        let kernel = format!("kernel_shape={:?}", &w[2..]);
        let x = small(&shape, 1);
        for end in ["y_scale=2.0, y_dtype=17, y_low=0", "y_dtype=1, activation=\"relu\"", "y_dtype=10"] {
            let text = format!("({F8}{shape:?} x) {{ y = oxrt.QConv<{kernel}, {attrs}, {end}>(x, {weights}) }} => y");
            let names = check(&text, std::slice::from_ref(&x), if end == "y_dtype=10" { 1e-3 } else { 0.0 });
            if attrs.contains("group") {
                assert_eq!(names[0], "f8_depthwise");
            } else if maps != 9 {
                assert_eq!(names.iter().filter(|n| n.starts_with("f8_stream")).count(), streaming(), "{names:?}");
            }
        }
    }
}

#[test]
fn bytes_one_by_one() {
    for (a, b) in [(DType::U8, DType::U8), (DType::I8, DType::U8), (DType::I8, DType::I8)] {
        for op in ["add", "sub", "mul"] {
            let kinds = format!(
                "a_scale=0.5, a_zero=3, b_scale=2.0, b_zero=-1, y_scale=4.0, y_zero=9, y_high=120, a_dtype={}, b_dtype={}",
                a.to_onnx(),
                b.to_onnx()
            );
            let text =
                format!("({a}[3, 1, 16] a, {b}[5, 16] b) {{ y = oxrt.QBinary<op=\"{op}\", {kinds}>(a, b) }} => y");
            check(&text, &[bytes(a, &[3, 1, 16], 1), bytes(b, &[5, 16], 2)], 0.0);
            let text =
                format!("({a}[3, 2, 16] a, {b}[3, 1, 1] b) {{ y = oxrt.QBinary<op=\"{op}\", {kinds}>(a, b) }} => y");
            check(&text, &[bytes(a, &[3, 2, 16], 1), bytes(b, &[3, 1, 1], 2)], 0.0);
            let text = format!("({a}[3, 1, 7] a, {b}[5, 1] b) {{ y = oxrt.QBinary<op=\"{op}\", {kinds}>(a, b) }} => y");
            check(&text, &[bytes(a, &[3, 1, 7], 1), bytes(b, &[5, 1], 2)], 0.0);
        }
    }
    for x in [DType::U8, DType::I8] {
        for channels in [3, 8, 24, 32] {
            let text = format!(
                "({x}[2, 7, 6, {channels}] x) {{ y = oxrt.MaxPool<kernel_shape=[3, 2], strides=[2, 1], pads=[1, 0, 1, 1]>(x) }} => y"
            );
            check(&text, &[bytes(x, &[2, 7, 6, channels], 1)], 0.0);
        }
        for table in [DType::U8, DType::F32, DType::F16] {
            let text = format!("({x}[3, 50] x, {table}[256] t) {{ y = oxrt.Lookup(x, t) }} => y");
            check(&text, &[bytes(x, &[3, 50], 1), sample(table, &[256], 2)], 0.0);
        }
        let kinds = format!("x_scale=0.5, x_zero=9, x_dtype={}", x.to_onnx());
        for y in ["y_scale=0.25, y_zero=3", "y_dtype=1"] {
            let text = format!("({x}[2, 4, 2, 11] x) {{ y = oxrt.QGlobalAveragePool<{kinds}, {y}>(x) }} => y");
            check(&text, &[bytes(x, &[2, 4, 2, 11], 1)], 1e-6);
        }
    }
    for n in [1, 7, 5000] {
        let x = sample(DType::F32, &[n], 1);
        check(&format!("(f32[{n}] x) {{ y, s, z = DynamicQuantizeLinear(x) }} => y, s, z"), &[x], 0.0);
    }
    check("(f32[3] x) { y, s, z = DynamicQuantizeLinear(x) } => y, s, z", &[Tensor::zeros(DType::F32, &[3])], 0.0);
}
