//! The runtime's way of running on a device, on the emulated one: first run, recording, replay, sizes in turn, memory of the
//! device's own, steps on the host between, errors of the device.

use oxrt::{BuildOptions, Device, Model, Precision, Tensor};

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
