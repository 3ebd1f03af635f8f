//! What runs where: before anything is built, and why an engine's steps are what they are.

use crate::{Device, Model, Precision, SimplifyOptions};
use oxrt_backend::{Backend, NodeView};
use oxrt_build::TuningRecord;
use oxrt_cpu::CpuBackend;
use oxrt_cuda::CudaBackend;
use oxrt_ir::Symbol;
use oxrt_plan::{Plan, choose};
use oxrt_tensor::Result;
use serde::Serialize;
use std::collections::{BTreeMap, HashMap};

/// How a node of a model would run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Runs {
    /// By a kernel, alone or as a part of it; with the precision of its arithmetic.
    Kernel { kernel: String, precision: &'static str },
    /// Not at all: it is a view, follows from sizes, or was folded into constants.
    NoWork,
    /// By the reference evaluator on the host.
    Reference,
}

/// A node of the model, with how it runs on each target.
#[derive(Clone, Debug, Serialize)]
pub struct NodeCapability {
    pub op: String,
    pub name: String,
    /// In order of [`Capability::targets`].
    pub runs: Vec<Runs>,
}

/// Which nodes have a kernel, by device and precision.
#[derive(Clone, Debug, Serialize)]
pub struct Capability {
    /// `cpu fp32`, `cpu bf16`, `cuda fp16` …
    pub targets: Vec<String>,
    pub nodes: Vec<NodeCapability>,
}

/// Asks the backends about every node, after the simplification and the passes that a build would run. Nothing is packed, timed or compiled, and
/// no GPU is needed: the answer for CUDA is that of its newest kernels.
///
/// # Errors
/// A graph that the engine's passes refuse.
pub fn capability(model: &Model) -> Result<Capability> {
    let mut source = Model::from_ir(model.ir().clone());
    source.track_origins();
    let quick = SimplifyOptions { no_check: true, ..SimplifyOptions::default() };
    let simple = source.simplify(&quick)?.0.ir().clone();
    // As a build for the host lowers it, and as one for a device does.
    let lower = |extra: &[oxrt_passes::Rule]| -> Result<oxrt_ir::Graph> {
        let mut lowered = simple.clone();
        lowered.graph = lowered.graph.compacted();
        lowered.graph.seed_origins();
        let options = oxrt_passes::Options { extra: extra.to_vec(), ..oxrt_passes::Options::default() };
        oxrt_passes::prepare_engine(&mut lowered, &options)?;
        choose::detach_sizes(&mut lowered.graph);
        lowered.graph.remove_dead_nodes();
        lowered.graph.sort()?;
        Ok(lowered.graph)
    };
    let graphs = [lower(&[])?, lower(oxrt_passes::HALVES)?];
    let lowered = |backend: &dyn Backend| &graphs[usize::from(backend.device().is_some())];
    let cpu = |p| -> Box<dyn Backend> { Box::new(CpuBackend::new(0).with_precision(p)) };
    let cuda = |p| -> Box<dyn Backend> { Box::new(CudaBackend::emulated(std::env::temp_dir()).with_precision(p)) };
    let backends = [
        ("cpu", Precision::F32, cpu(Precision::F32)),
        ("cpu", Precision::Bf16, cpu(Precision::Bf16)),
        ("cuda", Precision::F32, cuda(Precision::F32)),
        ("cuda", Precision::F16, cuda(Precision::F16)),
    ];
    let source = &model.ir().graph;
    let heirs_of = |g: &oxrt_ir::Graph| {
        let mut heirs: HashMap<String, Vec<oxrt_ir::NodeId>> = HashMap::new();
        for (id, node) in g.nodes() {
            node.origins.iter().for_each(|o| heirs.entry(o.to_string()).or_default().push(id));
        }
        heirs
    };
    let heirs: Vec<_> = backends.iter().map(|(_, _, backend)| heirs_of(lowered(&**backend))).collect();
    let columns: Vec<_> =
        backends.iter().map(|(_, _, backend)| choose::preview(lowered(&**backend), &**backend)).collect();
    let runs = |name: &str, column: usize| {
        let all = heirs[column].get(name).into_iter().flatten().map(|id| columns[column].get(id).map(String::as_str));
        // Whatever needs the evaluator says so, however many kernels help.
        let mut answer = Runs::NoWork;
        for one in all {
            match one {
                Some("") => return Runs::Reference,
                Some(kernel) => {
                    let precision = backends[column].2.precision_of(kernel).name();
                    answer = Runs::Kernel { kernel: kernel.to_string(), precision };
                }
                None => {}
            }
        }
        answer
    };
    let nodes = source.nodes().map(|(_, n)| NodeCapability {
        op: n.op.to_string(),
        name: n.name.clone(),
        runs: (0..backends.len()).map(|c| runs(&n.name, c)).collect(),
    });
    Ok(Capability {
        nodes: nodes.collect(),
        targets: backends.iter().map(|(device, p, _)| format!("{device} {}", p.name())).collect(),
    })
}

/// Why a step has its kernel.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Why {
    /// Other kernels that could run it, best guess first. Empty too where the engine's weights, packed for one kernel, do
    /// not let the others be asked.
    pub others: Vec<String>,
    /// Measured times in microseconds, by kernel, when a record has them.
    pub times_us: BTreeMap<String, f64>,
}

/// For each step of an engine, what else could have run it, and what was measured.
pub fn choices(plan: &Plan, record: Option<&TuningRecord>) -> Vec<Why> {
    let sizes: BTreeMap<Symbol, i64> =
        plan.profiles.first().map(|p| p.ranges.iter().map(|(s, r)| (s.clone(), r.opt)).collect()).unwrap_or_default();
    // Engines of another device are read, not asked about.
    let backend = match plan.backend.as_str() {
        "cpu" => Device::Cpu.backend(Some(&plan.target), 0, Precision::F32, false).ok(),
        _ => None,
    };
    let why = |step: &oxrt_plan::Step| {
        let Some(candidate) = step.kind.candidate() else { return Why::default() };
        let others = backend.as_ref().map(|b| b.candidates(NodeView::new(&plan.graph, step.node))).unwrap_or_default();
        Why {
            others: others.into_iter().filter(|o| *o != candidate).map(String::from).collect(),
            times_us: record.and_then(|r| r.times(&plan.graph, step.node, &sizes)).unwrap_or_default(),
        }
    };
    plan.steps.iter().map(why).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use oxrt_ir::parse_graph;

    #[test]
    fn kernels_views_and_the_evaluator_are_told_apart() {
        let graph =
            parse_graph("(f32[2, 2, 4] x) { a = Relu(x); r = Reshape(a, i64[2]{4, 4}); d = Det(r) } => d").unwrap();
        let mut ir = oxrt_ir::Model { graph, ..Default::default() };
        oxrt_ops::infer::infer_model(&mut ir).unwrap();
        for (i, id) in ir.graph.node_ids().into_iter().enumerate() {
            ir.graph[id].name = format!("n{i}");
        }
        let c = capability(&Model::from_ir(ir)).unwrap();
        assert_eq!(c.targets[0], "cpu fp32");
        assert!(matches!(c.nodes[0].runs[0], Runs::Kernel { .. }), "{:?}", c.nodes);
        assert_eq!(c.nodes[1].runs[0], Runs::NoWork);
        assert_eq!(c.nodes[2].runs[0], Runs::Reference);
    }
}
