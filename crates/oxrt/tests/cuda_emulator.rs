//! The runtime's way of running on a device, on the emulated one: first run, recording, replay, sizes in turn, memory of the
//! device's own, steps on the host between, errors of the device.

use oxrt::{BuildOptions, Device, Model, Precision, Tensor, Tuning};

fn build(text: &str, device: Device) -> oxrt::Engine {
    let graph = oxrt::ir::parse_graph(text).unwrap();
    let mut ir = oxrt::ir::Model { graph, ..Default::default() };
    oxrt::ops::infer::infer_model(&mut ir).unwrap();
    Model::from_ir(ir).build(&BuildOptions { device, ..BuildOptions::default() }).unwrap()
}

/// `Det` has no kernel, so the host runs it between kernels.
const MIXED: &str = "(f32[b, 3, 3] x, f32[b] y) { a = Tanh(x); d = Det(a); s = Add(d, y); e = Exp(s) } => e, a";

fn inputs(batch: usize, seed: usize) -> [Tensor; 2] {
    let value = |i: usize| ((i * 7919 + seed * 31) % 101) as f32 / 50.0 - 1.0;
    let x: Vec<f32> = (0..batch * 9).map(value).collect();
    let y: Vec<f32> = (0..batch).map(value).collect();
    [Tensor::from_slice(&[batch, 3, 3], &x), Tensor::from_slice(&[batch], &y)]
}

fn close(got: &[f32], want: &[f32]) {
    assert_eq!(got.len(), want.len());
    for (g, w) in got.iter().zip(want) {
        assert!((g - w).abs() <= 1e-5 * (1.0 + w.abs()), "{g}, not {w}");
    }
}

#[test]
fn runs_are_recorded_per_size_and_equal_those_of_the_cpu() {
    let (cpu, gpu) = (build(MIXED, Device::Cpu), build(MIXED, Device::CudaEmulator));
    let mut session = gpu.session();
    // The first run is direct, the second records, the third replays; a larger size moves the arena in between.
    for (seed, batch) in [2, 2, 2, 7, 2, 7, 7, 2].into_iter().enumerate() {
        let tensors = inputs(batch, seed);
        let views: Vec<_> = tensors.iter().map(|t| t.view().unwrap()).collect();
        let want =
            cpu.session().run_ordered(&views).unwrap().iter().map(|v| v.to_tensor().unwrap()).collect::<Vec<_>>();
        let got = session.run_ordered(&views).unwrap();
        for (g, w) in got.iter().zip(&want) {
            assert_eq!(g.shape(), w.shape());
            close(g.to_tensor().unwrap().as_slice::<f32>(), w.as_slice::<f32>());
        }
    }
}

#[test]
fn memory_of_the_device_is_read_and_written_in_place() {
    let (cpu, gpu) = (build(MIXED, Device::Cpu), build(MIXED, Device::CudaEmulator));
    let mut session = gpu.session();
    for seed in 0..3 {
        let [x, y] = inputs(4, seed);
        let want = cpu.session().run_ordered(&[x.view().unwrap(), y.view().unwrap()]).unwrap()[0].to_tensor().unwrap();
        let (mut e, mut a) = (vec![f32::NAN; 4], vec![f32::NAN; 36]);
        // SAFETY: the emulator's memory is the host's; all four have their bound sizes.
        let shapes = unsafe {
            session.run_on_device(
                &[x.bytes().as_ptr(), y.bytes().as_ptr()],
                &[&[4, 3, 3], &[4]],
                &[e.as_mut_ptr().cast(), a.as_mut_ptr().cast()],
            )
        };
        assert_eq!(shapes.unwrap(), [vec![4], vec![4, 3, 3]]);
        close(&e, want.as_slice::<f32>());
        assert!(a.iter().all(|v| v.is_finite()));
    }
    // SAFETY: refused before any pointer is followed.
    assert!(unsafe { session.run_on_device(&[], &[], &[]) }.is_err());
}

