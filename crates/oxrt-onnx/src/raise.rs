//! Raises a node written for an older opset to the newest semantics.
//!
//! Each row of [`RULES`] says: nodes of this operator, written for an opset below that version, are
//! changed so. Rows of one operator are applied from old to new.

use oxrt_ir::{Attr, Attrs, Graph, NodeId, Symbols};
use oxrt_tensor::{Result, Tensor};

type Rule = fn(&mut Graph, &mut Symbols, NodeId) -> Result<()>;

/// (operator, first opset that has the new form, change)
const RULES: &[(&str, i64, Rule)] = &[
    ("Squeeze", 13, axes_to_input),
    ("Unsqueeze", 13, axes_to_input),
    ("ReduceSum", 13, axes_to_input),
    ("ReduceMean", 18, axes_to_input),
    ("ReduceMax", 18, axes_to_input),
    ("ReduceMin", 18, axes_to_input),
    ("ReduceProd", 18, axes_to_input),
    ("ReduceL1", 18, axes_to_input),
    ("ReduceL2", 18, axes_to_input),
    ("ReduceLogSum", 18, axes_to_input),
    ("ReduceLogSumExp", 18, axes_to_input),
    ("ReduceSumSquare", 18, axes_to_input),
    ("Split", 13, |g, _, n| ints_to_input(g, n, "split", 1)),
    ("Slice", 10, slice_10),
    ("Clip", 11, clip_11),
    ("Pad", 11, pad_11),
    ("TopK", 10, |g, _, n| int_to_input(g, n, "k", 1)),
    ("Dropout", 12, dropout_12),
    ("Upsample", 10, upsample),
    ("Softmax", 13, |g, s, n| softmax_13(g, s, n)),
    ("LogSoftmax", 13, |g, s, n| softmax_13(g, s, n)),
    ("Cast", 6, cast_6),
];

/// Raises node `id`, written for opset `version` of its domain.
pub(crate) fn raise(graph: &mut Graph, symbols: &mut Symbols, id: NodeId, version: i64) -> Result<()> {
    let op = graph[id].op.clone();
    for (_, _, rule) in RULES.iter().filter(|(name, since, _)| **name == *op && version < *since) {
        rule(graph, symbols, id)?;
    }
    Ok(())
}

fn add_input(graph: &mut Graph, id: NodeId, at: usize, tensor: Tensor) {
    let name = format!("{}_in{at}", graph[id].name);
    let v = graph.add_constant(&name, tensor);
    graph.set_input(id, at, Some(v));
}

fn ints_to_input(graph: &mut Graph, id: NodeId, attr: &str, at: usize) -> Result<()> {
    if let Some(Attr::Ints(list)) = graph[id].attrs.remove(attr) {
        add_input(graph, id, at, Tensor::from_slice(&[list.len()], &list));
    }
    Ok(())
}

fn int_to_input(graph: &mut Graph, id: NodeId, attr: &str, at: usize) -> Result<()> {
    if let Some(Attr::Int(x)) = graph[id].attrs.remove(attr) {
        add_input(graph, id, at, Tensor::from_slice(&[1], &[x]));
    }
    Ok(())
}

fn axes_to_input(graph: &mut Graph, _: &mut Symbols, id: NodeId) -> Result<()> {
    ints_to_input(graph, id, "axes", 1)
}

fn slice_10(graph: &mut Graph, _: &mut Symbols, id: NodeId) -> Result<()> {
    ints_to_input(graph, id, "starts", 1)?;
    ints_to_input(graph, id, "ends", 2)?;
    ints_to_input(graph, id, "axes", 3)
}

fn clip_11(graph: &mut Graph, _: &mut Symbols, id: NodeId) -> Result<()> {
    let dtype = graph[id].input(0).and_then(|v| graph[v].ty.dtype()).unwrap_or(oxrt_tensor::DType::F32);
    for (attr, at) in [("min", 1), ("max", 2)] {
        if let Some(Attr::Float(x)) = graph[id].attrs.remove(attr) {
            add_input(graph, id, at, Tensor::from_f64(dtype, &[], &[x as f64])?);
        }
    }
    Ok(())
}

