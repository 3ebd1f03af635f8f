use crate::{WriteOptions, read_file, write_file};
use oxrt_ir::{Model, parse_graph};
use oxrt_ops::{Datum, Interpreter};
use oxrt_tensor::Tensor;

const TWO: &str = r#"(f32 x, f32 y) {
    a = Greater(x, 0.0); oxrt.Assert<message="x is not positive">(a)
    b = Less(y, 5.0); oxrt.Assert<message="y is too large">(b)
    z = Add(x, y)
} => z"#;

fn model(text: &str) -> Model {
    let mut model = Model { graph: parse_graph(text).unwrap(), opset: 18, ..Model::default() };
    oxrt_ops::infer::infer_model(&mut model).unwrap();
    model
}

fn through_a_file(text: &str, name: &str, ir: Option<i64>) -> Model {
    let path = std::env::temp_dir().join(format!("oxrt-assert-{}-{name}.onnx", std::process::id()));
    write_file(&model(text), &path, &WriteOptions { ir, ..WriteOptions::default() }).unwrap();
    let read = read_file(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    read
}

fn run(model: &Model, inputs: &[f32]) -> Result<f32, String> {
    let inputs = inputs.iter().map(|&x| Datum::Tensor(Tensor::scalar(x))).collect();
    let out = Interpreter::new(&model.graph).run(inputs).map_err(|e| e.to_string())?;
    Ok(out[0].as_tensor().unwrap().to_f64_vec().unwrap()[0] as f32)
}

#[test]
fn checks_pass_through_a_file() {
    let read = through_a_file(TWO, "two", None);
    let g = &read.graph;
    assert_eq!(g.outputs.iter().map(|&v| g[v].name.as_str()).collect::<Vec<_>>(), ["z"]);
    assert_eq!(g.nodes().filter(|(_, n)| &*n.op == "oxrt.Assert").count(), 2);
    assert_eq!(run(&read, &[1.0, 2.0]), Ok(3.0));
    assert!(run(&read, &[-1.0, 2.0]).unwrap_err().contains("x is not positive"));
    assert!(run(&read, &[1.0, 9.0]).unwrap_err().contains("y is too large"));
}

#[test]
fn an_input_may_be_the_output() {
    let read = through_a_file("(bool c, f32 x) { oxrt.Assert(c) } => x", "input", None);
    assert_eq!(read.graph.nodes().filter(|(_, n)| &*n.op == "oxrt.Assert").count(), 1);
    let run = |c: bool| {
        let inputs = vec![Datum::Tensor(Tensor::scalar(c)), Datum::Tensor(Tensor::scalar(1f32))];
        Interpreter::new(&read.graph).run(inputs).is_ok()
    };
    assert!(run(true) && !run(false));
}

#[test]
fn checks_of_subgraphs_stay_in_them() {
    let text = r#"(bool c, f32 x) { z = If<then_branch={() { a = Constant<value=f32{-1}>(); b = Constant<value=bool{0}>()
        oxrt.Assert<message="never here">(b); y = Neg(a) } => y}, else_branch={() { a = Constant<value=f32{2}>(); y = Neg(a) } => y}>(c) } => z"#;
    let read = through_a_file(text, "if", None);
    let run = |c: bool| {
        let inputs = vec![Datum::Tensor(Tensor::scalar(c)), Datum::Tensor(Tensor::scalar(1f32))];
        Interpreter::new(&read.graph).run(inputs).map(|_| ()).map_err(|e| e.to_string())
    };
    assert_eq!(run(false), Ok(()));
    assert!(run(true).unwrap_err().contains("never here"));
}

#[test]
fn old_files_cannot_say_checks() {
    let read = through_a_file(TWO, "old", Some(7));
    assert_eq!(run(&read, &[-1.0, 2.0]), Ok(1.0));
}

#[test]
fn nodes_of_a_file_have_names_of_their_own() {
    use prost::Message as _;
    let path = std::env::temp_dir().join(format!("oxrt-assert-{}-names.onnx", std::process::id()));
    // Reading makes two nodes of each check.
    let read = through_a_file(TWO, "names-before", None);
    write_file(&read, &path, &WriteOptions::default()).unwrap();
    let file = crate::proto::ModelProto::decode(std::fs::read(&path).unwrap().as_slice()).unwrap();
    std::fs::remove_file(&path).unwrap();
    let mut names: Vec<String> =
        file.graph.unwrap().node.into_iter().map(|n| n.name).filter(|n| !n.is_empty()).collect();
    let all = names.len();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), all, "{names:?}");
}