/// Runs on memory of the emulated device, which is the host's, with `rooms` bytes for each output. Returns shapes and bytes.
fn run_within(engine: &oxrt::Engine, x: &Tensor, rooms: &[usize]) -> oxrt::Result<Vec<(Vec<usize>, Vec<u8>)>> {
    let mut blocks: Vec<Vec<u64>> = rooms.iter().map(|bytes| vec![0; bytes.div_ceil(8)]).collect();
    let outputs: Vec<(*mut u8, usize)> =
        blocks.iter_mut().zip(rooms).map(|(b, &room)| (b.as_mut_ptr().cast(), room)).collect();
    // SAFETY: each block has as many bytes as is said.
    let shapes = unsafe { engine.session().run_on_device_within(&[x.bytes().as_ptr()], &[x.shape()], &outputs)? };
    let bytes = |b: &Vec<u64>| b.iter().flat_map(|w| w.to_le_bytes()).collect();
    Ok(shapes.into_iter().zip(blocks.iter().map(bytes)).collect())
}

#[test]
fn results_of_sizes_that_data_decides_go_to_memory_of_the_device() {
    let text = "(f32[n, 4] x) {
        a = Mul(x, f32{2}); s = ReduceMax<keepdims=0>(a, i64[1]{1}); c = Greater(s, f32{0}); i = NonZero(c); j = Squeeze(i, i64[1]{0})
        y = Gather(a, j); z = Relu(y) } => z, s";
    // The second engine has no step before the first size that data decides.
    let alone = "(f32[n, 4] x) { i = NonZero(x); j = Cast<to=1>(i) } => j";
    for (text, most) in [(text, vec![6 * 4 * 4, 6 * 4]), (alone, vec![2 * 24 * 4])] {
        let (cpu, gpu) = (build(text, Device::Cpu), build(text, Device::CudaEmulator));
        assert_eq!(gpu.session().most_output_bytes(&[&[6, 4]]).unwrap(), most);
        for seed in 0..3 {
            let x: Vec<f32> =
                (0..24).map(|i| if (i / 4 + seed) % 3 == 0 { -1.0 } else { ((i * 7 + seed) % 5) as f32 }).collect();
            let x = Tensor::from_slice(&[6, 4], &x);
            let mut session = cpu.session();
            let want: Vec<Tensor> =
                session.run_ordered(&[x.view().unwrap()]).unwrap().iter().map(|v| v.to_tensor().unwrap()).collect();
            let got = run_within(&gpu, &x, &most).unwrap();
            for ((shape, bytes), want) in got.iter().zip(&want) {
                assert_eq!(shape, want.shape());
                assert_eq!(&bytes[..want.bytes().len()], want.bytes());
            }
            let small: Vec<usize> = want.iter().map(|t| t.bytes().len() - 4).collect();
            let error = run_within(&gpu, &x, &small).unwrap_err().to_string();
            assert!(error.contains(&format!("{} bytes", want[0].bytes().len())), "{error}");
        }
        // SAFETY: refused before any pointer is followed.
        let refused = unsafe { gpu.session().run_on_device(&[], &[], &[]) }.unwrap_err();
        assert!(format!("{refused:?}").contains("run_on_device_within"), "{refused:?}");
        let x = Tensor::from_slice(&[6, 4], &[1f32; 24]);
        let options =
            oxrt::BenchOptions { warmup: 1, runs: 2, duration: std::time::Duration::ZERO, ..Default::default() };
        let report = oxrt::bench(&gpu, &[x], &options).unwrap();
        for part in
            [report.device_ms, report.enqueue_ms, report.copy_in_ms, report.copy_out_ms, report.device_memory_ms]
        {
            assert!(part.is_some_and(|ms| ms > 0.0), "{report:?}");
        }
        assert_eq!(report.device_memory_equal, Some(true));
    }
    // Elements of an input that are sizes have no bound that is known before they are read.
    let gpu = build("(i64 n) { r = Range(i64{0}, n, i64{1}); y = Add(r, i64{1}) } => y", Device::CudaEmulator);
    let error = gpu.session().most_output_bytes(&[&[]]).unwrap_err().to_string();
    assert!(error.contains("known bound"), "{error}");
    let got = run_within(&gpu, &Tensor::from_slice(&[], &[3i64]), &[64]).unwrap();
    assert_eq!((&got[0].0[..], &got[0].1[..24]), (&[3][..], &[1i64, 2, 3].map(i64::to_le_bytes).concat()[..]));
}

