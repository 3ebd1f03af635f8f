//! Operators of networks, against small definitions written here.

use super::tests::{Case, check, check_at, floats};
use oxrt_backend::Precision;
use oxrt_ir::Attrs;
use oxrt_tensor::{DType, Tensor};

fn f64s(t: &Tensor) -> Vec<f64> {
    t.to_f64_vec().unwrap()
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

/// `x[i] . row` of weights `[rows][k]`.
fn dot(x: &[f64], w: &[f64]) -> f64 {
    x.iter().zip(w).map(|(a, b)| a * b).sum()
}

#[test]
fn recurrent_layers() {
    // Less than a group of units; several groups, shared by threads; several tiles of sequences.
    for (steps, batch, input, n) in [(4, 3, 5, 7), (5, 1, 33, 200), (3, 40, 9, 70)] {
        recurrent_layers_of(steps, batch, input, n);
    }
}

fn recurrent_layers_of(steps: usize, batch: usize, input: usize, n: usize) {
    for (op, gates) in [("LSTM", 4), ("GRU", 3), ("RNN", 1)] {
        for (direction, dirs) in [("forward", 1), ("reverse", 1), ("bidirectional", 2)] {
            let x = floats(&[steps, batch, input], 1);
            // The more units, the smaller the weights, so that gates do not all saturate.
            let weights = |k: usize, seed: u32| {
                let w = floats(&[dirs, gates * n, k], seed);
                let scale = (7.0 / k as f32).sqrt().min(1.0);
                Tensor::from_slice(w.shape(), &w.as_slice::<f32>().iter().map(|v| v * scale).collect::<Vec<_>>())
            };
            let (w, r) = (weights(input, 2), weights(n, 3));
            let (b, h0, c0) =
                (floats(&[dirs, 2 * gates * n], 4), floats(&[dirs, batch, n], 5), floats(&[dirs, batch, n], 6));
            let (xv, wv, rv, bv) = (f64s(&x), f64s(&w), f64s(&r), f64s(&b));
            let mut y = vec![0.0; steps * dirs * batch * n];
            let (mut h, mut c) = (f64s(&h0), f64s(&c0));
            for d in 0..dirs {
                for i in 0..steps {
                    let t = if direction == "reverse" || d == 1 { steps - 1 - i } else { i };
                    for s in 0..batch {
                        let at = (d * batch + s) * n;
                        let old: Vec<f64> = h[at..at + n].to_vec();
                        let sums = |g: usize, j: usize| {
                            let row = d * gates * n + g * n + j;
                            let xs = dot(&xv[(t * batch + s) * input..][..input], &wv[row * input..][..input]);
                            let hs = dot(&old, &rv[row * n..][..n]);
                            let bias = |half: usize| bv[(d * 2 + half) * gates * n + g * n + j];
                            (xs + bias(0), hs + bias(1))
                        };
                        let sum = |g: usize, j: usize| sums(g, j).0 + sums(g, j).1;
                        for j in 0..n {
                            h[at + j] = match op {
                                "LSTM" => {
                                    c[at + j] = sigmoid(sum(2, j)) * c[at + j] + sigmoid(sum(0, j)) * sum(3, j).tanh();
                                    sigmoid(sum(1, j)) * c[at + j].tanh()
                                }
                                "GRU" => {
                                    let z = sigmoid(sum(0, j));
                                    let new = (sums(2, j).0 + sigmoid(sum(1, j)) * sums(2, j).1).tanh();
                                    (1.0 - z) * new + z * old[j]
                                }
                                _ => sum(0, j).tanh(),
                            };
                            y[((t * dirs + d) * batch + s) * n + j] = h[at + j];
                        }
                    }
                }
            }
            let mut attrs = Attrs::new().with("hidden_size", n as i64).with("direction", direction);
            let mut inputs =
                vec![Some((x, false)), Some((w, true)), Some((r, true)), Some((b, true)), None, Some((h0, false))];
            let mut outputs = vec![(DType::F32, vec![steps, dirs, batch, n]), (DType::F32, vec![dirs, batch, n])];
            let mut want = vec![y, h];
            if op == "LSTM" {
                inputs.push(Some((c0, false)));
                outputs.push((DType::F32, vec![dirs, batch, n]));
                want.push(c);
            } else if op == "GRU" {
                attrs.set("linear_before_reset", 1);
            }
            let case = Case { op, attrs, inputs, outputs };
            check(&case, &want, 1e-5);
            // With products in bfloat16, where there is a unit for it.
            check_at(&case, &want, 3e-2, Precision::Bf16);
        }
    }
}

#[test]
fn forms_of_recurrent_layers() {
    let (steps, batch, input, n) = (5, 3, 4, 21);
    for (op, gates, activations) in [
        ("LSTM", 4, &["Sigmoid", "Tanh", "Tanh"][..]),
        ("GRU", 3, &["sigmoid", "tanh"]),
        ("RNN", 1, &["Relu"]),
        ("RNN", 1, &["Sigmoid"]),
    ] {
        for (direction, dirs) in [("forward", 1), ("reverse", 1), ("bidirectional", 2)] {
            for lengths in [None, Some([5, 0, 2])] {
                for linear in [0, 1] {
                    let data = |shape: &[usize], seed, constant| Some((floats(shape, seed), constant));
                    let names: Vec<String> =
                        activations.iter().cycle().take(activations.len() * dirs).map(|s| s.to_string()).collect();
                    let mut attrs = Attrs::new().with("hidden_size", n as i64).with("direction", direction);
                    attrs.set("activations", names);
                    if op == "GRU" {
                        attrs.set("linear_before_reset", linear);
                    }
                    let mut inputs = vec![
                        data(&[steps, batch, input], 1, false),
                        data(&[dirs, gates * n, input], 2, true),
                        data(&[dirs, gates * n, n], 3, true),
                        data(&[dirs, 2 * gates * n], 4, true),
                        lengths.map(|l: [i32; 3]| (Tensor::from_slice(&[batch], &l), false)),
                        data(&[dirs, batch, n], 5, false),
                    ];
                    if op == "LSTM" {
                        inputs.push(data(&[dirs, batch, n], 6, false));
                    }
                    super::any_tests::check(op, attrs, inputs, if op == "LSTM" { 3 } else { 2 }, 1e-5);
                }
            }
        }
    }
}

#[test]
fn transposed_convolutions() {
    // Image sizes, channels, kernel, stride, dilation, pad, extra rows at the end.
    for (groups, k, stride, dilation, pad, extra) in [
        (1, 2, 2, 1, 0, 0),
        (1, 3, 2, 1, 1, 1),
        (2, 3, 1, 2, 0, 0),
        (1, 4, 2, 1, 1, 0),
        (3, 2, 2, 1, 0, 0),
        (1, 2, 3, 1, 0, 0),
    ] {
        let (batch, cin, h, w, mg) = (2, 6, 4, 5, 3);
        let cout = mg * groups;
        let out = |n: usize| (n - 1) * stride + (k - 1) * dilation + 1 + extra - 2 * pad;
        let (oh, ow) = (out(h), out(w));
        let (x, weights, bias) = (floats(&[batch, cin, h, w], 1), floats(&[cin, mg, k, k], 2), floats(&[cout], 3));
        let (xv, wv, bv) = (f64s(&x), f64s(&weights), f64s(&bias));
        let mut want: Vec<f64> = (0..batch * cout * oh * ow).map(|i| bv[i / (oh * ow) % cout]).collect();
        for i in 0..xv.len() {
            let (b, c, y, z) = (i / (cin * h * w), i / (h * w) % cin, i / w % h, i % w);
            for m in 0..mg {
                for t in 0..k * k {
                    let (p, q) = (y * stride + t / k * dilation, z * stride + t % k * dilation);
                    if (pad..oh + pad).contains(&p) && (pad..ow + pad).contains(&q) {
                        let channel = c / (cin / groups) * mg + m;
                        want[((b * cout + channel) * oh + p - pad) * ow + q - pad] +=
                            xv[i] * wv[(c * mg + m) * k * k + t];
                    }
                }
            }
        }
        want.iter_mut().for_each(|v| *v = v.max(0.0));
        let two = |v: usize| [v as i64, v as i64];
        let attrs = Attrs::new()
            .with("strides", two(stride))
            .with("dilations", two(dilation))
            .with("pads", [pad as i64; 4])
            .with("output_padding", two(extra))
            .with("group", groups as i64)
            .with("activation", "relu");
        let inputs = vec![Some((x, false)), Some((weights, true)), Some((bias, true))];
        let case = Case { op: "ConvTranspose", attrs, inputs, outputs: vec![(DType::F32, vec![batch, cout, oh, ow])] };
        check(&case, &[want], 1e-5);
    }
}

#[test]
fn pools() {
    for (k, stride, pad, dilation, ceil) in
        [(2, 2, 0, 1, false), (3, 2, 1, 1, false), (3, 2, 0, 1, true), (2, 1, 1, 2, false)]
    {
        let (batch, c, h, w) = (2, 5, 7, 8);
        let out = |n: usize| {
            let room = n + 2 * pad - (k - 1) * dilation - 1;
            if ceil { room.div_ceil(stride) + 1 } else { room / stride + 1 }
        };
        let (oh, ow) = (out(h), out(w));
        let x = floats(&[batch, c, h, w], 1);
        let xv = f64s(&x);
        for (op, include) in [("MaxPool", false), ("AveragePool", false), ("AveragePool", true)] {
            let want: Vec<f64> = (0..batch * c * oh * ow)
                .map(|i| {
                    let (plane, y, z) = (i / (oh * ow), i / ow % oh, i % ow);
                    let (mut seen, mut padded) = (Vec::new(), 0);
                    for t in 0..k * k {
                        let (p, q) = (y * stride + t / k * dilation, z * stride + t % k * dilation);
                        padded += usize::from(p < h + 2 * pad && q < w + 2 * pad);
                        if (pad..h + pad).contains(&p) && (pad..w + pad).contains(&q) {
                            seen.push(xv[(plane * h + p - pad) * w + q - pad]);
                        }
                    }
                    let sum: f64 = seen.iter().sum();
                    match (op, include) {
                        ("MaxPool", _) => seen.into_iter().fold(f64::NEG_INFINITY, f64::max),
                        (_, true) => sum / padded as f64,
                        _ => sum / seen.len() as f64,
                    }
                })
                .collect();
            let two = |v: usize| [v as i64, v as i64];
            let attrs = Attrs::new()
                .with("kernel_shape", two(k))
                .with("strides", two(stride))
                .with("dilations", two(dilation))
                .with("pads", [pad as i64; 4])
                .with("ceil_mode", ceil)
                .with("count_include_pad", include);
            let case = Case {
                op,
                attrs,
                inputs: vec![Some((x.clone(), false))],
                outputs: vec![(DType::F32, vec![batch, c, oh, ow])],
            };
            check(&case, &[want], 1e-6);
        }
    }
    let x = floats(&[2, 3, 4, 5], 1);
    let planes: Vec<Vec<f64>> = f64s(&x).chunks(20).map(<[f64]>::to_vec).collect();
    let outputs = || vec![(DType::F32, vec![2, 3, 1, 1])];
    let want = planes.iter().map(|p| p.iter().sum::<f64>() / 20.0).collect();
    let case = Case {
        op: "GlobalAveragePool",
        attrs: Attrs::new(),
        inputs: vec![Some((x.clone(), false))],
        outputs: outputs(),
    };
    check(&case, &[want], 1e-6);
    let want = planes.iter().map(|p| p.iter().copied().fold(f64::NEG_INFINITY, f64::max)).collect();
    let case = Case { op: "GlobalMaxPool", attrs: Attrs::new(), inputs: vec![Some((x, false))], outputs: outputs() };
    check(&case, &[want], 0.0);
}

#[test]
fn resizes() {
    let x = Tensor::from_slice(&[1, 1, 2, 2], &[1.0f32, 2.0, 3.0, 4.0]);
    let scales = Tensor::from_slice(&[4], &[1.0f32, 1.0, 2.0, 2.0]);
    // The last two are the ONNX operator's own examples of linear and cubic upsampling.
    let nearest = vec![1., 1., 2., 2., 1., 1., 2., 2., 3., 3., 4., 4., 3., 3., 4., 4.];
    let linear = vec![1., 1.25, 1.75, 2., 1.5, 1.75, 2.25, 2.5, 2.5, 2.75, 3.25, 3.5, 3., 3.25, 3.75, 4.];
    let aligned: Vec<f64> = (0..16).map(|i| 1.0 + (i / 4) as f64 * 2.0 / 3.0 + (i % 4) as f64 / 3.0).collect();
    for (attrs, want) in [
        (Attrs::new().with("mode", "nearest"), nearest),
        (Attrs::new().with("mode", "linear"), linear),
        (Attrs::new().with("mode", "linear").with("coordinate_transformation_mode", "align_corners"), aligned),
    ] {
        let case = Case {
            op: "Resize",
            attrs,
            inputs: vec![Some((x.clone(), false)), None, Some((scales.clone(), true))],
            outputs: vec![(DType::F32, vec![1, 1, 4, 4])],
        };
        check(&case, &[want], 1e-6);
    }
    // Channels last, only the middle axes change: every output pixel is a blend of whole pixels.
    let x = floats(&[1, 2, 2, 3], 1);
    let v = f64s(&x);
    let blend = |a: f64, b: f64, c: usize| {
        let at = |y: usize, z: usize| v[(y * 2 + z) * 3 + c];
        (1.0 - a) * ((1.0 - b) * at(0, 0) + b * at(0, 1)) + a * ((1.0 - b) * at(1, 0) + b * at(1, 1))
    };
    let places = [0.0, 0.25, 0.75, 1.0];
    let want = (0..48).map(|i| blend(places[i / 12], places[i / 3 % 4], i % 3)).collect();
    let case = Case {
        op: "Resize",
        attrs: Attrs::new().with("mode", "linear"),
        inputs: vec![Some((x, false)), None, Some((Tensor::from_slice(&[4], &[1.0f32, 2.0, 2.0, 1.0]), true))],
        outputs: vec![(DType::F32, vec![1, 4, 4, 3])],
    };
    check(&case, &[want], 1e-6);
}

#[test]
fn reductions_over_any_axes() {
    let x = floats(&[2, 3, 4, 5], 1);
    let v = f64s(&x);
    for axes in [vec![1i64], vec![-1], vec![0, 2], vec![1, 2], vec![2, 3], vec![0, 1, 2, 3]] {
        let kept: Vec<usize> = (0..4)
            .map(|d| if axes.contains(&(d as i64)) || axes.contains(&(d as i64 - 4)) { 1 } else { [2, 3, 4, 5][d] })
            .collect();
        let len: usize = kept.iter().product();
        let mut groups = vec![Vec::new(); len];
        for (i, &value) in v.iter().enumerate() {
            let at = [i / 60, i / 20 % 3, i / 5 % 4, i % 5];
            let to = (0..4).fold(0, |o, d| o * kept[d] + if kept[d] == 1 { 0 } else { at[d] });
            groups[to].push(value);
        }
        type Judge = fn(&[f64]) -> f64;
        let judges: [(&'static str, Judge); 6] = [
            ("ReduceSum", |g| g.iter().sum()),
            ("ReduceMean", |g| g.iter().sum::<f64>() / g.len() as f64),
            ("ReduceMax", |g| g.iter().copied().fold(f64::NEG_INFINITY, f64::max)),
            ("ReduceL2", |g| g.iter().map(|v| v * v).sum::<f64>().sqrt()),
            ("ReduceL1", |g| g.iter().map(|v| v.abs()).sum()),
            ("ReduceLogSumExp", |g| g.iter().map(|v| v.exp()).sum::<f64>().ln()),
        ];
        for (op, judge) in judges {
            let want = groups.iter().map(|g| judge(g)).collect();
            let inputs = vec![Some((x.clone(), false)), Some((Tensor::from_slice(&[axes.len()], &axes), true))];
            let case = Case { op, attrs: Attrs::new(), inputs, outputs: vec![(DType::F32, kept.clone())] };
            check(&case, &[want], 1e-5);
        }
    }
}

#[test]
fn half_precision_runs_on_the_kernels_of_single_precision() {
    for dtype in [DType::F16, DType::BF16] {
        let half = |t: &Tensor| Tensor::from_f64(dtype, t.shape(), &f64s(t)).unwrap();
        let (x, w, b) = (half(&floats(&[5, 40], 1)), half(&floats(&[40, 33], 2)), half(&floats(&[33], 3)));
        let (xv, wv, bv) = (f64s(&x), f64s(&w), f64s(&b));
        let want = (0..5 * 33)
            .map(|i| (0..40).map(|k| xv[i / 33 * 40 + k] * wv[k * 33 + i % 33]).sum::<f64>() + bv[i % 33])
            .collect();
        let inputs = vec![Some((x.clone(), false)), Some((w, true)), Some((b, true))];
        let case = Case { op: "Gemm", attrs: Attrs::new(), inputs, outputs: vec![(dtype, vec![5, 33])] };
        // Half of the last place of the stored type, at values up to about eight.
        check(&case, &[want], if dtype == DType::F16 { 4e-3 } else { 3e-2 });
        let want = xv.chunks(40).flat_map(|row| {
            let sum: f64 = row.iter().map(|v| v.exp()).sum();
            row.iter().map(move |v| v.exp() / sum).collect::<Vec<_>>()
        });
        let case = Case {
            op: "Softmax",
            attrs: Attrs::new(),
            inputs: vec![Some((x.clone(), false))],
            outputs: vec![(dtype, vec![5, 40])],
        };
        check(&case, &[want.collect()], 5e-4);
    }
}

#[test]
fn attention_after_a_cache() {
    let (batch, heads, kv, queries, past, dim, wide) = (2, 4, 2, 3, 5, 8, 6);
    let data = |shape: &[usize], seed| Some((floats(shape, seed), false));
    for flat in [false, true] {
        for (cached, outputs) in [(true, 3), (true, 1), (true, 2), (false, 3)] {
            for causal in [0, 1] {
                for masked in [false, true] {
                    let mut attrs = Attrs::new().with("is_causal", causal);
                    let part = |heads: usize, dim: usize, seed| {
                        let split = [batch, heads, queries, dim];
                        if flat { data(&[batch, queries, heads * dim], seed) } else { data(&split, seed) }
                    };
                    if flat {
                        attrs.set("q_num_heads", heads as i64);
                        attrs.set("kv_num_heads", kv as i64);
                    }
                    let keys = queries + if cached { past } else { 0 };
                    let inputs = vec![
                        part(heads, dim, 1),
                        part(kv, dim, 2),
                        part(kv, wide, 3),
                        masked.then(|| (floats(&[queries, keys], 4), false)),
                        if cached { data(&[batch, kv, past, dim], 5) } else { None },
                        if cached { data(&[batch, kv, past, wide], 6) } else { None },
                    ];
                    super::any_tests::check("Attention", attrs, inputs, outputs, 2e-5);
                }
            }
        }
    }
}
