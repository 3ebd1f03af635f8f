//! The library as programs use it.

use oxrt::{BuildOptions, DType, Device, Engine, ExportOptions, Model, Session, Tensor, TensorView, ir};
use std::path::PathBuf;

fn digits() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../examples/digits/model.pt2")
}

/// A model from the text form of a graph.
fn model(text: &str) -> Model {
    let mut m = ir::Model { graph: ir::parse_graph(text).unwrap(), ..Default::default() };
    oxrt::ops::infer::infer_model(&mut m).unwrap();
    let mut found = Vec::new();
    m.graph.inputs.iter().for_each(|&v| m.graph[v].ty.for_each_symbol(&mut |s| found.push(s.clone())));
    found.into_iter().for_each(|s| m.symbols.declare(s, ir::Range { min: 0, max: None }));
    Model::from_ir(m)
}

fn build(text: &str) -> Engine {
    model(text).build(&BuildOptions::default()).unwrap()
}

fn pixels(n: usize, seed: usize) -> Vec<f32> {
    (0..n * 64).map(|i| ((i * 31 + seed * 17) % 23) as f32 / 23.0).collect()
}

#[test]
fn engines_are_shared_between_threads() {
    fn is_send_sync<T: Send + Sync>() {}
    fn is_send<T: Send>() {}
    is_send_sync::<Engine>();
    is_send::<Session>();
    let engine = Model::open(digits()).unwrap().build(&BuildOptions::default()).unwrap();
    let run = |n: usize| {
        let x = pixels(n, n);
        engine.run(&[("pixels", TensorView::of(&[n, 1, 8, 8], &x).unwrap())]).unwrap()[0].clone()
    };
    let alone: Vec<Tensor> = (1..9).map(run).collect();
    std::thread::scope(|s| {
        for _ in 0..4 {
            s.spawn(|| (1..9).rev().for_each(|n| assert_eq!(run(n), alone[n - 1])));
        }
    });
}

#[test]
fn buffers_of_the_caller_may_be_larger_but_not_smaller() {
    let engine = Model::open(digits()).unwrap().build(&BuildOptions::default()).unwrap();
    let mut session = engine.session();
    let x = pixels(2, 0);
    let x = TensorView::of(&[2, 1, 8, 8], &x).unwrap();
    let mut large = [7u8; 100];
    assert_eq!(session.run_into(&[x], &mut [&mut large]).unwrap(), [vec![2, 10]]);
    assert!(large[80..].iter().all(|&b| b == 7), "written beyond the output");
    let mut small = [0u8; 79];
    let e = session.run_into(&[x], &mut [&mut small]).unwrap_err().to_string();
    assert!(e.contains("79") && e.contains("80") && e.contains("output"), "{e}");
}

#[test]
fn sizes_that_depend_on_data_are_true() {
    let engine =
        build("(f32[n] x) { i = NonZero(x)\n j = Squeeze(i, i64[1]{0})\n y = Gather(x, j)\n z = Mul(y, 2.0) } => z");
    assert!(!engine.is_static());
    let mut session = engine.session();
    for (x, want) in [(vec![0f32, 3.0, 0.0, 4.0], vec![6f32, 8.0]), (vec![0.0], vec![]), (vec![1.0; 3], vec![2.0; 3])] {
        let out = session.run(&[("x", TensorView::of(&[x.len()], &x).unwrap())]).unwrap();
        let (_, z) = out.iter().next().unwrap();
        assert_eq!((z.shape(), z.as_slice::<f32>().unwrap()), (&[want.len()][..], &want[..]));
    }
}

#[test]
fn outputs_may_be_inputs_constants_sizes_or_the_same_value_twice() {
    let engine = build("(f32[n, 3] x) { s = Shape(x)\n y = Relu(x) } => y, x, s, y");
    let x = [1f32, -1.0, 2.0, 3.0, -5.0, 0.5];
    let out = engine.run(&[("x", TensorView::of(&[2, 3], &x).unwrap())]).unwrap();
    assert_eq!(out[0].as_slice::<f32>(), [1.0, 0.0, 2.0, 3.0, 0.0, 0.5]);
    assert_eq!(out[1].as_slice::<f32>(), x);
    assert_eq!(out[2].as_slice::<i64>(), [2, 3]);
    assert_eq!(out[3], out[0]);
}