#[test]
fn an_index_out_of_range_names_the_node_and_leaves_the_session_usable() {
    let gpu = build("(f32[4, 2] x, i64[n] i) { y = Gather(x, i) } => y", Device::CudaEmulator);
    let x = Tensor::from_slice(&[4, 2], &[0f32, 1., 2., 3., 4., 5., 6., 7.]);
    let mut session = gpu.session();
    let mut run = |at: [i64; 2]| {
        let i = Tensor::from_slice(&[2], &at);
        let out = session.run_ordered(&[x.view().unwrap(), i.view().unwrap()])?;
        Ok::<_, oxrt::Error>(out[0].to_tensor().unwrap().as_slice::<f32>().to_vec())
    };
    for _ in 0..3 {
        assert_eq!(run([3, -4]).unwrap(), [6., 7., 0., 1.]);
        let e = run([0, 4]).unwrap_err().to_string();
        assert!(e.contains("out of range") && e.contains("Gather"), "{e}");
    }
}

#[test]
fn values_stay_on_the_device_where_data_decides_sizes() {
    // The host finds out how many elements are positive; kernels before, beside and after it.
    let text = "(f32[n, 4] x, i64[k] i) {
        a = Tanh(x)
        r = Relu(x)
        z = NonZero(r)
        t = Transpose(z)
        v = GatherND(a, t)
        e = Exp(v)
        f = Reshape(a, i64[1]{-1})
        h = Gather(f, i)
        s = ReduceSum(v, i64[1]{0})
    } => e, h, a, s";
    let (cpu, gpu) = (build(text, Device::Cpu), build(text, Device::CudaEmulator));
    let mut session = gpu.session();
    for (seed, n) in [3, 3, 8, 1, 8, 3].into_iter().enumerate() {
        let value = |i: usize| ((i * 7919 + seed * 31) % 101) as f32 / 50.0 - 1.0;
        let x = Tensor::from_slice(&[n, 4], &(0..n * 4).map(value).collect::<Vec<_>>());
        let at = |places: [i64; 3]| Tensor::from_slice(&[3], &places);
        let good = at([0, 3, -1]);
        let views = [x.view().unwrap(), good.view().unwrap()];
        let want: Vec<_> = cpu.session().run_ordered(&views).unwrap().iter().map(|v| v.to_tensor().unwrap()).collect();
        let got = session.run_ordered(&views).unwrap();
        for (g, w) in got.iter().zip(&want) {
            assert_eq!(g.shape(), w.shape());
            close(g.to_tensor().unwrap().as_slice::<f32>(), w.as_slice::<f32>());
        }
        let bad = at([0, 1, 4 * n as i64]);
        let e = session.run_ordered(&[x.view().unwrap(), bad.view().unwrap()]).unwrap_err().to_string();
        assert!(e.contains("out of range") && e.contains("Gather"), "{e}");
    }
}

