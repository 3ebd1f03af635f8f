//! Nodes through the whole backend on the emulator, against the reference evaluator.

use crate::CudaBackend;
use oxrt_backend::{Backend, BindArgs, BindInput, Block, Io, NodeView, Precision, Words, status_error};
use oxrt_ir::parse_graph;
use oxrt_ops::Interpreter;
use oxrt_tensor::{DType, Result, Tensor};

pub(super) fn backend() -> CudaBackend {
    let cache = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/emulated");
    CudaBackend::emulated(cache)
}

/// Numbers that look random, between -1 and 1 for floats, small ones for integers.
pub(super) fn sample(dtype: DType, shape: &[usize], seed: u64) -> Tensor {
    let n: usize = shape.iter().product();
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 11) as f64 / (1u64 << 53) as f64
    };
    let values: Vec<f64> =
        (0..n).map(|_| if dtype.is_float() { next() * 2.0 - 1.0 } else { (next() * 6.0).floor() }).collect();
    Tensor::from_f64(dtype, shape, &values).unwrap()
}

/// Tiles that stream: so many candidates does each family of products have.
pub(super) fn streaming() -> usize {
    super::product::TILES.iter().filter(|t| t.streams.is_some()).count()
}

/// Runs the one node of a graph by every candidate and compares with the evaluator. Returns the candidates.
pub(super) fn check(text: &str, inputs: &[Tensor], tolerance: f64) -> Vec<&'static str> {
    check_with(&backend(), text, inputs, tolerance)
}

pub(super) fn check_with(backend: &CudaBackend, text: &str, inputs: &[Tensor], tolerance: f64) -> Vec<&'static str> {
    let names = run(backend, text, inputs, tolerance).unwrap();
    assert!(!names.is_empty(), "no kernel for {text}");
    names
}

pub(super) fn run(backend: &CudaBackend, text: &str, inputs: &[Tensor], tolerance: f64) -> Result<Vec<&'static str>> {
    let mut graph = parse_graph(text)?;
    oxrt_ops::infer::infer_graph(&mut graph, &mut Default::default())?;
    let want = Interpreter::new(&graph).run(inputs.iter().cloned().map(Into::into).collect())?;
    let id = *graph.node_ids().last().unwrap();
    let view = NodeView::new(&graph, id);
    let device = backend.device().unwrap();
    let queue = device.queue()?;
    let mut names = backend.candidates(view);
    names.extend(backend.counting(view));
    for name in &names {
        let packing = backend.pack(view, name)?;
        let kernel = backend.load(view, name, &packing.tensors)?;
        let value = |v: oxrt_ir::ValueId| -> Tensor {
            let at = graph.inputs.iter().position(|i| *i == v);
            at.map_or_else(|| graph.constant(v).unwrap().clone(), |at| inputs[at].clone())
        };
        let operands: Vec<Option<Tensor>> = graph[id].inputs().iter().map(|v| v.map(value)).collect();
        let known: Vec<bool> = graph[id].inputs().iter().map(|v| v.is_some_and(|v| graph[v].is_constant())).collect();
        let bind: Vec<Option<BindInput>> = (operands.iter().zip(&known))
            .map(|(t, known)| t.as_ref().map(|t| BindInput { shape: t.shape(), value: known.then_some(t) }))
            .collect();
        let wants: Vec<&Tensor> = want.iter().map(|d| d.as_tensor().unwrap()).collect();
        // Where the data decides a size there is room for the greatest, and one more output.
        let greatest = kernel.most(&BindArgs { inputs: &bind, outputs: &[] })?;
        assert_eq!(greatest.is_some(), backend.counting(view) == Some(*name));
        let rooms: Vec<&[usize]> = match &greatest {
            Some(all) => all.iter().map(|g| &g.shape[..]).collect(),
            None => wants.iter().map(|t| t.shape()).collect(),
        };
        let outputs: Vec<Option<&[usize]>> = rooms.iter().copied().map(Some).collect();
        let bound = kernel.bind(&BindArgs { inputs: &bind, outputs: &outputs })?;
        let upload = |t: &Tensor| {
            let block = Block::new(&device, t.bytes().len()).unwrap();
            // SAFETY: the block has that many bytes.
            unsafe { queue.copy_in(block.ptr(), t.bytes().as_ptr(), t.bytes().len()).unwrap() };
            block
        };
        let ins: Vec<Option<Block>> = (operands.iter().enumerate())
            .map(|(i, t)| t.as_ref().filter(|_| !packing.consumed.contains(&i)).map(&upload))
            .collect();
        let room = |(t, shape): (&&Tensor, &&[usize])| t.dtype().bytes_for(shape.iter().product());
        let mut lens: Vec<usize> = wants.iter().zip(&rooms).map(room).collect();
        lens.extend(greatest.as_ref().map(|_| 8));
        let outs: Vec<Block> = lens.into_iter().map(|len| Block::new(&device, len).unwrap()).collect();
        let workspace = Block::new(&device, bound.workspace_bytes())?;
        let words = Words::new(&device, &*queue)?;
        let in_ptrs: Vec<*const u8> =
            ins.iter().map(|b| b.as_ref().map_or(std::ptr::null(), |b| b.ptr().cast_const())).collect();
        let out_ptrs: Vec<*mut u8> = outs.iter().map(Block::ptr).collect();
        let device = words.io(&*queue, 0);
        // SAFETY: the buffers are the tensors that were bound.
        unsafe { bound.run(&Io { inputs: &in_ptrs, outputs: &out_ptrs, workspace: workspace.ptr(), device })? };
        queue.synchronize()?;
        // SAFETY: the emulator's memory is the host's.
        if let Some((_, error)) = status_error(unsafe { words.status().cast::<u32>().read() }) {
            return Err(error);
        }
        if let Some(greatest) = &greatest {
            // SAFETY: as above.
            let found = unsafe { outs[wants.len()].ptr().cast::<i64>().read() };
            for (greatest, want) in greatest.iter().zip(&wants) {
                assert_eq!(greatest.at(found)?, want.shape(), "{name} of {text}");
            }
        }
        for (block, want) in outs.iter().zip(wants) {
            // SAFETY: as above.
            let bytes = unsafe { std::slice::from_raw_parts(block.ptr(), want.bytes().len()) };
            let got = Tensor::from_bytes(want.dtype(), want.shape(), bytes)?;
            let (g, w) = (got.to_f64_vec()?, want.to_f64_vec()?);
            for (i, (g, w)) in g.iter().zip(&w).enumerate() {
                let close = (g - w).abs() <= tolerance * (1.0 + w.abs()) || (g.is_nan() && w.is_nan()) || g == w;
                assert!(close, "{name}: element {i} is {g}, not {w}, of {}", &text[..text.len().min(300)]);
            }
        }
    }
    Ok(names)
}

