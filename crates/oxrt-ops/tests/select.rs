//! Operators that pick by value, against definitions that are slow and plain.

use oxrt_ir::{Attrs, Graph};
use oxrt_ops::Datum;
use oxrt_tensor::Tensor;

fn run(op: &str, attrs: Attrs, inputs: Vec<Tensor>, outputs: usize) -> Vec<Tensor> {
    let mut graph = Graph::new("test");
    let ids: Vec<_> =
        inputs.iter().enumerate().map(|(i, t)| Some(graph.add_constant(&format!("c{i}"), t.clone()))).collect();
    let id = graph.add_node(op, "node", &ids, attrs, outputs);
    let data: Vec<Option<Datum>> = inputs.into_iter().map(|t| Some(t.into())).collect();
    let results = oxrt_ops::eval::eval_node(&graph[id], &data, &|_| None).unwrap();
    results.into_iter().map(|d| d.into_tensor().unwrap()).collect()
}

/// Reproducible numbers in 0..1.
fn noise(n: usize, mut seed: u32) -> Vec<f32> {
    let mut next = || {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (seed >> 8) as f32 / (1 << 24) as f32
    };
    (0..n).map(|_| next()).collect()
}

/// Shares of boxes by the words of the standard, in the precision of the boxes.
fn share(a: &[f32], b: &[f32], centred: bool) -> f32 {
    let sides = |x: &[f32], d: usize| {
        let (p, q) = (x[d], x[d + 2]);
        if centred { (p - q / 2.0, p + q / 2.0) } else { (p.min(q), p.max(q)) }
    };
    let area = |x: &[f32]| (0..2).map(|d| sides(x, d).1 - sides(x, d).0).product::<f32>();
    let common: f32 =
        (0..2).map(|d| (sides(a, d).1.min(sides(b, d).1) - sides(a, d).0.max(sides(b, d).0)).max(0.0)).product();
    if common <= 0.0 { 0.0 } else { common / (area(a) + area(b) - common) }
}

#[test]
fn boxes_that_overlap_no_better_one() {
    let (n, classes) = (700, 3);
    for (centred, most, limit, least) in
        [(0, 100, 0.3f32, 0.5f32), (1, 1000, 0.5, 0.0), (1, 17, 0.0, 0.9), (0, 20, 1.0, 0.2), (0, 20, -0.5, 0.2)]
    {
        let size = noise(4 * n, 3);
        // Corners in either order, or places and sizes; some boxes are empty.
        let boxes: Vec<f32> = (0..4 * n)
            .map(|i| match (i % 4 < 2, centred) {
                (true, _) | (false, 0) => size[i] * 20.0,
                _ => (size[i] * 5.0).round(),
            })
            .collect();
        // Many scores are equal.
        let scores: Vec<f32> = noise(classes * n, 5).iter().map(|s| (s * 50.0).floor() / 50.0).collect();
        let mut want: Vec<i64> = Vec::new();
        for class in 0..classes {
            let score = |i: usize| scores[class * n + i];
            let mut order: Vec<usize> = (0..n).filter(|&i| score(i) > least).collect();
            order.sort_by(|&a, &b| score(b).total_cmp(&score(a)));
            let mut kept: Vec<usize> = Vec::new();
            for i in order {
                let near = |&k: &usize| share(&boxes[4 * i..4 * i + 4], &boxes[4 * k..4 * k + 4], centred == 1);
                if kept.len() < most && kept.iter().map(near).all(|s| s <= limit) {
                    kept.push(i);
                }
            }
            kept.into_iter().for_each(|i| want.extend([0, class as i64, i as i64]));
        }
        let inputs = vec![
            Tensor::from_slice(&[1, n, 4], &boxes),
            Tensor::from_slice(&[1, classes, n], &scores),
            Tensor::from_slice(&[1], &[most as i64]),
            Tensor::from_slice(&[1], &[limit]),
            Tensor::from_slice(&[1], &[least]),
        ];
        let got = run("NonMaxSuppression", Attrs::new().with("center_point_box", centred), inputs, 1);
        assert_eq!(got[0].as_slice::<i64>(), want, "{centred} {most} {limit} {least}");
    }
}

#[test]
fn different_numbers_in_order() {
    let x = [0.0f32, -0.0, f32::NAN, 1.5, -2.0, f32::INFINITY, 1.5, f32::NEG_INFINITY, -f32::NAN, -2.5];
    for (sorted, want) in [(1, "[-inf, -2.5, -2.0, 0.0, 1.5, inf, NaN]"), (0, "[0.0, NaN, 1.5, -2.0, inf, -inf, -2.5]")]
    {
        let got = run("Unique", Attrs::new().with("sorted", sorted), vec![Tensor::from_slice(&[10], &x)], 4);
        assert_eq!(format!("{:?}", got[0].as_slice::<f32>()), want);
        // Every element finds itself.
        for (i, place) in got[2].as_slice::<i64>().iter().enumerate() {
            let y = got[0].as_slice::<f32>()[*place as usize];
            assert!(y == x[i] || y.is_nan() && x[i].is_nan());
        }
        assert_eq!(got[3].as_slice::<i64>().iter().sum::<i64>(), 10);
    }
    let x = Tensor::from_slice(&[3, 2, 2], &[5u64, 1 << 63, 0, 7, 5, 1, 0, 7, 5, 1 << 63, 0, 7]);
    let got = run("Unique", Attrs::new().with("axis", 0), vec![x.clone()], 4);
    assert_eq!(got[0].as_slice::<u64>(), [5, 1, 0, 7, 5, 1 << 63, 0, 7]);
    assert_eq!((got[1].as_slice::<i64>(), got[2].as_slice::<i64>()), (&[1, 0][..], &[1, 0, 1][..]));
    let got = run("Unique", Attrs::new(), vec![x], 1);
    assert_eq!(got[0].as_slice::<u64>(), [0, 1, 5, 7, 1 << 63]);
}

#[test]
fn runs_of_elements_of_any_size() {
    let keep = Tensor::from_slice(&[3], &[true, false, true]);
    for dtype in [oxrt_tensor::DType::U4, oxrt_tensor::DType::U8, oxrt_tensor::DType::F16, oxrt_tensor::DType::I64] {
        let x = Tensor::from_i64(dtype, &[2, 3, 2], &(0..12).collect::<Vec<_>>()).unwrap();
        let got = run("Compress", Attrs::new().with("axis", 1), vec![x, keep.clone()], 1);
        assert_eq!(got[0].shape(), [2, 2, 2]);
        assert_eq!(got[0].to_f64_vec().unwrap(), [0.0, 1.0, 4.0, 5.0, 6.0, 7.0, 10.0, 11.0]);
    }
    let mask: Vec<bool> = (0..37).map(|i| i % 9 == 4 || i == 36).collect();
    let got = run("NonZero", Attrs::new(), vec![Tensor::from_slice(&[37], &mask)], 1);
    assert_eq!(got[0].as_slice::<i64>(), [4, 13, 22, 31, 36]);
}