/// A detection head: boxes that overlap no better one, of each class; their scores, and boxes in the image's corners.
#[test]
fn what_is_suppressed_is_found_on_the_device() {
    let text = "(f32[b, n, 4] boxes, f32[b, c, n] raw, f32[4] image) {
        s = Sigmoid(raw)
        k = NonMaxSuppression<center_point_box=1>(boxes, s, i64{20}, 0.4, 0.3)
        g = Slice(k, i64[1]{0}, i64[1]{1}, i64[1]{1})
        cls = Slice(k, i64[1]{1}, i64[1]{2}, i64[1]{1})
        at = Slice(k, i64[1]{2}, i64[1]{3}, i64[1]{1})
        where = Concat<axis=1>(g, at)
        picked = GatherND(boxes, where)
        scaled = Mul(picked, image)
        score = GatherND(s, k)
        top = ReduceMax<keepdims=0>(score, i64[1]{0})
        any = Greater(s, 0.9)
        z = NonZero(any)
        strong = Compress<axis=2>(raw, bool[7]{1, 0, 0, 1, 1, 0, 1})
    } => k, scaled, score, cls, top, z, s, strong";
    let (cpu, gpu) = (build(text, Device::Cpu), build(text, Device::CudaEmulator));
    assert!(!gpu.is_static());
    assert!(gpu.plan().steps.iter().all(|s| !matches!(s.kind, oxrt::plan::StepKind::Host)), "{:?}", gpu.plan().steps);
    let mut session = gpu.session();
    let mut found = Vec::new();
    for (seed, [b, c, n]) in
        [[1, 3, 40], [1, 3, 40], [1, 3, 40], [2, 2, 90], [1, 1, 7], [1, 3, 40], [2, 2, 90]].into_iter().enumerate()
    {
        let value = |i: usize| ((i * 7919 + seed * 31) % 101) as f32 / 50.0 - 1.0;
        let boxes: Vec<f32> = (0..b * n * 4).map(|i| if i % 4 < 2 { value(i) } else { value(i).abs() }).collect();
        let boxes = Tensor::from_slice(&[b, n, 4], &boxes);
        // The fifth run finds nothing.
        let raw: Vec<f32> = (0..b * c * n).map(|i| if seed == 4 { -5.0 } else { value(i + 3) * 4.0 }).collect();
        let raw = Tensor::from_slice(&[b, c, n], &raw);
        let image = Tensor::from_slice(&[4], &[640f32, 480.0, 640.0, 480.0]);
        let views = [boxes.view().unwrap(), raw.view().unwrap(), image.view().unwrap()];
        let want: Vec<_> = cpu.session().run_ordered(&views).unwrap().iter().map(|v| v.to_tensor().unwrap()).collect();
        let got = session.run_ordered(&views).unwrap();
        for (g, w) in got.iter().zip(&want) {
            assert_eq!(g.shape(), w.shape());
            let (g, w) = (g.to_tensor().unwrap().to_f64_vec().unwrap(), w.to_f64_vec().unwrap());
            assert!(g.iter().zip(&w).all(|(g, w)| g == w || (g - w).abs() <= 1e-5 * (1.0 + w.abs())), "{g:?} {w:?}");
        }
        found.push(want[0].shape()[0]);
    }
    assert!(found[4] == 0 && found.iter().sum::<usize>() > 50, "{found:?}");
}

/// Numbers that the data decides, taken for sizes: kernels run what comes of them, and where a number is no size after all the evaluator does.
#[test]
fn numbers_that_data_decides_are_sizes() {
    let count = "s = ReduceSum<keepdims=0>(x, i64[2]{0, 1})
        f = Floor(s)
        c = Cast<to=7>(f)
        u = Unsqueeze(c, i64[1]{0})
        most = Max(c, i64{0})
        next = Add(most, i64{1})
        r = Range(i64{0}, c, i64{1})
        w = Slice(x, i64[1]{0}, u, i64[1]{0})
        t = Tanh(w)
        d = Mul(r, i64{3})";
    let wide = "shape = Concat<axis=0>(u, i64[1]{3})
        e = Expand(f32[1, 3]{1, 2, 3}, shape)
        z = ConstantOfShape<value=f32[1]{2}>(shape)
        g = Add(e, z)
        h = Exp(g)
        q = Reshape(h, i64[1]{-1})";
    let types = "(f32[n, 4] x)";
    // The sum of a row is 1: so many rows, so large the number.
    for (text, rows) in [
        (format!("{types} {{ {count} }} => d, t, most, next"), vec![3i32, 5, 3, -2, 4, -1, 0]),
        (format!("{types} {{ {count} {wide} }} => d, t, h, q, next"), vec![3, 3, 3, 7, 0, 2]),
    ] {
        let graph = oxrt::ir::parse_graph(&text).unwrap();
        let mut model = oxrt::ir::Model { graph, ..Default::default() };
        oxrt::ops::infer::infer_model(&mut model).unwrap();
        for device in [Device::Cpu, Device::CudaEmulator] {
            let engine = build(&text, device);
            let hosted = engine.plan().steps.iter().filter(|s| s.is_on_host(&engine.plan().graph)).count();
            assert!(device == Device::Cpu || hosted == 0, "{:?}", engine.plan().steps);
            let mut session = engine.session();
            for &k in &rows {
                let n = k.unsigned_abs() as usize;
                let x = Tensor::from_slice(&[n.max(1), 4], &vec![k as f32 / (4 * n.max(1)) as f32; n.max(1) * 4]);
                let want = oxrt::ops::Interpreter::new(&model.graph).run(vec![x.clone().into()]).unwrap();
                let got = session.run_ordered(&[x.view().unwrap()]).unwrap();
                for (g, w) in got.iter().zip(&want) {
                    let w = w.as_tensor().unwrap();
                    assert_eq!(g.shape(), w.shape(), "{k} on {device:?}");
                    let (g, w) = (g.to_tensor().unwrap().to_f64_vec().unwrap(), w.to_f64_vec().unwrap());
                    assert!(g.iter().zip(&w).all(|(g, w)| (g - w).abs() <= 1e-5 * (1.0 + w.abs())), "{k}: {g:?} {w:?}");
                }
            }
        }
    }
}

