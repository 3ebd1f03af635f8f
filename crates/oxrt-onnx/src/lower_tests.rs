//! Opsets older than the newest: what becomes of nodes, and what is said of those that stand in the way.

use crate::lower::lower;
use crate::{WriteOptions, read_file, write_file};
use oxrt_ir::{Model, Source, parse_graph};
use oxrt_ops::{Datum, Interpreter, Tensor};
use std::sync::Arc;

fn model(text: &str) -> Model {
    let mut m = Model { graph: parse_graph(text).unwrap_or_else(|e| panic!("{text}: {e}")), ..Model::default() };
    oxrt_ops::infer::infer_model(&mut m).unwrap_or_else(|e| panic!("{text}: {e}"));
    m
}

/// The operators after lowering, in order.
fn lowered(text: &str, opset: i64) -> Vec<String> {
    let mut m = model(text);
    lower(&mut m, opset).unwrap_or_else(|e| panic!("{text} to {opset}: {e}"));
    m.graph.nodes().map(|(_, n)| n.op.to_string()).collect()
}

#[test]
fn inputs_become_attributes_and_later_operators_are_written_out() {
    assert_eq!(lowered("(f32[2, 3] x) { y = Softmax<axis=0>(x) } => y", 12), ["Transpose", "Softmax", "Transpose"]);
    assert_eq!(lowered("(f32[2, 3] x) { y = Softmax(x) } => y", 12), ["Softmax"]);
    assert_eq!(lowered("(f32[2, 3] x) { y = HardSwish(x) } => y", 13), ["HardSigmoid", "Mul"]);
    assert_eq!(lowered("(f32[2, 3] x) { y = Shape<start=1>(x) } => y", 14), ["Shape", "Slice"]);
    let mut m = model("(f32[2, 3] x) { y = ReduceMean(x, i64[1]{-1}) } => y");
    lower(&mut m, 10).expect("lowers");
    let (_, node) = m.graph.nodes().next().expect("a node");
    assert_eq!((node.inputs().len(), node.attrs.ints("axes").unwrap()), (1, Some(&[1i64][..])));
}

#[test]
fn written_models_of_every_opset_give_the_same_numbers() {
    let folder = tempfile::tempdir().expect("a folder");
    let text = "(f32[2, 3, 4] x) {
        a = Unsqueeze(x, i64[1]{1}); b = Clip(a, f32{-0.5}, f32{0.5}); c = Pad(b, i64[8]{0, 0, 0, 1, 0, 0, 0, 1}); d = Squeeze(c, i64[1]{1});
        e, f = Split<axis=-1>(d, i64[2]{2, 4}); g = Slice(f, i64[1]{1}, i64[1]{3}, i64[1]{-1}); h = Add(e, g); y = Softmax(h) } => y";
    let original = model(text);
    let x = Tensor::from_slice(&[2, 3, 4], &(0..24).map(|i| (i as f32 * 0.37).sin()).collect::<Vec<_>>());
    let run = |m: &Model| Interpreter::new(&m.graph).run(vec![Datum::from(x.clone())]).expect("runs").remove(0);
    let want = run(&original);
    for opset in 1..=28 {
        for ir in [3, 14] {
            let path = folder.path().join(format!("{opset}.onnx"));
            let options = WriteOptions { opset: Some(opset), ir: Some(ir), ..WriteOptions::default() };
            write_file(&original, &path, &options).unwrap_or_else(|e| panic!("opset {opset}: {e}"));
            let read = read_file(&path).unwrap_or_else(|e| panic!("opset {opset}: {e}"));
            assert_eq!(read.graph.inputs.len(), 1, "opset {opset}, IR {ir}");
            assert_eq!(run(&read), want, "opset {opset}, IR {ir}");
        }
    }
}

/// Writes the model for an opset, reads it back and compares what both give.
fn there_and_back(text: &str, opset: i64) {
    let folder = tempfile::tempdir().expect("a folder");
    let original = model(text);
    let inputs: Vec<Datum> = (original.graph.inputs.iter())
        .map(|&v| {
            let ty = original.graph[v].ty.as_tensor().expect("a tensor");
            let shape = ty.static_shape().expect("a size");
            let n: usize = shape.iter().product();
            let values: Vec<f64> = (0..n).map(|i| ((i * 37 + 11) % 29) as f64 / 7.0 - 2.0).collect();
            Tensor::from_f64(ty.dtype, &shape, &values).expect("a tensor").into()
        })
        .collect();
    let path = folder.path().join("m.onnx");
    write_file(&original, &path, &WriteOptions { opset: Some(opset), ..WriteOptions::default() })
        .unwrap_or_else(|e| panic!("{text} to {opset}: {e}"));
    let read = read_file(&path).unwrap_or_else(|e| panic!("{text} to {opset}: {e}"));
    let run = |m: &Model| Interpreter::new(&m.graph).run(inputs.clone()).expect("runs");
    assert_eq!(run(&read), run(&original), "{text} to {opset}");
}

