//! Rules on small graphs: one where each fires, ones where it must not, and the numbers before and after.

use oxrt_ir::{Model, parse_graph};
use oxrt_ops::{Datum, Interpreter};
use oxrt_passes::{Log, Options, prepare_engine, simplify};
use oxrt_tensor::Tensor;

fn model(text: &str) -> Model {
    let mut m = Model { graph: parse_graph(text).unwrap(), ..Default::default() };
    oxrt_ops::infer::infer_model(&mut m).unwrap();
    m
}

/// Random-looking inputs; symbols are 2, 3, 4 … in order of appearance.
fn inputs(m: &Model) -> Vec<Datum> {
    let mut sizes = std::collections::BTreeMap::new();
    let g = &m.graph;
    let mut out = Vec::new();
    for &v in &g.inputs {
        g[v].ty.for_each_symbol(&mut |s| {
            let next = 2 + sizes.len() as i64;
            sizes.entry(s.clone()).or_insert(next);
        });
        let dims = g.dims(v).unwrap();
        let shape: Vec<usize> = dims.iter().map(|d| d.eval(&|s| sizes.get(s).copied()).unwrap() as usize).collect();
        let n: usize = shape.iter().product();
        let values: Vec<f64> = (0..n).map(|i| ((i * 37 + 11) % 29) as f64 / 7.0 - 2.0).collect();
        out.push(Tensor::from_f64(g[v].ty.dtype().unwrap(), &shape, &values).unwrap().into());
    }
    out
}

fn run(m: &Model) -> Vec<Vec<f64>> {
    let outputs = Interpreter::new(&m.graph).run(inputs(m)).unwrap();
    outputs.iter().map(|d| d.as_tensor().unwrap().to_f64_vec().unwrap()).collect()
}

fn check(text: &str, pass: fn(&mut Model) -> Log, expect: &[&str], never: &[&str]) -> Model {
    check_within(1e-4, text, pass, expect, never)
}

fn check_within(tolerance: f64, text: &str, pass: fn(&mut Model) -> Log, expect: &[&str], never: &[&str]) -> Model {
    let before = model(text);
    let mut after = before.clone();
    let log = pass(&mut after);
    let fired: Vec<&str> = log.steps.iter().map(|s| s.rule).collect();
    expect
        .iter()
        .for_each(|r| assert!(fired.contains(r), "{r} did not fire on\n{text}\nonly {fired:?}\n{}", after.graph));
    never.iter().for_each(|r| assert!(!fired.contains(r), "{r} fired on\n{text}"));
    for (name_before, name_after) in before.graph.outputs.iter().zip(&after.graph.outputs) {
        assert_eq!(before.graph[*name_before].name, after.graph[*name_after].name, "output names are the contract");
    }
    for (a, b) in run(&before).iter().zip(run(&after)) {
        assert_eq!(a.len(), b.len());
        let close = |(x, y): (&f64, &f64)| (x - y).abs() <= tolerance * (0.1 + x.abs());
        assert!(a.iter().zip(&b).all(close), "other numbers after {fired:?}\n{text}\n{}\n{a:?}\n{b:?}", after.graph);
    }
    after
}

fn simple(m: &mut Model) -> Log {
    simplify(m, &Options::default()).unwrap()
}

fn engine(m: &mut Model) -> Log {
    prepare_engine(m, &Options::default()).unwrap()
}

fn count(m: &Model, op: &str) -> usize {
    m.graph.nodes().filter(|(_, n)| &*n.op == op).count()
}

#[test]
fn shape_arithmetic_folds_for_symbolic_sizes() {
    let text = "(f32[n, 3, h, w] x) {
        s = Shape(x)
        b = Gather(s, i64[1]{0})
        t = Concat<axis=0>(b, i64[1]{-1})
        y = Reshape(x, t)
    } => y";
    let m = check(text, simple, &["state-reshape"], &[]);
    assert_eq!(m.graph.num_nodes(), 1, "{}", m.graph);
    assert_eq!(m.graph.dims(m.graph.outputs[0]).unwrap()[1].to_string(), "3*h*w");
}

#[test]
fn constants_fold_within_the_budget() {
    let m = check("(f32[2] x) { c = Add(1.5, 2.25)\n y = Mul(x, c) } => y", simple, &["fold-constants"], &[]);
    assert_eq!(m.graph.num_nodes(), 1);
    // One zero expanded to four million elements stays an Expand.
    let big = "(f32[2000, 2000] x) { c = Expand(f32[1]{0.5}, i64[2]{2000, 2000})\n y = Add(x, c) } => y";
    let mut m = model(big);
    assert!(!simple(&mut m).steps.iter().any(|s| s.rule == "fold-constants"), "{}", m.graph);
}

#[test]
fn identities_go_but_outputs_keep_their_names() {
    check(
        "(f32[2, 3] x) { a = Add(x, 0.0)\n b = Transpose<perm=[0, 1]>(a)\n y = Relu(b) } => y",
        simple,
        &["remove-identities"],
        &[],
    );
    // Something must stand between an input and an output.
    check("(f32[2] x) { y = Identity(x) } => y", simple, &[], &["remove-identities"]);
    // Adding zero may still broadcast.
    check("(f32[1] x) { y = Add(x, f32[3]{0.0}) } => y", simple, &[], &["remove-identities"]);
    // A bias of zeros and a scale of ones do nothing, unless one element differs.
    let m = check(
        "(f32[2, 3] x) { a = Add(x, f32[3]{0.0}); b = Mul(a, f32[3]{1}); y = Relu(b) } => y",
        simple,
        &["remove-identities"],
        &[],
    );
    assert_eq!(m.graph.num_nodes(), 1, "{}", m.graph);
    check("(f32[2, 3] x) { y = Add(x, f32[3]{0, 0, 0.0000001}) } => y", simple, &[], &["remove-identities"]);
}

#[test]
fn a_part_of_what_was_joined_is_the_part() {
    let joined = |index: &str, axis: i64| {
        format!(
            "(f32[n, 3] a, f32[n, 3] b) {{ p = Unsqueeze(a, i64[1]{{2}})\n q = Unsqueeze(b, i64[1]{{-1}})\n c = Concat<axis=-1>(p, q)\n \
             d = Gather<axis={axis}>(c, {index})\n y = Relu(d) }} => y"
        )
    };
    for index in ["i64{0}", "i64{1}", "i64{-1}"] {
        let m = check(&joined(index, 2), simple, &["remove-identities"], &[]);
        assert_eq!((count(&m, "Concat"), count(&m, "Unsqueeze"), count(&m, "Gather")), (0, 0, 0));
    }
    // A place of rank 1 keeps the axis; another axis is not the joined one.
    check(&joined("i64[1]{1}", 2), simple, &[], &["remove-identities"]);
    check(&joined("i64{1}", 1), simple, &[], &["remove-identities"]);
}

