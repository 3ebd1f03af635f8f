//! Planted faults, each found and named: the value, the node, what is wrong with it.

use oxrt::backend::{Backend, BindArgs, Bound, Io, Kernel, NodeView, Packing};
use oxrt::ir::parse_graph;
use oxrt::passes::{Options, Rewrite, Rule};
use oxrt::{
    BuildOptions, DiffOptions, DiffReport, Engine, Model, Precision, Result, Side, Tensor, bisect_passes, diff,
    find_non_finite, reproduce,
};
use std::sync::Arc;

/// A block of every kind of layer that the faults are planted in.
const NET: &str = "(f32[n, 3, 12, 12] x) {
    c1 = Conv<pads=[1, 1, 1, 1], kernel_shape=[3, 3]>(x, f32[8, 3, 3, 3]{..}, f32[8]{0.25})
    s1 = Mul(c1, 0.01)
    r1 = Relu(s1)
    c2 = Conv<pads=[1, 1, 1, 1], kernel_shape=[3, 3]>(r1, f32[8, 8, 3, 3]{0.02}, f32[8]{0.1})
    a1 = Add(c2, r1)
    t1 = Transpose<perm=[0, 2, 3, 1]>(a1)
    n1 = LayerNormalization<axis=-1, epsilon=0.001>(t1, f32[8]{1.5}, f32[8]{0.5})
    m1 = ReduceMean<keepdims=0>(n1, i64[2]{1, 2})
    d1 = Sub(m1, f32[8]{..})
    g1 = Gemm<alpha=0.001>(d1, f32[8, 6]{..}, f32[6]{..})
    h1 = Tanh(g1)
    y = Softmax<axis=-1>(h1)
} => y";

fn model(text: &str) -> Model {
    let mut ir = oxrt::ir::Model { graph: parse_graph(text).unwrap(), ..Default::default() };
    oxrt::ops::infer::infer_model(&mut ir).unwrap();
    Model::from_ir(ir)
}

fn side(text: &str) -> Side {
    Side::of_model(&model(text)).unwrap()
}

fn data(shape: &[usize], scale: f32) -> Tensor {
    let n: usize = shape.iter().product();
    let values: Vec<f32> = (0..n).map(|i| (((i * 7919 + 13) % 1009) as f32 / 504.0 - 1.0) * scale).collect();
    Tensor::from_slice(shape, &values)
}

fn picture() -> Vec<(String, Tensor)> {
    vec![("x".to_string(), data(&[2, 3, 12, 12], 1.0))]
}

/// The report of a tested side whose fault must be at `value` and nowhere else, and must be described by `words`.
fn finds(reference: &Side, tested: &Side, inputs: &[(String, Tensor)], value: &str, words: &[&str]) -> DiffReport {
    let report = diff(reference, tested, inputs, &DiffOptions { all: true, ..DiffOptions::default() }).unwrap();
    let beyond: Vec<&str> = report.values.iter().filter(|v| !v.within).map(|v| v.value.as_str()).collect();
    assert_eq!(beyond, [value], "{:#?}", report.values.iter().map(|v| (&v.value, &v.added)).collect::<Vec<_>>());
    let fault = report.fault.as_ref().unwrap();
    let text = format!("{:?} {:?} {:?}", fault.differing, fault.pattern, fault.added.mismatch);
    words.iter().for_each(|w| assert!(text.contains(w), "no `{w}` in {text}"));
    // The quick way stops there.
    let quick = diff(reference, tested, inputs, &DiffOptions::default()).unwrap();
    assert_eq!(quick.fault.unwrap().value, value);
    report
}

