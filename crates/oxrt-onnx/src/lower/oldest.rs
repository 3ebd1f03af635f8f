//! Forms of opsets 1 to 7: operands are aligned by attributes, and what is a number today was a word or a list.

use oxrt_ir::{Attr, Attrs, Dim, Graph, NodeId, Symbols, ValueId};
use oxrt_ops::Builder;
use oxrt_tensor::{DType, Result, Tensor, bail};

/// Operators that stretched their second operand where `broadcast` asked for it, before 7.
const STRETCHED: &[&str] = &["Add", "Sub", "Mul", "Div", "Pow", "And", "Or", "Xor", "Equal", "Greater", "Less"];

/// How the second operand lies along the first.
struct Place {
    /// Axes of size 1 that go from the second operand.
    gone: Vec<i64>,
    /// First axis of the first operand that it lies along; absent for the last ones.
    axis: Option<i64>,
    /// Whether `broadcast` has to be asked for.
    stretched: bool,
}

/// Gives node `id` the form of an opset below 8. Returns whether it became another operator, to be looked at anew; nodes that are added
/// are to be looked at too.
pub(super) fn adjust(graph: &mut Graph, symbols: &mut Symbols, id: NodeId, opset: i64) -> Result<bool> {
    let op = graph[id].op.clone();
    match &*op {
        "Sum" | "Mean" | "Max" | "Min" if opset < 8 => return equal_operands(graph, symbols, id),
        op if STRETCHED.contains(&op) && opset < 7 => stretch(graph, symbols, id)?,
        "Gemm" if opset < 7 => gemm(graph, symbols, id)?,
        "PRelu" if opset < 7 => slopes(graph, symbols, id)?,
        "BatchNormalization" if opset < 7 => {
            graph[id].attrs.set("is_test", 1i64);
            if opset < 6 {
                graph[id].attrs.set("consumed_inputs", vec![0i64, 0, 0, 1, 1]);
            }
        }
        "Dropout" if opset < 7 => graph[id].attrs.set("is_test", 1i64),
        "LSTM" | "GRU" | "RNN" if opset < 7 => graph[id].attrs.set("output_sequence", 1i64),
        "Cast" if opset < 6 => {
            let to = graph[id].attrs.int_or("to", 1)?;
            let dtype = i32::try_from(to).ok().and_then(DType::from_onnx);
            let Some(dtype) = dtype else { bail!(invalid, "a Cast to the element type {to}") };
            graph[id].attrs.set("to", word(dtype));
        }
        "Selu" if opset < 6 => {
            for (name, value) in [("alpha", 1.673_263_2f32), ("gamma", 1.050_701)] {
                if !graph[id].attrs.has(name) {
                    graph[id].attrs.set(name, value);
                }
            }
        }
        "Tile" if opset < 6 => tile(graph, symbols, id)?,
        "Upsample" if opset < 7 => upsample(graph, id)?,
        "Reshape" if opset < 5 => {
            let shape = graph[id].input(1).and_then(|v| graph.constant(v)).map(Tensor::to_i64_vec).transpose()?;
            let Some(shape) = shape else { bail!(unsupported, "a Reshape to a computed shape, which needs opset 5") };
            let x = graph[id].input(0);
            graph.set_inputs(id, &[x]);
            graph[id].attrs.set("shape", shape);
        }
        "Split" if opset < 2 => {
            let axis = graph[id].attrs.int_or("axis", 0)?;
            graph[id].attrs.set("axis", axis);
        }
        "Pad" if opset < 2 => {
            if let Some(pads) = graph[id].attrs.remove("pads") {
                graph[id].attrs.set("paddings", pads);
            }
        }
        "LpPool" | "GlobalLpPool" if opset < 2 => {
            let p = graph[id].attrs.int_or("p", 2)?;
            graph[id].attrs.set("p", p as f32);
        }
        _ => {}
    }
    Ok(false)
}

/// The name of an element type in a `Cast` before 6.
fn word(d: DType) -> String {
    match d {
        DType::F32 => "FLOAT".to_string(),
        DType::F64 => "DOUBLE".to_string(),
        DType::F16 => "FLOAT16".to_string(),
        d if d.is_unsigned_int() => format!("UINT{}", d.bits()),
        d if d.is_signed_int() => format!("INT{}", d.bits()),
        d => d.name().to_uppercase(),
    }
}

fn known_dims(graph: &Graph, id: NodeId, i: usize) -> Result<Vec<Dim>> {
    match graph[id].input(i).and_then(|v| graph.dims(v)) {
        Some(dims) => Ok(dims.to_vec()),
        None => bail!(unsupported, "{} of operands of unknown rank, which needs opset 7", graph[id].op),
    }
}