/// Weights that half precision does not hold, and a product of what they make.
#[test]
fn what_half_precision_does_not_hold_stays_in_single() {
    for (text, shape) in [
        (
            "(f32[4, 16] x) { b = MatMul(x, f32[16, 16]{2}); t = Tanh(b);
                c = MatMul(t, f32[16, 16]{100000}); d = MatMul(c, f32[16, 8]{0.0001}) } => d",
            &[4, 16][..],
        ),
        (
            "(f32[1, 8, 9, 9] x) { c = Conv<kernel_shape=[3, 3]>(x, f32[8, 8, 3, 3]{100000});
                d = Conv<kernel_shape=[1, 1]>(c, f32[4, 8, 1, 1]{0.0001}) } => d",
            &[1, 8, 9, 9],
        ),
    ] {
        let model = || {
            let graph = oxrt::ir::parse_graph(text).unwrap();
            let mut ir = oxrt::ir::Model { graph, ..Default::default() };
            oxrt::ops::infer::infer_model(&mut ir).unwrap();
            Model::from_ir(ir)
        };
        let x = Tensor::from_slice(shape, &vec![0.5f32; shape.iter().product()]);
        let run = |options: &BuildOptions| {
            let (engine, report) = model().build_with(options, &mut |_, _, _| {}).unwrap();
            let y = engine.session().run_ordered(&[x.view().unwrap()]).unwrap()[0].to_tensor().unwrap();
            (y.as_slice::<f32>().to_vec(), report.notes, engine)
        };
        let (want, ..) = run(&BuildOptions::default());
        let half = BuildOptions { device: Device::CudaEmulator, precision: Precision::F16, ..BuildOptions::default() };
        let (lost, notes, _) = run(&half);
        assert!(lost.iter().any(|v| !v.is_finite()), "{lost:?}");
        assert!(notes.is_empty(), "{notes:?}");

        let (got, notes, engine) = run(&BuildOptions { overflow_samples: Some(vec![x.clone()]), ..half });
        for (g, w) in got.iter().zip(&want) {
            assert!((g - w).abs() <= 2e-3 * w.abs(), "{g}, not {w}");
        }
        assert!(!notes.is_empty() && notes.iter().all(|n| n.contains("in single precision")), "{notes:?}");
        let plain = engine.plan().steps.iter().filter(|s| format!("{:?}", s.kind).contains("_plain")).count();
        assert_eq!(plain, 2);
    }
}

