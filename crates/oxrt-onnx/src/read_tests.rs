//! Files that break the rules of ONNX, made message by message.

use crate::proto::*;
use crate::{WriteOptions, read_bytes, read_file, write_file};
use oxrt_tensor::{Error, Kind};
use prost::Message;

fn node(op: &str, name: &str, inputs: &[&str], outputs: &[&str]) -> NodeProto {
    let strings = |l: &[&str]| l.iter().map(|s| s.to_string()).collect();
    NodeProto {
        op_type: op.into(),
        name: name.into(),
        input: strings(inputs),
        output: strings(outputs),
        ..Default::default()
    }
}

fn float_value(name: &str, dims: &[i64]) -> ValueInfoProto {
    let dim = dims.iter().map(|&d| Dimension { value: Some(DimensionValue::Value(d)), ..Default::default() }).collect();
    let tensor = TensorTypeProto { elem_type: 1, shape: Some(TensorShapeProto { dim }) };
    let r#type = Some(TypeProto { value: Some(TypeValue::Tensor(tensor)), ..Default::default() });
    ValueInfoProto { name: name.into(), r#type, ..Default::default() }
}

fn model(nodes: Vec<NodeProto>, initializer: Vec<TensorProto>) -> ModelProto {
    let graph = GraphProto {
        node: nodes,
        initializer,
        input: vec![float_value("x", &[2])],
        output: vec![float_value("y", &[2])],
        ..Default::default()
    };
    let opset_import = vec![OperatorSetIdProto { version: 18, ..Default::default() }];
    ModelProto { ir_version: 8, opset_import, graph: Some(graph), ..Default::default() }
}

fn error(m: ModelProto) -> Error {
    read_bytes(&m.encode_to_vec()).expect_err("a bad model was taken")
}

fn says(e: &Error, words: &[&str]) {
    let text = e.to_string();
    words.iter().for_each(|w| assert!(text.contains(w), "no `{w}` in: {text}"));
}

#[test]
fn unsorted_and_cyclic_graphs_name_the_nodes() {
    let unsorted = model(vec![node("Neg", "second", &["a"], &["y"]), node("Neg", "first", &["x"], &["a"])], vec![]);
    says(&error(unsorted), &["second", "`a`", "first", "unsorted"]);
    let cyclic = model(vec![node("Add", "p", &["x", "b"], &["a"]), node("Neg", "q", &["a"], &["b"])], vec![]);
    says(&error(cyclic), &["\"p\"", "`b`", "cycle"]);
    says(&error(model(vec![node("Neg", "n", &["ghost"], &["y"])], vec![])), &["ghost", "nothing makes"]);
    says(&error(model(vec![node("Neg", "n", &["x"], &["z"])], vec![])), &["y"]);
    let twice = model(vec![node("Neg", "n", &["x"], &["y"]), node("Neg", "m", &["x"], &["y"])], vec![]);
    says(&error(twice), &["`y`", "twice"]);
}

#[test]
fn unknown_operators_are_unsupported_not_wrong() {
    let e = error(model(vec![node("Frobnicate", "f", &["x"], &["y"])], vec![]));
    says(&e, &["Frobnicate", "\"f\""]);
    assert_eq!(e.kind(), Kind::Unsupported);
}

#[test]
fn lengths_that_lie_are_errors() {
    let tensor = |dims: Vec<i64>, raw: usize| TensorProto {
        name: "w".into(),
        data_type: 1,
        dims,
        raw_data: Some(vec![0; raw].into()),
        ..Default::default()
    };
    for (dims, raw) in [(vec![2], 7), (vec![-1], 8), (vec![i64::MAX, i64::MAX], 8), (vec![1 << 40], 8)] {
        says(&error(model(vec![node("Add", "a", &["x", "w"], &["y"])], vec![tensor(dims, raw)])), &["\"w\""]);
    }
    let unknown = TensorProto { data_type: 99, ..tensor(vec![2], 8) };
    says(&error(model(vec![node("Add", "a", &["x", "w"], &["y"])], vec![unknown])), &["99"]);
}

#[test]
fn external_data_must_exist_and_stay_in_the_folder() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("m.onnx");
    let external = |location: &str| {
        let entry = |k: &str, v: &str| StringStringEntryProto { key: k.into(), value: v.into() };
        let w = TensorProto {
            name: "w".into(),
            data_type: 1,
            dims: vec![2],
            data_location: 1,
            external_data: vec![entry("location", location), entry("offset", "0"), entry("length", "8")],
            ..Default::default()
        };
        model(vec![node("Add", "a", &["x", "w"], &["y"])], vec![w])
    };
    std::fs::write(dir.path().join("weights.bin"), [0u8; 8]).unwrap();
    std::fs::write(&path, external("weights.bin").encode_to_vec()).unwrap();
    read_file(&path).unwrap();
    for (location, words) in [
        ("absent.bin", ["absent.bin", "No such file"]),
        ("../weights.bin", ["../weights.bin", "leaves the folder"]),
        ("/etc/passwd", ["/etc/passwd", "leaves the folder"]),
    ] {
        std::fs::write(&path, external(location).encode_to_vec()).unwrap();
        says(&read_file(&path).unwrap_err(), &words);
    }
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink("/etc/passwd", dir.path().join("link.bin")).unwrap();
        std::fs::write(&path, external("link.bin").encode_to_vec()).unwrap();
        says(&read_file(&path).unwrap_err(), &["leaves the folder"]);
    }
    std::fs::write(dir.path().join("weights.bin"), [0u8; 4]).unwrap();
    std::fs::write(&path, external("weights.bin").encode_to_vec()).unwrap();
    says(&read_file(&path).unwrap_err(), &["8 bytes", "4"]);
}

