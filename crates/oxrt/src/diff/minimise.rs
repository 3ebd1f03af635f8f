//! A small model that shows a fault.

use super::walk::{Region, compare, is_within};
use super::{DiffReport, Side};
use crate::engine::{Device, Engine, Seen};
use crate::model::{BuildOptions, Model};
use oxrt_backend::Precision;
use oxrt_ir::{Graph, ValueId};
use oxrt_ops::{Datum, Interpreter};
use oxrt_tensor::{Context, Error, Result, Tensor, npy};
use serde::Serialize;
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// Nodes that a reproducer should not exceed.
const FEW: usize = 10;

/// What was written.
#[derive(Clone, Debug, Serialize)]
pub struct Reproducer {
    pub model: PathBuf,
    /// Inputs, and outputs as the reference has them, under the model's names.
    pub tensors: PathBuf,
    pub nodes: usize,
    /// Whether `oxrt diff TENSORS MODEL` (of a tested model) or `oxrt diff MODEL` (of an engine) finds the difference.
    pub reproduces: bool,
    /// The model's nodes are the tested side's, not the reference's.
    pub from_tested: bool,
    pub notes: Vec<String>,
}

/// Writes the nodes of a fault as `stem.onnx`, with their inputs and the reference's results in `stem.npz`.
///
/// Of a tested model its own (wrong) nodes are written. An engine's cannot be: the reference's nodes are, which an engine built
/// anew gets wrong too unless the fault lies in the engine file itself; where it does get them wrong, they are cut down as far
/// as it still does.
///
/// # Errors
/// Without a fault; without a side that has a graph.
pub fn reproduce(
    reference: &Side,
    tested: &Side,
    inputs: &[(String, Tensor)],
    report: &DiffReport,
    stem: &Path,
) -> Result<Reproducer> {
    let fault = report.fault.as_ref().ok_or_else(|| Error::invalid("there is no fault to reproduce"))?;
    let from_tested = matches!(tested, Side::Engine { is_model: true, .. }) || reference.graph().is_none();
    let side = if from_tested { tested } else { reference };
    let ordered = side.order_inputs(inputs)?;
    let whole = side.concrete(&ordered).ok_or_else(|| Error::invalid("neither side has a graph"))?;
    let matched: std::collections::HashSet<&str> = report.values.iter().map(|v| v.value.as_str()).collect();
    let region = Region::of(&whole, &|n| matched.contains(n), &fault.value).ok_or_else(|| {
        Error::unsupported(format!("`{}` is not the result of a node that can be written", fault.value))
    })?;
    // The reference's values, which the region starts from and should end at.
    let mut values = values_of(reference, inputs, &|n| region.inputs.iter().any(|i| i == n) || n == fault.value)?;
    values.extend(inputs.iter().filter(|(n, _)| region.inputs.contains(n)).cloned());
    let missing = region.inputs.iter().find(|n| !values.contains_key(*n));
    if let Some(n) = missing {
        return Err(Error::unsupported(format!("the reference has no value `{n}`, from which the nodes start")));
    }
    let mut graph = region.graph;
    let mut notes = Vec::new();
    let budget = report.values.iter().find(|v| v.value == fault.value).map_or(0.0, |v| v.budget);
    let wrong = |g: &Graph, values: &HashMap<String, Tensor>| is_wrong(tested, g, values, &fault.value, budget);
    if !from_tested {
        // Results of the nodes inside, exactly, to cut the region at.
        for (name, t) in inner_values(&graph, &values)? {
            values.entry(name).or_insert(t);
        }
        if wrong(&graph, &values)? {
            graph = cut_down(graph, &|g| wrong(g, &values))?;
        }
    }
    let reproduces = wrong(&graph, &values)?;
    if !reproduces {
        notes.push(
            "an engine built anew gets these nodes right: the fault lies in the engine file or the nodes around".into(),
        );
    }
    if graph.num_nodes() > FEW {
        notes.push(format!("{} nodes lie between the values that both sides have", graph.num_nodes()));
    }
    let (model, tensors) = (stem.with_extension("onnx"), stem.with_extension("npz"));
    let nodes = graph.num_nodes();
    let names: Vec<String> = graph.inputs.iter().chain(&graph.outputs).map(|&v| graph[v].name.clone()).collect();
    let mut ir = oxrt_ir::Model { graph, ..oxrt_ir::Model::default() };
    oxrt_ops::infer::infer_model(&mut ir)?;
    Model::from_ir(ir).save_onnx(&model, &oxrt_onnx::WriteOptions::default())?;
    let listed: Vec<(&str, &Tensor)> = names.iter().filter_map(|n| Some((n.as_str(), values.get(n)?))).collect();
    npy::write_npz(&tensors, listed).at(|| tensors.display())?;
    Ok(Reproducer { model, tensors, nodes, reproduces, from_tested, notes })
}