#[test]
fn transposes_casts_and_reshapes_merge() {
    let m = check(
        "(f32[2, 3, 4] x) { a = Transpose<perm=[1, 2, 0]>(x)\n b = Transpose<perm=[2, 0, 1]>(a)\n y = Relu(b) } => y",
        simple,
        &["merge-transposes"],
        &[],
    );
    assert_eq!(count(&m, "Transpose"), 0);
    let m = check(
        "(f32[n, 6] x) { a = Reshape(x, i64[3]{0, 2, 3})\n b = Reshape(a, i64[2]{-1, 3})\n y = Relu(b) } => y",
        simple,
        &["merge-reshapes"],
        &[],
    );
    assert_eq!(count(&m, "Reshape"), 1);
    check("(i32[3] x) { a = Cast<to=7>(x)\n y = Cast<to=1>(a) } => y", simple, &["merge-casts"], &[]);
    // Through int32 the fraction is lost.
    check("(f32[3] x) { a = Cast<to=6>(x)\n y = Cast<to=1>(a) } => y", simple, &[], &["merge-casts"]);
}

#[test]
fn equal_nodes_merge_unless_both_are_outputs() {
    let m = check("(f32[3] x) { a = Exp(x)\n b = Exp(x)\n y = Add(a, b) } => y", simple, &["merge-common"], &[]);
    assert_eq!(count(&m, "Exp"), 1);
    check("(f32[3] x) { a = Exp(x)\n b = Exp(x) } => a, b", simple, &[], &["merge-common"]);
    // Equal convolutions whose scales differ fold them, which one for both could not; equal scales leave one.
    let scaled = |second: &str| {
        format!(
            "(f32[1, 1, 4, 4] x) {{
                a = Conv(x, f32[2, 1, 3, 3]{{..}})
                b = Conv(x, f32[2, 1, 3, 3]{{..}})
                s = BatchNormalization(a, f32[2]{{1, 2}}, f32[2]{{0, 1}}, f32[2]{{..}}, f32[2]{{0.5}})
                t = BatchNormalization(b, f32[2]{{{second}}}, f32[2]{{0, 1}}, f32[2]{{..}}, f32[2]{{0.5}})
                y = Concat<axis=1>(s, t)
            }} => y"
        )
    };
    let m = check(&scaled("3, 4"), simple, &["fuse-conv-bn"], &["merge-common"]);
    assert_eq!((count(&m, "Conv"), count(&m, "BatchNormalization")), (2, 0));
    let m = check(&scaled("1, 2"), simple, &["fuse-conv-bn", "merge-common"], &[]);
    assert_eq!((count(&m, "Conv"), count(&m, "BatchNormalization")), (1, 0));
}

#[test]
fn convolution_takes_in_batch_norm_and_padding() {
    let text = "(f32[1, 2, 5, 5] x) {
        p = Pad(x, i64[8]{0, 0, 1, 1, 0, 0, 1, 1})
        c = Conv<kernel_shape=[3, 3]>(p, f32[4, 2, 3, 3]{..})
        y = BatchNormalization(c, f32[4]{1, 2, 3, 4}, f32[4]{0, 1, 0, 1}, f32[4]{..}, f32[4]{0.5})
    } => y";
    let m = check(text, simple, &["fuse-pad", "fuse-conv-bn"], &[]);
    assert_eq!(m.graph.num_nodes(), 1, "{}", m.graph);
    // Another reader of the convolution sees it unscaled.
    let shared = "(f32[1, 2, 5, 5] x) {
        c = Conv<kernel_shape=[3, 3]>(x, f32[4, 2, 3, 3]{..})
        y = BatchNormalization(c, f32[4]{1, 2, 3, 4}, f32[4]{0, 1, 0, 1}, f32[4]{..}, f32[4]{0.5})
        z = Relu(c)
    } => y, z";
    check(shared, simple, &[], &["fuse-conv-bn"]);
    let transposed = "(f32[1, 4, 3, 3] x) {
        c = ConvTranspose<kernel_shape=[2, 2], strides=[2, 2], group=2>(x, f32[4, 3, 2, 2]{..})
        y = BatchNormalization(c, f32[6]{..}, f32[6]{1}, f32[6]{2}, f32[6]{0.5})
    } => y";
    check(transposed, simple, &["fuse-conv-bn"], &[]);
}

#[test]
fn exporters_forms_of_activations_and_norms() {
    let gelu = "(f32[2, 4] x) {
        a = Div(x, 1.4142135)
        b = Erf(a)
        c = Add(b, 1.0)
        d = Mul(x, c)
        y = Mul(d, 0.5)
    } => y";
    let m = check(gelu, simple, &["fuse-gelu"], &[]);
    assert_eq!(m.graph.num_nodes(), 1);
    check(&gelu.replace("1.4142135", "1.5"), simple, &[], &["fuse-gelu"]);
    let norm = "(f32[2, 3, 4] x) {
        m = ReduceMean<keepdims=1>(x, i64[1]{-1})
        c = Sub(x, m)
        s = Pow(c, 2.0)
        v = ReduceMean<keepdims=1>(s, i64[1]{-1})
        e = Add(v, 0.00001)
        r = Sqrt(e)
        n = Div(c, r)
        g = Mul(n, f32[4]{1, 2, 3, 4})
        y = Add(g, f32[4]{..})
    } => y";
    let m = check(norm, simple, &["fuse-layer-norm"], &[]);
    assert_eq!(count(&m, "LayerNormalization"), 1);
    check(
        &norm.replace("v = ReduceMean<keepdims=1>(s, i64[1]{-1})", "v = ReduceMean<keepdims=1>(s, i64[1]{1})"),
        simple,
        &[],
        &["fuse-layer-norm"],
    );
    check(
        "(f32[4] x) { g = HardSigmoid<alpha=0.16666667, beta=0.5>(x)\n y = Mul(x, g) } => y",
        simple,
        &["fuse-hard-swish"],
        &[],
    );
    check(
        "(f32[4] x) { g = HardSigmoid<alpha=0.2, beta=0.5>(x)\n y = Mul(x, g) } => y",
        simple,
        &[],
        &["fuse-hard-swish"],
    );
    let group = "(f32[2, 4, 3] x) {
        a = Reshape(x, i64[3]{0, 2, -1})
        n = InstanceNormalization(a, f32[2]{1}, f32[2]{0})
        b = Reshape(n, i64[3]{2, 4, 3})
        s = Mul(b, f32[4, 1]{1, 2, 3, 4})
        y = Add(s, f32[4, 1]{..})
    } => y";
    check(group, simple, &["fuse-group-norm"], &[]);
}

#[test]
fn a_residual_block_is_two_fused_convolutions_without_transposes_between() {
    let text = "(f32[n, 4, 6, 6] x) {
        a = Conv<kernel_shape=[3, 3], pads=[1, 1, 1, 1]>(x, f32[4, 4, 3, 3]{0.1}, f32[4]{..})
        b = Relu(a)
        c = Conv<kernel_shape=[3, 3], pads=[1, 1, 1, 1]>(b, f32[4, 4, 3, 3]{0.05})
        d = Add(c, x)
        e = Relu(d)
        y = GlobalAveragePool(e)
    } => y";
    let m = check(text, engine, &["channels-last", "sink-transpose", "fuse-residual", "fuse-activation"], &[]);
    assert_eq!(count(&m, "oxrt.Conv"), 2, "{}", m.graph);
    assert_eq!((count(&m, "Relu"), count(&m, "Add")), (0, 0), "{}", m.graph);
    // One at the input (and its copy for the residual), one of a single pixel at the end.
    assert!(count(&m, "Transpose") <= 2, "{}", m.graph);
}