pub(super) fn narrow() -> CudaBackend {
    backend().with_precision(Precision::F16)
}

fn tf32() -> CudaBackend {
    backend().with_precision(Precision::Tf32)
}

#[test]
fn programs_broadcast() {
    let a = sample(DType::F32, &[3, 1, 16], 1);
    let b = sample(DType::F32, &[5, 16], 2);
    check("(f32[3, 1, 16] a, f32[5, 16] b) { y = Add(a, b) } => y", &[a.clone(), b], 1e-6);
    let c = sample(DType::F32, &[5, 1], 3);
    check("(f32[3, 1, 16] a, f32[5, 1] b) { y = Mul(a, b) } => y", &[a, c], 1e-6);
    let x = sample(DType::F32, &[7, 33], 4);
    for op in ["Exp", "Sigmoid", "Tanh", "Erf", "Relu", "Floor", "Sqrt", "Gelu", "Softplus", "HardSwish", "Sign"] {
        check(&format!("(f32[7, 33] x) {{ y = {op}(x) }} => y"), std::slice::from_ref(&x), 2e-6);
    }
}

#[test]
fn programs_take_every_type() {
    for dtype in [DType::F64, DType::F16, DType::BF16, DType::I64, DType::I32, DType::I8, DType::U8, DType::U64] {
        let (a, b) = (sample(dtype, &[4, 6], 5), sample(dtype, &[6], 6));
        check(&format!("({dtype}[4, 6] a, {dtype}[6] b) {{ y = Add(a, b) }} => y"), &[a.clone(), b.clone()], 1e-9);
        check(&format!("({dtype}[4, 6] a, {dtype}[6] b) {{ y = Less(a, b) }} => y"), &[a, b], 0.0);
    }
    let c = sample(DType::Bool, &[5, 1], 7);
    let (a, b) = (sample(DType::I64, &[8], 8), sample(DType::I64, &[5, 8], 9));
    check("(bool[5, 1] c, i64[8] a, i64[5, 8] b) { y = Where(c, a, b) } => y", &[c, a, b], 0.0);
}

#[test]
fn division_by_zero_is_reported() {
    let (a, b) = (sample(DType::I64, &[4], 1), Tensor::zeros(DType::I64, &[4]));
    let e = run(&backend(), "(i64[4] a, i64[4] b) { y = Div(a, b) } => y", &[a.clone(), b.clone()], 0.0);
    assert!(e.unwrap_err().to_string().contains("division by zero"));
}

#[test]
fn casts_saturate_and_round() {
    let values = [1.5, -1.5, 300.0, -300.0, f64::NAN, 1e20, 70000.0, 2.5, 1e-8, 65519.0];
    let x = Tensor::from_f64(DType::F32, &[10], &values).unwrap();
    for to in [DType::U8, DType::I8, DType::I32, DType::I64, DType::F16, DType::BF16, DType::F64, DType::Bool] {
        let text = format!("(f32[10] x) {{ y = Cast<to={}>(x) }} => y", to.to_onnx());
        check(&text, std::slice::from_ref(&x), 0.0);
    }
}