/// Values of a side by name, those that are wanted.
fn values_of(
    side: &Side,
    inputs: &[(String, Tensor)],
    wanted: &dyn Fn(&str) -> bool,
) -> Result<HashMap<String, Tensor>> {
    let mut found = HashMap::new();
    match side {
        Side::Tensors(t) => found.extend(t.iter().filter(|(n, _)| wanted(n)).map(|(n, t)| (n.clone(), t.clone()))),
        Side::Engine { engine, .. } => {
            let g = &engine.plan().graph;
            engine.run_watched(side.order_inputs(inputs)?, &mut |_, v, datum| {
                if let Some(t) = datum.as_tensor().filter(|_| wanted(&g[v].name)) {
                    found.insert(g[v].name.clone(), t.clone());
                }
                Ok(Seen::Keep)
            })?;
        }
    }
    Ok(found)
}

fn inputs_of(g: &Graph, values: &HashMap<String, Tensor>) -> Option<Vec<Datum>> {
    g.inputs.iter().map(|&v| values.get(&g[v].name).map(|t| Datum::Tensor(t.clone()))).collect()
}

fn inner_values(g: &Graph, values: &HashMap<String, Tensor>) -> Result<Vec<(String, Tensor)>> {
    let Some(inputs) = inputs_of(g, values) else { return Ok(Vec::new()) };
    let found = std::cell::RefCell::new(Vec::new());
    Interpreter::new(g).run_observed(inputs, &|inner, id, results| {
        if std::ptr::eq(inner, g) {
            for (v, d) in inner[id].outputs().iter().zip(results) {
                if let (Some(v), Some(t)) = (v, d.as_tensor()) {
                    found.borrow_mut().push((inner[*v].name.clone(), t.clone()));
                }
            }
        }
        Ok(())
    })?;
    Ok(found.into_inner())
}

/// Whether the tested side's way of running gives other values for the graph's output than `values` says.
fn is_wrong(tested: &Side, g: &Graph, values: &HashMap<String, Tensor>, fault: &str, budget: f64) -> Result<bool> {
    let mut ir = oxrt_ir::Model { graph: g.clone(), ..oxrt_ir::Model::default() };
    if oxrt_ops::infer::infer_model(&mut ir).is_err() {
        return Ok(false);
    }
    let (Some(inputs), Some(want)) = (inputs_of(g, values), values.get(&g[g.outputs[0]].name).or(values.get(fault)))
    else {
        return Ok(false);
    };
    let model = Model::from_ir(ir);
    let built = match tested {
        Side::Engine { engine, is_model: false } => rebuilt(engine, &model)?,
        _ => model.build(&BuildOptions { device: Device::Reference, no_fusion: true, ..BuildOptions::default() })?,
    };
    let Some(outputs) = built.run_watched(inputs, &mut |_, _, _| Ok(Seen::Keep))? else { return Ok(false) };
    let Some(got) = outputs.first().and_then(Datum::as_tensor) else { return Ok(false) };
    let c = compare(fault, got, want)?;
    Ok(!is_within(&c, budget))
}

/// The model built as the engine was.
fn rebuilt(engine: &Engine, model: &Model) -> Result<Engine> {
    let options = BuildOptions { precision: engine.precision(), ..BuildOptions::default() };
    match (options.precision, engine.device().parse::<Device>()) {
        // An engine file's backend was made for its kernels alone.
        (p, Ok(device)) if p != Precision::F32 => model.build(&BuildOptions { device, ..options }),
        _ => Ok(model.build_on(engine.backend().clone(), &options, &mut |_, _, _| {})?.0),
    }
}

/// Leaves out nodes at the end, then at the start, as long as the rest is still wrong.
fn cut_down(graph: Graph, wrong: &dyn Fn(&Graph) -> Result<bool>) -> Result<Graph> {
    let mut best = graph;
    // The earliest value that comes out wrong.
    let ends: Vec<ValueId> = best.nodes().filter_map(|(_, n)| n.output(0)).collect();
    for &v in &ends[..ends.len().saturating_sub(1)] {
        if let Ok(part) = best.extracted(&best.inputs.clone(), &[v])
            && wrong(&part)?
        {
            best = part;
            break;
        }
    }
    // Values to start from, the latest first.
    let starts: Vec<String> = best.nodes().filter_map(|(_, n)| n.output(0)).map(|v| best[v].name.clone()).collect();
    for name in starts.iter().rev().skip(1) {
        let Some(v) = best.find_value(name).filter(|&v| best[v].producer().is_some()) else { continue };
        let from: Vec<ValueId> = std::iter::once(v).chain(best.inputs.iter().copied()).collect();
        if let Ok(part) = best.extracted(&from, &best.outputs.clone())
            && part.num_nodes() < best.num_nodes()
            && wrong(&part)?
        {
            best = part;
        }
    }
    Ok(best)
}
