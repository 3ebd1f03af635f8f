//! From a graph to a plan: profiles, engine passes, the choice of kernels, packing of weights.

mod narrow;
mod plan_graph;
mod profiles;
mod tune;

pub use profiles::{DimSpec, profiles_for};
pub use tune::TuningRecord;

use oxrt_backend::{Backend, NodeView, Precision};
use oxrt_ir::{Model, NodeId, Symbol, ValueType};
use oxrt_plan::{Plan, Step, StepKind};
use oxrt_tensor::{Context, Error, Result};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// How an engine is built.
#[derive(Clone, Debug, Default)]
pub struct BuildOptions {
    /// One list of ranges per profile; none takes the ranges of the model.
    pub profiles: Vec<Vec<DimSpec>>,
    /// Sizes to tune for where no range says (those of sample inputs).
    pub usual_sizes: BTreeMap<Symbol, i64>,
    /// Leaves out the engine's fusions (for finding faults).
    pub no_fusion: bool,
    /// The least exact arithmetic allowed.
    pub precision: Precision,
}

/// Counts of what a build made, for the closing table.
#[derive(Clone, Debug, Default)]
pub struct BuildReport {
    pub nodes_before: usize,
    pub nodes_after: usize,
    /// (rule, times it fired), of the engine passes.
    pub rules: Vec<(String, usize)>,
    /// Nodes that run by the reference evaluator: (operator, name).
    pub host_nodes: Vec<(String, String)>,
    /// Remarks, such as ranges that were taken by default.
    pub notes: Vec<String>,
}

/// Builds a plan for `backend`. With a `record`, kernels that only a measurement tells apart are chosen by it, and measured
/// where it has no time yet; without, by estimate.
///
/// # Errors
/// Bad ranges, operators without meaning; the node is named.
pub fn build(
    model: &Model,
    backend: &dyn Backend,
    options: &BuildOptions,
    record: Option<&mut TuningRecord>,
    progress: &mut dyn FnMut(&str, usize, usize),
) -> Result<(Plan, BuildReport)> {
    let mut report = BuildReport { nodes_before: model.graph.num_nodes(), ..BuildReport::default() };
    let mut model = model.clone();
    model.graph = model.graph.compacted();
    let profiles = profiles_for(&mut model, &options.profiles, &options.usual_sizes, &mut report.notes)?;
    if !options.no_fusion {
        progress("fusing", 0, 1);
        let log = oxrt_passes::prepare_engine(&mut model)?;
        report.rules = log.counts();
    }
    plan_graph::detach_sizes(&mut model);
    model.graph.remove_dead_nodes();
    model.graph.sort()?;
    model.graph.verify()?;
    let chosen = match record {
        Some(record) => {
            let sizes = profiles.first().map(|p| p.ranges.iter().map(|(s, r)| (s.clone(), r.opt)).collect());
            tune::tune(&model.graph, backend, &sizes.unwrap_or_default(), record, progress)?
        }
        None => HashMap::new(),
    };
    if options.precision == Precision::Bf16 {
        narrow::narrow(&mut model.graph, backend, &chosen);
    }
    report.nodes_after = model.graph.num_nodes();
    let steps = choose(&mut model, backend, &chosen, &mut report, progress)?;
    let plan = Plan {
        producer: format!("oxrt {}", env!("CARGO_PKG_VERSION")),
        backend: backend.name().to_string(),
        target: backend.target(),
        graph: model.graph,
        symbols: model.symbols,
        profiles,
        steps,
        metadata: model.metadata,
    };
    Ok((plan, report))
}

/// Chooses a kernel for each node and packs its weights.
fn choose(
    model: &mut Model,
    backend: &dyn Backend,
    chosen: &HashMap<NodeId, &'static str>,
    report: &mut BuildReport,
    progress: &mut dyn FnMut(&str, usize, usize),
) -> Result<Vec<Step>> {
    // Symbols whose sizes are known when a step is reached; a node that makes others runs on the host,
    // which finds out their sizes.
    let mut known = plan_graph::symbols_of(&model.graph, &model.graph.inputs);
    let nodes = model.graph.node_ids();
    let total = nodes.len();
    let mut steps = Vec::with_capacity(total);
    for (i, id) in nodes.into_iter().enumerate() {
        progress("packing weights", i, total);
        let g = &model.graph;
        let node = &g[id];
        let mut new = BTreeSet::new();
        for &v in node.outputs().iter().flatten() {
            g[v].ty.for_each_symbol(&mut |s| {
                new.insert(s.clone());
            });
        }
        let sizes_known = new.is_subset(&known) && node.outputs().iter().flatten().all(|&v| g[v].ty.dims().is_some());
        // The run learns a symbol from a result that it sizes, when the size can be solved for it, and from a result
        // that holds it.
        for &v in node.outputs().iter().flatten() {
            for d in g[v].ty.dims().unwrap_or_default() {
                if let Some((symbol, _)) = d.solve(None, &|s| known.contains(s).then_some(1)) {
                    known.insert(symbol);
                }
            }
            known.extend(g[v].contents.iter().flat_map(|c| &c.elements).filter_map(|d| d.as_symbol().cloned()));
        }
        let kind = match sizes_known {
            true if plan_graph::is_alias(g, id) => StepKind::Alias,
            true => kernel(NodeView::new(g, id), backend, chosen.get(&id).copied()).at(|| node.describe())?,
            false => StepKind::Host,
        };
        if matches!(kind, StepKind::Host) {
            report.host_nodes.push((node.op.to_string(), node.name.clone()));
        }
        steps.push(Step { node: id, kind });
    }
    drop_packed_constants(model, &steps);
    Ok(steps)
}

fn kernel(view: NodeView, backend: &dyn Backend, chosen: Option<&'static str>) -> Result<StepKind> {
    if oxrt_ops::registry::find(view.op()).is_none() {
        return Err(Error::unsupported(format!("the operator {} is unknown here", view.op())).help(
            "give its meaning by an ONNX function (`oxrt export --functions FILE`), or register it: `oxrt::ops::registry::register`",
        ));
    }
    let plain = |v: &Option<oxrt_ir::ValueId>| v.is_none_or(|v| matches!(view.graph[v].ty, ValueType::Tensor(_)));
    let all_tensors = view.node().inputs().iter().chain(view.node().outputs()).all(plain);
    let Some(candidate) = chosen.or_else(|| backend.candidates(view).first().copied()).filter(|_| all_tensors) else {
        return Ok(StepKind::Host);
    };
    let packing = backend.pack(view, candidate)?;
    Ok(StepKind::Kernel { candidate: candidate.to_string(), packed: packing.tensors, consumed: packing.consumed })
}

/// Constants that every reader has packed are not stored again.
fn drop_packed_constants(model: &mut Model, steps: &[Step]) {
    let g = &mut model.graph;
    let mut needed: BTreeSet<_> = g.outputs.iter().copied().collect();
    let mut packed: BTreeSet<(NodeId, usize)> = BTreeSet::new();
    for step in steps {
        if let StepKind::Kernel { consumed, .. } = &step.kind {
            packed.extend(consumed.iter().map(|&i| (step.node, i)));
        }
        for (i, v) in g[step.node].inputs().iter().enumerate() {
            if let (Some(v), false) = (v, packed.contains(&(step.node, i))) {
                needed.insert(*v);
            }
        }
        needed.extend(g[step.node].subgraphs().flat_map(|(_, s)| s.captures.iter().map(|c| c.0)));
    }
    for v in g.value_ids() {
        if g[v].is_constant() && !needed.contains(&v) {
            g[v].constant = None;
            g[v].packed = true;
        }
    }
}