#[test]
fn copies_reorder_cut_and_repeat() {
    let x = sample(DType::F32, &[2, 3, 4, 8], 1);
    let one = std::slice::from_ref(&x);
    for perm in ["0, 2, 3, 1", "3, 2, 1, 0", "0, 2, 1, 3", "1, 0, 2, 3"] {
        check(&format!("(f32[2, 3, 4, 8] x) {{ y = Transpose<perm=[{perm}]>(x) }} => y"), one, 0.0);
    }
    check("(f32[2, 3, 4, 8] x) { y = Concat<axis=1>(x, x, x) } => y", one, 0.0);
    check("(f32[2, 3, 4, 8] x) { y = Concat<axis=-1>(x, x) } => y", one, 0.0);
    check(
        "(f32[2, 3, 4, 8] x) { y = Slice(x, i64[2]{1, 7}, i64[2]{3, -9}, i64[2]{1, 3}, i64[2]{1, -2}) } => y",
        one,
        0.0,
    );
    check("(f32[2, 3, 4, 8] x) { y = Tile(x, i64[4]{1, 2, 1, 3}) } => y", one, 0.0);
    check("(f32[2, 3, 4, 8] x) { y = Expand(x, i64[5]{2, 1, 3, 1, 1}) } => y", one, 0.0);
    check("(f32[2, 3, 4, 8] x) { y = SpaceToDepth<blocksize=2>(x) } => y", one, 0.0);
    check("(f32[2, 3, 4, 8] x) { y = SpaceToDepth<blocksize=2, mode=\"CRD\">(x) } => y", one, 0.0);
    for (dtype, shape) in [
        (DType::F32, [3, 3, 7, 5]),
        (DType::BF16, [1, 2, 4, 9]),
        (DType::U8, [2, 4, 3, 3]),
        (DType::F32, [2, 3, 4, 6]),
        (DType::BF16, [1, 2, 4, 6]),
        (DType::U8, [2, 3, 8, 6]),
    ] {
        let text = format!("({dtype}{shape:?} x) {{ y = Transpose<perm=[0, 2, 3, 1]>(x) }} => y");
        assert!(check(&text, &[sample(dtype, &shape, 3)], 0.0).contains(&"channels_last_few"));
    }
    let x = sample(DType::U8, &[1, 8, 2, 3], 2);
    for mode in ["DCR", "CRD"] {
        let text = format!("(u8[1, 8, 2, 3] x) {{ y = DepthToSpace<blocksize=2, mode=\"{mode}\">(x) }} => y");
        check(&text, std::slice::from_ref(&x), 0.0);
    }
}

#[test]
fn products_with_weights() {
    for (m, k, n) in [(1, 8, 8), (3, 20, 7), (70, 72, 40), (130, 200, 136), (17, 1024, 64), (300, 136, 72)] {
        let (x, r) = (sample(DType::F32, &[m, k], 1), sample(DType::F32, &[m, n], 2));
        let (w, b) = (sample(DType::F32, &[k, n], 3), sample(DType::F32, &[n], 4));
        let list = |t: &Tensor| t.as_slice::<f32>().iter().map(|v| format!("{v}")).collect::<Vec<_>>().join(", ");
        let text = |ty: &str| {
            format!(
                "({ty}[{m}, {k}] x, {ty}[{m}, {n}] r) {{
                    y = oxrt.Gemm<activation=\"relu\">(x, f32[{k}, {n}]{{{}}}, f32[{n}]{{{}}}, r) }} => y",
                list(&w),
                list(&b)
            )
        };
        check(&text("f32"), &[x.clone(), r.clone()], 1e-4);
        assert!(check_with(&narrow(), &text("f32"), &[x.clone(), r.clone()], 0.02).len() > 8);
        let names = check_with(&tf32(), &text("f32"), &[x.clone(), r.clone()], 0.01);
        assert!(names.iter().any(|n| n.contains("stream")) == (k % 8 == 0 && n % 8 == 0), "{names:?}");
        for dtype in [DType::F16, DType::BF16] {
            let half = |t: &Tensor| Tensor::from_f64(dtype, t.shape(), &t.to_f64_vec().unwrap()).unwrap();
            check_with(&narrow(), &text(&dtype.to_string()), &[half(&x), half(&r)], 0.06);
        }
    }
}

/// More tiles than blocks, each of more slices than fit: warpgroups that take turns must not run ahead.
#[test]
fn products_of_many_tiles() {
    let (m, k, n) = (520, 456, 136);
    let (x, w, r) = (sample(DType::F16, &[m, k], 1), sample(DType::F32, &[k, n], 2), sample(DType::F16, &[m, n], 3));
    let list = w.as_slice::<f32>().iter().map(|v| format!("{v}")).collect::<Vec<_>>().join(", ");
    let product = |r: &str| format!("y = oxrt.Gemm(x, f32[{k}, {n}]{{{list}}}, f32[{n}]{{0.5}}{r}) }} => y");
    let plain = format!("(f16[{m}, {k}] x) {{ {}", product(""));
    check_with(&narrow(), &plain, std::slice::from_ref(&x), 0.02);
    let text = format!("(f16[{m}, {k}] x, f16[{m}, {n}] r) {{ {}", product(", r"));
    let names = check_with(&narrow(), &text, &[x, r], 0.02);
    assert!(names.iter().filter(|n| n.contains("turns")).count() == 3, "{names:?}");
}