/// A record in which another kernel is quicker at the least size than at the usual one: the engine holds both, and takes each
/// where it is the quickest.
#[test]
fn each_size_gets_the_kernel_that_was_quickest_there() {
    let weights: Vec<f32> = (0..64 * 64).map(|i| ((i * 37) % 101) as f32 / 500.0 - 0.1).collect();
    let list: Vec<String> = weights.iter().map(f32::to_string).collect();
    let text = format!("(f32[b, 64] x) {{ y = MatMul(x, f32[64, 64]{{{}}}) }} => y", list.join(", "));
    let graph = oxrt::ir::parse_graph(&text).unwrap();
    let mut ir = oxrt::ir::Model { graph, ..Default::default() };
    oxrt::ops::infer::infer_model(&mut ir).unwrap();
    let model = Model::from_ir(ir);
    let record = std::env::temp_dir().join(format!("oxrt-sizes-{}.json", std::process::id()));
    let build = || {
        let options = BuildOptions {
            device: Device::CudaEmulator,
            precision: Precision::F16,
            profiles: vec![vec!["b=8:16:32".parse().unwrap()]],
            tuning: Tuning::Record(record.clone()),
            ..BuildOptions::default()
        };
        model.build(&options).unwrap()
    };
    build();
    // All three sizes are in the record now. The last kernel is made quickest at the least, the first one elsewhere.
    let mut json: serde_json::Value = serde_json::from_slice(&std::fs::read(&record).unwrap()).unwrap();
    let nodes = json["machines"].as_object_mut().unwrap().values_mut().next().unwrap().as_object_mut().unwrap();
    assert_eq!(nodes.len(), 3, "{:?}", nodes.keys());
    let mut names = Vec::new();
    for (key, times) in nodes.iter_mut() {
        let times = times.as_object_mut().unwrap();
        names = times.keys().cloned().collect();
        let quickest = if key.contains("[8, 64]") { names.len() - 1 } else { 0 };
        for (i, name) in names.iter().enumerate() {
            times[name] = (if i == quickest { 1.0 } else { 2.0 }).into();
        }
    }
    std::fs::write(&record, json.to_string()).unwrap();
    let engine = build();
    let (again, file) = (build(), record.with_extension("engine"));
    engine.save(&file).unwrap();
    let bytes = std::fs::read(&file).unwrap();
    again.save(&file).unwrap();
    assert!(bytes == std::fs::read(&file).unwrap(), "the same record gives the same file");
    // Opened by the CPU's backend it could not run: the plan is what is looked at.
    assert_eq!(oxrt::plan::read_plan(&file).unwrap().steps[0].kind.kernels().len(), 2);
    let _ = (std::fs::remove_file(&record), std::fs::remove_file(&file));
    let cpu = model.build(&BuildOptions::default()).unwrap();
    let mut session = engine.session();
    for (batch, kernel) in [(8, names.len() - 1), (16, 0), (9, names.len() - 1), (32, 0), (12, 0)] {
        let x: Vec<f32> = (0..batch * 64).map(|i| ((i * 53) % 97) as f32 / 97.0 - 0.5).collect();
        let x = Tensor::from_slice(&[batch, 64], &x);
        let view = || [x.view().unwrap()];
        session.start_profile();
        let got = session.run_ordered(&view()).unwrap()[0].to_tensor().unwrap();
        let steps = session.take_profile();
        assert!(steps.iter().any(|s| s.kernel == names[kernel]), "{batch}: {steps:?}, not {}", names[kernel]);
        let want = cpu.session().run_ordered(&view()).unwrap()[0].to_tensor().unwrap();
        for (g, w) in got.as_slice::<f32>().iter().zip(want.as_slice::<f32>()) {
            assert!((g - w).abs() < 2e-3, "{batch}: {g}, not {w}");
        }
    }
}

#[test]
fn floats_of_8_bits_are_multiplied() {
    let text = "(f32[b, 32] x) {
        q = QuantizeLinear<output_dtype=17>(x, f32{0.01}); d = DequantizeLinear(q, f32{0.01})
        w = DequantizeLinear<axis=1>(f8e4m3fn[32, 16]{0.5}, f32[16]{0.25}); m = MatMul(d, w); a = Add(m, f32[16]{-0.5}); y = Relu(a)
    } => y";
    let x: Vec<f32> = (0..3 * 32).map(|i| (i % 17) as f32 / 8.0 - 0.9).collect();
    let x = Tensor::from_slice(&[3, 32], &x);
    let run = |engine: &oxrt::Engine| {
        let mut session = engine.session();
        session.run_ordered(&[x.view().unwrap()]).unwrap()[0].to_tensor().unwrap()
    };
    let gpu = build(text, Device::CudaEmulator);
    let ops: Vec<String> = gpu.plan().graph.nodes().map(|(_, n)| n.op.to_string()).collect();
    assert_eq!(ops, ["QuantizeLinear", "oxrt.QGemm"]);
    close(run(&gpu).as_slice::<f32>(), run(&build(text, Device::Cpu)).as_slice::<f32>());
}

