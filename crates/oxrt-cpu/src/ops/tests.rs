//! Nodes through the whole backend: candidates, packing, loading, binding, running.

use crate::backend::CpuBackend;
use crate::simd::Isa;
use oxrt_backend::{Backend, BindArgs, BindInput, Io, NodeView, Precision};
use oxrt_ir::{Attrs, Graph, TensorType, ValueId};
use oxrt_tensor::{DType, Tensor};

/// A node with its inputs; those marked constant are known at build time.
pub(super) struct Case {
    pub op: &'static str,
    pub attrs: Attrs,
    pub inputs: Vec<Option<(Tensor, bool)>>,
    pub outputs: Vec<(DType, Vec<usize>)>,
}

/// Runs the case on a tier by each candidate, and gives the outputs per candidate.
pub(super) fn run(case: &Case, isa: Isa) -> Vec<(&'static str, Vec<Tensor>)> {
    run_at(case, isa, Precision::F32)
}

/// The same with the candidates of a precision.
fn run_at(case: &Case, isa: Isa, precision: Precision) -> Vec<(&'static str, Vec<Tensor>)> {
    let mut graph = Graph::new("test");
    let ids: Vec<Option<ValueId>> = (case.inputs.iter().enumerate())
        .map(|(i, input)| {
            let (tensor, constant) = input.as_ref()?;
            Some(if *constant {
                graph.add_constant(&format!("c{i}"), tensor.clone())
            } else {
                graph.add_input(&format!("x{i}"), TensorType::of(tensor).into())
            })
        })
        .collect();
    let id = graph.add_node(case.op, "node", &ids, case.attrs.clone(), case.outputs.len());
    let out_ids: Vec<ValueId> = graph[id].outputs().iter().flatten().copied().collect();
    for (v, (dtype, shape)) in out_ids.iter().zip(&case.outputs) {
        graph[*v].ty = TensorType::new(*dtype, shape.iter().map(|&d| d.into()).collect()).into();
    }
    let backend = CpuBackend::for_target(isa.name(), 2).unwrap().with_precision(precision);
    let view = NodeView::new(&graph, id);
    let candidates = backend.candidates(view);
    candidates
        .into_iter()
        .map(|name| {
            let packing = backend.pack(view, name).unwrap();
            let kernel = backend.load(view, name, &packing.tensors).unwrap();
            let inputs: Vec<Option<BindInput>> = (case.inputs.iter())
                .map(|i| i.as_ref().map(|(t, c)| BindInput { shape: t.shape(), value: c.then_some(t) }))
                .collect();
            let outputs: Vec<Option<&[usize]>> = case.outputs.iter().map(|(_, s)| Some(&s[..])).collect();
            let bound = kernel.bind(&BindArgs { inputs: &inputs, outputs: &outputs }).unwrap();
            let mut results: Vec<Tensor> = case.outputs.iter().map(|(d, s)| Tensor::zeros(*d, s)).collect();
            let pointers: Vec<*const u8> = (case.inputs.iter().enumerate())
                .map(|(i, input)| match input {
                    Some((t, _)) if !packing.consumed.contains(&i) => t.bytes().as_ptr(),
                    _ => std::ptr::null(),
                })
                .collect();
            let out_pointers: Vec<*mut u8> = results.iter_mut().map(|t| t.bytes_mut().as_mut_ptr()).collect();
            // Rubbish in the workspace shows kernels that trust it.
            let mut workspace = Tensor::zeros(DType::U8, &[bound.workspace_bytes()]);
            workspace.bytes_mut().fill(0xff);
            let io = Io {
                inputs: &pointers,
                outputs: &out_pointers,
                workspace: workspace.bytes_mut().as_mut_ptr(),
                device: Default::default(),
            };
            // SAFETY: the buffers are the tensors that were bound.
            unsafe { bound.run(&io).unwrap() };
            (name, results)
        })
        .collect()
}