/// A fault in the text of the graph.
fn planted(old: &str, new: &str, value: &str, words: &[&str]) {
    assert!(NET.contains(old));
    let (reference, tested) = (side(NET), side(&NET.replace(old, new)));
    let report = finds(&reference, &tested, &picture(), value, words);
    let fault = report.fault.as_ref().unwrap();
    assert_eq!((fault.reference_nodes.len(), fault.tested_nodes.len()), (1, 1), "each node is looked at alone");
    assert!(!fault.worst.is_empty());
    // The reproducer holds the wrong nodes, and shows the fault without either model.
    let dir = tempfile::tempdir().unwrap();
    let small = reproduce(&reference, &tested, &picture(), &report, &dir.path().join("small")).unwrap();
    assert!(small.reproduces && small.nodes <= 10, "{small:?}");
    let small_side = Side::of_model(&Model::open(&small.model).unwrap()).unwrap();
    let arrays = oxrt::npy::read_npz(&small.tensors).unwrap();
    let Side::Engine { engine, .. } = &small_side else { unreachable!() };
    let inputs: Vec<_> = engine.inputs().iter().map(|p| (p.name.clone(), arrays[&p.name].clone())).collect();
    let again = diff(&Side::Tensors(arrays), &small_side, &inputs, &DiffOptions::default()).unwrap();
    assert_eq!(again.fault.unwrap().value, value);
}

#[test]
fn equal_models_agree_and_an_engine_is_within_its_budget() {
    let reference = side(NET);
    assert!(diff(&reference, &side(NET), &picture(), &DiffOptions::default()).unwrap().agrees());
    let engine = Side::of_engine(&model(NET).build(&BuildOptions::default()).unwrap());
    let report = diff(&reference, &engine, &picture(), &DiffOptions::default()).unwrap();
    assert!(report.agrees(), "{report:#?}");
    let Side::Engine { engine: e, .. } = &engine else { unreachable!() };
    // Fusions keep the names of the values that live on.
    let names: Vec<&str> = report.values.iter().map(|v| v.value.as_str()).collect();
    for name in ["c1", "r1", "t1", "n1", "m1", "h1", "y"] {
        assert!(names.contains(&name), "{names:?}\n{}", e.plan().graph);
    }
}

#[test]
fn a_wrong_epsilon() {
    planted("epsilon=0.001", "epsilon=0.00001", "n1", &["epsilon", "0.001"]);
}

#[test]
fn a_wrong_axis() {
    planted("y = Softmax<axis=-1>", "y = Softmax<axis=0>", "y", &["axis"]);
}

#[test]
fn swapped_inputs() {
    planted("a1 = Add(c2, r1)", "a1 = Sub(c2, r1)", "a1", &[]);
    planted("d1 = Sub(m1, f32[8]{..})", "d1 = Sub(f32[8]{..}, m1)", "d1", &[]);
    let swapped = NET.replace("a1 = Add(c2, r1)", "a1 = Sub(r1, c2)");
    finds(&side(&NET.replace("a1 = Add", "a1 = Sub")), &side(&swapped), &picture(), "a1", &["(r1, c2)", "(c2, r1)"]);
}

#[test]
fn a_pad_that_is_off_by_one() {
    planted("c2 = Conv<pads=[1, 1, 1, 1]", "c2 = Conv<pads=[2, 1, 0, 1]", "c2", &["pads"]);
}

#[test]
fn a_changed_bias_and_a_changed_weight() {
    planted(
        "f32[8, 8, 3, 3]{0.02}, f32[8]{0.1}",
        "f32[8, 8, 3, 3]{0.02}, f32[8]{0.1001}",
        "c2",
        &["constant input 2", "0.1"],
    );
    // One element of one weight.
    let reference = side(NET);
    let mut ir = model(NET).ir().clone();
    let (_, node) = ir.graph.nodes().find(|(_, n)| &*n.op == "Gemm").unwrap();
    let w = node.input(1).unwrap();
    let mut t = ir.graph.constant(w).unwrap().clone();
    t.as_mut_slice::<f32>()[11] += 0.5;
    ir.graph.set_constant(w, t);
    let tested = Side::of_model(&Model::from_ir(ir)).unwrap();
    finds(&reference, &tested, &picture(), "g1", &["constant input 1", "[1, 5]"]);
}