#[test]
fn products_of_activations() {
    for (x, w) in [
        (vec![2, 3, 20, 16], vec![2, 3, 16, 24]),
        (vec![2, 3, 20, 17], vec![17, 5]),
        (vec![4, 1, 9, 8], vec![1, 2, 8, 16]),
        (vec![2, 1, 3, 1, 5, 8], vec![1, 4, 3, 2, 8, 8]),
        (vec![8], vec![3, 8, 4]),
        (vec![3, 2, 8], vec![8]),
    ] {
        for dtype in [DType::F32, DType::F16, DType::F64] {
            let (a, b) = (sample(dtype, &x, 1), sample(dtype, &w, 2));
            let text = format!("({dtype}{x:?} a, {dtype}{w:?} b) {{ y = MatMul(a, b) }} => y");
            check(&text, &[a, b], if dtype == DType::F16 { 0.01 } else { 1e-5 });
        }
    }
}

#[test]
fn convolutions() {
    let cases = [
        ([2, 9, 7, 3], [8, 3, 3, 3], "pads=[1, 1, 1, 1], strides=[2, 2]"),
        ([2, 19, 23, 3], [16, 3, 7, 7], "pads=[3, 3, 3, 3], strides=[2, 2]"),
        ([1, 9, 11, 1], [24, 1, 3, 2], "pads=[1, 0, 1, 1]"),
        ([2, 12, 15, 3], [32, 3, 4, 5], "strides=[4, 5]"),
        ([1, 8, 8, 16], [24, 16, 3, 3], "pads=[1, 0, 1, 2]"),
        ([2, 5, 6, 64], [70, 64, 1, 1], ""),
        ([1, 6, 6, 32], [32, 8, 3, 3], "group=4, pads=[1, 1, 1, 1]"),
        ([1, 12, 12, 8], [16, 8, 3, 3], "dilations=[2, 2], auto_pad=\"SAME_UPPER\""),
        ([2, 9, 9, 16], [16, 1, 3, 3], "group=16, pads=[1, 1, 1, 1], strides=[2, 1]"),
        ([1, 7, 9, 5], [5, 1, 5, 3], "group=5, pads=[2, 1, 2, 1]"),
        ([1, 3, 3, 256], [64, 256, 3, 3], "pads=[1, 1, 1, 1]"),
        ([3, 13, 10, 72], [40, 72, 3, 3], "pads=[1, 1, 1, 1], strides=[2, 2]"),
        ([2, 9, 10, 64], [136, 64, 1, 1], "strides=[2, 2]"),
        ([5, 9, 11, 8], [8, 8, 5, 3], "pads=[2, 0, 1, 3], strides=[1, 3]"),
        ([9, 20, 33, 16], [16, 1, 7, 7], "group=16, pads=[3, 3, 3, 3]"),
        ([5, 40, 33, 24], [24, 1, 5, 5], "group=24, pads=[2, 2, 2, 2], strides=[2, 2]"),
    ];
    for (x, w, attrs) in cases {
        let (image, weights, bias) =
            (sample(DType::F32, &x, 1), sample(DType::F32, &w, 2), sample(DType::F32, &w[..1], 3));
        let list = |t: &Tensor| t.as_slice::<f32>().iter().map(|v| format!("{v}")).collect::<Vec<_>>().join(", ");
        let comma = if attrs.is_empty() { "" } else { ", " };
        let text = |ty: &str| {
            format!(
                "({ty}{x:?} x) {{ y = oxrt.Conv<activation=\"silu\", kernel_shape=[{}, {}]{comma}{attrs}>(x, f32{w:?}{{{}}}, f32[{}]{{{}}}) }} => y",
                w[2],
                w[3],
                list(&weights),
                w[0],
                list(&bias)
            )
        };
        check(&text("f32"), std::slice::from_ref(&image), 1e-4);
        check_with(&narrow(), &text("f32"), std::slice::from_ref(&image), 0.03);
        check_with(&tf32(), &text("f32"), std::slice::from_ref(&image), 0.02);
        let half = Tensor::from_f64(DType::F16, &x, &image.to_f64_vec().unwrap()).unwrap();
        check_with(&narrow(), &text("f16"), &[half], 0.03);
    }
}

