//! Changes of form within one operator.

use oxrt_ir::{Attr, Attrs, Graph, NodeId, ValueId};
use oxrt_tensor::{DType, Result, Tensor, bail};

/// What an input was as an attribute.
#[derive(Clone, Copy)]
enum Form {
    Ints,
    Int,
    Float,
}

/// (operator, first opset that has the input, place of the input, attribute before)
const ATTRIBUTES: &[(&str, i64, usize, &str, Form)] = &[
    ("Squeeze", 13, 1, "axes", Form::Ints),
    ("Unsqueeze", 13, 1, "axes", Form::Ints),
    ("ReduceSum", 13, 1, "axes", Form::Ints),
    ("ReduceMean", 18, 1, "axes", Form::Ints),
    ("ReduceMax", 18, 1, "axes", Form::Ints),
    ("ReduceMin", 18, 1, "axes", Form::Ints),
    ("ReduceProd", 18, 1, "axes", Form::Ints),
    ("ReduceL1", 18, 1, "axes", Form::Ints),
    ("ReduceL2", 18, 1, "axes", Form::Ints),
    ("ReduceLogSum", 18, 1, "axes", Form::Ints),
    ("ReduceLogSumExp", 18, 1, "axes", Form::Ints),
    ("ReduceSumSquare", 18, 1, "axes", Form::Ints),
    ("Split", 13, 1, "split", Form::Ints),
    ("Slice", 10, 3, "axes", Form::Ints),
    ("Slice", 10, 2, "ends", Form::Ints),
    ("Slice", 10, 1, "starts", Form::Ints),
    ("Clip", 11, 2, "max", Form::Float),
    ("Clip", 11, 1, "min", Form::Float),
    ("Pad", 11, 2, "value", Form::Float),
    ("Pad", 11, 1, "pads", Form::Ints),
    ("TopK", 10, 1, "k", Form::Int),
    ("Dropout", 12, 1, "ratio", Form::Float),
    ("DFT", 20, 2, "axis", Form::Int),
];

/// (operator, first opset that has the attribute, the attribute, what older versions do): it goes when it says that.
const PLAIN: &[(&str, i64, &str, i64)] = &[
    ("Reshape", 14, "allowzero", 0),
    ("BatchNormalization", 14, "training_mode", 0),
    ("LSTM", 14, "layout", 0),
    ("GRU", 14, "layout", 0),
    ("RNN", 14, "layout", 0),
    ("ArgMax", 12, "select_last_index", 0),
    ("ArgMin", 12, "select_last_index", 0),
    ("TopK", 11, "largest", 1),
    ("TopK", 11, "sorted", 1),
    ("MaxPool", 10, "ceil_mode", 0),
    ("AveragePool", 10, "ceil_mode", 0),
    ("LpPool", 18, "ceil_mode", 0),
    ("Resize", 18, "antialias", 0),
    ("Gather", 11, "batch_dims", 0),
    ("GatherND", 12, "batch_dims", 0),
    ("QuantizeLinear", 21, "block_size", 0),
    ("QuantizeLinear", 21, "output_dtype", 0),
    ("QuantizeLinear", 23, "precision", 0),
    ("DequantizeLinear", 21, "block_size", 0),
    ("DequantizeLinear", 23, "output_dtype", 0),
    ("Attention", 25, "left_window_size", -1),
    ("Attention", 25, "right_window_size", -1),
    ("MaxPool", 8, "storage_order", 0),
    ("AveragePool", 7, "count_include_pad", 0),
    ("GRU", 3, "linear_before_reset", 0),
    ("Range", 27, "stash_type", 1),
    ("Cast", 19, "saturate", 1),
    ("CastLike", 19, "saturate", 1),
    ("QuantizeLinear", 19, "saturate", 1),
];

/// Operators whose axes may be counted from the end only since opset 11.
const SIGNED_AXES: &[&str] = &[
    "ArgMax",
    "ArgMin",
    "Compress",
    "Concat",
    "Flatten",
    "Gather",
    "Hardmax",
    "LogSoftmax",
    "LpNormalization",
    "OneHot",
    "ReduceL1",
    "ReduceL2",
    "ReduceLogSum",
    "ReduceLogSumExp",
    "ReduceMax",
    "ReduceMean",
    "ReduceMin",
    "ReduceProd",
    "ReduceSum",
    "ReduceSumSquare",
    "Scatter",
    "Softmax",
    "Split",
    "Squeeze",
    "TopK",
    "Unsqueeze",
];

