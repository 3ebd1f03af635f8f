//! Every rule against central differences.

use super::{Wanted, expand};
use oxrt_ir::{Symbols, parse_graph};
use oxrt_ops::infer::infer_graph;
use oxrt_ops::{Builder, Datum, Interpreter, Tensor};

/// Differentiates the first output (summed) of a graph of f64 inputs and compares with differences.
fn check(text: &str) {
    let mut graph = parse_graph(text).unwrap_or_else(|e| panic!("{text}: {e}"));
    let mut symbols = Symbols::default();
    infer_graph(&mut graph, &mut symbols).unwrap_or_else(|e| panic!("{text}: {e}"));
    let plain = graph.clone();
    let (xs, y) = (graph.inputs.clone(), graph.outputs[0]);
    let wanted = Wanted { xs: xs.clone(), zs: vec![], y, at: xs.clone() };
    let gradients =
        expand(&mut Builder::new(&mut graph, &mut symbols), &wanted).unwrap_or_else(|e| panic!("{text}: {e}"));
    graph.outputs = gradients;
    graph.sort().expect("sorted");

    let mut state = 0.3f64;
    let mut draw = || {
        state = (state * 78.233 + 0.719).fract();
        0.2 + 1.3 * state
    };
    let inputs: Vec<Tensor> = (xs.iter())
        .map(|&v| {
            let shape = plain[v].ty.as_tensor().and_then(|t| t.static_shape()).expect("a static shape");
            let values: Vec<f64> = (0..shape.iter().product()).map(|_| draw()).collect();
            Tensor::from_slice(&shape, &values)
        })
        .collect();
    let datums = |tensors: &[Tensor]| tensors.iter().cloned().map(Datum::from).collect::<Vec<_>>();
    let got = Interpreter::new(&graph).run(datums(&inputs)).unwrap_or_else(|e| panic!("{text}: {e}"));
    let total = |tensors: &[Tensor]| -> f64 {
        let out = Interpreter::new(&plain).run(datums(tensors)).expect("runs");
        out[0].as_tensor().expect("a tensor").to_f64_vec().expect("numbers").iter().sum()
    };
    for (i, g) in got.iter().enumerate() {
        let g = g.as_tensor().expect("a tensor");
        assert_eq!(g.shape(), inputs[i].shape(), "{text}: input {i}");
        for (k, got) in g.to_f64_vec().expect("numbers").into_iter().enumerate() {
            let moved = |by: f64| {
                let mut all = inputs.clone();
                all[i].as_mut_slice::<f64>()[k] += by;
                total(&all)
            };
            let want = (moved(1e-5) - moved(-1e-5)) / 2e-5;
            assert!(
                (got - want).abs() < 1e-5 * (1.0 + want.abs()),
                "{text}: input {i}[{k}]: {got}, by differences {want}"
            );
        }
    }
}

#[test]
fn elementwise() {
    for op in [
        "Identity",
        "Neg",
        "Abs",
        "Exp",
        "Log",
        "Sqrt",
        "Reciprocal",
        "Sin",
        "Cos",
        "Tanh",
        "Sigmoid",
        "Relu",
        "LeakyRelu",
        "Elu",
        "Softplus",
        "Softsign",
        "Erf",
        "Softmax",
        "LogSoftmax",
        "Dropout",
    ] {
        // Squared, so that the gradient that comes in is not constant; moved, to have both signs.
        check(&format!("(f64[2, 3] x) {{ m = Sub(x, f64{{0.1}}); a = {op}(m); y = Mul(a, a) }} => y"));
    }
}

#[test]
fn broadcasting() {
    for op in ["Add", "Sub", "Mul", "Div", "Pow", "Max", "Min"] {
        check(&format!("(f64[2, 3] x, f64[3] z) {{ a = {op}(x, z); y = Mul(a, a) }} => y"));
        check(&format!("(f64[2, 1] x, f64[1, 3] z) {{ a = {op}(x, z); y = Mul(a, a) }} => y"));
    }
    check("(f64[2] x, f64[2] z) { c = Less(x, z); a = Where(c, x, z); y = Mul(a, a) } => y");
    check("(f64[4] x) { a = Clip(x, f64{0.5}, f64{1.0}); y = Mul(a, a) } => y");
    check("(f64[2] x, f64 z) { a = Sum(x, z, x); y = Mul(a, a) } => y");
}

#[test]
fn shapes() {
    for body in [
        "a = Reshape(x, i64[1]{-1})",
        "a = Flatten(x)",
        "a = Unsqueeze(x, i64[1]{0})",
        "a = Transpose<perm=[1, 0]>(x)",
        "a = Transpose(x)",
        "a = Concat<axis=1>(x, x)",
        "a = Slice(x, i64[1]{1}, i64[1]{9}, i64[1]{1})",
        "a = Slice(x, i64[1]{-2}, i64[1]{-1}, i64[1]{1})",
        "a = ReduceSum<keepdims=0>(x, i64[1]{1})",
        "a = ReduceMean<keepdims=1>(x, i64[1]{0})",
        "a = ReduceSum(x)",
        "a = Expand(x, i64[3]{2, 1, 1})",
        "b = Unsqueeze(x, i64[1]{0}); a = Squeeze(b, i64[1]{0})",
    ] {
        check(&format!("(f64[2, 3] x) {{ {body}; y = Mul(a, a) }} => y"));
    }
    check("(f64[1, 2, 2, 3] x) { a = GlobalAveragePool(x); y = Mul(a, a) } => y");
}

#[test]
fn products() {
    check("(f64[2, 3] x, f64[3, 2] w) { a = MatMul(x, w); y = Mul(a, a) } => y");
    check("(f64[2, 2, 3] x, f64[3, 2] w) { a = MatMul(x, w); y = Mul(a, a) } => y");
    for (ta, tb) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
        let (x, w) = (["2, 3", "3, 2"][ta], ["3, 4", "4, 3"][tb]);
        check(&format!(
            "(f64[{x}] x, f64[{w}] w, f64[4] c) {{ a = Gemm<alpha=0.5, beta=2.0, transA={ta}, transB={tb}>(x, w, c); y = Mul(a, a) }} => y"
        ));
    }
    check(
        "(f64[1, 2, 5, 4] x, f64[3, 2, 2, 3] w, f64[3] c) { a = Conv<pads=[1, 0, 0, 1], strides=[2, 1]>(x, w, c); y = Mul(a, a) } => y",
    );
    check("(f64[2, 1, 7] x, f64[2, 1, 2] w) { a = Conv<dilations=[2], strides=[2]>(x, w); y = Mul(a, a) } => y");
}

#[test]
fn what_has_no_gradient_is_named() {
    let mut graph = parse_graph("(f64[2, 2] x) { y = Det(x) } => y").unwrap();
    let mut symbols = Symbols::default();
    let (xs, y) = (graph.inputs.clone(), graph.outputs[0]);
    graph[y].ty = oxrt_ir::ValueType::tensor(oxrt_ops::DType::F64, vec![]);
    let wanted = Wanted { xs: xs.clone(), zs: vec![], y, at: xs };
    let error = expand(&mut Builder::new(&mut graph, &mut symbols), &wanted).unwrap_err().to_string();
    assert!(error.contains("Det"), "{error}");
}