#[test]
fn reductions() {
    let x = sample(DType::F32, &[3, 5, 7, 40], 1);
    let one = std::slice::from_ref(&x);
    let ops = ["Sum", "Mean", "Max", "Min", "Prod", "L1", "L2", "SumSquare", "LogSumExp"];
    for op in ops {
        for axes in ["3", "1", "0, 2", "0, 1, 2, 3", "2, 3", "1, 3"] {
            let n = axes.split(',').count();
            let text = format!("(f32[3, 5, 7, 40] x) {{ y = Reduce{op}(x, i64[{n}]{{{axes}}}) }} => y");
            check(&text, one, 1e-4);
        }
    }
    let i = sample(DType::I32, &[3, 5, 40], 2);
    for op in ["Sum", "Max", "Min", "Mean", "Prod"] {
        check(
            &format!("(i32[3, 5, 40] x) {{ y = Reduce{op}<keepdims=0>(x, i64[1]{{1}}) }} => y"),
            std::slice::from_ref(&i),
            0.0,
        );
    }
    for op in ["ArgMax", "ArgMin"] {
        for (axis, last) in [(0, 0), (1, 1), (-1, 0)] {
            let text = format!("(i32[3, 5, 40] x) {{ y = {op}<axis={axis}, select_last_index={last}>(x) }} => y");
            check(&text, std::slice::from_ref(&i), 0.0);
        }
    }
    let big = sample(DType::F32, &[2, 3000], 3);
    check("(f32[2, 3000] x) { y = ReduceMean(x, i64[1]{1}) } => y", std::slice::from_ref(&big), 1e-4);
    let tall = sample(DType::F32, &[2, 3000, 40], 5);
    for op in ["Mean", "Max", "LogSumExp"] {
        check(
            &format!("(f32[2, 3000, 40] x) {{ y = Reduce{op}(x, i64[1]{{1}}) }} => y"),
            std::slice::from_ref(&tall),
            1e-4,
        );
    }
    let image = sample(DType::F32, &[2, 7, 7, 64], 4);
    check("(f32[2, 7, 7, 64] x) { y = oxrt.GlobalAveragePool(x) } => y", std::slice::from_ref(&image), 1e-5);
    check("(f32[2, 7, 7, 64] x) { y = GlobalMaxPool(x) } => y", std::slice::from_ref(&image), 0.0);
}

#[test]
fn lines_are_normalised() {
    for (rows, n) in [(3, 5), (2, 64), (2, 768), (1, 3000), (2, 2048)] {
        let x = sample(DType::F32, &[rows, n], 1);
        for op in ["Softmax", "LogSoftmax"] {
            check(&format!("(f32[{rows}, {n}] x) {{ y = {op}(x) }} => y"), std::slice::from_ref(&x), 1e-5);
        }
        let (s, b) = (sample(DType::F32, &[n], 2), sample(DType::F32, &[n], 3));
        let text = format!("(f32[{rows}, {n}] x, f32[{n}] s, f32[{n}] b) {{ y = LayerNormalization(x, s, b) }} => y");
        check(&text, &[x.clone(), s.clone(), b], 1e-5);
        check(&format!("(f32[{rows}, {n}] x, f32[{n}] s) {{ y = RMSNormalization(x, s) }} => y"), &[x, s], 1e-5);
    }
    let x = sample(DType::F16, &[2, 6, 5], 4);
    check("(f16[2, 6, 5] x) { y = Softmax<axis=1>(x) } => y", &[x], 1e-3);
    let x = sample(DType::F32, &[2, 6, 3, 5], 5);
    let (s, b) = (sample(DType::F32, &[6], 6), sample(DType::F32, &[6], 7));
    check(
        "(f32[2, 6, 3, 5] x, f32[6] s, f32[6] b) { y = GroupNormalization<num_groups=3>(x, s, b) } => y",
        &[x.clone(), s.clone(), b.clone()],
        1e-5,
    );
    check("(f32[2, 6, 3, 5] x, f32[6] s, f32[6] b) { y = InstanceNormalization(x, s, b) } => y", &[x, s, b], 1e-5);
    let x = sample(DType::F32, &[2, 3, 5, 6], 8);
    let (s, b) = (sample(DType::F32, &[6], 6), sample(DType::F32, &[6], 7));
    check(
        "(f32[2, 3, 5, 6] x, f32[6] s, f32[6] b) { y = oxrt.GroupNorm<num_groups=2, activation=\"silu\">(x, s, b) } => y",
        &[x, s, b],
        1e-5,
    );
}

#[test]
fn windows_are_pooled() {
    let x = sample(DType::F32, &[2, 6, 9, 8], 1);
    let attrs = [
        "kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]",
        "kernel_shape=[2, 3], ceil_mode=1, strides=[2, 2]",
        "kernel_shape=[3, 2], dilations=[2, 1]",
        "kernel_shape=[3, 3], auto_pad=\"SAME_UPPER\", strides=[2, 2]",
    ];
    for attrs in attrs {
        for op in ["MaxPool", "AveragePool", "oxrt.MaxPool", "oxrt.AveragePool"] {
            let text = format!("(f32[2, 6, 9, 8] x) {{ y = {op}<{attrs}>(x) }} => y");
            check(&text, std::slice::from_ref(&x), 1e-6);
        }
        let text = format!("(f32[2, 6, 9, 8] x) {{ y = AveragePool<count_include_pad=1, {attrs}>(x) }} => y");
        check(&text, std::slice::from_ref(&x), 1e-6);
    }
}