#[test]
fn halves_are_laid_out_where_a_device_asks_for_it() {
    for dtype in ["f16", "bf16"] {
        let text = format!(
            "({dtype}[n, 4, 6, 6] x) {{
                a = Conv<pads=[1, 1, 1, 1]>(x, {dtype}[4, 4, 3, 3]{{0.125}}, {dtype}[4]{{..}})
                b = Relu(a)
                p = MaxPool<kernel_shape=[3, 3], pads=[1, 1, 1, 1]>(b)
                c = ConvTranspose<pads=[1, 1, 1, 1]>(p, {dtype}[4, 4, 3, 3]{{0.0625}})
                d = Add(c, x)
                e = Relu(d)
                m = ReduceMean<keepdims=0>(e, i64[2]{{2, 3}})
                f = Gemm<alpha=0.5, transB=1>(m, {dtype}[5, 4]{{..}}, {dtype}[5]{{..}})
                h = MatMul(f, {dtype}[5, 3]{{0.125}})
                i = Add(h, {dtype}[3]{{..}})
                y = Relu(i)
            }} => y"
        );
        let halves = |m: &mut Model| {
            let options = Options { extra: oxrt_passes::HALVES.to_vec(), ..Options::default() };
            prepare_engine(m, &options).unwrap()
        };
        let names = [
            "channels-last-halves",
            "channels-last-half-neighbour",
            "lower-half-gemm",
            "lower-half-matmul",
            "fuse-residual",
            "fuse-activation",
            "fuse-bias",
        ];
        let m = check_within(0.02, &text, halves, &names, &[]);
        assert_eq!(
            (count(&m, "oxrt.Conv"), count(&m, "oxrt.ConvTranspose"), count(&m, "oxrt.Gemm")),
            (1, 1, 2),
            "{}",
            m.graph
        );
        assert_eq!((count(&m, "Relu"), count(&m, "Add"), count(&m, "oxrt.MaxPool")), (0, 0, 1), "{}", m.graph);
        assert!(count(&m, "Transpose") <= 2, "{}", m.graph);
        // Nobody asked for it here.
        check_within(0.02, &text, engine, &[], &names[..4]);
    }
}

#[test]
fn concatenation_and_gates_stay_channels_last() {
    let text = "(f32[1, 3, 4, 4] x) {
        a = Conv<kernel_shape=[1, 1]>(x, f32[4, 3, 1, 1]{..})
        b = Conv<kernel_shape=[1, 1]>(x, f32[2, 3, 1, 1]{0.3})
        c = Concat<axis=1>(a, b)
        p = GlobalAveragePool(c)
        g = Sigmoid(p)
        m = Mul(c, g)
        y = Conv<kernel_shape=[1, 1]>(m, f32[2, 6, 1, 1]{0.2})
    } => y";
    let m = check(text, engine, &["channels-last-neighbour", "merge-transposes"], &[]);
    assert_eq!(count(&m, "Transpose"), 2, "{}", m.graph);
}

const ATTENTION: &str = "(f32[2, 5, 8] q0, f32[2, 5, 8] k0, f32[2, 5, 8] v0, f32[2, 1, 1, 5] mask) {
    q1 = Reshape(q0, i64[4]{2, 5, 2, 4})
    q = Transpose<perm=[0, 2, 1, 3]>(q1)
    k1 = Reshape(k0, i64[4]{2, 5, 2, 4})
    k = Transpose<perm=[0, 2, 3, 1]>(k1)
    v1 = Reshape(v0, i64[4]{2, 5, 2, 4})
    v = Transpose<perm=[0, 2, 1, 3]>(v1)
    s = MatMul(q, k)
    t = Mul(s, 0.5)
    u = Add(t, mask)
    p = Softmax<axis=-1>(u)
    o = MatMul(p, v)
    o1 = Transpose<perm=[0, 2, 1, 3]>(o)
    y = Reshape(o1, i64[3]{2, 5, 8})
} => y";

#[test]
fn attention_is_one_operator_that_reads_the_projections_directly() {
    let m = check(ATTENTION, engine, &["fuse-attention", "attention-in-place"], &[]);
    assert_eq!(count(&m, "Transpose"), 0, "{}", m.graph);
    assert_eq!((count(&m, "oxrt.Attention"), count(&m, "Softmax")), (1, 0), "{}", m.graph);
    // The scores are asked for too: they must exist.
    let shared = ATTENTION.replace("=> y", "=> y, p");
    check(&shared, engine, &[], &["fuse-attention"]);
    check(&ATTENTION.replace("Softmax<axis=-1>", "Softmax<axis=2>"), engine, &[], &["fuse-attention"]);
}

/// Self-attention as exporters write it, between a way to get q, k and v [n, 2, 5, 4] from x and what follows `o` [n, 2, 5, 4].
fn self_attention(x: &str, before: &str, after: &str) -> String {
    format!(
        "(f32[{x}] x) {{
            {before}
            kt = Transpose<perm=[0, 1, 3, 2]>(k)
            s = MatMul(q, kt)
            t = Mul(s, 0.5)
            p = Softmax<axis=-1>(t)
            o = MatMul(p, v)
            {after}
        }} => y"
    )
}

#[test]
fn heads_are_read_where_a_joined_product_left_them() {
    let back = "o1 = Transpose<perm=[0, 2, 1, 3]>(o)
        y = Reshape(o1, i64[3]{-1, 5, 8})";
    // timm: [n, 5, 24] as [n, 5, 3, 2, 4], turned to [3, n, 2, 5, 4].
    let stacked = "w = MatMul(x, f32[8, 24]{0.01})
        w1 = Reshape(w, i64[5]{-1, 5, 3, 2, 4})
        w2 = Transpose<perm=[2, 0, 3, 1, 4]>(w1)
        q = Gather<axis=0>(w2, i64[]{0})
        k = Gather<axis=0>(w2, i64[]{-2})
        v = Gather<axis=0>(w2, i64[]{2})";
    // GPT: three pieces of a row.
    let pieces = "w = MatMul(x, f32[8, 24]{0.01})
        q0 = Slice(w, i64[1]{0}, i64[1]{8}, i64[1]{2})
        k0 = Slice(w, i64[1]{8}, i64[1]{16}, i64[1]{2})
        v0 = Slice(w, i64[1]{16}, i64[1]{24}, i64[1]{-1})
        q1 = Reshape(q0, i64[4]{-1, 5, 2, 4})
        q = Transpose<perm=[0, 2, 1, 3]>(q1)
        k1 = Reshape(k0, i64[4]{-1, 5, 2, 4})
        k = Transpose<perm=[0, 2, 1, 3]>(k1)
        v1 = Reshape(v0, i64[4]{-1, 5, 2, 4})
        v = Transpose<perm=[0, 2, 1, 3]>(v1)";
    let split = "w = MatMul(x, f32[8, 24]{0.01})
        q0, k0, v0 = Split<axis=-1, num_outputs=3>(w)
        q1 = Reshape(q0, i64[4]{-1, 5, 2, 4})
        q = Transpose<perm=[0, 2, 1, 3]>(q1)
        k1 = Reshape(k0, i64[4]{-1, 5, 2, 4})
        k = Transpose<perm=[0, 2, 1, 3]>(k1)
        v1 = Reshape(v0, i64[4]{-1, 5, 2, 4})
        v = Transpose<perm=[0, 2, 1, 3]>(v1)";
    for (before, x) in [(stacked, "n, 5, 8"), (pieces, "n, 5, 8"), (split, "3, 5, 8"), (stacked, "1, 5, 8")] {
        let m = check(&self_attention(x, before, back), engine, &["attention-in-place"], &[]);
        assert_eq!(m.graph.num_nodes(), 2, "{}", m.graph);
    }
}

