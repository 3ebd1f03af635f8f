//! Raises a node written for an older opset to the newest semantics.
//!
//! Each row of [`RULES`] says: nodes of this operator, written for an opset below that version, are
//! changed so. Rows of one operator are applied from old to new.

use oxrt_ir::{Attr, Attrs, Dim, Graph, NodeId, Symbols, ValueId, ValueType};
use oxrt_ops::Builder;
use oxrt_tensor::{Result, Tensor, bail};

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
    ("Dropout", 10, dropout_10),
    ("Dropout", 12, dropout_12),
    ("LpPool", 2, whole_p),
    ("GlobalLpPool", 2, whole_p),
    ("Upsample", 10, upsample),
    ("Softmax", 13, softmax_13),
    ("LogSoftmax", 13, softmax_13),
    ("Hardmax", 13, softmax_13),
    ("Cast", 6, cast_6),
    ("Add", 7, broadcast_7),
    ("Sub", 7, broadcast_7),
    ("Mul", 7, broadcast_7),
    ("Div", 7, broadcast_7),
    ("Pow", 7, broadcast_7),
    ("And", 7, broadcast_7),
    ("Or", 7, broadcast_7),
    ("Xor", 7, broadcast_7),
    ("Equal", 7, broadcast_7),
    ("Greater", 7, broadcast_7),
    ("Less", 7, broadcast_7),
    ("PRelu", 7, prelu_7),
    ("Gemm", 7, |g, _, n| drop_attrs(g, n, &["broadcast"])),
    ("BatchNormalization", 9, batch_normalization_9),
    ("Reshape", 5, |g, _, n| ints_to_input(g, n, "shape", 1)),
    ("Concat", 4, |g, _, n| default_int(g, n, "axis", 1)),
    ("Resize", 11, resize_11),
    ("Resize", 13, resize_13),
    ("RoiAlign", 16, roi_align_16),
    ("GroupNormalization", 21, group_normalization_21),
    ("DFT", 20, dft_20),
    ("Scan", 9, crate::scan_8::raise),
    ("Tile", 6, tile_6),
    ("Selu", 6, selu_6),
    ("Scatter", 11, |g, _, n| {
        g[n].op = "ScatterElements".into();
        Ok(())
    }),
    ("Split", 18, split_18),
    ("ai.onnx.ml.LabelEncoder", 2, label_encoder_2),
    ("ai.onnx.ml.LabelEncoder", 4, label_encoder_4),
];