#[test]
fn indices_pick_and_place() {
    let x = sample(DType::F32, &[4, 5, 6], 1);
    let at = Tensor::from_i64(DType::I64, &[2, 2], &[0, -1, 3, 1]).unwrap();
    for axis in [0, 1, -1] {
        let text = format!("(f32[4, 5, 6] x, i64[2, 2] i) {{ y = Gather<axis={axis}>(x, i) }} => y");
        check(&text, &[x.clone(), at.clone()], 0.0);
    }
    let one = check("(f32[4, 5, 6] x) { y = Gather<axis=1>(x, i64{-2}) } => y", std::slice::from_ref(&x), 0.0);
    assert_eq!(one[0], "select");
    let bad = Tensor::from_i64(DType::I64, &[1], &[9]).unwrap();
    let e = run(
        &backend(),
        "(f32[4, 5, 6] x, i64[1] i) { y = Identity(x) y = Gather(x, i) } => y",
        &[x.clone(), bad.clone()],
        0.0,
    );
    assert!(e.is_err());
    let i = Tensor::from_i64(DType::I32, &[4, 2, 6], &(0..48).map(|v| v % 9 % 5 - 2).collect::<Vec<_>>()).unwrap();
    check("(f32[4, 5, 6] x, i32[4, 2, 6] i) { y = GatherElements<axis=1>(x, i) } => y", &[x.clone(), i], 0.0);
    check("(f32[4, 5, 6] x, i64[2, 2] i) { y = GatherND(x, i) } => y", &[x.clone(), at.clone()], 0.0);
    let u = sample(DType::F32, &[2, 6], 3);
    check("(f32[4, 5, 6] x, i64[2, 2] i, f32[2, 6] u) { y = ScatterND(x, i, u) } => y", &[x.clone(), at, u], 0.0);
    let i = Tensor::from_i64(DType::I64, &[1, 2, 6], &[0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3]).unwrap();
    let u = sample(DType::F32, &[1, 2, 6], 4);
    check(
        "(f32[4, 5, 6] x, i64[1, 2, 6] i, f32[1, 2, 6] u) { y = ScatterElements<axis=0>(x, i, u) } => y",
        &[x, i, u],
        0.0,
    );
}

#[test]
fn images_are_resized() {
    let x = sample(DType::F32, &[1, 2, 5, 4], 1);
    for mode in ["nearest", "linear", "cubic"] {
        for place in ["half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel"] {
            let a = format!("mode=\"{mode}\", coordinate_transformation_mode=\"{place}\"");
            let text = format!("(f32[1, 2, 5, 4] x) {{ y = Resize<{a}>(x, _, f32[4]{{1, 1, 2, 1.5}}) }} => y");
            check(&text, std::slice::from_ref(&x), 1e-5);
            let text = format!("(f32[1, 2, 5, 4] x) {{ y = oxrt.Resize<{a}>(x, _, _, i64[4]{{1, 4, 7, 3}}) }} => y");
            check(&text, std::slice::from_ref(&x), 1e-5);
        }
    }
}

#[test]
fn queries_attend() {
    for dtype in [DType::F32, DType::F16, DType::BF16] {
        for (q, k, d, causal) in [(5, 9, 16, 0), (70, 130, 32, 0), (33, 33, 64, 1), (3, 4, 20, 0), (66, 150, 128, 0)] {
            let shape = |n: usize| [2, n, 2, d];
            let (a, b, c) = (sample(dtype, &shape(q), 1), sample(dtype, &shape(k), 2), sample(dtype, &shape(k), 3));
            let mask = sample(DType::F32, &[q, k], 4);
            let text = format!(
                "({dtype}[2, {q}, 2, {d}] q, {dtype}[2, {k}, 2, {d}] k, {dtype}[2, {k}, 2, {d}] v, f32[{q}, {k}] m) {{
                    y = oxrt.Attention<layout=\"bshd\", is_causal={causal}>(q, k, v, m) }} => y"
            );
            let tolerance = if dtype == DType::F32 { 1e-5 } else { 0.02 };
            let inputs = [a, b, c, mask];
            check(&text, &inputs, tolerance);
            if dtype == DType::F32 {
                check_with(&tf32(), &text, &inputs, 5e-3);
            }
        }
    }
    let (q, k) = (sample(DType::F16, &[1, 4, 6, 16], 1), sample(DType::F16, &[1, 2, 6, 16], 2));
    let mask = Tensor::from_i64(DType::Bool, &[1, 1, 6, 6], &(0..36).map(|i| i64::from(i % 7 < 3)).collect::<Vec<_>>())
        .unwrap();
    check(
        "(f16[1, 4, 6, 16] q, f16[1, 2, 6, 16] k, bool[1, 1, 6, 6] m) { y = oxrt.Attention(q, k, k, m) } => y",
        &[q, k, mask],
        0.01,
    );
}

