//! Functions that a user supplies for operators of a domain of their own: each call is replaced by the function's body.

use crate::proto::{
    AttributeProto, FunctionProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorShapeProto, TypeProto,
    ValueInfoProto,
};
use crate::proto::{Dimension, DimensionValue, TensorTypeProto, TypeValue, attr_type};
use crate::read::{domain, read_proto};
use oxrt_ir::{Attr, Attrs, Graph, Model, NodeId, ValueId, ValueType};
use oxrt_tensor::{Context, Error, Result, bail};
use prost::Message;
use std::path::Path;

/// Replaces every node that one of the functions of the ONNX file `path` defines; how many there were.
///
/// The file is a `ModelProto` whose `functions` count; its graph does not matter and may be empty. The functions call
/// operators of ONNX and each other.
///
/// # Errors
/// When the file cannot be read, holds no function, or a body does not fit the call.
pub fn inline_functions(model: &mut Model, path: &Path) -> Result<usize> {
    let bytes = std::fs::read(path).at(|| path.display())?;
    let proto = ModelProto::decode(&bytes[..]).map_err(|e| {
        Error::invalid(format!("not an ONNX file, or a damaged one ({e})")).at(path.display().to_string())
    })?;
    if proto.functions.is_empty() {
        return Err(Error::invalid("the file holds no functions")
            .at(path.display().to_string())
            .help("make it with `onnx.helper.make_model(graph, functions=[onnx.helper.make_function(…)])`"));
    }
    let mut graph = std::mem::take(&mut model.graph);
    let result = inline(&mut graph, model, &proto).at(|| path.display());
    model.graph = graph;
    let count = result?;
    if count > 0 {
        model.graph.sort()?;
        oxrt_ops::infer::infer_model(model)?;
        model.graph.verify()?;
    }
    Ok(count)
}

fn inline(graph: &mut Graph, model: &mut Model, library: &ModelProto) -> Result<usize> {
    let mut count = 0;
    for id in graph.node_ids() {
        if graph[id].subgraphs().next().is_some() {
            let mut attrs = graph[id].attrs.clone();
            for attr in attrs.0.values_mut() {
                if let Attr::Graph(g) = attr {
                    let inner = inline(g, model, library)?;
                    if inner > 0 {
                        g.sort()?;
                    }
                    count += inner;
                }
            }
            graph.edit_attrs(id, |a| *a = attrs);
        }
        let Some((dom, name)) = graph[id].op.rsplit_once('.') else { continue };
        let Some(function) = library.functions.iter().find(|f| domain(&f.domain) == dom && f.name == name) else {
            continue;
        };
        let place = graph[id].describe();
        let body = body_for(graph, id, function, library).at(|| place.clone())?;
        for (symbol, range) in body.symbols.iter() {
            if model.symbols.get(symbol).is_none() {
                model.symbols.declare(symbol.clone(), range);
            }
        }
        graph.splice(id, &body.graph).at(|| place)?;
        count += 1;
    }
    Ok(count)
}