/// Whether a node has to be expanded for an opset that lacks its newest form; some forms are as they ever were.
pub(super) fn needs_expansion(graph: &Graph, id: NodeId) -> bool {
    let node = &graph[id];
    let rank = node.input(0).and_then(|v| graph.dims(v)).map(<[_]>::len);
    match &*node.op {
        "Shape" => node.attrs.has("start") || node.attrs.has("end"),
        // Over the last axis both readings agree.
        "Softmax" | "LogSoftmax" | "Hardmax" => {
            let axis = node.attrs.int_or("axis", -1).unwrap_or(-1);
            !(axis == -1 || rank.is_some_and(|r| axis == r as i64 - 1))
        }
        _ => true,
    }
}

pub(super) fn adjust(graph: &mut Graph, id: NodeId, opset: i64) -> Result<()> {
    let op = graph[id].op.clone();
    if &*op == "Reshape" && opset < 14 {
        // Without a zero in the shape the attribute says nothing.
        let target = graph[id].input(1).and_then(|v| graph[v].contents.clone());
        if target.is_some_and(|c| c.elements.iter().all(|d| d.as_const().is_none_or(|d| d != 0))) {
            graph[id].attrs.remove("allowzero");
        }
    }
    for &(name, since, attr, plain) in PLAIN.iter().filter(|p| *p.0 == *op && opset < p.1) {
        if graph[id].attrs.int_or(attr, plain)? != plain {
            bail!(unsupported, "{name} with `{attr}`, which needs opset {since}");
        }
        graph[id].attrs.remove(attr);
    }
    match &*op {
        "Softmax" | "LogSoftmax" | "Hardmax" if opset < 13 => {
            // The default was 1.
            let axis = graph[id].attrs.int_or("axis", -1)?;
            graph[id].attrs.set("axis", axis);
        }
        "Split" if opset < 18 => {
            graph[id].attrs.remove("num_outputs");
            if graph[id].input(1).is_none() {
                uneven_parts(graph, id)?;
            }
        }
        "Pad" if opset < 18 && graph[id].input(3).is_some() => {
            bail!(unsupported, "a Pad of chosen axes, which needs opset 18")
        }
        "Pad" if opset < 19 && graph[id].attrs.string_or("mode", "constant")? == "wrap" => {
            bail!(unsupported, "a Pad around the other end, which needs opset 19")
        }
        "Slice" if opset < 10 => {
            let ones =
                graph[id].input(4).is_none_or(|v| constant_ints(graph, v).is_some_and(|s| s.iter().all(|&s| s == 1)));
            if !ones {
                bail!(unsupported, "a Slice with steps, which needs opset 10");
            }
            let inputs = graph[id].inputs()[..graph[id].inputs().len().min(4)].to_vec();
            graph.set_inputs(id, &inputs);
        }
        "Dropout" if opset < 12 => {
            let off = graph[id].input(2).is_none_or(|v| constant_ints(graph, v).is_some_and(|t| t == [0]));
            if !off {
                bail!(unsupported, "a Dropout in training, which needs opset 12");
            }
            let inputs = graph[id].inputs()[..graph[id].inputs().len().min(2)].to_vec();
            graph.set_inputs(id, &inputs);
            graph[id].attrs.remove("seed");
            if opset < 10 && graph[id].output(1).is_some() {
                bail!(unsupported, "the mask of a Dropout, which needs opset 10");
            }
        }
        "DepthToSpace" | "SpaceToDepth" if opset < if &*op == "DepthToSpace" { 11 } else { 28 } => {
            if graph[id].attrs.string_or("mode", "DCR")? != "DCR" {
                bail!(unsupported, "{op} of columns first, which is newer");
            }
            graph[id].attrs.remove("mode");
        }
        // It had another name.
        "ScatterElements" if opset < 11 => {
            if graph[id].attrs.string_or("reduction", "none")? != "none" {
                bail!(unsupported, "a ScatterElements with a reduction, which needs opset 16");
            }
            graph[id].attrs.remove("reduction");
            graph[id].op = "Scatter".into();
        }
        "Gemm" if opset < 11 && graph[id].input(2).is_none() => {
            let dtype = graph[id].input(0).and_then(|v| graph[v].ty.dtype()).unwrap_or(DType::F32);
            let zero = graph.add_constant(&format!("{}_c", graph[id].name), Tensor::from_f64(dtype, &[1], &[0.0])?);
            graph.set_input(id, 2, Some(zero));
        }
        "Mod" if opset < 28 && !graph[id].attrs.bool_or("fmod", false)? => {
            let dtype = graph[id].input(0).and_then(|v| graph[v].ty.dtype());
            if dtype.is_some_and(DType::is_float) {
                bail!(unsupported, "a Mod of floats with the sign of the divisor, which needs opset 28");
            }
        }
        "MaxPool" if opset < 8 && graph[id].output(1).is_some() => {
            bail!(unsupported, "the indices of a MaxPool, which need opset 8")
        }
        "MaxPool" => pool(graph, id, 10, opset)?,
        "AveragePool" => pool(graph, id, 19, opset)?,
        "LpPool" => pool(graph, id, 18, opset)?,
        "Scan" if opset < 9 => bail!(unsupported, "a Scan, which went over batches in opset 8, and needs opset 9"),
        "Attention" if opset < 24 && graph[id].input(6).is_some() => {
            bail!(unsupported, "an Attention with the number of valid keys, which needs opset 24")
        }
        "OptionalHasElement" if opset < 18 && graph[id].input(0).is_none() => {
            bail!(unsupported, "an OptionalHasElement of nothing, which needs opset 18")
        }
        "QLinearMatMul" if opset < 21 => {
            let scale = graph[id].input(1).and_then(|v| graph[v].ty.dtype());
            if scale.is_some_and(|d| d != DType::F32) {
                bail!(unsupported, "a QLinearMatMul with scales other than f32, which needs opset 21");
            }
        }
        "Resize" => return resize(graph, id, opset),
        "GridSample" if opset < 20 => {
            let mode = match graph[id].attrs.string_or("mode", "linear")? {
                "linear" => "bilinear".to_string(),
                "cubic" => "bicubic".to_string(),
                other => other.to_string(),
            };
            graph[id].attrs.set("mode", mode);
            if graph[id].input(0).and_then(|v| graph.dims(v)).is_some_and(|d| d.len() != 4) {
                bail!(unsupported, "a GridSample of volumes, which needs opset 20");
            }
        }
        "RoiAlign" if opset < 16 => {
            if graph[id].attrs.string_or("coordinate_transformation_mode", "half_pixel")? != "output_half_pixel" {
                bail!(unsupported, "a RoiAlign shifted by half a pixel, which needs opset 16");
            }
            graph[id].attrs.remove("coordinate_transformation_mode");
        }
        "ScatterElements" | "ScatterND" if opset < 18 => {
            let reduction = graph[id].attrs.string_or("reduction", "none")?.to_string();
            if reduction != "none" && (opset < 16 || reduction == "max" || reduction == "min") {
                bail!(unsupported, "{op} with the reduction `{reduction}`, which needs opset 16 or 18");
            }
            if opset < 16 {
                graph[id].attrs.remove("reduction");
            }
        }
        "QuantizeLinear" | "DequantizeLinear" if opset < 13 => {
            let scalar = graph[id].input(1).and_then(|v| graph.dims(v)).is_some_and(<[_]>::is_empty);
            if !scalar {
                bail!(unsupported, "{op} per axis, which needs opset 13");
            }
            graph[id].attrs.remove("axis");
        }
        _ => {}
    }
    if opset < 24 {
        graph[id].attrs.remove("round_mode");
    }
    to_attributes(graph, id, &op, opset)?;
    if opset < 18 && op.starts_with("Reduce") && (opset < 13 || &*op != "ReduceSum") {
        if graph[id].attrs.bool_or("noop_with_empty_axes", false)? && !graph[id].attrs.has("axes") {
            bail!(unsupported, "{op} of no axes, which needs opset 18");
        }
        graph[id].attrs.remove("noop_with_empty_axes");
    }
    if opset < 11 && SIGNED_AXES.contains(&&*op) {
        count_from_the_start(graph, id)?;
    }
    Ok(())
}