#[test]
fn products_of_the_same_rows_are_joined() {
    let part = |name: &str, weight: &str, bias: &str| {
        format!(
            "{name}0 = MatMul(x, f32[8, 8]{{{weight}}})
            {name}1 = Add({name}0, f32[8]{{{bias}}})
            {name}2 = Reshape({name}1, i64[4]{{-1, 5, 2, 4}})
            {name} = Transpose<perm=[0, 2, 1, 3]>({name}2)\n"
        )
    };
    let back = "o1 = Transpose<perm=[0, 2, 1, 3]>(o)
        y = Reshape(o1, i64[3]{-1, 5, 8})";
    let before = part("q", "0.01", "..") + &part("k", "0.02", "1") + &part("v", "..", "..");
    // Simplification joins them already; without it the engine does.
    fn alone(m: &mut Model) -> Log {
        prepare_engine(m, &Options { disabled: vec!["join-products".to_string()], ..Options::default() }).unwrap()
    }
    let text = self_attention("n, 5, 8", &before, back);
    for (pass, rule) in [(engine as fn(&mut Model) -> Log, "join-products"), (alone, "join-qkv")] {
        let m = check(&text, pass, &["attention-in-place", rule], &[]);
        assert_eq!((count(&m, "oxrt.Gemm"), m.graph.num_nodes()), (1, 2), "{}", m.graph);
    }
    // A product that somebody else reads stays as it is.
    let shared = self_attention("n, 5, 8", &before, back).replace("=> y", "=> y, k1");
    check(&shared, engine, &["attention-in-place"], &["join-qkv"]);
}

/// What `nn.MultiheadAttention` exports to with batches first.
#[test]
fn lengths_before_batches_are_turned_back() {
    let head = |name: &str, index: usize| {
        format!(
            "{name}0 = Gather<axis=0>(w2, i64[]{{{index}}})
            {name}1 = Reshape({name}0, i64[3]{{5, 6, 4}})
            {name}2 = Transpose<perm=[1, 0, 2]>({name}1)
            {name} = Reshape({name}2, i64[4]{{3, 2, 5, 4}})\n"
        )
    };
    let before = "x1 = Transpose<perm=[1, 0, 2]>(x)
        w = MatMul(x1, f32[8, 24]{0.01})
        w0 = Add(w, f32[24]{..})
        w1 = Reshape(w0, i64[5]{1, 5, 3, 3, 8})
        w2 = Transpose<perm=[3, 1, 2, 0, 4]>(w1)\n"
        .to_string()
        + &head("q", 0)
        + &head("k", 1)
        + &head("v", 2);
    let after = "o1 = Transpose<perm=[2, 0, 1, 3]>(o)
        o2 = Reshape(o1, i64[2]{15, 8})
        o3 = Gemm<transB=1>(o2, f32[8, 8]{0.02}, f32[8]{..})
        o4 = Reshape(o3, i64[3]{5, 3, 8})
        o5 = Transpose<perm=[1, 0, 2]>(o4)
        y = Add(o5, x)";
    let rules = ["attention-in-place", "attention-unturned", "product-unturned", "fuse-residual"];
    let m = check(&self_attention("3, 5, 8", &before, after), engine, &rules, &[]);
    assert_eq!(m.graph.num_nodes(), 3, "{}", m.graph);
}

#[test]
fn products_take_bias_activation_and_residual() {
    let text = "(f32[n, 3, 4] x, f32[n, 3, 2] r) {
        a = MatMul(x, f32[4, 2]{..})
        b = Add(a, f32[2]{1, -1})
        c = Add(r, b)
        d = Gelu(c)
    } => d";
    let m = check(text, engine, &["lower-matmul", "fuse-bias", "fuse-residual", "fuse-activation"], &[]);
    assert_eq!(m.graph.num_nodes(), 1, "{}", m.graph);
    // After an activation nothing more can be added in registers.
    let late = "(f32[n, 4] x, f32[n, 2] r) { a = MatMul(x, f32[4, 2]{..})\n b = Relu(a)\n c = Add(b, r) } => c";
    check(late, engine, &["fuse-activation"], &["fuse-residual"]);
}

#[test]
fn elementwise_chains_are_one_pass() {
    let text = "(f32[n, 4] x, f32[4] s) {
        a = Mul(x, s)
        b = Exp(a)
        c = Add(b, x)
        y = Neg(c)
    } => y";
    let m = check(text, engine, &["fuse-elementwise"], &[]);
    assert_eq!(m.graph.num_nodes(), 1, "{}", m.graph);
    // A value that is read twice is computed once.
    let shared = "(f32[n, 4] x) { a = Exp(x)\n b = Neg(a)\n c = Sqrt(a) } => b, c";
    check(shared, engine, &[], &["fuse-elementwise"]);
}

#[test]
fn rules_can_be_left_out_and_the_driver_stops_where_told() {
    let text = "(f32[2] x) { a = Add(x, 0.0)\n b = Mul(a, 1.0)\n y = Relu(b) } => y";
    let mut m = model(text);
    let off = Options { disabled: vec!["remove-identities".into()], ..Options::default() };
    assert!(simplify(&mut m, &off).unwrap().steps.is_empty());
    let one = Options { stop_at: Some(1), ..Options::default() };
    assert_eq!(simplify(&mut m, &one).unwrap().steps.len(), 1);
    assert_eq!(m.graph.num_nodes(), 2);
}

#[test]
fn a_pool_does_not_take_padding_as_wide_as_its_window() {
    let text = |pad: i64| {
        format!(
            "(f32[1, 2, 6, 6] x) {{ p = Pad(x, i64[8]{{0, 0, {pad}, {pad}, 0, 0, {pad}, {pad}}})
             y = AveragePool<kernel_shape=[2, 2], count_include_pad=1>(p) }} => y"
        )
    };
    check(&text(1), simple, &["fuse-pad"], &[]);
    // onnxruntime refuses such a pool.
    check(&text(2), simple, &[], &["fuse-pad"]);
}

#[test]
fn products_over_a_flattened_batch() {
    let text = |lead: &str| {
        format!(
            "(f32[2, 3, 4, 5] a, f32[{lead}, 5, 6] b) {{
            p = Reshape(a, i64[3]{{6, 4, 5}}); q = Reshape(b, i64[3]{{6, 5, 6}}); m = MatMul(p, q)
            y = Reshape(m, i64[4]{{2, 3, 4, 6}}) }} => y"
        )
    };
    let m = check(&text("2, 3"), simple, &["merge-batches"], &[]);
    assert_eq!(m.graph.num_nodes(), 1, "{}", m.graph);
    // Another order of the batch, and a product that someone else reads flattened.
    check(&text("3, 2"), simple, &[], &["merge-batches"]);
    let shared = text("2, 3").replace("} => y", "; z = Relu(m) } => y, z");
    check(&shared, simple, &[], &["merge-batches"]);
}