/// Runs the case on every tier by every candidate (there must be one) and compares floats with `want`.
#[track_caller]
pub(super) fn check(case: &Case, want: &[Vec<f64>], tolerance: f64) {
    check_at(case, want, tolerance, Precision::F32);
}

/// The same by the candidates of a precision.
#[track_caller]
pub(super) fn check_at(case: &Case, want: &[Vec<f64>], tolerance: f64, precision: Precision) {
    for isa in Isa::all_available() {
        let runs = run_at(case, isa, precision);
        assert!(!runs.is_empty(), "no candidate for {}", case.op);
        for (name, got) in runs {
            for (got, want) in got.iter().zip(want) {
                let got: Vec<f32> = got.to_f64_vec().unwrap().into_iter().map(|v| v as f32).collect();
                crate::testing::close(
                    &got,
                    want,
                    tolerance,
                    tolerance,
                    &format!("{} by {name} on {}", case.op, isa.name()),
                );
            }
        }
    }
}

/// Runs the case against the reference evaluator of the operator.
#[track_caller]
pub(super) fn check_reference(case: &Case, tolerance: f64) {
    let want = reference(case);
    check(case, &want, tolerance);
}

/// What the reference evaluator says.
#[track_caller]
fn reference(case: &Case) -> Vec<Vec<f64>> {
    reference_tensors(case).iter().map(f64s).collect()
}

/// The tensors of the reference evaluator.
#[track_caller]
pub(super) fn reference_tensors(case: &Case) -> Vec<Tensor> {
    let mut graph = Graph::new("test");
    let ids: Vec<Option<ValueId>> = (case.inputs.iter().enumerate())
        .map(|(i, input)| Some(graph.add_constant(&format!("c{i}"), input.as_ref()?.0.clone())))
        .collect();
    let id = graph.add_node(case.op, "node", &ids, case.attrs.clone(), case.outputs.len());
    let data: Vec<_> = case.inputs.iter().map(|i| i.as_ref().map(|(t, _)| t.clone().into())).collect();
    let results = oxrt_ops::eval::eval_node(&graph[id], &data, &|_| None).unwrap();
    results.into_iter().take(case.outputs.len()).map(|d| d.into_tensor().unwrap()).collect()
}

/// Reproducible floats of a shape.
pub(super) fn floats(shape: &[usize], seed: u32) -> Tensor {
    Tensor::from_slice(shape, &crate::testing::noise(shape.iter().product(), seed))
}

fn f64s(t: &Tensor) -> Vec<f64> {
    t.to_f64_vec().unwrap()
}