/// States the sizes of parts that are not equal.
fn uneven_parts(graph: &mut Graph, id: NodeId) -> Result<()> {
    let node = &graph[id];
    let axis = node.attrs.int_or("axis", 0)?;
    let size = |v: &Option<ValueId>| -> Option<i64> {
        let dims = graph.dims((*v)?)?;
        dims.get(oxrt_ops::shape::axis(axis, dims.len()).ok()?)?.as_const()
    };
    let sizes: Option<Vec<i64>> = node.outputs().iter().map(size).collect();
    if let Some(sizes) = sizes.filter(|s| s.iter().any(|n| *n != s[0])) {
        let name = format!("{}_split", node.name);
        let split = graph.add_constant(&name, Tensor::from_slice(&[sizes.len()], &sizes));
        graph.set_input(id, 1, Some(split));
    }
    Ok(())
}

fn constant_ints(graph: &Graph, v: ValueId) -> Option<Vec<i64>> {
    graph.constant(v)?.to_i64_vec().ok()
}

fn to_attributes(graph: &mut Graph, id: NodeId, op: &str, opset: i64) -> Result<()> {
    for &(_, since, at, attr, form) in ATTRIBUTES.iter().filter(|a| a.0 == op && opset < a.1) {
        if let Some(v) = graph[id].input(at) {
            let Some(t) = graph.constant(v).cloned() else {
                bail!(unsupported, "{op} has computed `{attr}`, which need opset {since}");
            };
            let one = |list: Vec<f64>| match list[..] {
                [x] => Ok(x),
                _ => bail!(invalid, "`{attr}` of {} elements", list.len()),
            };
            let value: Attr = match form {
                Form::Ints => t.to_i64_vec()?.into(),
                Form::Int => (one(t.to_f64_vec()?)? as i64).into(),
                Form::Float => (one(t.to_f64_vec()?)? as f32).into(),
            };
            graph[id].attrs.set(attr, value);
        }
        let inputs = graph[id].inputs()[..graph[id].inputs().len().min(at)].to_vec();
        graph.set_inputs(id, &inputs);
    }
    Ok(())
}