fn pad_11(graph: &mut Graph, _: &mut Symbols, id: NodeId) -> Result<()> {
    // Version 1 called it `paddings`.
    let attr = if graph[id].attrs.has("pads") { "pads" } else { "paddings" };
    ints_to_input(graph, id, attr, 1)?;
    let dtype = graph[id].input(0).and_then(|v| graph[v].ty.dtype()).unwrap_or(oxrt_tensor::DType::F32);
    if let Some(Attr::Float(x)) = graph[id].attrs.remove("value") {
        add_input(graph, id, 2, Tensor::from_f64(dtype, &[], &[x as f64])?);
    }
    Ok(())
}

/// Inference: the ratio does not matter, but the newest form has it as an input.
fn dropout_12(graph: &mut Graph, _: &mut Symbols, id: NodeId) -> Result<()> {
    graph[id].attrs.remove("is_test");
    if let Some(Attr::Float(x)) = graph[id].attrs.remove("ratio") {
        add_input(graph, id, 1, Tensor::scalar(x));
    }
    Ok(())
}

/// `Upsample` is `Resize` in its asymmetric form.
fn upsample(graph: &mut Graph, _: &mut Symbols, id: NodeId) -> Result<()> {
    let scales = match graph[id].attrs.remove("scales") {
        Some(Attr::Floats(s)) => Some(Tensor::from_slice(&[s.len()], &s)),
        _ => None,
    };
    let mode = match graph[id].attrs.string_or("mode", "nearest")? {
        "bilinear" => "linear".to_string(),
        other => other.to_string(),
    };
    let scale_input = graph[id].input(1);
    graph[id].op = "Resize".into();
    graph[id].attrs = Attrs::new()
        .with("mode", mode)
        .with("coordinate_transformation_mode", "asymmetric")
        .with("nearest_mode", "floor");
    let x = graph[id].input(0);
    graph.set_inputs(id, &[x, None, scale_input]);
    if let Some(t) = scales {
        add_input(graph, id, 2, t);
    }
    Ok(())
}

/// Before version 13 the input was flattened to two dimensions at `axis` (default 1). Over the last axis,
/// or when every later axis has size 1, that is the new operator; else it is wrapped in reshapes.
fn softmax_13(graph: &mut Graph, symbols: &mut Symbols, id: NodeId) -> Result<()> {
    let axis = graph[id].attrs.int_or("axis", 1)?;
    let Some(x) = graph[id].input(0) else { return Ok(()) };
    let Some(dims) = graph.dims(x).map(<[_]>::to_vec) else {
        graph[id].attrs.set("axis", axis);
        return Ok(());
    };
    let axis = oxrt_ops::shape::axis(axis, dims.len().max(1))?;
    if dims[(axis + 1).min(dims.len())..].iter().all(|d| d.is(1)) {
        graph[id].attrs.set("axis", axis as i64);
        return Ok(());
    }
    let out = graph[id].output(0);
    let (op, name) = (graph[id].op.to_string(), graph[id].name.clone());
    let source = graph[id].source.clone();
    graph.remove_node(id);
    let mut b = oxrt_ops::Builder::new(graph, symbols);
    (b.prefix, b.source) = (name.clone(), source);
    let flat = b.op("Flatten", &[x], Attrs::new().with("axis", axis as i64))?;
    let soft = b.op(&op, &[flat], Attrs::new().with("axis", -1))?;
    let shape = b.call("Shape", &[x])?;
    graph.add_node_with_outputs("Reshape", &name, &[Some(soft), Some(shape)], Attrs::new(), &[out]);
    Ok(())
}

/// Version 1 named the type by a string.
fn cast_6(graph: &mut Graph, _: &mut Symbols, id: NodeId) -> Result<()> {
    if let Some(Attr::String(s)) = graph[id].attrs.get("to").cloned() {
        let short = match s.to_ascii_lowercase().as_str() {
            "float" => "f32".to_string(),
            "double" => "f64".to_string(),
            "float16" => "f16".to_string(),
            other => other.replace("uint", "u").replace("int", "i"),
        };
        if let Ok(d) = short.parse::<oxrt_tensor::DType>() {
            graph[id].attrs.set("to", d.to_onnx() as i64);
        }
    }
    Ok(())
}