/// Heads of whole slices of 64, by every kernel: one tile of keys and several, groups of queries that end inside, masks.
#[test]
fn attention_on_wide_units() {
    for (dtype, [batch, heads, kv, queries, keys, d, v], attributes, mask) in [
        (DType::F16, [1, 2, 2, 197, 197, 64, 64], "", None),
        (DType::BF16, [2, 4, 2, 70, 40, 64, 128], "scale=0.2", None),
        (DType::F16, [1, 2, 1, 150, 300, 64, 64], "", None),
        (DType::F16, [1, 1, 1, 290, 290, 128, 64], "is_causal=1", None),
        (DType::F16, [1, 2, 2, 130, 130, 64, 64], "is_causal=1", Some("f16[130, 130]")),
        (DType::F16, [1, 2, 2, 66, 270, 64, 64], "softcap=2.0", Some("bool[1, 1, 66, 270]")),
    ] {
        let shapes = [[batch, heads, queries, d], [batch, kv, keys, d], [batch, kv, keys, v]];
        let mut inputs: Vec<Tensor> = (shapes.iter().zip(1..)).map(|(s, i)| sample(dtype, s, i)).collect();
        let [q, k, v] = shapes;
        let (declared, given) = mask.map_or((String::new(), ""), |m| (format!(", {m} m"), ", m"));
        if let Some(m) = mask {
            let of = if m.starts_with("bool") { DType::Bool } else { dtype };
            let shape: &[usize] = if of == DType::Bool { &[1, 1, queries, keys] } else { &[queries, keys] };
            inputs.push(sample(of, shape, 9));
        }
        let text = format!(
            "({dtype}{q:?} q, {dtype}{k:?} k, {dtype}{v:?} v{declared}) {{ y = oxrt.Attention<{attributes}>(q, k, v{given}) }} => y"
        )
        .replace("<>", "");
        let names = check(&text, &inputs, if dtype == DType::F16 { 5e-3 } else { 2e-2 });
        let one = (keys <= 256).then_some("attention_wgmma");
        assert!(
            names.iter().copied().eq(one.into_iter().chain(["attention_wgmma_two", "attention"])),
            "{names:?}, {text}"
        );
    }
}

/// A GPU that takes texts down and runs nothing.
struct Recorder(std::sync::Mutex<std::collections::BTreeSet<String>>);

impl oxrt_backend::Device for Recorder {
    fn alloc(&self, _: usize) -> Result<*mut u8> {
        Err(oxrt_tensor::Error::unsupported("memory of no device"))
    }

    fn alloc_host(&self, bytes: usize) -> Result<*mut u8> {
        self.alloc(bytes)
    }

    unsafe fn free(&self, _: *mut u8) {}

    unsafe fn free_host(&self, _: *mut u8) {}

    fn queue(&self) -> Result<Box<dyn oxrt_backend::Queue>> {
        Err(oxrt_tensor::Error::unsupported("a queue of no device"))
    }
}

impl crate::Gpu for Recorder {
    fn tensor_map(&self, _: &crate::gpu::TensorPath) -> Result<crate::gpu::TensorMap> {
        Err(oxrt_tensor::Error::unsupported("a copy engine of no device"))
    }

    fn arch(&self) -> u32 {
        90
    }

    fn name(&self) -> String {
        "recorder".to_string()
    }

    fn processors(&self) -> u32 {
        132
    }

    fn compile(&self, text: &str) -> Result<Vec<u8>> {
        self.0.lock().unwrap().insert(text.to_string());
        Ok(vec![0])
    }

    fn load(&self, _: &[u8]) -> Result<u64> {
        Err(oxrt_tensor::Error::unsupported("code for no device"))
    }

    fn function(&self, _: u64, _: &str, _: u32) -> Result<crate::Function> {
        Err(oxrt_tensor::Error::unsupported("code for no device"))
    }

    unsafe fn launch(
        &self,
        _: *mut std::ffi::c_void,
        _: crate::Function,
        _: [u32; 3],
        _: u32,
        _: u32,
        _: &[u8],
    ) -> Result<()> {
        Err(oxrt_tensor::Error::unsupported("a launch on no device"))
    }
}