/// Axes counted from the end become those counted from the start.
fn count_from_the_start(graph: &mut Graph, id: NodeId) -> Result<()> {
    let node = &graph[id];
    let mut rank = node.input(0).and_then(|v| graph.dims(v)).map(|d| d.len() as i64);
    if &*node.op == "OneHot" {
        rank = rank.map(|r| r + 1);
    }
    if let (true, Some(Attr::Ints(axes))) = (&*node.op == "Unsqueeze", node.attrs.get("axes")) {
        rank = rank.map(|r| r + axes.len() as i64);
    }
    let fixed = |axis: i64| match rank {
        _ if axis >= 0 => Ok(axis),
        Some(r) => Ok(axis + r),
        None => bail!(unsupported, "an axis counted from the end of an unknown rank, which needs opset 11"),
    };
    let mut attrs: Attrs = node.attrs.clone();
    for name in ["axis", "axes"] {
        match attrs.0.get_mut(name) {
            Some(Attr::Int(a)) => *a = fixed(*a)?,
            Some(Attr::Ints(list)) => *list = list.iter().map(|&a| fixed(a)).collect::<Result<_>>()?,
            _ => {}
        }
    }
    graph[id].attrs = attrs;
    Ok(())
}

/// Dilations of pools came later than pools.
fn pool(graph: &mut Graph, id: NodeId, dilated_since: i64, opset: i64) -> Result<()> {
    if opset < 22 && graph[id].attrs.bool_or("ceil_mode", false)? && drops_a_window(graph, id)? {
        bail!(unsupported, "{} that leaves out a window beyond the end, which needs opset 22", graph[id].op);
    }
    if opset < dilated_since
        && let Some(list) = graph[id].attrs.ints("dilations")?
    {
        if list.iter().any(|&d| d != 1) {
            bail!(unsupported, "{} with dilations, which need opset {dilated_since}", graph[id].op);
        }
        graph[id].attrs.remove("dilations");
    }
    Ok(())
}