#[test]
fn gelu_in_whatever_order_it_is_multiplied_out() {
    let bloom = "(f32[7] x) {
        h = Mul(x, 0.5); k = Mul(x, 0.79788456); c = Mul(x, 0.044715); s = Mul(c, x); o = Add(s, 1.0); a = Mul(k, o)
        t = Tanh(a); p = Add(t, 1.0); y = Mul(h, p) } => y";
    let m = check(bloom, simple, &["fuse-gelu-tanh"], &[]);
    assert_eq!(m.graph.num_nodes(), 1, "{}", m.graph);
    // Another constant is another function.
    check(&bloom.replace("0.044715", "0.0448"), simple, &[], &["fuse-gelu-tanh"]);
}

/// A quantised graph: nothing but operators on bytes is left between the first rounding and the last.
fn quantised(body: &str, expect: &[&str], left: &[(&str, usize)]) {
    let text = format!(
        "(f32[1, 4, 5, 6] input) {{
            qx = QuantizeLinear(input, 0.125, u8{{20}})
            x = DequantizeLinear(qx, 0.125, u8{{20}})
            {body}
        }} => output"
    );
    let m = check(&text, engine, expect, &[]);
    for (op, n) in left {
        assert_eq!(count(&m, op), *n, "{op} in\n{}", m.graph);
    }
}

#[test]
fn quantised_convolutions_take_what_follows() {
    let conv = "w = DequantizeLinear<axis=0>(i8[4, 4, 1, 1]{3, -2, 1, 5, 2, 2, -7, 1, 0, 4, 1, -3, 6, 1, 1, 2}, f32[4]{0.5, 0.25, 1, 0.5})
            b = DequantizeLinear(i32[4]{8, -16, 5, 0}, 0.0625)
            c = Conv(x, w, b)";
    // Relu, then a rounding.
    quantised(
        &format!(
            "{conv}
            r = Relu(c)
            qy = QuantizeLinear(r, 0.5, u8{{10}})
            output = DequantizeLinear(qy, 0.5, u8{{10}})"
        ),
        &["lower-q-conv", "fuse-quantize"],
        &[("oxrt.QConv", 1), ("Relu", 0), ("Conv", 0), ("QuantizeLinear", 1), ("DequantizeLinear", 1)],
    );
    // A rounding, a function of it written as two operators with a rounding between, and the input added.
    quantised(
        &format!(
            "{conv}
            qc = QuantizeLinear(c, 0.5, u8{{100}})
            dc = DequantizeLinear(qc, 0.5, u8{{100}})
            h = HardSigmoid<alpha=0.125, beta=0.5>(dc)
            qh = QuantizeLinear(h, 0.0625, u8{{0}})
            dh = DequantizeLinear(qh, 0.0625, u8{{0}})
            m = Mul(dc, dh)
            qm = QuantizeLinear(m, 0.25, u8{{50}})
            dm = DequantizeLinear(qm, 0.25, u8{{50}})
            s = Add(dm, x)
            qy = QuantizeLinear(s, 0.5, i8{{-10}})
            output = DequantizeLinear(qy, 0.5, i8{{-10}})"
        ),
        &["fuse-lookup", "fuse-table", "fuse-q-binary", "fuse-q-residual"],
        &[("oxrt.QConv", 1), ("oxrt.QBinary", 0), ("oxrt.Lookup", 0), ("QuantizeLinear", 1)],
    );
    // Rounding behind the activation, a pool, another convolution: channels stay last.
    quantised(
        &format!(
            "{conv}
            r = LeakyRelu<alpha=0.25>(c)
            qr = QuantizeLinear(r, 0.5, u8{{100}})
            dr = DequantizeLinear(qr, 0.5, u8{{100}})
            p = MaxPool<kernel_shape=[2, 2]>(dr)
            qp = QuantizeLinear(p, 0.5, u8{{100}})
            dp = DequantizeLinear(qp, 0.5, u8{{100}})
            d = Conv(dp, w)
            qd = QuantizeLinear(d, 4.0, u8{{90}})
            dd = DequantizeLinear(qd, 4.0, u8{{90}})
            output = GlobalAveragePool(dd)"
        ),
        &["raise-quantize", "fuse-q-activation", "lower-q-pool"],
        &[("oxrt.QConv", 2), ("oxrt.MaxPool", 1), ("oxrt.QGlobalAveragePool", 1), ("DequantizeLinear", 0)],
    );
}

#[test]
fn quantised_products_take_what_follows() {
    let text = "(f32[2, 3] input) {
        qx = QuantizeLinear(input, 0.125, u8{20})
        x = DequantizeLinear(qx, 0.125, u8{20})
        w = DequantizeLinear(u8[3, 2]{130, 120, 128, 140, 100, 127}, 0.25, u8{128})
        c = MatMul(x, w)
        qc = QuantizeLinear(c, 0.25, u8{100})
        dc = DequantizeLinear(qc, 0.25, u8{100})
        bias = DequantizeLinear(u8[2]{3, 9}, 0.5, u8{5})
        s = Add(dc, bias)
        qs = QuantizeLinear(s, 0.5, u8{90})
        ds = DequantizeLinear(qs, 0.5, u8{90})
        t = Transpose<perm=[1, 0]>(ds)
        qt = QuantizeLinear(t, 0.5, u8{90})
        dt = DequantizeLinear(qt, 0.5, u8{90})
        p = MatMul(ds, dt)
        qp = QuantizeLinear(p, 2.0, u8{50})
        output = DequantizeLinear(qp, 2.0, u8{50})
    } => output";
    let m = check(text, engine, &["lower-q-gemm", "lower-q-matmul", "q-matmul-transposed", "fuse-q-residual"], &[]);
    assert_eq!((count(&m, "oxrt.QGemm"), count(&m, "oxrt.QMatMul"), count(&m, "Transpose")), (1, 1, 0), "{}", m.graph);
    // A scale that is not known, or a reader of the real values, keeps the operators.
    let text = "(f32[2, 3] input, f32[] s) {
        qx = QuantizeLinear(input, s)
        output = DequantizeLinear(qx, s)
    } => output";
    check(text, engine, &[], &["remove-requantize", "fuse-lookup"]);
    // Old form, constant parameters.
    let text = "(u8[1, 3] x) {
        y = QLinearMatMul(x, 0.5, u8{10}, i8[3, 2]{1, -2, 3, 4, -5, 6}, f32[2]{0.5, 0.25}, i8[2]{0, 0}, 0.25, u8{100})
    } => y";
    let m = check(text, engine, &["expand-qlinear-matmul"], &[]);
    assert_eq!(m.graph.num_nodes(), 1, "{}", m.graph);
}