#[test]
fn a_transposed_layout() {
    let wrong = "t1 = Reshape(a1, i64[4]{0, 12, 12, 8})";
    planted("t1 = Transpose<perm=[0, 2, 3, 1]>(a1)", wrong, "t1", &["another order"]);
    planted("perm=[0, 2, 3, 1]", "perm=[0, 3, 2, 1]", "t1", &["perm"]);
}

#[test]
fn a_dropped_activation_and_a_wrong_factor() {
    planted("r1 = Relu(s1)", "r1 = LeakyRelu<alpha=0.01>(s1)", "r1", &[]);
    planted("s1 = Mul(c1, 0.01)", "s1 = Mul(c1, 0.0101)", "s1", &["1.010000 times"]);
}

#[test]
fn an_overflow_in_a_lower_precision() {
    let exact = "(f32[4, 8] x) { a = Mul(x, 300.0) ; b = Mul(a, a) ; c = Sqrt(b) ; y = Div(c, 300.0) } => y";
    let half =
        "(f32[4, 8] x) { h = Cast<to=10>(x) ; a16 = Mul(h, f16[]{300}) ; b16 = Mul(a16, a16) ; b = Cast<to=1>(b16)
        c = Sqrt(b) ; y = Div(c, 300.0) } => y";
    let inputs = vec![("x".to_string(), data(&[4, 8], 1.0))];
    let report = finds(&side(exact), &side(half), &inputs, "b", &["overflow to infinity"]);
    // The exact node is one of those between the values that both have.
    let origin = report.non_finite.unwrap();
    assert_eq!((origin.value.as_str(), origin.node.op.as_str(), origin.nans), ("b16", "Mul", 0));
    assert!(origin.inputs[0].hi > 255.0);
}

#[test]
fn a_nan_that_comes_of_an_overflow_names_both() {
    let text =
        "(f32[4, 8] x) { a = Mul(x, 1e5) ; h = Cast<to=10>(a) ; b = Cast<to=1>(h) ; r = Relu(b) ; y = Sub(r, r) } => y";
    let found = find_non_finite(&side(text), &[("x".to_string(), data(&[4, 8], 1.0))]).unwrap().unwrap();
    assert_eq!((found.value.as_str(), found.node.op.as_str()), ("y", "Sub"));
    assert!(found.nans > 0 && found.inputs[0].not_finite > 0);
    let overflow = found.overflow.unwrap();
    assert_eq!((overflow.value.as_str(), overflow.nans), ("h", 0));
}

#[test]
fn the_origin_of_nan() {
    let text = "(f32[4, 8] x, bool[4, 8] m) { k = Where(m, x, -inf) ; e = Exp(k) ; v = Sub(e, 0.5) ; l = Log(v) ; y = Relu(l) } => y";
    let text = text.replace("-inf", "f32[]{-inf}");
    let Ok(graph) = parse_graph(&text) else { panic!("{:?}", parse_graph(&text).err()) };
    let mut ir = oxrt::ir::Model { graph, ..Default::default() };
    oxrt::ops::infer::infer_model(&mut ir).unwrap();
    let inputs = vec![
        ("x".to_string(), data(&[4, 8], 0.5)),
        ("m".to_string(), Tensor::from_slice(&[4, 8], &[true, true, true, false].repeat(8))),
    ];
    let found = find_non_finite(&Side::of_model(&Model::from_ir(ir)).unwrap(), &inputs).unwrap().unwrap();
    // The masked infinities are meant; the logarithm of a negative number is not.
    assert_eq!((found.value.as_str(), found.node.op.as_str()), ("l", "Log"));
    assert!(found.nans >= 8 && found.inputs[0].value == "v" && found.inputs[0].lo == -0.5);
    assert!(find_non_finite(&side(NET), &picture()).unwrap().is_none());
}