/// How `b` lies along `a`, where it does as operators before 7 ask: a run of equal dimensions, or one element.
fn place(a: &[Dim], b: &[Dim]) -> Option<Place> {
    if a == b {
        return Some(Place { gone: Vec::new(), axis: None, stretched: false });
    }
    let before = a.len().checked_sub(b.len())?;
    if b.iter().all(|d| d.is(1)) {
        return Some(Place { gone: Vec::new(), axis: None, stretched: true });
    }
    let fits = |i: usize| b[i] == a[before + i];
    let first = (0..b.len()).find(|&i| !b[i].is(1))?;
    let last = (0..b.len()).rfind(|&i| !b[i].is(1))?;
    if !(first..=last).all(fits) {
        return None;
    }
    let gone = (0..first).chain(last + 1..b.len()).map(|i| i as i64).collect();
    let axis = (last + 1 < b.len()).then_some((before + first) as i64);
    Some(Place { gone, axis, stretched: true })
}

/// Takes axes of size 1 out of input `i`.
fn without_axes(graph: &mut Graph, symbols: &mut Symbols, id: NodeId, i: usize, axes: &[i64]) -> Result<()> {
    if axes.is_empty() {
        return Ok(());
    }
    let constant = graph[id].input(i).and_then(|v| graph.constant(v)).cloned();
    if let Some(t) = constant {
        let gone = |at: &usize| axes.contains(&(*at as i64));
        let shape: Vec<usize> = (0..t.rank()).filter(|at| !gone(at)).map(|at| t.shape()[at]).collect();
        let v = graph.add_constant(&format!("{}_in{i}", graph[id].name), t.reshaped(&shape)?);
        graph.set_input(id, i, Some(v));
        return Ok(());
    }
    crate::raise::before(graph, symbols, id, i, |b, v| b.squeeze(v, axes))
}

fn stretch(graph: &mut Graph, symbols: &mut Symbols, id: NodeId) -> Result<()> {
    let (a, b) = (known_dims(graph, id, 0)?, known_dims(graph, id, 1)?);
    let op = graph[id].op.clone();
    let mut found = place(&a, &b);
    if found.is_none() {
        // The first operand is the one that is stretched.
        found = place(&b, &a).filter(|_| !matches!(&*op, "Div" | "Pow"));
        if found.is_some() {
            let swapped = [graph[id].input(1), graph[id].input(0)];
            match &*op {
                // a - b = -b + a
                "Sub" => {
                    crate::raise::before(graph, symbols, id, 1, |b, v| b.call("Neg", &[v]))?;
                    let swapped = [graph[id].input(1), graph[id].input(0)];
                    graph[id].op = "Add".into();
                    graph.set_inputs(id, &swapped);
                }
                "Greater" => graph[id].op = "Less".into(),
                "Less" => graph[id].op = "Greater".into(),
                _ => {}
            }
            if &*op != "Sub" {
                graph.set_inputs(id, &swapped);
            }
        }
    }
    let Some(found) = found else {
        bail!(unsupported, "{op} of operands that both are stretched, or stretched in between, which needs opset 7");
    };
    without_axes(graph, symbols, id, 1, &found.gone)?;
    if found.stretched {
        graph[id].attrs.set("broadcast", 1i64);
    }
    if let Some(axis) = found.axis {
        graph[id].attrs.set("axis", axis);
    }
    Ok(())
}

fn gemm(graph: &mut Graph, symbols: &mut Symbols, id: NodeId) -> Result<()> {
    let Some(y) = graph[id].output(0).and_then(|v| graph.dims(v)).map(<[Dim]>::to_vec) else {
        bail!(unsupported, "a Gemm of unknown rank, which needs opset 7");
    };
    let c = known_dims(graph, id, 2)?;
    match place(&y, &c) {
        // There is no axis to say.
        Some(p) if p.axis.is_none() => {
            without_axes(graph, symbols, id, 2, &p.gone)?;
            if p.stretched {
                graph[id].attrs.set("broadcast", 1i64);
            }
            Ok(())
        }
        _ => bail!(unsupported, "a Gemm that adds a column, which needs opset 7"),
    }
}