/// Raises node `id`, written for opset `version` of its domain.
pub(crate) fn raise(graph: &mut Graph, symbols: &mut Symbols, id: NodeId, version: i64) -> Result<()> {
    let op = graph[id].op.clone();
    for (_, _, rule) in RULES.iter().filter(|(name, since, _)| **name == *op && version < *since) {
        // A rule that put other nodes in the place of this one has done all that there is to do.
        if !graph.is_alive(id) {
            break;
        }
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
    // Without them, infinities became the greatest finite f32.
    for (attr, at, default) in [("min", 1, f32::MIN), ("max", 2, f32::MAX)] {
        let limit = match graph[id].attrs.remove(attr) {
            Some(Attr::Float(x)) => x,
            _ => default,
        };
        add_input(graph, id, at, Tensor::from_f64(dtype, &[], &[limit as f64])?);
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

/// The mask had the element type of the data.
fn dropout_10(graph: &mut Graph, _: &mut Symbols, id: NodeId) -> Result<()> {
    let node = graph[id].clone();
    let (Some(mask), Some(x)) = (node.output(1), node.input(0)) else { return Ok(()) };
    let Some(dtype) = graph[x].ty.dtype() else { bail!(unsupported, "the mask of a Dropout of unknown type") };
    graph.remove_node(id);
    let name = format!("{}/mask", node.name);
    let kept = graph.add_value(&name, ValueType::Unknown);
    let mut outputs = node.outputs().to_vec();
    outputs[1] = Some(kept);
    // Later rules do not find the new node: they are applied here.
    let new = graph.add_node_with_outputs(&node.op, &node.name, node.inputs(), node.attrs.clone(), &outputs);
    graph[new].source = node.source;
    dropout_12(graph, &mut Symbols::default(), new)?;
    let attrs = Attrs::new().with("to", dtype.to_onnx() as i64);
    graph.add_node_with_outputs("Cast", &name, &[Some(kept)], attrs, &[Some(mask)]);
    Ok(())
}

/// The power was a float.
fn whole_p(graph: &mut Graph, _: &mut Symbols, id: NodeId) -> Result<()> {
    if let Some(&Attr::Float(p)) = graph[id].attrs.get("p") {
        if p.fract() != 0.0 {
            bail!(unsupported, "a pool of the power {p}");
        }
        graph[id].attrs.set("p", p as i64);
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
        // Version 1 named the two axes of a picture.
        _ if graph[id].attrs.has("height_scale") || graph[id].attrs.has("width_scale") => {
            let attrs = &graph[id].attrs;
            let sides = [attrs.float_or("height_scale", 1.0)?, attrs.float_or("width_scale", 1.0)?];
            Some(Tensor::from_slice(&[4], &[1.0, 1.0, sides[0], sides[1]]))
        }
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

/// Equal parts are asked for by their number.
fn split_18(graph: &mut Graph, _: &mut Symbols, id: NodeId) -> Result<()> {
    if graph[id].input(1).is_none() && !graph[id].attrs.has("num_outputs") {
        let parts = graph[id].outputs().len() as i64;
        graph[id].attrs.set("num_outputs", parts);
    }
    Ok(())
}

/// Before version 13 the input was flattened to two dimensions at `axis` (default 1). Over the last axis,
/// or when every later axis has size 1, that is the new operator; else it is wrapped in reshapes.
fn softmax_13(graph: &mut Graph, symbols: &mut Symbols, id: NodeId) -> Result<()> {
    let axis = graph[id].attrs.int_or("axis", 1)?;
    let Some(x) = graph[id].input(0) else { return Ok(()) };
    let mut axis = axis;
    if let Some(dims) = graph.dims(x) {
        let at = oxrt_ops::shape::axis(axis, dims.len().max(1))?;
        axis = at as i64;
        if dims[(at + 1).min(dims.len())..].iter().all(|d| d.is(1)) {
            graph[id].attrs.set("axis", axis);
            return Ok(());
        }
    }
    let out = graph[id].output(0);
    let (op, name) = (graph[id].op.to_string(), graph[id].name.clone());
    let source = graph[id].source.clone();
    graph.remove_node(id);
    let mut b = Builder::new(graph, symbols);
    (b.prefix, b.source) = (name.clone(), source);
    let flat = b.op("Flatten", &[x], Attrs::new().with("axis", axis))?;
    let soft = b.op(&op, &[flat], Attrs::new().with("axis", -1))?;
    let shape = b.call("Shape", &[x])?;
    graph.add_node_with_outputs(
        "Reshape",
        &name,
        &[Some(soft), Some(shape)],
        Attrs::new().with("allowzero", 1),
        &[out],
    );
    Ok(())
}

pub(crate) fn drop_attrs(graph: &mut Graph, id: NodeId, names: &[&str]) -> Result<()> {
    names.iter().for_each(|n| drop(graph[id].attrs.remove(n)));
    Ok(())
}

fn default_int(graph: &mut Graph, id: NodeId, name: &str, value: i64) -> Result<()> {
    if !graph[id].attrs.has(name) {
        graph[id].attrs.set(name, value);
    }
    Ok(())
}

/// `base`, or with a number: what no value's name starts with. Several nodes of a file may have one name, or none.
pub(crate) fn free_prefix(graph: &Graph, base: &str) -> String {
    let taken = |prefix: &str| {
        let mut names = graph.value_ids().filter_map(|v| graph[v].name.strip_prefix(prefix));
        names.any(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    let mut prefix = base.to_string();
    for n in 1.. {
        if !taken(&prefix) {
            break;
        }
        prefix = format!("{base}_{n}");
    }
    prefix
}

/// Puts nodes in front of node `id`: `make` gives the value that takes the place of input `at`.
pub(crate) fn before(
    graph: &mut Graph,
    symbols: &mut Symbols,
    id: NodeId,
    at: usize,
    make: impl FnOnce(&mut Builder, ValueId) -> Result<ValueId>,
) -> Result<()> {
    let Some(v) = graph[id].input(at) else { return Ok(()) };
    let (prefix, source) = (free_prefix(graph, &format!("{}/in{at}", graph[id].name)), graph[id].source.clone());
    let mut b = Builder::new(graph, symbols);
    (b.prefix, b.source) = (prefix, source);
    let new = make(&mut b, v)?;
    graph.set_input(id, at, Some(new));
    graph.sort()
}

/// The second operand was aligned at an axis of the first by attributes.
fn broadcast_7(graph: &mut Graph, symbols: &mut Symbols, id: NodeId) -> Result<()> {
    let axis = graph[id].attrs.get_int("axis")?.copied();
    drop_attrs(graph, id, &["broadcast", "axis", "consumed_inputs"])?;
    let rank = |i: usize| graph[id].input(i).and_then(|v| graph.dims(v)).map(<[_]>::len);
    let (Some(axis), Some(a), Some(b)) = (axis, rank(0), rank(1)) else { return Ok(()) };
    let axis = oxrt_ops::shape::axis(axis, a)?;
    // Axes of size 1 behind the operand move it to its place.
    append_axes(graph, symbols, id, a.saturating_sub(axis + b), b)
}

/// One slope per channel, which is axis 1.
fn prelu_7(graph: &mut Graph, symbols: &mut Symbols, id: NodeId) -> Result<()> {
    let rank = |i: usize| graph[id].input(i).and_then(|v| graph.dims(v)).map(<[_]>::len);
    match (rank(0), rank(1)) {
        (Some(a), Some(1)) => append_axes(graph, symbols, id, a.saturating_sub(2), 1),
        _ => Ok(()),
    }
}

/// Adds `count` axes of size 1 behind those of input 1, which has `rank`.
fn append_axes(graph: &mut Graph, symbols: &mut Symbols, id: NodeId, count: usize, rank: usize) -> Result<()> {
    if count == 0 {
        return Ok(());
    }
    let axes: Vec<i64> = (rank..rank + count).map(|a| a as i64).collect();
    before(graph, symbols, id, 1, |b, v| b.unsqueeze(v, &axes))
}

/// `spatial = 0` normalised every element on its own, which has no form today.
fn batch_normalization_9(graph: &mut Graph, _: &mut Symbols, id: NodeId) -> Result<()> {
    if !graph[id].attrs.bool_or("spatial", true)? {
        bail!(unsupported, "BatchNormalization with spatial = 0");
    }
    drop_attrs(graph, id, &["spatial", "is_test", "consumed_inputs"])
}

/// The scales were input 1, and positions were not shifted by half a pixel.
fn resize_11(graph: &mut Graph, _: &mut Symbols, id: NodeId) -> Result<()> {
    let (x, scales) = (graph[id].input(0), graph[id].input(1));
    graph.set_inputs(id, &[x, None, scales]);
    graph[id].attrs.set("coordinate_transformation_mode", "asymmetric");
    // The nearest was the next one when shrinking. Computed scales are taken to enlarge.
    let scales = scales.and_then(|v| graph.constant(v)).map(Tensor::to_f64_vec).transpose()?;
    let shrinks = scales.is_some_and(|s| s.iter().any(|&s| s < 1.0));
    graph[id].attrs.set("nearest_mode", if shrinks { "ceil" } else { "floor" });
    Ok(())
}

/// Half a pixel was not taken back for the nearest one; rounding down makes up for it.
fn resize_13(graph: &mut Graph, _: &mut Symbols, id: NodeId) -> Result<()> {
    if graph[id].attrs.string_or("coordinate_transformation_mode", "half_pixel")? == "tf_half_pixel_for_nn" {
        graph[id].attrs.set("coordinate_transformation_mode", "half_pixel");
        graph[id].attrs.set("nearest_mode", "round_prefer_ceil");
    }
    Ok(())
}

/// Regions were not shifted by half a pixel.
fn roi_align_16(graph: &mut Graph, _: &mut Symbols, id: NodeId) -> Result<()> {
    if !graph[id].attrs.has("coordinate_transformation_mode") {
        graph[id].attrs.set("coordinate_transformation_mode", "output_half_pixel");
    }
    Ok(())
}

/// Scale and bias were per group: each is repeated for the channels of its group.
fn group_normalization_21(graph: &mut Graph, symbols: &mut Symbols, id: NodeId) -> Result<()> {
    let groups = graph[id].attrs.int_or("num_groups", 0)?;
    let channels = graph[id].input(0).and_then(|v| graph.dims(v)).and_then(|d| d.get(1).cloned());
    let Some(channels) = channels.filter(|_| groups > 0) else {
        bail!(invalid, "GroupNormalization of {groups} groups over unknown channels");
    };
    let each = channels.floor_div(&Dim::Const(groups));
    for at in [1, 2] {
        let given = graph[id].input(at).and_then(|v| graph.dims(v)).and_then(|d| d.first().cloned());
        if given.is_some_and(|d| d == channels) {
            continue;
        }
        before(graph, symbols, id, at, |b, v| {
            let column = b.reshape_const(v, &[groups, 1])?;
            let shape = b.shape_value(&[Dim::Const(groups), each.clone()])?;
            let wide = b.call("Expand", &[column, shape])?;
            b.reshape_const(wide, &[-1])
        })?;
    }
    Ok(())
}

/// The axis was an attribute.
fn dft_20(graph: &mut Graph, _: &mut Symbols, id: NodeId) -> Result<()> {
    let axis = match graph[id].attrs.remove("axis") {
        Some(Attr::Int(a)) => a,
        _ => 1,
    };
    add_input(graph, id, 2, Tensor::scalar(axis));
    Ok(())
}

/// One axis was repeated: inputs 1 and 2 were how often and which.
fn tile_6(graph: &mut Graph, _: &mut Symbols, id: NodeId) -> Result<()> {
    let one = |i: usize| graph[id].input(i).and_then(|v| graph.constant(v)).and_then(|t| t.to_i64_vec().ok());
    let rank = graph[id].input(0).and_then(|v| graph.dims(v)).map(<[_]>::len);
    let (count, axis) = (one(1), one(2));
    let (Some([count]), Some([axis]), Some(rank)) = (count.as_deref(), axis.as_deref(), rank) else {
        bail!(unsupported, "Tile of opset 1 with computed repeats");
    };
    let mut repeats = vec![1; rank];
    repeats[oxrt_ops::shape::axis(*axis, rank)?] = *count;
    let x = graph[id].input(0);
    graph.set_inputs(id, &[x]);
    add_input(graph, id, 1, Tensor::from_slice(&[rank], &repeats));
    Ok(())
}

/// Other places of the two numbers were the defaults.
fn selu_6(graph: &mut Graph, _: &mut Symbols, id: NodeId) -> Result<()> {
    for (name, value) in [("alpha", 1.6732f32), ("gamma", 1.0507)] {
        if !graph[id].attrs.has(name) {
            graph[id].attrs.set(name, value);
        }
    }
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

/// Strings became their places in `classes_strings`, and places the strings.
fn label_encoder_2(graph: &mut Graph, _: &mut Symbols, id: NodeId) -> Result<()> {
    let text = graph[id].input(0).and_then(|v| graph[v].ty.dtype()) == Some(oxrt_tensor::DType::String);
    if let Some(Attr::Strings(classes)) = graph[id].attrs.remove("classes_strings") {
        let places: Vec<i64> = (0..classes.len() as i64).collect();
        let attrs = &mut graph[id].attrs;
        let (names, numbers) = if text { ("keys_strings", "values_int64s") } else { ("values_strings", "keys_int64s") };
        attrs.set(names, classes);
        attrs.set(numbers, places);
    }
    Ok(())
}

/// A key that is no number was never found.
fn label_encoder_4(graph: &mut Graph, _: &mut Symbols, id: NodeId) -> Result<()> {
    let Some(keys) = graph[id].attrs.get_floats("keys_floats")?.cloned().filter(|k| k.iter().any(|k| k.is_nan()))
    else {
        return Ok(());
    };
    let kept: Vec<usize> = (0..keys.len()).filter(|&i| !keys[i].is_nan()).collect();
    let attrs = &mut graph[id].attrs;
    attrs.set("keys_floats", kept.iter().map(|&i| keys[i]).collect::<Vec<_>>());
    for name in ["values_strings", "values_int64s", "values_floats"] {
        match attrs.0.get_mut(name) {
            Some(Attr::Strings(v)) if v.len() == keys.len() => *v = kept.iter().map(|&i| v[i].clone()).collect(),
            Some(Attr::Ints(v)) if v.len() == keys.len() => *v = kept.iter().map(|&i| v[i]).collect(),
            Some(Attr::Floats(v)) if v.len() == keys.len() => *v = kept.iter().map(|&i| v[i]).collect(),
            _ => {}
        }
    }
    Ok(())
}