#[test]
fn operands_are_aligned_by_attributes_before_7() {
    for second in [
        "f32[1]",
        "f32[5]",
        "f32[3, 1, 1]",
        "f32[1, 3, 1, 1]",
        "f32[4, 5]",
        "f32[4, 1]",
        "f32[2, 3, 4, 5]",
        "f32[1, 1, 1, 5]",
    ] {
        for op in ["Add", "Sub", "Mul", "Div"] {
            for opset in 1..=7 {
                there_and_back(&format!("(f32[2, 3, 4, 5] x, {second} b) {{ y = {op}(x, b) }} => y"), opset);
                // The other way round too, where there is one.
                if op != "Div" || opset > 6 || second.starts_with("f32[2") {
                    there_and_back(&format!("(f32[2, 3, 4, 5] x, {second} b) {{ y = {op}(b, x) }} => y"), opset);
                }
            }
        }
        there_and_back(&format!("(f32[2, 3, 4, 5] x, {second} b) {{ y = Less(b, x) }} => y"), 6);
    }
    let mut m = model("(f32[3, 1] x, f32[1, 4] b) { y = Add(x, b) } => y");
    let error = lower(&mut m, 6).expect_err("both are stretched").to_string();
    assert!(error.contains("Add") && error.contains("opset 7"), "{error}");
}

#[test]
fn forms_of_the_first_opsets() {
    for opset in 1..=7 {
        there_and_back("(f32[2, 3] x) { y = Reshape(x, i64[2]{3, -1}) } => y", opset);
        there_and_back("(f32[2, 3] x) { y = Cast<to=7>(x) } => y", opset);
        there_and_back("(f32[2, 3] x) { y = Tile(x, i64[2]{2, 3}) } => y", opset);
        there_and_back("(f32[2, 3] x) { y = Selu(x) } => y", opset);
        there_and_back("(f32[1, 2, 2, 3] x) { y = Pad(x, i64[8]{0, 0, 1, 0, 0, 0, 0, 2}, 0.5) } => y", opset);
        there_and_back(
            "(f32[2, 3, 4] x, f32[3] s) { y = BatchNormalization(x, s, s, s, f32[3]{1, 2, 3}) } => y",
            opset,
        );
        there_and_back("(f32[2, 3, 4] x, f32[3, 1] s) { y = PRelu(x, s) } => y", opset);
        there_and_back("(f32[2, 3] x, f32[3, 4] w, f32[4] c) { y = Gemm(x, w, c) } => y", opset);
        there_and_back("(f32[2, 3] x, f32[3] a) { y = Sum(x, a, x) } => y", opset);
        there_and_back("(f32[2, 3] x, f32[2, 3] a) { y = Max(x, a) } => y", opset);
        there_and_back("(f32[3, 2, 4] x, f32[1, 12, 4] w, f32[1, 12, 3]{0.1} r) { y, h = RNN<hidden_size=12>(x, w, f32[1, 12, 12]{0.1}) } => y"
            .replace(", f32[1, 12, 3]{0.1} r", "").as_str(), opset);
        there_and_back(
            "(f32[1, 2, 2, 3] x) { y = Resize<mode=\"nearest\", coordinate_transformation_mode=\"asymmetric\", nearest_mode=\"floor\">\
             (x, _, f32[4]{1, 1, 2, 3}) } => y",
            opset,
        );
    }
    for (text, opset, words) in [
        ("(f32[2, 3] x, i64[2] s) { y = Reshape(x, s) } => y", 4, ["Reshape", "opset 5"]),
        ("(f32[2, 3] x, f32[3] a) { y = Max(x, a) } => y", 7, ["Max", "opset 8"]),
        ("(i64[2, 3] x) { y = Concat<axis=0>(x, x) } => y", 3, ["Concat", "opset 3"]),
        ("(f32[2, 3] x, f32[2, 1] c, f32[3, 4] w) { y = Gemm(x, w, c) } => y", 6, ["Gemm", "opset 7"]),
    ] {
        let error = lower(&mut model(text), opset).expect_err(text).to_string();
        assert!(words.iter().all(|w| error.contains(w)), "{error}");
    }
}

#[test]
fn what_stands_in_the_way_is_named_with_its_line() {
    let mut m = model("(f32[2, 3] x) { y = Trilu(x) } => y");
    let id = m.graph.node_ids()[0];
    m.graph[id].name = "mask/tri".into();
    m.graph[id].source =
        Some(Arc::new(Source { module: "mask".into(), location: "model.py:7".into(), ..Source::default() }));
    let error = lower(&mut m, 13).expect_err("Trilu came with 14").to_string();
    assert!(error.contains("Trilu") && error.contains("mask/tri") && error.contains("model.py:7"), "{error}");
    let mut m = model("(i8[2] x) { y = Add(x, x) } => y");
    let error = lower(&mut m, 13).expect_err("Add of i8 came with 14").to_string();
    assert!(error.contains("i8") && error.contains("Add"), "{error}");
    let mut m = model("(f32[2, 2] x, i64[1] a) { y = ReduceSum(x, a) } => y");
    let error = lower(&mut m, 11).expect_err("computed axes").to_string();
    assert!(error.contains("axes") && error.contains("13"), "{error}");
}

#[test]
fn layouts_of_one_machine_are_declined_with_advice() {
    let expand = crate::contrib::find("com.microsoft.nchwc", "Conv", 1).expect("known");
    let mut m = Model::default();
    let mut b = oxrt_ops::Builder::new(&mut m.graph, &mut m.symbols);
    let mut call =
        crate::contrib::Call { b: &mut b, attrs: &oxrt_ir::Attrs::new(), inputs: &[], wanted: &[true], block: None };
    let error = expand(&mut call).expect_err("declined");
    assert_eq!(error.kind(), oxrt_tensor::Kind::Unsupported);
    assert!(format!("{error:?}{error}").contains("packed"), "{error}");
}
