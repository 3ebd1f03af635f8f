//! `Scan` of opset 8: sequences came in batches, with their lengths in input 0.
//!
//! A batch of one loses its axis around the scan. A batch of several is scanned itself, by a body that holds the scan of one
//! sequence; where there are lengths, it cuts its sequences and fills its outputs up with zeros again.

use crate::raise::{before, drop_attrs};
use oxrt_ir::{Attr, Attrs, Graph, NodeId, Symbols, ValueId, ValueType};
use oxrt_tensor::{Result, Tensor, bail};

pub(crate) fn raise(graph: &mut Graph, symbols: &mut Symbols, id: NodeId) -> Result<()> {
    let inputs: Vec<Option<ValueId>> = graph[id].inputs().iter().skip(1).copied().collect();
    let batch_of_one =
        |v: &Option<ValueId>| v.and_then(|v| graph.dims(v)).is_some_and(|d| d.first().is_some_and(|d| d.is(1)));
    let single = graph[id].input(0).is_none() && inputs.iter().all(batch_of_one);
    let scans = graph[id].attrs.int_or("num_scan_inputs", 0)?;
    let directions = graph[id].attrs.ints_or("directions", &vec![0; scans.clamp(0, 1 << 16) as usize])?;
    drop_attrs(graph, id, &["directions"])?;
    graph[id].attrs.set("scan_input_directions", directions);
    if !single {
        return over_batch(graph, id, scans);
    }
    // The batch axis goes before the scan and comes back after it.
    graph.set_inputs(id, &inputs);
    for at in 0..inputs.len() {
        before(graph, symbols, id, at, |b, v| b.squeeze(v, &[0]))?;
    }
    let outputs = graph[id].outputs().to_vec();
    let node = graph[id].clone();
    graph.remove_node(id);
    let attrs = node.attrs.clone();
    let inner: Vec<Option<ValueId>> = (outputs.iter().enumerate())
        .map(|(i, v)| v.map(|_| graph.add_value(&format!("{}/out{i}", node.name), ValueType::Unknown)))
        .collect();
    let scan = graph.add_node_with_outputs("Scan", &node.name, node.inputs(), attrs, &inner);
    graph[scan].source = node.source;
    for (i, (outer, inner)) in outputs.into_iter().zip(inner).enumerate() {
        let name = format!("{}/batch{i}", node.name);
        let axes = graph.add_constant(&format!("{name}/axes"), Tensor::from_slice(&[1], &[0i64]));
        graph.add_node_with_outputs("Unsqueeze", &name, &[inner, Some(axes)], Attrs::new(), &[outer]);
    }
    Ok(())
}

/// Scans the batch.
fn over_batch(graph: &mut Graph, id: NodeId, scans: i64) -> Result<()> {
    let node = graph[id].clone();
    let total = node.inputs().len() - 1;
    let Some(states) = usize::try_from(scans).ok().and_then(|n| total.checked_sub(n)) else {
        bail!(invalid, "{scans} of {total} inputs are scanned");
    };
    let lengths = node.input(0);
    let mut middle = Graph::new("sequence");
    let mut outer_inputs = Vec::new();
    // One of the batch: types lose their first axis.
    let mut element = |middle: &mut Graph, v: Option<ValueId>, name: &str| -> Result<ValueId> {
        let Some(v) = v else { bail!(invalid, "an input of the scan is missing") };
        let ty = match graph[v].ty.clone() {
            ValueType::Tensor(mut t) => {
                t.dims = t.dims.filter(|d| !d.is_empty()).map(|d| d[1..].to_vec());
                ValueType::Tensor(t)
            }
            other => other,
        };
        outer_inputs.push(Some(v));
        Ok(middle.add_input(name, ty))
    };
    let length = lengths.map(|v| element(&mut middle, Some(v), "length")).transpose()?;
    let mut inputs = Vec::new();
    for i in 0..total {
        inputs.push(Some(element(&mut middle, node.input(i + 1), &format!("in{i}"))?));
    }
    let ints = |g: &mut Graph, name: &str, list: &[i64]| {
        let name = g.unused_value_name(name);
        g.add_constant(&name, Tensor::from_slice(&[list.len()], list))
    };
    let one = |g: &mut Graph, op: &str, inputs: &[Option<ValueId>]| -> Result<ValueId> {
        let name = g.unused_value_name(&op.to_lowercase());
        let made = g.add_node(op, &name, inputs, Attrs::new(), 1);
        g[made].output(0).ok_or_else(|| oxrt_tensor::Error::bug("a node without a result"))
    };
    // How much is missing to the longest sequence.
    let mut missing = None;
    if let Some(length) = length {
        let zero = ints(&mut middle, "zero", &[0]);
        let axis = ints(&mut middle, "axis", &[0]);
        let end = one(&mut middle, "Unsqueeze", &[Some(length), Some(axis)])?;
        for input in &mut inputs[states..] {
            if missing.is_none() {
                let shape = one(&mut middle, "Shape", &[*input])?;
                let longest = one(&mut middle, "Gather", &[Some(shape), Some(zero)])?;
                missing = Some(one(&mut middle, "Sub", &[Some(longest), Some(end)])?);
            }
            *input = Some(one(&mut middle, "Slice", &[*input, Some(zero), Some(end), Some(axis)])?);
        }
    }
    let mut attrs = node.attrs.clone();
    if let Some(Attr::Graph(body)) = attrs.remove("body") {
        let mut body = *body;
        // What the body reads from outside passes through.
        for (outer, inner) in &mut body.captures {
            let ty = graph[*outer].ty.clone();
            let through = middle.add_value(&format!("captured{}", inner.0), ty);
            middle.captures.push((*outer, through));
            *outer = through;
        }
        attrs.set("body", Attr::Graph(Box::new(body)));
    }
    let count = node.outputs().len();
    let scan = middle.add_node("Scan", &node.name, &inputs, attrs, count);
    let results = middle[scan].outputs().to_vec();
    for (i, result) in results.into_iter().enumerate() {
        let Some(mut v) = result else { bail!(invalid, "the scan has no result {i}") };
        if let (Some(missing), true) = (missing, i >= states) {
            let (zero, axis) = (ints(&mut middle, "none", &[0]), ints(&mut middle, "first", &[0]));
            let name = middle.unused_value_name("pads");
            let made = middle.add_node("Concat", &name, &[Some(zero), Some(missing)], Attrs::new().with("axis", 0), 1);
            let pads = middle[made].output(0);
            v = one(&mut middle, "Pad", &[Some(v), pads, None, Some(axis)])?;
        }
        middle.outputs.push(v);
    }
    let outputs = node.outputs().to_vec();
    graph.remove_node(id);
    let attrs =
        Attrs::new().with("num_scan_inputs", outer_inputs.len() as i64).with("body", Attr::Graph(Box::new(middle)));
    let made = graph.add_node_with_outputs("Scan", &node.name, &outer_inputs, attrs, &outputs);
    graph[made].source = node.source;
    Ok(())
}