#[test]
fn einsum_becomes_products() {
    for (text, gone, made) in [
        ("(f32[b, 3, k] x, f32[b, k, 5] y) { z = Einsum<equation=\"bij,bjk->bik\">(x, y) } => z", true, "MatMul"),
        // Attention's products, with the rows of one operand in another order; a label summed in one operand alone.
        (
            "(f32[b, 3, 4, 5] x, f32[b, 6, 4, 5] y) { z = Einsum<equation=\"bqhd,bkhd->bhqk\">(x, y) } => z",
            true,
            "MatMul",
        ),
        ("(f32[2, 3, 4] x, f32[3, 5] y) { z = Einsum<equation=\"abc,bd->da\">(x, y) } => z", true, "MatMul"),
        ("(f32[2, 3, 4] x) { z = Einsum<equation=\"abc->ca\">(x) } => z", true, "ReduceSum"),
        ("(f32[2, 3] x, f32[3, 4] y, f32[4, 5] z) { w = Einsum<equation=\"ab,bc,cd\">(x, y, z) } => w", true, "MatMul"),
        ("(f32[3] x, f32[4] y) { z = Einsum<equation=\"i,j->ji\">(x, y) } => z", true, "Transpose"),
        ("(f32[2, 1, 3] x, f32[1, 4, 3] y) { z = Einsum<equation=\"...i,...i->...\">(x, y) } => z", true, "MatMul"),
        // An ellipsis that stretches over a sum.
        ("(f32[2, 1] x, f32[2, 4] y) { z = Einsum<equation=\"ij,ij->i\">(x, y) } => z", true, "ReduceSum"),
        ("(i64[2, 3] x, i64[3, 4] y) { z = Einsum<equation=\"ij,jk\">(x, y) } => z", true, "MatMul"),
        ("(f16[2, 3] x, f16[3, 4] y) { z = Einsum<equation=\"ij,jk\">(x, y) } => z", true, "MatMul"),
        // Diagonals.
        ("(f32[3, 3] x) { z = Einsum<equation=\"ii->i\">(x) } => z", true, "Slice"),
        ("(f32[n, 3, 2, 3] x, f32[n, 2] y) { z = Einsum<equation=\"bici,bc->i\">(x, y) } => z", true, "Slice"),
        ("(f32[3, 3, 3] x) { z = Einsum<equation=\"iii->\">(x) } => z", true, "Slice"),
        // A type without products.
        ("(u8[2, 3] x, u8[3, 4] y) { z = Einsum<equation=\"ij,jk\">(x, y) } => z", false, "Einsum"),
    ] {
        let rules: &[&str] = &["lower-einsum"];
        let m = if gone { check(text, engine, rules, &[]) } else { check(text, engine, &[], rules) };
        assert_eq!(count(&m, "Einsum"), usize::from(!gone), "{text}\n{}", m.graph);
        assert!(count(&m, made) > 0 || made == "Transpose", "{text}\n{}", m.graph);
    }
}

#[test]
fn operators_without_kernels_become_others() {
    for (text, rule, op) in [
        (
            "(f32[n, 3, 4, 5] x) { y = MeanVarianceNormalization(x) } => y",
            "lower-mean-variance-normalization",
            "MeanVarianceNormalization",
        ),
        (
            "(f64[n, 3, 4] x) { y = MeanVarianceNormalization<axes=[-1]>(x) } => y",
            "lower-mean-variance-normalization",
            "MeanVarianceNormalization",
        ),
        ("(f64[n, 3, 4, 5] x) { y = GlobalAveragePool(x) } => y", "lower-global-pool", "GlobalAveragePool"),
        ("(f64[n, 3, 4] x) { y = GlobalMaxPool(x) } => y", "lower-global-pool", "GlobalMaxPool"),
        ("(f32[n, 3, 4] x) { y = GlobalLpPool<p=1>(x) } => y", "lower-global-pool", "GlobalLpPool"),
        ("(f32[n, 3, 4, h] x) { y = GlobalLpPool(x) } => y", "lower-global-pool", "GlobalLpPool"),
        (
            "(f32[2, 2, 3, 8] x, f32[2, 3, 4] c, f32[2, 3, 4] d) { z = RotaryEmbedding(x, c, d) } => z",
            "lower-rotary-embedding",
            "RotaryEmbedding",
        ),
        (
            "(f32[2, s, 16] x, f32[9, 4] c, f32[9, 4] d, i64[2, s] p) {
                q = Mod(p, i64{3}) z = RotaryEmbedding<num_heads=2, interleaved=1>(x, c, d, q) } => z",
            "lower-rotary-embedding",
            "RotaryEmbedding",
        ),
        (
            "(f16[b, 2, s, 8] x, f16[9, 2] c, f16[9, 2] d, i64[b, s] p) {
                q = Mod(p, i64{3}) z = RotaryEmbedding<rotary_embedding_dim=4>(x, c, d, q) } => z",
            "lower-rotary-embedding",
            "RotaryEmbedding",
        ),
    ] {
        let m = check(text, engine, &[rule], &[]);
        assert_eq!(count(&m, op), 0, "{}", m.graph);
    }
    // A power that no reduction takes.
    check("(f32[n, 3, 4] x) { y = GlobalLpPool<p=3>(x) } => y", engine, &[], &["lower-global-pool"]);
}

#[test]
fn weights_in_blocks_stay_as_they_are() {
    // As importers write them, and as ONNX's own tools do; signed codes; a bias.
    let gemm = "oxrt.BlockGemm";
    for text in [
        "(f32[n, 32] x) {
            w = DequantizeLinear<axis=1, block_size=16>(u8[1, 32]{7}, f32[1, 2]{2, 3}, u8[1, 2]{4, 5})
            t = Transpose<perm=[1, 0]>(w)  y = MatMul(x, t) } => y",
        "(f32[2, n, 32] x) {
            w = DequantizeLinear<axis=0, block_size=16>(i8[32, 1]{-7}, f32[2, 1]{2, 3})  p = MatMul(x, w)
            y = Add(p, f32[1]{5}) } => y",
        "(f32[n, 20] x) {
            w = DequantizeLinear<axis=-1, block_size=16>(i8[1, 20]{100}, f32[1, 2]{2, 3}, i8[1, 2]{4, -5})
            y = Gemm<transB=1>(x, w, f32[1]{-1}) } => y",
        "(f32[n, 32] x) {
            w = DequantizeLinear<axis=1, block_size=16>(u8[1, 32]{7}, f32[1, 2]{2, 3})
            g = Reshape(w, i64[3]{1, 2, 16})  s = Sub(g, f32[1, 2, 1]{9, -2})  r = Reshape(s, i64[2]{1, 32})
            t = Transpose<perm=[1, 0]>(r)  y = MatMul(x, t) } => y",
    ] {
        let m = check(text, engine, &["lower-block-weights"], &[]);
        assert_eq!((count(&m, gemm), count(&m, "DequantizeLinear")), (1, 0), "{text}\n{}", m.graph);
    }
    // Blocks along the other axis, and one scale per column, are reals as before.
    for text in [
        "(f32[n, 2] x) { w = DequantizeLinear<axis=1, block_size=16>(u8[2, 16]{7}, f32[2, 1]{2, 3})  y = MatMul(x, w) } => y",
        "(f32[n, 16] x) { w = DequantizeLinear<axis=1>(u8[16, 2]{7}, f32[2]{2, 3})  y = MatMul(x, w) } => y",
    ] {
        let m = check(text, engine, &["fold-dequantize"], &["lower-block-weights"]);
        assert_eq!(count(&m, gemm), 0, "{text}\n{}", m.graph);
    }
    let text = "(i64[n] i) {
        w = DequantizeLinear<axis=1, block_size=16>(u8[3, 32]{7}, f32[3, 2]{2, 3, 4, 5, 6, 7}, u8[3, 2]{4, 5, 6, 7, 8, 9})
        j = Mod(i, i64{3})  y = Gather(w, j) } => y";
    let m = check(text, engine, &["lower-block-table"], &[]);
    assert_eq!((count(&m, "oxrt.GatherBlocks"), count(&m, "DequantizeLinear")), (1, 0), "{}", m.graph);
}