#[test]
fn products_of_matrices() {
    let product = |a: &[f64], b: &[f64], m: usize, k: usize, n: usize| -> Vec<f64> {
        (0..m * n).map(|i| (0..k).map(|l| a[i / n * k + l] * b[l * n + i % n]).sum()).collect()
    };
    let (a, b) = (floats(&[2, 3, 5, 7], 1), floats(&[7, 33], 2));
    let want = product(&f64s(&a), &f64s(&b), 30, 7, 33);
    for constant in [false, true] {
        let case = Case {
            op: "MatMul",
            attrs: Attrs::new(),
            inputs: vec![Some((a.clone(), false)), Some((b.clone(), constant))],
            outputs: vec![(DType::F32, vec![2, 3, 5, 33])],
        };
        check(&case, std::slice::from_ref(&want), 1e-5);
    }
    // Batches on both sides, one of them broadcast.
    let b = floats(&[3, 7, 9], 3);
    let want: Vec<f64> =
        (0..6).flat_map(|i| product(&f64s(&a)[i * 35..][..35], &f64s(&b)[i % 3 * 63..][..63], 5, 7, 9)).collect();
    let case = Case {
        op: "MatMul",
        attrs: Attrs::new(),
        inputs: vec![Some((a.clone(), false)), Some((b.clone(), false))],
        outputs: vec![(DType::F32, vec![2, 3, 5, 9])],
    };
    check(&case, &[want], 1e-5);
    // Transposed operands, factors, an addend per column, an activation.
    let (a, b, c) = (floats(&[4, 7], 4), floats(&[9, 7], 5), floats(&[9], 6));
    let bt: Vec<f64> = (0..63).map(|i| f64s(&b)[i % 9 * 7 + i / 9] * 2.0).collect();
    let mut want = product(&f64s(&a), &bt, 4, 7, 9);
    want.iter_mut().enumerate().for_each(|(i, v)| *v = (*v + 0.5 * f64s(&c)[i % 9]).max(0.0));
    let attrs = Attrs::new().with("transB", 1).with("alpha", 2.0f32).with("beta", 0.5f32).with("activation", "relu");
    let case = Case {
        op: "Gemm",
        attrs,
        inputs: vec![Some((a.clone(), false)), Some((b, true)), Some((c, true))],
        outputs: vec![(DType::F32, vec![4, 9])],
    };
    check(&case, &[want], 1e-5);
    let b = floats(&[4, 3], 7);
    let at: Vec<f64> = (0..28).map(|i| f64s(&a)[i % 4 * 7 + i / 4]).collect();
    let full = floats(&[7, 3], 8);
    let mut want = product(&at, &f64s(&b), 7, 4, 3);
    want.iter_mut().zip(f64s(&full)).for_each(|(v, c)| *v += c);
    let case = Case {
        op: "Gemm",
        attrs: Attrs::new().with("transA", 1),
        inputs: vec![Some((a, false)), Some((b, false)), Some((full, false))],
        outputs: vec![(DType::F32, vec![7, 3])],
    };
    check(&case, &[want], 1e-5);
}

#[test]
fn a_convolution_in_both_layouts() {
    let (x, w, bias) = (floats(&[2, 5, 6, 7], 1), floats(&[4, 5, 3, 3], 2), floats(&[4], 3));
    let residual = floats(&[2, 4, 6, 7], 4);
    let mut want = Vec::new();
    for i in 0..2 * 4 * 42 {
        let (n, m, h, v) = (i / 168, i / 42 % 4, i / 7 % 6, i % 7);
        let mut sum = f64s(&bias)[m] + f64s(&residual)[i];
        for c in 0..5 {
            for k in 0..9 {
                let (y, z) = (h + k / 3, v + k % 3);
                if (1..7).contains(&y) && (1..8).contains(&z) {
                    sum += f64s(&x)[((n * 5 + c) * 6 + y - 1) * 7 + z - 1] * f64s(&w)[(m * 5 + c) * 9 + k];
                }
            }
        }
        want.push(sum.max(0.0));
    }
    let attrs = Attrs::new().with("pads", [1, 1, 1, 1]).with("activation", "relu");
    let turn = |t: &Tensor| -> Tensor {
        let s = t.shape();
        let v = t.as_slice::<f32>();
        let p = s[2] * s[3];
        let out: Vec<f32> = (0..v.len()).map(|i| v[i / (p * s[1]) * p * s[1] + i % s[1] * p + i / s[1] % p]).collect();
        Tensor::from_slice(&[s[0], s[2], s[3], s[1]], &out)
    };
    let inputs = |x: &Tensor, r: &Tensor| {
        vec![Some((x.clone(), false)), Some((w.clone(), true)), Some((bias.clone(), true)), Some((r.clone(), false))]
    };
    let case = Case {
        op: "Conv",
        attrs: attrs.clone(),
        inputs: inputs(&x, &residual),
        outputs: vec![(DType::F32, vec![2, 4, 6, 7])],
    };
    check(&case, std::slice::from_ref(&want), 1e-5);
    let plain = Tensor::from_f64(DType::F32, &[2, 4, 6, 7], &want).unwrap();
    let case = Case {
        op: "oxrt.Conv",
        attrs,
        inputs: inputs(&turn(&x), &turn(&residual)),
        outputs: vec![(DType::F32, vec![2, 6, 7, 4])],
    };
    check(&case, &[f64s(&turn(&plain))], 1e-5);
}

