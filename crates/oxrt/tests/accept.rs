//! Predictions of what other runtimes take. `cargo xtask acceptance` holds them against onnxruntime itself.

use oxrt::ir::parse_graph;
use oxrt::onnx::WriteOptions;
use oxrt::{Acceptance, Model, Target, acceptance};

fn predict(text: &str, opset: i64, target: &str) -> Acceptance {
    let mut ir = oxrt::ir::Model { graph: parse_graph(text).unwrap(), ..Default::default() };
    oxrt::ops::infer::infer_model(&mut ir).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("m.onnx");
    let options = WriteOptions { opset: Some(opset), ..WriteOptions::default() };
    Model::from_ir(ir).save_onnx(&path, &options).unwrap();
    acceptance(&path, &target.parse().unwrap()).unwrap()
}

/// Refused, once, for an operator (or the file as a whole) and in words that hold these.
fn refused(text: &str, opset: i64, target: &str, op: &str, words: &[&str]) -> usize {
    let a = predict(text, opset, target);
    assert!(!a.accepted && a.problems.len() == 1, "{a:?}");
    let p = &a.problems[0];
    assert_eq!(p.op, op);
    words.iter().for_each(|w| assert!(p.what.contains(w), "no `{w}` in {p:?}"));
    p.count
}

const RELU: &str = "(f32[n, 4] x) { a = Relu(x) ; b = Relu(a) ; y = Add(b, x) } => y";

#[test]
fn versions() {
    for target in ["onnxruntime=1.17", "onnxruntime", "ort=1.20.1", "tensorrt=10", "tensorrt", "openvino"] {
        assert!(predict(RELU, 17, target).accepted, "{target}");
    }
    refused(RELU, 22, "tensorrt", "", &["opset 22", "9 to 20"]);
    // IR version and opset are both too new.
    let a = predict(RELU, 22, "onnxruntime=1.17");
    let said: Vec<&str> = a.problems.iter().map(|p| p.what.as_str()).collect();
    assert!(said.iter().any(|w| w.contains("IR version")) && said.iter().any(|w| w.contains("opset 22")), "{said:?}");
    assert!(predict(RELU, 22, "onnxruntime=1.22").accepted);
}

#[test]
fn operators_and_types() {
    // fp16 runs between casts that onnxruntime inserts, bf16 does not; two nodes of a kind are told once.
    assert!(predict(&RELU.replace("f32", "f16"), 17, "onnxruntime=1.17").accepted);
    let sigmoid = "(bf16[4] x) { a = Sigmoid(x) ; y = Sigmoid(a) } => y";
    assert_eq!(refused(sigmoid, 17, "onnxruntime=1.17", "Sigmoid", &["bf16"]), 2);
    let det = "(f32[4, 4] x) { y = Det(x) } => y";
    refused(det, 17, "openvino", "Det", &["not taken"]);
    refused(det, 17, "tensorrt", "Det", &["not taken"]);
    assert!(predict(det, 17, "onnxruntime=1.17").accepted);
    // Restrictions in words are passed on.
    let pool = predict("(f32[2, 3, 8, 8] x) { y = MaxPool<kernel_shape=[2, 2]>(x) } => y", 17, "tensorrt");
    assert!(pool.accepted && pool.notes[0].contains("2D or 3D"), "{pool:?}");
}

#[test]
fn runtimes_that_are_not_known() {
    for text in ["caffe", "onnxruntime=2.0", "tensorrt=x"] {
        assert!(text.parse::<Target>().is_err(), "{text}");
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("m.onnx");
    let ir = oxrt::ir::Model { graph: parse_graph("(f32[4] x) { y = Relu(x) } => y").unwrap(), ..Default::default() };
    Model::from_ir(ir).save_onnx(&path, &WriteOptions::default()).unwrap();
    for (target, word) in [("onnxruntime=1.3", "1.15"), ("tensorrt=8", "TensorRT 10")] {
        let e = acceptance(&path, &target.parse().unwrap()).unwrap_err().to_string();
        assert!(e.contains(word), "{e}");
    }
}
