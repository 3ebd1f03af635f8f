//! `oxrt inspect`

use crate::build::describe_profile;
use crate::ui;
use oxrt::ir::Graph;
use oxrt::plan::StepKind;
use oxrt::{Engine, FileKind, Model, Result};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;

/// Shows a model or engine: inputs, outputs, dimensions, operators, steps
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  oxrt inspect model.pt2\n  oxrt inspect model.engine --nodes\n  oxrt inspect model.onnx --text"
)]
pub struct Args {
    /// .pt2, .onnx or .engine file
    model: PathBuf,
    /// Lists every node (of an engine: every step with its kernel)
    #[arg(long)]
    nodes: bool,
    /// Prints the graph in text form
    #[arg(long)]
    text: bool,
    /// Machine-readable report
    #[arg(long)]
    json: bool,
}

pub fn run(a: Args) -> Result<ExitCode> {
    match oxrt::file_kind(&a.model)? {
        FileKind::Engine => {
            let plan = oxrt::plan::read_plan(&a.model)?;
            let kernel = |k: &StepKind| match k {
                StepKind::Kernel { candidate, .. } => candidate.clone(),
                StepKind::Alias => "no work".to_string(),
                StepKind::Host => "reference evaluator".to_string(),
            };
            let kernels: BTreeMap<_, String> = plan.steps.iter().map(|s| (s.node, kernel(&s.kind))).collect();
            let profiles: Vec<String> = plan.profiles.iter().map(describe_profile).collect();
            let extra = vec![
                ("built by", plan.producer.clone()),
                ("device", format!("{} ({})", plan.backend, plan.target)),
                ("profiles", profiles.join(" | ")),
            ];
            // Checks too that this machine can run it.
            let loads = Engine::open(&a.model).err().map(|e| e.message().to_string());
            show(&a, &plan.graph, extra, Some(&kernels), loads)
        }
        kind => {
            let model = Model::open(&a.model)?;
            let ir = model.ir();
            let dims: Vec<String> = ir.symbols.iter().map(|(s, r)| format!("{s} {r}")).collect();
            let mut extra = vec![("made by", ir.producer.clone()), ("dimensions", dims.join(", "))];
            if kind == FileKind::Onnx {
                extra.push(("opset", ir.opset.to_string()));
            }
            show(&a, &ir.graph, extra, None, None)
        }
    }
}

fn show(
    a: &Args,
    g: &Graph,
    extra: Vec<(&str, String)>,
    kernels: Option<&BTreeMap<oxrt::ir::NodeId, String>>,
    problem: Option<String>,
) -> Result<ExitCode> {
    let port = |v: &oxrt::ir::ValueId| format!("{} {}", g[*v].name, g[*v].ty);
    let inputs: Vec<String> = g.inputs.iter().map(port).collect();
    let outputs: Vec<String> = g.outputs.iter().map(port).collect();
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    g.nodes().for_each(|(_, n)| *counts.entry(&n.op).or_default() += 1);
    let weights: usize = g.value_ids().filter_map(|v| g.constant(v)).map(|t| t.bytes().len()).sum();
    let row = |id: oxrt::ir::NodeId| {
        let n = &g[id];
        let ty = n.output(0).map_or(String::new(), |v| g[v].ty.to_string());
        let source = n.source.as_deref().map_or(String::new(), |s| s.location.clone());
        let mut row = vec![n.op.to_string(), ty, n.name.clone(), source];
        if let Some(k) = kernels {
            row.insert(1, k.get(&id).cloned().unwrap_or_default());
        }
        row
    };
    if a.json {
        let nodes: Vec<_> = g.node_ids().into_iter().map(row).collect();
        ui::print_json(&serde_json::json!({
            "file": a.model, "inputs": inputs, "outputs": outputs, "operators": counts, "weight_bytes": weights, "nodes": nodes,
            "about": extra.into_iter().collect::<BTreeMap<_, _>>(), "cannot_run_here": problem,
        }))?;
        return Ok(ExitCode::SUCCESS);
    }
    if a.text {
        println!("{g}");
        return Ok(ExitCode::SUCCESS);
    }
    println!("{}", a.model.display());
    for (k, v) in extra.iter().filter(|(_, v)| !v.is_empty()) {
        println!("  {k:<11} {v}");
    }
    println!("  inputs      {}", inputs.join(", "));
    println!("  outputs     {}", outputs.join(", "));
    println!("  weights     {}", ui::bytes(weights));
    let mut ops: Vec<_> = counts.into_iter().collect();
    ops.sort_by_key(|(op, n)| (std::cmp::Reverse(*n), *op));
    println!(
        "  nodes       {}: {}",
        g.num_nodes(),
        ops.iter().map(|(op, n)| format!("{n} {op}")).collect::<Vec<_>>().join(", ")
    );
    if let Some(p) = problem {
        ui::warn(&format!("this machine cannot run it: {p}"));
    }
    if a.nodes {
        let mut head: Vec<String> = ["operator", "type", "name", "source"].map(String::from).to_vec();
        if kernels.is_some() {
            head.insert(1, "kernel".into());
        }
        let rows: Vec<Vec<String>> = std::iter::once(head).chain(g.node_ids().into_iter().map(row)).collect();
        print!("\n{}", ui::table(&rows));
    }
    Ok(ExitCode::SUCCESS)
}
