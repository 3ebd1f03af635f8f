//! From a graph to a plan: profiles, engine passes, the choice of kernels, packing of weights.

mod narrow;
mod norms;
mod profiles;
mod tune;
mod unify;

pub use narrow::LARGEST_F16;
pub use profiles::{DimSpec, profiles_for};
pub use tune::TuningRecord;

use oxrt_backend::{Backend, Precision};
use oxrt_ir::{DType, Model, NodeId, Symbol};
use oxrt_plan::choose::Chosen;
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
    /// Rules that stay off, and further ones.
    pub passes: oxrt_passes::Options,
    /// Values of the prepared graph, by name, that half precision does not hold: they stay in single precision, and so do
    /// products of them.
    pub wide: BTreeSet<String>,
}

/// A model after the engine's passes, before kernels are chosen.
pub struct Prepared {
    /// In single precision.
    pub model: Model,
    profiles: Vec<oxrt_plan::Profile>,
    report: BuildReport,
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
    finish(prepare(model, backend, options, progress)?, backend, options, record, progress)
}

/// Does what comes before the choice of kernels: ranges, passes.
///
/// # Errors
/// As [`build`].
pub fn prepare(
    model: &Model,
    backend: &dyn Backend,
    options: &BuildOptions,
    progress: &mut dyn FnMut(&str, usize, usize),
) -> Result<Prepared> {
    let mut report = BuildReport { nodes_before: model.graph.num_nodes(), ..BuildReport::default() };
    let mut model = model.clone();
    model.graph = model.graph.compacted();
    model.graph.seed_origins();
    let profiles = profiles_for(&mut model, &options.profiles, &options.usual_sizes, &mut report.notes)?;
    let on_device = backend.device().is_some();
    if !options.no_fusion {
        progress("fusing", 0, 1);
        let mut passes = options.passes.clone();
        if on_device {
            passes.extra.extend(oxrt_passes::HALVES.iter().copied());
            if backend.multiplies_small_floats() {
                passes.extra.extend(oxrt_passes::SMALL_FLOATS.iter().copied());
            }
            // No device has a kernel for weights of few bits.
            passes.disabled.extend([oxrt_passes::BLOCK_WEIGHTS, oxrt_passes::BLOCK_TABLE].map(String::from));
        }
        let log = oxrt_passes::prepare_engine(&mut model, &passes)?;
        report.rules = log.counts();
    }
    unify::unify(&mut model)?;
    oxrt_plan::choose::detach_sizes(&mut model.graph);
    model.graph.remove_dead_nodes();
    model.graph.sort()?;
    model.graph.verify()?;
    Ok(Prepared { model, profiles, report })
}

/// Chooses kernels and packs weights: the rest of [`build`].
///
/// # Errors
/// As [`build`].
pub fn finish(
    prepared: Prepared,
    backend: &dyn Backend,
    options: &BuildOptions,
    record: Option<&mut TuningRecord>,
    progress: &mut dyn FnMut(&str, usize, usize),
) -> Result<(Plan, BuildReport)> {
    let Prepared { mut model, profiles, mut report } = prepared;
    let on_device = backend.device().is_some();
    let storage = options.precision.storage();
    let wide = match storage {
        DType::F16 => narrow::widen(&mut model.graph, &options.wide),
        _ => BTreeSet::new(),
    };
    // Kernels of a device take narrow tensors whichever of them is chosen: they are timed on what they will get.
    if storage != DType::F32 && on_device {
        narrow::narrow(&mut model.graph, storage, backend, &HashMap::new(), &wide)?;
        if !options.no_fusion && !options.passes.disabled.iter().any(|d| d == oxrt_passes::FOLD_NORMS) {
            let ranges = profiles.first().map(|p| &p.ranges);
            let usual = |s: &Symbol| ranges?.get(s).map(|r| r.opt);
            let folded = norms::fold_norms(&mut model.graph, backend, &usual)?;
            if folded > 0 {
                report.rules.push((oxrt_passes::FOLD_NORMS.to_string(), folded));
            }
        }
    }
    let chosen = match record {
        Some(record) => {
            let mut sizes = tune::sizes_to_time(&profiles);
            if !on_device {
                // A second packing of all weights would cost more memory than it is worth.
                sizes.truncate(1);
            }
            // Kernels that take tensors of either width are timed on what they will get where their neighbours do so too.
            let narrowed = (storage != DType::F32 && !on_device).then(|| {
                let mut g = model.graph.clone();
                narrow::narrow(&mut g, storage, backend, &HashMap::new(), &wide).map(|()| g)
            });
            let narrowed = narrowed.transpose()?;
            tune::tune(&model.graph, narrowed.as_ref(), backend, &sizes, record, progress)?
        }
        None => HashMap::new(),
    };
    if storage != DType::F32 && !on_device {
        narrow::narrow(&mut model.graph, storage, backend, &chosen, &wide)?;
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
    chosen: &HashMap<NodeId, Chosen>,
    report: &mut BuildReport,
    progress: &mut dyn FnMut(&str, usize, usize),
) -> Result<Vec<Step>> {
    let g = &model.graph;
    for (_, node) in g.nodes() {
        if oxrt_ops::registry::find(&node.op).is_none() {
            return Err(Error::unsupported(format!("the operator {} is unknown here", node.op)).help(
                "give its meaning by an ONNX function (`oxrt export --functions FILE`), or register it: `oxrt::ops::registry::register`",
            ))
            .at(|| node.describe());
        }
    }
    let steps = oxrt_plan::choose::steps(g, backend, chosen, &mut |i, total| progress("packing weights", i, total))?;
    let host = steps.iter().filter(|s| s.is_on_host(g)).map(|s| &g[s.node]);
    report.host_nodes.extend(host.map(|node| (node.op.to_string(), node.name.clone())));
    drop_packed_constants(model, &steps);
    Ok(steps)
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