#[test]
fn saved_tensors_on_either_side() {
    let reference = side(NET);
    let mut saved = std::collections::BTreeMap::new();
    let Side::Engine { engine, .. } = &reference else { unreachable!() };
    let g = &engine.plan().graph;
    engine
        .run_watched(vec![picture()[0].1.clone().into()], &mut |_, v, d| {
            saved.insert(g[v].name.clone(), d.as_tensor().unwrap().clone());
            Ok(oxrt::Seen::Keep)
        })
        .unwrap();
    assert!(diff(&reference, &Side::Tensors(saved.clone()), &picture(), &DiffOptions::default()).unwrap().agrees());
    let mut wrong = saved.clone();
    wrong.get_mut("n1").unwrap().as_mut_slice::<f32>()[5] += 0.5;
    // The saved values after it were made from the right one: with `n1` wrong, `m1` does not follow from it either.
    let report = diff(&reference, &Side::Tensors(wrong.clone()), &picture(), &DiffOptions::default()).unwrap();
    assert_eq!(report.fault.as_ref().unwrap().value, "n1");
    assert_eq!(report.fault.unwrap().worst[0].index, [0, 0, 0, 5]);
    let report =
        diff(&Side::Tensors(saved), &side(&NET.replace("0.001", "0.1")), &picture(), &DiffOptions::default()).unwrap();
    assert_eq!(report.fault.unwrap().value, "n1");
}

#[test]
fn values_beyond_the_memory_go_to_a_file() {
    let options = DiffOptions { memory: 8 << 10, all: true, ..DiffOptions::default() };
    let report = diff(&side(NET), &side(&NET.replace("0.001", "0.1")), &picture(), &options).unwrap();
    assert_eq!(report.fault.unwrap().value, "n1");
    assert!(
        report.memory_bytes <= (8 << 10) + 8192 && report.file_bytes > 20_000,
        "{} {}",
        report.memory_bytes,
        report.file_bytes
    );
}

// ---- kernels and rules ----

/// The CPU backend with a fault in the kernels of one operator.
struct Broken {
    inner: Arc<dyn Backend>,
    op: &'static str,
}

struct BrokenKernel(Box<dyn Kernel>);
struct BrokenBound {
    inner: Box<dyn Bound>,
    elements: usize,
}

impl Backend for Broken {
    fn name(&self) -> &'static str {
        self.inner.name()
    }
    fn target(&self) -> String {
        self.inner.target()
    }
    fn candidates(&self, node: NodeView) -> Vec<&'static str> {
        self.inner.candidates(node)
    }
    fn precision_of(&self, candidate: &str) -> Precision {
        self.inner.precision_of(candidate)
    }
    fn pack(&self, node: NodeView, candidate: &str) -> Result<Packing> {
        self.inner.pack(node, candidate)
    }
    fn load(&self, node: NodeView, candidate: &str, packed: &[Tensor]) -> Result<Box<dyn Kernel>> {
        let kernel = self.inner.load(node, candidate, packed)?;
        Ok(if node.op() == self.op { Box::new(BrokenKernel(kernel)) } else { kernel })
    }
}

impl Kernel for BrokenKernel {
    fn bind(&self, args: &BindArgs) -> Result<Box<dyn Bound>> {
        let elements = args.output(0)?.iter().product();
        Ok(Box::new(BrokenBound { inner: self.0.bind(args)?, elements }))
    }
}

impl Bound for BrokenBound {
    fn workspace_bytes(&self) -> usize {
        self.inner.workspace_bytes()
    }
    unsafe fn run(&self, io: &Io) -> Result<()> {
        // SAFETY: as the caller promises.
        unsafe { self.inner.run(io)? };
        // SAFETY: output 0 has that many f32 elements.
        let out = unsafe { std::slice::from_raw_parts_mut(io.output::<f32>(0), self.elements) };
        // The last rows of a tile are forgotten.
        out[self.elements - 3..].fill(0.0);
        Ok(())
    }
}