#[test]
fn recurrent_layers_with_the_batch_first_are_turned() {
    let text = "(f32[n, 3, 2] x, f32[n, 1, 2] h) {
        y, yh, yc = LSTM<hidden_size=2, layout=1>(x, f32[1, 8, 2]{0.5}, f32[1, 8, 2]{0.25}, _, _, h) } => y, yh, yc";
    let m = check(text, engine, &["lower-recurrent-layout"], &[]);
    assert_eq!(count(&m, "LSTM"), 1, "{}", m.graph);
}

#[test]
fn factors_become_part_of_weights() {
    // Through heads, turned: queries scaled as scaled_dot_product_attention is exported.
    let text = "(f32[b, 5, 6] x) {
        p = MatMul(x, f32[6, 8]{1, 2, 3, 4, 5, 6, 7, 8, 1, 2, 3, 4, 5, 6, 7, 8, 1, 2, 3, 4, 5, 6, 7, 8, 1, 2, 3, 4, 5, 6, 7, 8, 1, 2, 3, 4, 5, 6, 7, 8, 1, 2, 3, 4, 5, 6, 7, 8})
        q = Add(p, f32[8]{1, 2, 3, 4, 5, 6, 7, 8})
        r = Reshape(q, i64[4]{0, 0, 2, 4})
        t = Transpose<perm=[0, 2, 1, 3]>(r)
        y = Mul(t, 0.25)
    } => y";
    let m = check(text, simple, &["fold-factors"], &[]);
    assert_eq!((count(&m, "Mul"), m.graph.num_nodes()), (0, 4), "{}", m.graph);
    // Scores are scaled in the product that makes one side.
    let scores = "(f32[2, 3, 4] x, f32[2, 4, 5] k) {
        q = MatMul(x, f32[4, 4]{0.5})
        s = MatMul(q, k)
        y = Div(s, 8.0)
    } => y";
    assert_eq!(check(scores, simple, &["fold-factors"], &[]).graph.num_nodes(), 2);
    // A scale per column, after the turn that puts columns first.
    let columns = "(f32[2, 3, 4] x) {
        p = MatMul(x, f32[4, 3]{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12})
        t = Transpose<perm=[0, 2, 1]>(p)
        y = Mul(t, f32[3, 1]{1, 2, 3})
    } => y";
    check(columns, simple, &["fold-factors"], &[]);
    for kept in [
        // Somebody else reads the product.
        "(f32[2, 3] x) { p = MatMul(x, f32[3, 3]{1})\n a = Mul(p, 2.0)\n y = Add(a, p) } => y",
        // The product is a result itself.
        "(f32[2, 3] x) { p = MatMul(x, f32[3, 3]{1})\n y = Mul(p, 2.0) } => p, y",
        // A square would be scaled twice.
        "(f32[3, 3] x) { r = Sin(x)\n p = MatMul(r, r)\n y = Mul(p, 2.0) } => y",
        // Rows are not columns.
        "(f32[2, 3] x) { p = MatMul(x, f32[3, 3]{1})\n y = Mul(p, f32[2, 1]{1, 2}) } => y",
        // The factor makes the result larger.
        "(f32[1, 3] x) { p = MatMul(x, f32[3, 3]{1})\n y = Mul(p, f32[2, 3]{1, 2, 3, 4, 5, 6}) } => y",
        "(f32[2, 3] x) { p = Exp(x)\n y = Mul(p, 2.0) } => y",
        "(f32[2, 3] x) { p = MatMul(x, f32[3, 3]{1})\n y = Mul(p, 0.0) } => y",
    ] {
        check(kept, simple, &[], &["fold-factors"]);
    }
    check(
        "(f32[2, 3] x) { p = Relu(x)\n a = Mul(p, 2.0)\n y = Mul(a, f32[3]{1, 2, 3}) } => y",
        simple,
        &["fold-factors"],
        &[],
    );
    check(
        "(f32[2, 3] x) { a = MatMul(x, f32[3, 3]{0.5})\n p = Relu(a)\n y = Mul(p, -2.0) } => y",
        simple,
        &[],
        &["fold-factors"],
    );
    check(
        "(f32[2, 3] x) { a = Gemm<alpha=0.5>(x, f32[3, 4]{0.5}, f32[4]{1, 2, 3, 4})\n y = Mul(a, f32[4]{1, 2, 3, 4}) } => y",
        simple,
        &["fold-factors"],
        &[],
    );
    check(
        "(f32[2, 3] x) { a = LayerNormalization<axis=-1>(x, f32[3]{1, 2, 3}, f32[3]{3, 2, 1})\n b = Mul(a, f32[3]{4, 5, 6})\n y = Add(b, f32[3]{7, 8, 9}) } => y",
        simple,
        &["fold-factors", "fold-shifts"],
        &[],
    );
    check(
        "(f32[2, 3] x) { e = Exp(x)\n a = Div(f32[3]{1, 2, 3}, e)\n b = Mul(a, 3.0)\n c = Add(b, 1.0)\n y = Sub(c, f32[3]{4, 5, 6}) } => y",
        simple,
        &["fold-factors", "fold-shifts"],
        &[],
    );
}

#[test]
fn a_scale_and_shift_after_batch_normalisation_is_its_own() {
    let text = "(f32[n, 2, 3, 3] x) {
        b = BatchNormalization(x, f32[2]{1, 2}, f32[2]{3, 4}, f32[2]{0.5, -0.5}, f32[2]{1, 2})
        s = Mul(b, f32[2, 1, 1]{3, 5})
        t = Add(s, f32[2, 1, 1]{-1, 1})
        y = Relu(t)
    } => y";
    let m = check(text, simple, &["fold-factors", "fold-shifts"], &[]);
    assert_eq!(m.graph.num_nodes(), 2, "{}", m.graph);
}

#[test]
fn keys_turned_between_reshapes_are_turned_once() {
    let text = "(f32[b, s, 8] x) {
        r = Reshape(x, i64[4]{0, 0, 2, 4})
        t = Transpose<perm=[0, 2, 1, 3]>(r)
        sh = Shape(t)
        s = Slice(sh, i64[1]{-2}, i64[1]{-1})
        c = Concat<axis=0>(i64[1]{-1}, s, i64[1]{4})
        j = Reshape(t, c)
        k = Transpose<perm=[0, 2, 1]>(j)
        h = Slice(sh, i64[1]{0}, i64[1]{-2})
        d = Concat<axis=0>(h, i64[1]{4}, s)
        u = Reshape(k, d)
        y = Relu(u)
    } => y";
    let m = check(text, simple, &["merge-reshaped-transpose", "merge-transposes"], &[]);
    assert_eq!(m.graph.num_nodes(), 3, "{}", m.graph);
    // Other axes come out than went in.
    let mixed =
        "(f32[2, 3, 4] x) { j = Reshape(x, i64[2]{6, 4})\n k = Transpose(j)\n y = Reshape(k, i64[3]{2, 4, 3}) } => y";
    check(mixed, simple, &[], &["merge-reshaped-transpose"]);
}

/// Attention over heads of 4, of `x` [b, 3, 8]; `parts` makes q, k and v of shape [b, 2, 3, 4].
fn attention(parts: &str) -> String {
    format!(
        "(f32[b, 3, 8] x) {{
        {parts}
        kt = Transpose<perm=[0, 1, 3, 2]>(k)
        s = MatMul(q, kt)
        p = Softmax<axis=-1>(s)
        o = MatMul(p, v)
        y = Transpose<perm=[0, 2, 1, 3]>(o)
    }} => y"
    )
}