/// Whether rounding up would give a window that starts behind the data, which is left out since opset 22.
fn drops_a_window(graph: &Graph, id: NodeId) -> Result<bool> {
    let node = &graph[id];
    let sizes = |v: Option<ValueId>| -> Vec<Option<i64>> {
        v.and_then(|v| graph.dims(v)).unwrap_or_default().iter().skip(2).map(oxrt_ir::Dim::as_const).collect()
    };
    let (from, to) = (sizes(node.input(0)), sizes(node.output(0)));
    let n = from.len();
    let kernel = node.attrs.ints_or("kernel_shape", &vec![1; n])?;
    let strides = node.attrs.ints_or("strides", &vec![1; n])?;
    let dilations = node.attrs.ints_or("dilations", &vec![1; n])?;
    let pads = node.attrs.ints_or("pads", &vec![0; 2 * n])?;
    if kernel.len() != n || strides.len() != n || dilations.len() != n || pads.len() != 2 * n || to.len() != n {
        return Ok(false);
    }
    Ok((0..n).any(|i| match (from[i], to[i]) {
        (Some(size), Some(out)) if strides[i] > 0 => {
            let room = size + pads[i] + pads[n + i] - (kernel[i] - 1) * dilations[i] - 1;
            (room + strides[i] - 1).div_euclid(strides[i]) + 1 != out
        }
        _ => false,
    }))
}

fn resize(graph: &mut Graph, id: NodeId, opset: i64) -> Result<()> {
    if opset < 18 {
        for (a, plain) in [("axes", None), ("keep_aspect_ratio_policy", Some("stretch"))] {
            if graph[id].attrs.get(a).is_some_and(|v| plain.is_none_or(|p| *v != p.into())) {
                bail!(unsupported, "a Resize with `{a}`, which needs opset 18");
            }
            graph[id].attrs.remove(a);
        }
    }
    if opset < 19
        && graph[id].attrs.string_or("coordinate_transformation_mode", "half_pixel")? == "half_pixel_symmetric"
    {
        bail!(unsupported, "a Resize of `half_pixel_symmetric`, which needs opset 19");
    }
    if (11..13).contains(&opset) {
        // Regions and scales had to be there, if empty.
        for at in [1, 2] {
            if graph[id].input(at).is_none() {
                let empty = graph.add_constant(&format!("{}_in{at}", graph[id].name), Tensor::zeros(DType::F32, &[0]));
                graph.set_input(id, at, Some(empty));
            }
        }
    }
    if opset < 11 {
        let attrs = graph[id].attrs.clone();
        let mode = attrs.string_or("mode", "nearest")?.to_string();
        let asymmetric = attrs.string_or("coordinate_transformation_mode", "half_pixel")? == "asymmetric";
        let down = mode == "linear" || attrs.string_or("nearest_mode", "round_prefer_floor")? == "floor";
        let (Some(x), Some(scales)) = (graph[id].input(0), graph[id].input(2)) else {
            bail!(unsupported, "a Resize to given sizes, which needs opset 11");
        };
        let grows =
            graph.constant(scales).and_then(|t| t.to_f64_vec().ok()).is_some_and(|s| s.iter().all(|&s| s >= 1.0));
        if !asymmetric || !down || mode == "cubic" || !grows {
            bail!(unsupported, "a Resize other than an asymmetric enlargement, which needs opset 11");
        }
        graph.set_inputs(id, &[Some(x), Some(scales)]);
        graph[id].attrs = Attrs::new().with("mode", mode);
        if opset < 10 {
            graph[id].op = "Upsample".into();
            if opset < 9 {
                let list = graph.constant(scales).map(Tensor::to_f64_vec).transpose()?.unwrap_or_default();
                graph.set_inputs(id, &[Some(x)]);
                graph[id].attrs.set("scales", list.into_iter().map(|s| s as f32).collect::<Vec<f32>>());
            }
        }
    }
    Ok(())
}