/// One node of every family, in types that make its text differ.
fn texts() -> Vec<String> {
    let recorder = std::sync::Arc::new(Recorder(Default::default()));
    let mut nodes = vec![
        "(f32[8, 16] x) { y = oxrt.Elementwise<expr=\"in 0; sigmoid 0; mul 0 1; erf 2; tanh 3; pow 4 0\", dtype=1>(x) } => y".to_string(),
        "(i64[8] a, i64[8] b) { y = Mod(a, b) } => y".to_string(),
        "(f64[8] a, f64[8] b) { y = Pow(a, b) } => y".to_string(),
        "(bool[8] c, f16[8] a, f16[8] b) { y = Where(c, a, b) } => y".to_string(),
        "(f32[8] x) { y = Cast<to=7>(x) } => y".to_string(),
        "(f32[2, 3, 4] x) { y = Transpose(x) } => y".to_string(),
        "(f32[4, 4] x, i64[2] i) { y = Gather(x, i) } => y".to_string(),
        "(f32[2, 3, 8, 8] x) { y = Resize<mode=\"cubic\">(x, _, f32[4]{1, 1, 2, 2}) } => y".to_string(),
        "(f32[2, 8, 8, 16] x) { y = oxrt.GroupNorm<num_groups=2, activation=\"silu\">(x, f32[16]{1}, f32[16]{0}) } => y".to_string(),
        "(f32[2, 8, 8, 16] x) { y = oxrt.MaxPool<kernel_shape=[3, 3]>(x) } => y".to_string(),
        "(f32[2, 8, 8, 16] x) { y = AveragePool<kernel_shape=[3, 3], count_include_pad=1>(x) } => y".to_string(),
        "(f32[2, 8, 8, 16] x) { y = oxrt.Conv<kernel_shape=[3, 3], group=16, activation=\"hard_swish\">(x, f32[16, 1, 3, 3]{1}, f32[16]{0}) } => y".to_string(),
        "(f32[2, 8, 8, 3] x) { y = oxrt.Conv<kernel_shape=[3, 3], activation=\"relu\">(x, f32[16, 3, 3, 3]{1}, f32[16]{0}) } => y".to_string(),
        "(f16[2, 8, 8, 16] x) { y = oxrt.Conv<kernel_shape=[3, 3], activation=\"gelu\">(x, f32[16, 16, 3, 3]{1}, f32[16]{0}) } => y".to_string(),
        "(bf16[8, 16] x) { y = oxrt.Gemm<activation=\"gelu_tanh\">(x, f32[16, 16]{1}, f32[16]{0}) } => y".to_string(),
        "(f16[8, 16] x, f16[16, 8] w) { y = MatMul(x, w) } => y".to_string(),
        "(f64[8, 16] x, f64[16, 8] w) { y = MatMul(x, w) } => y".to_string(),
        "(f16[1, 4, 8, 64] q, f32[8, 8] m) { y = oxrt.Attention<is_causal=1>(q, q, q, m) } => y".to_string(),
        "(f32[1, 4, 8, 64] q, bool[8, 8] m) { y = oxrt.Attention(q, q, q, m) } => y".to_string(),
        "(f32[1, 4, 8, 128] q) { y = oxrt.Attention(q, q, q) } => y".to_string(),
        "(f32[1, 4, 8, 40] q) { y = oxrt.Attention(q, q, q) } => y".to_string(),
        "(f16[1, 4, 197, 64] q) { y = oxrt.Attention(q, q, q) } => y".to_string(),
        "(bf16[1, 4, 512, 128] q) { y = oxrt.Attention<is_causal=1>(q, q, q) } => y".to_string(),
    ];
    for op in ["Sum", "Mean", "Max", "Prod", "L2", "LogSumExp"] {
        nodes.push(format!("(f16[8, 16] x) {{ y = Reduce{op}(x, i64[1]{{0}}) }} => y"));
    }
    nodes.extend(["ArgMax", "LogSoftmax", "Softmax"].map(|op| format!("(f16[8, 16] x) {{ y = {op}(x) }} => y")));
    nodes.push("(f32[8, 16] x) { y = LayerNormalization(x, f32[16]{1}, f32[16]{0}) } => y".to_string());
    nodes.extend(super::wide_tests::nodes());
    for precision in [Precision::F32, Precision::Tf32, Precision::F16, Precision::Bf16] {
        let backend = CudaBackend::on(recorder.clone()).with_precision(precision);
        for text in &nodes {
            let mut graph = parse_graph(text).unwrap();
            oxrt_ops::infer::infer_graph(&mut graph, &mut Default::default()).unwrap();
            let view = NodeView::new(&graph, *graph.node_ids().last().unwrap());
            let mut names = backend.candidates(view);
            names.extend(backend.counting(view));
            assert!(!names.is_empty(), "no kernel for {text}");
            // One tile of each kind of matrix units stands for all.
            let is_tile = |n: &str| n.split('x').skip(1).any(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
            for name in names.into_iter().filter(|n| !is_tile(n) || n.ends_with("_128x128") || n.ends_with("x3")) {
                backend.pack(view, name).unwrap();
            }
        }
    }
    let texts = recorder.0.lock().unwrap();
    texts.iter().cloned().collect()
}

/// Every family has texts, and NVIDIA's compiler takes them for the generations that `OXRT_NVRTC_ARCHS` names
/// (`cargo xtask kernels` brings the compiler and names three; it needs no GPU).
#[test]
fn families_have_texts_that_compile() {
    let texts = texts();
    assert!(texts.len() > 150, "{} texts", texts.len());
    assert!(texts.iter().any(|t| crate::driver::needs_hopper(t)));
    let named = std::env::var("OXRT_NVRTC_ARCHS").unwrap_or_default();
    let archs: Vec<u32> = named.split(',').filter(|a| !a.is_empty()).map(|a| a.parse().unwrap()).collect();
    let next = std::sync::atomic::AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                while let Some(text) = texts.get(next.fetch_add(1, std::sync::atomic::Ordering::Relaxed)) {
                    for &arch in archs.iter().filter(|&&arch| arch == 90 || !crate::driver::needs_hopper(text)) {
                        crate::driver::compile(text, arch).unwrap();
                    }
                }
            });
        }
    });
}