#[test]
fn queries_keys_and_values_come_from_one_product() {
    let weights = |k: i32| {
        let numbers: Vec<String> = (0..64).map(|i| format!("{}", ((i * 7 + k * 11) % 13 - 6) as f64 / 16.0)).collect();
        format!("f32[8, 8]{{{}}}", numbers.join(", "))
    };
    let one = |name: &str, k: i32, bias: &str| {
        let (product, last) = if bias.is_empty() {
            (format!("{name}p"), format!("{name}p"))
        } else {
            (format!("{name}m"), format!("{name}p"))
        };
        let add = if bias.is_empty() { String::new() } else { format!("{last} = Add({product}, {bias})\n") };
        format!(
            "{product} = MatMul(x, {})\n {add} {name}r = Reshape({last}, i64[4]{{0, 0, 2, 4}})\n {name} = Transpose<perm=[0, 2, 1, 3]>({name}r)\n",
            weights(k)
        )
    };
    let bias = "f32[8]{1, 2, 3, 4, 5, 6, 7, 8}";
    let all = [one("q", 0, bias), one("k", 1, ""), one("v", 2, bias)].concat();
    let m = check(&attention(&all), simple, &["join-products", "sink-split"], &[]);
    // MatMul, Add, Reshape, Transpose, Split; the keys turned once more; product, softmax, product; the result turned.
    assert_eq!(m.graph.num_nodes(), 10, "{}", m.graph);
    // Engines have attention in place all the same.
    let e = check(
        &attention(&all),
        |m| {
            let mut log = simple(m);
            log.extend(engine(m));
            log
        },
        &["fuse-attention", "attention-in-place"],
        &[],
    );
    assert_eq!((count(&e, "oxrt.Attention"), count(&e, "Split")), (1, 0), "{}", e.graph);
    // Products of different matrices stay apart, and one that is read twice.
    let apart = all.replacen("MatMul(x,", "MatMul(z,", 1);
    let apart = attention(&format!("z = Sin(x)\n w = Cos(x)\n {}", apart.replacen("MatMul(x,", "MatMul(w,", 1)));
    check(&apart, simple, &[], &["join-products"]);
}

#[test]
fn heads_need_no_axis_for_their_parts() {
    let packed = "j = Reshape(x, i64[5]{0, 0, 3, 2, 4})\n t = Transpose<perm=[2, 0, 3, 1, 4]>(j)\n";
    let rows = "(f32[b, 5, 24] x) {";
    let rest = "a = MatMul(q, w)\n y = MatMul(a, v) } => y";
    let gathers = "q = Gather<axis=0>(t, i64{0})\n k = Gather<axis=0>(t, i64{1})\n v = Gather<axis=0>(t, i64{-1})\n w = Transpose<perm=[0, 1, 3, 2]>(k)\n";
    let m = check(&format!("{rows} {packed} {gathers} {rest}"), simple, &["split-heads"], &[]);
    assert_eq!((count(&m, "Split"), m.graph.num_nodes()), (1, 6), "{}", m.graph);
    let split = "q1, k1, v1 = Split<axis=0>(t, i64[3]{1, 1, 1})\n q = Squeeze(q1, i64[1]{0})\n k = Squeeze(k1, i64[1]{0})\n v = Squeeze(v1, i64[1]{0})\n w = Transpose<perm=[0, 1, 3, 2]>(k)\n";
    let m = check(&format!("{rows} {packed} {split} {rest}"), simple, &["split-heads"], &[]);
    assert_eq!(m.graph.num_nodes(), 6, "{}", m.graph);
    // One part is not taken out.
    let two = "q = Gather<axis=0>(t, i64{0})\n v = Gather<axis=0>(t, i64{1})\n w = Transpose<perm=[0, 1, 3, 2]>(v)\n";
    check(&format!("{rows} {packed} {two} {rest}"), simple, &[], &["split-heads"]);
}

#[test]
fn several_readers_of_a_reshape_merge_together() {
    let text = "(f32[n] x) {
        u = Unsqueeze(x, i64[2]{0, 1})
        a = Unsqueeze(u, i64[1]{3})
        b = Unsqueeze(u, i64[1]{2})
        y = Add(a, b)
    } => y";
    assert_eq!(check(text, simple, &["merge-reshapes"], &[]).graph.num_nodes(), 3);
    let kept = "(f32[n] x) { u = Unsqueeze(x, i64[1]{0})\n a = Unsqueeze(u, i64[1]{0})\n y = Add(a, u) } => y";
    check(kept, simple, &[], &["merge-reshapes"]);
}

#[test]
fn what_is_always_true_decides_nothing() {
    let text = "(bool[n] m) {
        s = Shape(m)
        c = Squeeze(s)
        r = Range(i64{0}, c, i64{1})
        g = GreaterOrEqual(r, i64{0})
        y = And(g, m)
    } => y";
    let m = check(text, simple, &[], &["remove-identities"]);
    assert_eq!(m.graph.num_nodes(), 5, "something stands between an input and an output: {}", m.graph);
    let text = text.replace("} => y", "z = Not(y) } => z");
    assert_eq!(check(&text, simple, &["remove-identities"], &[]).graph.num_nodes(), 1);
    // Counting down, or a bound that is not zero.
    for other in ["Range(i64{0}, c, i64{-1})", "Range(i64{-1}, c, i64{1})"] {
        let text = text.replace("Range(i64{0}, c, i64{1})", other);
        let mut m = model(&text);
        simple(&mut m);
        assert!(m.graph.num_nodes() > 1, "{}", m.graph);
    }
}

#[test]
fn slices_that_take_apart_are_a_split() {
    let text = "(f32[n, 6] x) {
        a = Slice(x, i64[1]{0}, i64[1]{2}, i64[1]{1}, i64[1]{1})
        b = Slice(x, i64[1]{-4}, i64[1]{9223372036854775807}, i64[1]{-1})
        c = Neg(b)
        y = Concat<axis=1>(c, a)
    } => y";
    let m = check(text, simple, &["merge-slices"], &[]);
    assert_eq!((count(&m, "Split"), count(&m, "Slice")), (1, 0), "{}", m.graph);
    for (from, to) in
        [("{-4}", "{-3}"), ("{-4}", "{-5}"), ("i64[1]{-1}", "i64[1]{-1}, i64[1]{2}"), ("f32[n, 6]", "f32[6, n]")]
    {
        let other = text.replace(from, to);
        if other.contains("[6, n]") {
            let mut m = model(&other);
            assert!(!simple(&mut m).steps.iter().any(|s| s.rule == "merge-slices"), "{}", m.graph);
        } else {
            check(&other, simple, &[], &["merge-slices"]);
        }
    }
}

#[test]
fn a_product_with_a_reciprocal_is_a_quotient() {
    let text = "(f32[3] x) { e = Exp(x)\n s = Sqrt(e)\n r = Reciprocal(s)\n y = Mul(x, r) } => y";
    assert_eq!(check(text, simple, &["fuse-division"], &[]).graph.num_nodes(), 3);
    check(&text.replace("Mul(x, r) } => y", "Mul(x, r) } => y, r"), simple, &[], &["fuse-division"]);
    check(&text.replace("Mul(x, r)", "Mul(r, r)"), simple, &[], &["fuse-division"]);
}