#[test]
fn functions_are_inlined_and_recursion_is_refused() {
    let function = |body: Vec<NodeProto>| FunctionProto {
        name: "Twice".into(),
        domain: "my".into(),
        input: vec!["a".into()],
        output: vec!["b".into()],
        node: body,
        opset_import: vec![OperatorSetIdProto { version: 18, ..Default::default() }],
        ..Default::default()
    };
    let call = NodeProto { domain: "my".into(), ..node("Twice", "call", &["x"], &["y"]) };
    let mut m = model(vec![call.clone()], vec![]);
    m.functions = vec![function(vec![node("Neg", "n", &["a"], &["c"]), node("Add", "s", &["a", "c"], &["b"])])];
    let good = read_bytes(&m.encode_to_vec()).unwrap();
    assert_eq!(good.graph.num_nodes(), 2);
    assert_eq!(good.graph[good.graph.outputs[0]].name, "y");
    m.functions = vec![function(vec![NodeProto { domain: "my".into(), ..node("Twice", "again", &["a"], &["b"]) }])];
    says(&error(m), &["recursive"]);
}

#[test]
fn a_written_model_reads_back_the_same() {
    let text = "(f32[n, 3] x) { y = Gelu(x)\n z = ReduceMean<keepdims=0>(y, i64[1]{-1}) } => y, z";
    let mut m = oxrt_ir::Model { graph: oxrt_ir::parse_graph(text).unwrap(), ..Default::default() };
    m.symbols.declare(oxrt_ir::Symbol::new("n"), oxrt_ir::Range { min: 2, max: Some(9) });
    oxrt_ops::infer::infer_model(&mut m).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("m.onnx");
    assert_eq!(write_file(&m, &path, &WriteOptions::default()).unwrap().opset, 20, "Gelu came with 20");
    let back = read_file(&path).unwrap();
    assert_eq!(back.graph.to_string(), m.graph.to_string());
    assert_eq!(back.symbols.get(&oxrt_ir::Symbol::new("n")).unwrap().max, Some(9));
    // Below 18 the axes are an attribute again, and Gelu is spelt out.
    write_file(&m, &path, &WriteOptions { opset: Some(17), ..Default::default() }).unwrap();
    let old = read_file(&path).unwrap();
    assert!(old.graph.nodes().any(|(_, n)| &*n.op == "Erf") && !old.graph.nodes().any(|(_, n)| &*n.op == "Gelu"));
    assert_eq!(old.graph.dims(old.graph.outputs[1]).unwrap().len(), 1);
}

#[test]
fn dimensions_of_inputs_and_outputs_are_written_as_they_were_read() {
    let text = "(f32[n, 3] x) { y = Relu(x) } => y";
    let mut m = oxrt_ir::Model { graph: oxrt_ir::parse_graph(text).unwrap(), ..Default::default() };
    oxrt_ops::infer::infer_model(&mut m).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let (first, second) = (dir.path().join("a.onnx"), dir.path().join("b.onnx"));
    write_file(&m, &first, &WriteOptions::default()).unwrap();
    // Texts that this crate would write in another way: spaces, and a name that is no symbol.
    for text in ["( a - 1 )//2 + 1", "batch size"] {
        let mut proto = ModelProto::decode(&*std::fs::read(&first).unwrap()).unwrap();
        let graph = proto.graph.as_mut().unwrap();
        for port in graph.input.iter_mut().chain(&mut graph.output) {
            let Some(TypeValue::Tensor(t)) = port.r#type.as_mut().unwrap().value.as_mut() else { panic!() };
            t.shape.as_mut().unwrap().dim[0].value = Some(DimensionValue::Param(text.into()));
        }
        std::fs::write(&first, proto.encode_to_vec()).unwrap();
        write_file(&read_file(&first).unwrap(), &second, &WriteOptions::default()).unwrap();
        let back = ModelProto::decode(&*std::fs::read(&second).unwrap()).unwrap();
        assert!(back.metadata_props.iter().all(|p| !p.value.contains(text)));
        assert_eq!(back.graph.unwrap().output, proto.graph.unwrap().output);
    }
}