/// The function as a graph, for the types of one call.
fn body_for(graph: &Graph, id: NodeId, function: &FunctionProto, library: &ModelProto) -> Result<Model> {
    let node = &graph[id];
    let names = |kind: &str, list: &[Option<ValueId>]| -> Vec<String> {
        list.iter().enumerate().map(|(i, v)| v.map_or(String::new(), |_| format!("{kind}{i}"))).collect()
    };
    let (input, output) = (names("in", node.inputs()), names("out", node.outputs()));
    if input.len() > function.input.len() || output.len() > function.output.len() {
        bail!(
            invalid,
            "the call has {} inputs and {} outputs, the function `{}` {} and {}",
            input.len(),
            output.len(),
            function.name,
            function.input.len(),
            function.output.len()
        );
    }
    let infos = |names: &[String], list: &[Option<ValueId>]| -> Vec<ValueInfoProto> {
        let present = names.iter().zip(list).filter_map(|(n, v)| Some((n, (*v)?)));
        present
            .map(|(n, v)| ValueInfoProto { name: n.clone(), r#type: type_proto(&graph[v].ty), ..Default::default() })
            .collect()
    };
    let call = NodeProto {
        name: node.name.clone(),
        op_type: function.name.clone(),
        domain: function.domain.clone(),
        input: input.clone(),
        output: output.clone(),
        attribute: attributes(&node.attrs)?,
        ..Default::default()
    };
    let body = GraphProto {
        name: function.name.clone(),
        input: infos(&input, node.inputs()),
        output: infos(&output, node.outputs()),
        node: vec![call],
        ..Default::default()
    };
    let mut opset_import = library.opset_import.clone();
    if !opset_import.iter().any(|o| o.domain == function.domain) {
        opset_import.push(OperatorSetIdProto { domain: function.domain.clone(), version: 1 });
    }
    let proto =
        ModelProto { graph: Some(body), functions: library.functions.clone(), opset_import, ..Default::default() };
    read_proto(&proto, None)
}

fn type_proto(ty: &ValueType) -> Option<TypeProto> {
    let t = ty.as_tensor()?;
    let shape = t.dims.as_ref().map(|dims| TensorShapeProto {
        dim: dims
            .iter()
            .map(|d| Dimension {
                value: Some(match d.as_const() {
                    Some(c) => DimensionValue::Value(c),
                    None => DimensionValue::Param(d.to_string()),
                }),
                ..Default::default()
            })
            .collect(),
    });
    let tensor = TensorTypeProto { elem_type: t.dtype.to_onnx(), shape };
    Some(TypeProto { value: Some(TypeValue::Tensor(tensor)), ..Default::default() })
}

fn attributes(attrs: &Attrs) -> Result<Vec<AttributeProto>> {
    let mut out = Vec::new();
    for (name, attr) in attrs.iter() {
        let mut a = AttributeProto { name: name.to_string(), ..Default::default() };
        match attr {
            Attr::Int(x) => (a.r#type, a.i) = (attr_type::INT, *x),
            Attr::Float(x) => (a.r#type, a.f) = (attr_type::FLOAT, *x),
            Attr::String(s) => (a.r#type, a.s) = (attr_type::STRING, s.as_bytes().to_vec().into()),
            Attr::Ints(v) => (a.r#type, a.ints) = (attr_type::INTS, v.clone()),
            Attr::Floats(v) => (a.r#type, a.floats) = (attr_type::FLOATS, v.clone()),
            other => bail!(unsupported, "the attribute `{name}` of the kind {}", other.kind()),
        }
        out.push(a);
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(op: &str, inputs: &[&str], outputs: &[&str]) -> NodeProto {
        let strings = |l: &[&str]| l.iter().map(|s| s.to_string()).collect();
        NodeProto { op_type: op.into(), input: strings(inputs), output: strings(outputs), ..Default::default() }
    }

    /// `scaled(x, w) = x·w + alpha`
    fn library(domain: &str) -> ModelProto {
        let alpha = AttributeProto {
            name: "value_float".into(),
            ref_attr_name: "alpha".into(),
            r#type: attr_type::FLOAT,
            ..Default::default()
        };
        let mut constant = node("Constant", &[], &["a"]);
        constant.attribute.push(alpha);
        let function = FunctionProto {
            name: "scaled".into(),
            domain: domain.into(),
            input: vec!["x".into(), "w".into()],
            output: vec!["y".into()],
            attribute: vec!["alpha".into()],
            node: vec![node("Mul", &["x", "w"], &["p"]), constant, node("Add", &["p", "a"], &["y"])],
            opset_import: vec![OperatorSetIdProto { version: 18, ..Default::default() }],
            ..Default::default()
        };
        let opset_import = vec![OperatorSetIdProto { version: 18, ..Default::default() }];
        ModelProto { functions: vec![function], opset_import, ..Default::default() }
    }

    fn model() -> Model {
        let mut graph = Graph::new("main");
        let f32s = |dims: Vec<oxrt_ir::Dim>| ValueType::tensor(oxrt_ir::DType::F32, dims);
        let n = oxrt_ir::Dim::symbol("n");
        let x = graph.add_input("x", f32s(vec![n.clone(), 3i64.into()]));
        let w = graph.add_constant("w", oxrt_tensor::Tensor::from_slice(&[3], &[1f32, 2.0, 3.0]));
        let id = graph.add_node("my.scaled", "call", &[Some(x), Some(w)], Attrs::new().with("alpha", 0.5f32), 1);
        let y = graph[id].output(0).unwrap();
        graph[y].ty = f32s(vec![n, 3i64.into()]);
        graph[y].name = "result".into();
        graph.outputs.push(y);
        let mut model = Model { graph, ..Model::default() };
        model.symbols.declare(oxrt_ir::Symbol::new("n"), Default::default());
        model
    }

    #[test]
    fn a_call_becomes_the_body() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), library("my").encode_to_vec()).unwrap();
        let mut m = model();
        assert_eq!(inline_functions(&mut m, file.path()).unwrap(), 1);
        let ops: Vec<&str> = m.graph.nodes().map(|(_, n)| &*n.op).collect();
        assert_eq!(ops, ["Mul", "Add"]);
        let names: Vec<&str> = m.graph.nodes().map(|(_, n)| n.name.as_str()).collect();
        assert_eq!(names, ["call/1/Mul", "call/1/Add"]);
        assert_eq!(m.graph[m.graph.outputs[0]].name, "result");
        assert_eq!(m.graph[m.graph.outputs[0]].ty.to_string(), "f32[n, 3]");
        let x = oxrt_tensor::Tensor::from_slice(&[1, 3], &[1f32, 1.0, 1.0]);
        let out = oxrt_ops::eval::Interpreter::new(&m.graph).run(vec![x.into()]).unwrap();
        assert_eq!(out[0].as_tensor().unwrap().as_slice::<f32>(), [1.5, 2.5, 3.5]);
    }

    #[test]
    fn other_domains_are_left_alone_and_bad_files_are_named() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), library("other").encode_to_vec()).unwrap();
        let mut m = model();
        assert_eq!(inline_functions(&mut m, file.path()).unwrap(), 0);
        assert_eq!(m.graph.num_nodes(), 1);
        std::fs::write(file.path(), ModelProto::default().encode_to_vec()).unwrap();
        assert!(inline_functions(&mut m, file.path()).unwrap_err().to_string().contains("no functions"));
        let mut wide = library("my");
        wide.functions[0].input.truncate(1);
        std::fs::write(file.path(), wide.encode_to_vec()).unwrap();
        let e = inline_functions(&mut m, file.path()).unwrap_err().to_string();
        assert!(e.contains("2 inputs") && e.contains("call"), "{e}");
    }
}