#[test]
fn convolutions_of_floats_of_8_bits_are_a_chain() {
    let quantised = |from: &str, to: &str| {
        format!(
            "{to}q = QuantizeLinear<output_dtype=17>({from}, f32{{0.02}}); {to} = DequantizeLinear({to}q, f32{{0.02}})"
        )
    };
    // The first block adds what is not rounded before, the second what is.
    let text = format!(
        "(f32[b, 16, 6, 5] x) {{
        {}; w = DequantizeLinear<axis=0>(f8e4m3fn[16, 16, 3, 3]{{0.5}}, f32[16]{{0.02}}); c = Conv<pads=[1, 1, 1, 1]>(x0, w, f32[16]{{0.1}}); r = Relu(c)
        {}; d = Conv<pads=[1, 1, 1, 1]>(x1, w); s = Add(d, x0); t = Relu(s)
        {}; e = Conv<pads=[1, 1, 1, 1]>(x2, w)
        {}; u = Add(x3, x2); v = Relu(u)
        {}; y = Conv<pads=[1, 1, 1, 1]>(x4, w)
    }} => y",
        quantised("x", "x0"),
        quantised("r", "x1"),
        quantised("t", "x2"),
        quantised("e", "x3"),
        quantised("v", "x4")
    );
    let x: Vec<f32> = (0..2 * 16 * 30).map(|i| (i % 17) as f32 / 8.0 - 0.9).collect();
    let x = Tensor::from_slice(&[2, 16, 6, 5], &x);
    let run = |engine: &oxrt::Engine| {
        let mut session = engine.session();
        session.run_ordered(&[x.view().unwrap()]).unwrap()[0].to_tensor().unwrap()
    };
    let gpu = build(&text, Device::CudaEmulator);
    let ops: Vec<String> = gpu.plan().graph.nodes().map(|(_, n)| n.op.to_string()).collect();
    assert_eq!(ops.iter().filter(|o| *o == "oxrt.QConv").count(), 4, "{ops:?}");
    // Rounding stands at the start alone.
    assert_eq!(ops.iter().filter(|o| o.contains("Linear") || *o == "Add").count(), 1, "{ops:?}");
    let (got, want) = (run(&gpu), run(&build(&text, Device::Cpu)));
    let (got, want) = (got.to_f64_vec().unwrap(), want.to_f64_vec().unwrap());
    let sum = |f: &dyn Fn(usize) -> f64| (0..got.len()).map(f).sum::<f64>();
    // A value may fall to the other side of a half.
    let error = (sum(&|i| (got[i] - want[i]).powi(2)) / sum(&|i| want[i].powi(2))).sqrt();
    assert!(error < 1e-2, "{error}");
}

#[test]
fn checks_of_sizes_that_data_decides_run() {
    let text = "(f32[n] x) { i = NonZero(x); s = Size(i); c = GreaterOrEqual(s, i64{2}); oxrt.Assert<message=\"too few\">(c) } => i";
    for device in [Device::Cpu, Device::CudaEmulator] {
        let engine = build(text, device);
        let run = |x: &[f32]| {
            let x = Tensor::from_slice(&[x.len()], x);
            engine.session().run_ordered(&[x.view().unwrap()]).map(|y| y[0].shape().to_vec())
        };
        assert_eq!(run(&[1.0, 0.0, 2.0]).unwrap(), [1, 2]);
        let error = run(&[0.0, 0.0, 2.0]).unwrap_err().to_string();
        assert!(error.contains("too few"), "{error}");
    }
}