#[test]
fn a_broken_kernel_is_found_and_cut_out() {
    let source = model(NET);
    let backend = Arc::new(Broken { inner: Arc::new(oxrt::cpu::CpuBackend::new(1)), op: "LayerNormalization" });
    let engine: Engine = source.build_on(backend, &BuildOptions::default(), &mut |_, _, _| {}).unwrap().0;
    let (reference, tested) = (Side::of_model(&source).unwrap(), Side::of_engine(&engine));
    let report = finds(&reference, &tested, &picture(), "n1", &["only 3 of"]);
    let fault = report.fault.as_ref().unwrap();
    assert_eq!(fault.tested_nodes.last().unwrap().op, "LayerNormalization");
    assert!(!fault.tested_nodes.last().unwrap().kernel.is_empty());
    assert!(fault.inherited.as_ref().unwrap().rel_l2 < 1e-5, "nothing was wrong before it");
    let dir = tempfile::tempdir().unwrap();
    let small = reproduce(&reference, &tested, &picture(), &report, &dir.path().join("kernel")).unwrap();
    assert!(small.reproduces && small.nodes <= 2, "{small:?}");
    // Every rewrite is right: the fault is the kernel's.
    let report = bisect_passes(&source, &picture(), &Options::default(), 1e-3, 1e-4).unwrap();
    assert!(report.guilty.is_none() && report.steps > 5);
}

/// Loses the bias of a product.
fn lose_bias(rw: &mut Rewrite, id: oxrt::ir::NodeId) -> Result<bool> {
    let g = &mut rw.model.graph;
    if g[id].input(2).is_none() || g[id].name != "g1" {
        return Ok(false);
    }
    let inputs = g[id].inputs()[..2].to_vec();
    g.set_inputs(id, &inputs);
    Ok(true)
}

const LOSE_BIAS: Rule = Rule { name: "lose-bias", ops: &["Gemm", "oxrt.Gemm"], apply: lose_bias };

#[test]
fn a_wrong_rule_is_named() {
    let source = model(NET);
    let options = Options { extra: vec![LOSE_BIAS], ..Options::default() };
    let report = bisect_passes(&source, &picture(), &options, 1e-3, 1e-4).unwrap();
    let guilty = report.guilty.unwrap();
    assert_eq!((guilty.rule.as_str(), guilty.node.as_str()), ("lose-bias", "g1"));
    assert!(report.runs <= 8, "{} runs", report.runs);
    // The engine built with it: the step is found, and what of the source it is.
    let engine = source.build(&BuildOptions { passes: options.clone(), ..BuildOptions::default() }).unwrap();
    let report =
        diff(&Side::of_model(&source).unwrap(), &Side::of_engine(&engine), &picture(), &DiffOptions::default())
            .unwrap();
    let fault = report.fault.unwrap();
    assert!(fault.reference_nodes.iter().any(|n| n.name == "g1"), "{fault:?}");
    // Left out by name, all is well.
    let without = Options { disabled: vec!["lose-bias".to_string()], ..options };
    assert!(bisect_passes(&source, &picture(), &without, 1e-3, 1e-4).unwrap().guilty.is_none());
}

#[test]
fn errors_that_came_in_are_told_from_those_that_were_made() {
    let report = diff(
        &side(NET),
        &side(&NET.replace("s1 = Mul(c1, 0.01)", "s1 = Mul(c1, 0.0101)")),
        &picture(),
        &DiffOptions { all: true, ..DiffOptions::default() },
    )
    .unwrap();
    let of = |name: &str| report.values.iter().find(|v| v.value == name).unwrap();
    // Everything after it is off, but by no fault of its own.
    for name in ["r1", "c2", "a1"] {
        let v = of(name);
        assert!(v.total.as_ref().unwrap().rel_l2 > 1e-4 && v.added.as_ref().unwrap().rel_l2 < 1e-6, "{v:?}");
    }
    assert!(of("c1").total.as_ref().unwrap().rel_l2 < 1e-6);
}