#[test]
fn empty_batches_work() {
    let engine = build("(f32[n, 4] x) { a = MatMul(x, f32[4, 2]{..})\n y = Relu(a) } => y");
    let out = engine.run(&[("x", TensorView::of::<f32>(&[0, 4], &[]).unwrap())]).unwrap();
    assert_eq!((out[0].shape(), out[0].dtype()), (&[0, 2][..], DType::F32));
}

#[test]
fn a_saved_engine_gives_the_same_and_knows_its_machine() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("d.engine");
    let model = Model::open(digits()).unwrap();
    let built = model.build(&BuildOptions::default()).unwrap();
    built.save(&path).unwrap();
    let loaded = Engine::open(&path).unwrap();
    let x = pixels(3, 1);
    let x = [("pixels", TensorView::of(&[3, 1, 8, 8], &x).unwrap())];
    assert_eq!(built.run(&x).unwrap()[0], loaded.run(&x).unwrap()[0]);
    // The judge agrees, from a file of its own.
    let judge = model.build(&BuildOptions { device: Device::Reference, ..Default::default() }).unwrap();
    judge.save(&path).unwrap();
    let judge = Engine::open(&path).unwrap();
    assert_eq!(judge.device(), "reference");
    let c = oxrt::compare_tensors("y", &built.run(&x).unwrap()[0], &judge.run(&x).unwrap()[0], 1e-4, 1e-5).unwrap();
    assert!(c.passed, "{c:?}");
}

#[test]
fn dimensions_are_named_by_place() {
    let options = ExportOptions { dims: vec!["pixels:0=images=1..8".into()], ..Default::default() };
    let model = Model::open_with(digits(), &options).unwrap();
    let ranges: Vec<String> = model.ir().symbols.iter().map(|(s, r)| format!("{s}={r}")).collect();
    assert_eq!(ranges, ["images=1..8"]);
}

#[test]
fn control_flow_runs() {
    let text = "(f32[3] x, bool c) { y = Abs(x)\n z = Where(c, x, y) } => z";
    let engine = build(text);
    let x = [-1f32, 2.0, -3.0];
    for (c, want) in [(true, [-1f32, 2.0, -3.0]), (false, [1.0, 2.0, 3.0])] {
        let c = Tensor::scalar(c);
        let out = engine.run(&[("x", TensorView::of(&[3], &x).unwrap()), ("c", c.view().unwrap())]).unwrap();
        assert_eq!(out[0].as_slice::<f32>(), want);
    }
}

#[test]
fn integers_made_of_sizes_wrap_around_like_any_others() {
    let text = "(f32[n] x) { s = Shape(x)\n y = Mul(s, i64[1]{9223372036854775807}) } => y";
    let engine = build(text);
    let judge = model(text).build(&BuildOptions { device: Device::Reference, ..Default::default() }).unwrap();
    for n in [1usize, 2, 3] {
        let x = vec![0f32; n];
        let shape = [n];
        let x = [("x", TensorView::of(&shape, &x).unwrap())];
        let want = (n as i64).wrapping_mul(i64::MAX);
        assert_eq!(engine.run(&x).unwrap()[0].as_slice::<i64>(), [want]);
        assert_eq!(judge.run(&x).unwrap()[0].as_slice::<i64>(), [want]);
    }
}

/// A mean of single precision may miss equal elements by their last place, which must not be divided by itself.
#[test]
fn normalised_equal_elements_are_zeros() {
    let engine = build("(f32[n, 11, 1, 2] x) { y = MeanVarianceNormalization(x) } => y");
    for value in [3.0f32, 0.1, -123.456] {
        let x = vec![value; 7 * 11 * 2];
        let y = engine.run(&[("x", TensorView::of(&[7, 11, 1, 2], &x).unwrap())]).unwrap();
        let largest = y[0].as_slice::<f32>().iter().fold(0f32, |top, v| top.max(v.abs()));
        assert!(largest < 1e-3, "{value}: {largest}");
    }
}