#[test]
fn elementwise_operators_and_chains() {
    let (x, y) = (floats(&[3, 4, 5], 1), floats(&[4, 1], 2));
    let case = Case {
        op: "Add",
        attrs: Attrs::new(),
        inputs: vec![Some((x.clone(), false)), Some((y.clone(), true))],
        outputs: vec![(DType::F32, vec![3, 4, 5])],
    };
    check_reference(&case, 1e-6);
    let want = f64s(&x).iter().enumerate().map(|(i, v)| (v * f64s(&y)[i / 5 % 4]).max(0.0)).collect();
    let case = Case {
        op: "oxrt.Elementwise",
        attrs: Attrs::new().with("expr", "in 0; in 1; mul 0 1; const 0.0; max 2 3"),
        inputs: vec![Some((x.clone(), false)), Some((y, false))],
        outputs: vec![(DType::F32, vec![3, 4, 5])],
    };
    check(&case, &[want], 1e-6);
}

#[test]
fn movements_of_elements() {
    let x = Tensor::from_slice(&[2, 3, 4], &(0..24i64).collect::<Vec<_>>());
    let ints = |v: &[i64]| Some((Tensor::from_slice(&[v.len()], v), true));
    let case = |op, attrs, inputs: Vec<Option<(Tensor, bool)>>, outputs: &[&[usize]]| Case {
        op,
        attrs,
        inputs,
        outputs: outputs.iter().map(|s| (DType::I64, s.to_vec())).collect(),
    };
    let at = |i: usize, j: usize, k: usize| (i * 12 + j * 4 + k) as f64;
    let given = || Some((x.clone(), false));
    let mut want = Vec::new();
    (0..4).for_each(|k| (0..2).for_each(|i| (0..3).for_each(|j| want.push(at(i, j, k)))));
    check(&case("Transpose", Attrs::new().with("perm", [2, 0, 1]), vec![given()], &[&[4, 2, 3]]), &[want], 0.0);
    let mut want = Vec::new();
    (0..2).for_each(|i| (0..6).for_each(|j| (0..4).for_each(|k| want.push(at(i, j % 3, k)))));
    check(&case("Concat", Attrs::new().with("axis", 1), vec![given(), given()], &[&[2, 6, 4]]), &[want], 0.0);
    let part = |a: usize, b: usize| (0..6).flat_map(|r| (a..b).map(move |k| (r * 4 + k) as f64)).collect::<Vec<_>>();
    let split = case("Split", Attrs::new().with("axis", -1), vec![given()], &[&[2, 3, 1], &[2, 3, 3]]);
    check(&split, &[part(0, 1), part(1, 4)], 0.0);
    let inputs = vec![given(), ints(&[-1, 0]), ints(&[-100, 9]), ints(&[1, 2]), ints(&[-2, 3])];
    let want =
        vec![at(0, 2, 0), at(0, 2, 3), at(0, 0, 0), at(0, 0, 3), at(1, 2, 0), at(1, 2, 3), at(1, 0, 0), at(1, 0, 3)];
    check(&case("Slice", Attrs::new(), inputs, &[&[2, 2, 2]]), &[want], 0.0);
    let row = Tensor::from_slice(&[3, 1], &[7i64, 8, 9]);
    let inputs = vec![Some((row, false)), ints(&[2, 3, 2])];
    let want = vec![7., 7., 8., 8., 9., 9., 7., 7., 8., 8., 9., 9.];
    check(&case("Expand", Attrs::new(), inputs, &[&[2, 3, 2]]), &[want], 0.0);
    check(
        &case("Reshape", Attrs::new(), vec![given(), ints(&[6, 4])], &[&[6, 4]]),
        &[(0..24).map(f64::from).collect()],
        0.0,
    );
}