/// Blocks of a transformer with the norm first: what normalises the rows is a step that writes little, and the products behind it normalise.
#[test]
fn norms_go_into_products() {
    let list = |n: usize, seed: usize, size: f32, around: f32| {
        let value = |i: usize| around + size * (((i * 7919 + seed * 31) % 101) as f32 / 50.0 - 1.0);
        (0..n).map(|i| format!("{:.4}", value(i))).collect::<Vec<_>>().join(", ")
    };
    let matrix = |k: usize, n: usize, seed| format!("f32[{k}, {n}]{{{}}}", list(k * n, seed, 0.4, 0.03));
    let row = |n: usize, seed, around| format!("f32[{n}]{{{}}}", list(n, seed, 0.5, around));
    let text = |read: &str| {
        format!(
            "(f32[b, 5, 64] x) {{
        a = Tanh(x)
        n0 = LayerNormalization<epsilon=0.001>(a, {}, {})
        p0 = MatMul(n0, {})
        s = Add(p0, a)
        n1 = LayerNormalization(s, {}, {})
        q = MatMul(n1, {})
        k0 = MatMul(n1, {})
        k = Add(k0, {})
        g = Gelu(k)
        m = Mul(g, q)
        p1 = MatMul(m, {})
        t = Add(p1, s)
        n2 = RMSNormalization<epsilon=0.01>(t, {})
        y = MatMul(n2, {})
    }} => y{read}",
            row(64, 1, 1.0),
            row(64, 2, 0.0),
            matrix(64, 64, 3),
            row(64, 4, 1.0),
            row(64, 5, 0.2),
            matrix(64, 128, 6),
            matrix(64, 128, 7),
            row(128, 8, 0.0),
            matrix(128, 64, 9),
            row(64, 10, 1.0),
            matrix(64, 40, 11),
        )
    };
    let built = |text: &str, disabled: &[&str], usual: i64| {
        let graph = oxrt::ir::parse_graph(text).unwrap();
        let mut ir = oxrt::ir::Model { graph, ..Default::default() };
        oxrt::ops::infer::infer_model(&mut ir).unwrap();
        let mut options =
            BuildOptions { device: Device::CudaEmulator, precision: Precision::F16, ..BuildOptions::default() };
        // Few rows are not worth it: the engine is for many, and takes few.
        let rows = usual.to_string();
        options.profiles = vec![vec![format!("b=1:{rows}:{rows}").parse().unwrap()]];
        options.passes.disabled.extend(disabled.iter().map(|d| d.to_string()));
        Model::from_ir(ir).build(&options).unwrap()
    };
    let count = |engine: &oxrt::Engine, op: &str| {
        let g = &engine.plan().graph;
        engine.plan().steps.iter().filter(|s| g[s.node].op.contains(op)).count()
    };
    let many = 1 << 13;
    let (folded, plain) = (built(&text(""), &[], many), built(&text(""), &["fold-norms"], many));
    assert_eq!([count(&folded, "Normalization"), count(&folded, "NormGemm"), count(&folded, "NormFactors")], [0, 4, 3]);
    assert_eq!([count(&plain, "Normalization"), count(&plain, "NormGemm"), count(&plain, "NormFactors")], [3, 0, 0]);
    // A norm that something else reads too stays.
    let read = built(&text(", n1"), &[], many);
    assert_eq!([count(&read, "Normalization"), count(&read, "NormGemm")], [1, 2]);
    assert_eq!(count(&built(&text(""), &[], 64), "NormGemm"), 0);
    let cpu = build(&text(""), Device::Cpu);
    for batch in [3, 30] {
        let x = list(batch * 5 * 64, 12, 1.0, 0.3).split(", ").map(|v| v.parse().unwrap()).collect::<Vec<f32>>();
        let x = Tensor::from_slice(&[batch, 5, 64], &x);
        let run = |engine: &oxrt::Engine| {
            engine.session().run_ordered(&[x.view().unwrap()]).unwrap()[0].to_tensor().unwrap().to_f64_vec().unwrap()
        };
        let (want, got, before) = (run(&cpu), run(&folded), run(&plain));
        let error = |y: &[f64]| {
            let norm = |v: &mut dyn Iterator<Item = f64>| v.map(|v| v * v).sum::<f64>().sqrt();
            norm(&mut y.iter().zip(&want).map(|(y, w)| y - w)) / norm(&mut want.iter().copied())
        };
        assert!(error(&got) < 2e-3 && error(&got) < 1.3 * error(&before), "{} {}", error(&got), error(&before));
    }
}