/// One slope, or one per channel.
fn slopes(graph: &mut Graph, symbols: &mut Symbols, id: NodeId) -> Result<()> {
    let (x, slope) = (known_dims(graph, id, 0)?, known_dims(graph, id, 1)?);
    let long: Vec<usize> = (0..slope.len()).filter(|&i| !slope[i].is(1)).collect();
    let channels = x.len().checked_sub(slope.len()).map(|before| long.iter().map(|i| i + before).collect::<Vec<_>>());
    let keep = match (&long[..], channels.as_deref()) {
        ([], _) if !slope.is_empty() => 0,
        ([one], Some([1])) => *one,
        _ => bail!(unsupported, "a PRelu with slopes other than one per channel, which needs opset 7"),
    };
    let gone: Vec<i64> = (0..slope.len()).filter(|&i| i != keep).map(|i| i as i64).collect();
    without_axes(graph, symbols, id, 1, &gone)
}

/// Before 8 all operands had one shape.
fn equal_operands(graph: &mut Graph, symbols: &mut Symbols, id: NodeId) -> Result<bool> {
    let op = graph[id].op.clone();
    let inputs: Vec<ValueId> = graph[id].inputs().iter().flatten().copied().collect();
    let dims: Vec<Option<&[Dim]>> = inputs.iter().map(|&v| graph.dims(v)).collect();
    if inputs.len() == 1 || dims.iter().all(|d| d.is_some() && *d == dims[0]) {
        return Ok(false);
    }
    if !matches!(&*op, "Sum" | "Mean") {
        bail!(unsupported, "{op} of operands of other shapes, which needs opset 8");
    }
    let (prefix, source) =
        (crate::raise::free_prefix(graph, &format!("{}/{op}", graph[id].name)), graph[id].source.clone());
    let mut b = Builder::new(graph, symbols);
    (b.prefix, b.source) = (prefix, source);
    let mut sum = inputs[0];
    let last = inputs.len() - if &*op == "Sum" { 1 } else { 0 };
    for &v in &inputs[1..last] {
        sum = b.call("Add", &[sum, v])?;
    }
    let other = match &*op {
        "Sum" => inputs[last],
        _ => b.scalar_like(sum, inputs.len() as f64)?,
    };
    graph[id].op = if &*op == "Sum" { "Add".into() } else { "Div".into() };
    graph[id].attrs = Attrs::new();
    graph.set_inputs(id, &[Some(sum), Some(other)]);
    graph.sort()?;
    Ok(true)
}

/// One axis at a time.
fn tile(graph: &mut Graph, symbols: &mut Symbols, id: NodeId) -> Result<()> {
    let repeats = graph[id].input(1).and_then(|v| graph.constant(v)).map(Tensor::to_i64_vec).transpose()?;
    let (Some(repeats), Some(x)) = (repeats, graph[id].input(0)) else {
        bail!(unsupported, "a Tile by computed numbers, which needs opset 6");
    };
    let Some(dtype) = graph[x].ty.dtype().filter(|d| d.is_float()) else {
        bail!(unsupported, "a Tile of elements that are no floats, which needs opset 6");
    };
    let many: Vec<usize> = (0..repeats.len()).filter(|&i| repeats[i] != 1).collect();
    let (last, first) = match many.split_last() {
        Some((last, first)) => (*last, first),
        None => (0, &many[..]),
    };
    let (prefix, source) =
        (crate::raise::free_prefix(graph, &format!("{}/Tile", graph[id].name)), graph[id].source.clone());
    let mut b = Builder::new(graph, symbols);
    (b.prefix, b.source) = (prefix, source);
    let mut made = x;
    for &axis in first {
        let mut all = vec![1i64; repeats.len()];
        all[axis] = repeats[axis];
        let all = b.ints(&all);
        made = b.call("Tile", &[made, all])?;
    }
    let (count, axis) =
        (b.scalar(dtype, repeats.get(last).copied().unwrap_or(1) as f64)?, b.scalar(dtype, last as f64)?);
    graph.set_inputs(id, &[Some(made), Some(count), Some(axis)]);
    graph.sort()
}

/// The two axes of a picture.
fn upsample(graph: &mut Graph, id: NodeId) -> Result<()> {
    let Some(Attr::Floats(scales)) = graph[id].attrs.remove("scales") else {
        bail!(unsupported, "an Upsample by computed scales, which needs opset 9");
    };
    match scales[..] {
        [1.0, 1.0, height, width] => {
            graph[id].attrs.set("height_scale", height);
            graph[id].attrs.set("width_scale", width);
        }
        _ => bail!(unsupported, "an Upsample of other than the two axes of a picture, which needs opset 7"),
    }
    if graph[id].attrs.string_or("mode", "nearest")? == "linear" {
        graph[id].attrs.set("mode", "bilinear");
    }
    Ok(())
}
