//! `oxrt check`

use crate::ui;
use oxrt::{Engine, FileKind, Model, Result};
use std::path::PathBuf;
use std::process::ExitCode;

/// Checks a model or engine file: structure, operators, types, shapes
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  oxrt check model.onnx\n  oxrt check model.onnx --for onnxruntime=1.17 --for tensorrt=10 --for openvino\n\nExit status 1 when a runtime would refuse the file."
)]
pub struct Args {
    /// .pt2, .onnx or .engine file
    model: PathBuf,
    /// Predicts whether a runtime takes the file: onnxruntime=1.17, tensorrt=10, openvino
    #[arg(long = "for", value_name = "RUNTIME")]
    targets: Vec<String>,
    /// Machine-readable report
    #[arg(long)]
    json: bool,
}

/// What each runtime would say.
fn predict(a: &Args) -> Result<ExitCode> {
    let found = a.targets.iter().map(|t| oxrt::acceptance(&a.model, &t.parse()?)).collect::<Result<Vec<_>>>()?;
    if a.json {
        ui::print_json(&serde_json::json!({ "file": a.model, "targets": found }))?;
    } else {
        for t in &found {
            println!("{} {}: {}", t.target, t.version, if t.accepted { "takes it" } else { "REFUSES it" });
            for p in &t.problems {
                let nodes: Vec<&str> = p.nodes.iter().map(String::as_str).filter(|n| !n.is_empty()).collect();
                let nodes = if nodes.is_empty() {
                    String::new()
                } else {
                    format!(" ({} nodes: {})", p.count, nodes.join(", "))
                };
                let op = if p.op.is_empty() { String::new() } else { format!("{}: ", p.op) };
                println!("  {op}{}{nodes}", p.what);
            }
            t.notes.iter().for_each(|n| println!("  note: {n}"));
            println!("  by {}", t.source);
        }
        let newer = found.iter().flat_map(|t| &t.problems).any(|p| p.what.contains("newer"));
        if newer {
            println!("`oxrt convert-opset` writes the file at an older opset");
        }
    }
    Ok(if found.iter().all(|t| t.accepted) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

pub fn run(a: Args) -> Result<ExitCode> {
    if !a.targets.is_empty() {
        return predict(&a);
    }
    let (mut baked, mut traced) = (Vec::new(), false);
    let (kind, nodes, unknown, host) = match oxrt::file_kind(&a.model)? {
        FileKind::Engine => {
            let engine = Engine::open(&a.model)?;
            let g = &engine.plan().graph;
            ("engine", g.num_nodes(), unknown_types(g), Vec::new())
        }
        kind => {
            let model = Model::open(&a.model)?;
            model.warnings.iter().for_each(|w| ui::warn(w));
            let g = &model.ir().graph;
            // An exporter's mistakes; a file that oxrt reads from PyTorch has its sizes.
            if kind == FileKind::Onnx {
                baked = model.baked_sizes(&oxrt::RepairOptions::default()).unwrap_or_default();
                traced = model.was_traced();
            }
            (
                match kind {
                    FileKind::Pt2 => "pt2",
                    FileKind::Darknet => "darknet",
                    _ => "onnx",
                },
                g.num_nodes(),
                unknown_types(g),
                model.warnings.clone(),
            )
        }
    };
    if a.json {
        ui::print_json(
            &serde_json::json!({ "file": a.model, "kind": kind, "nodes": nodes, "valid": true, "unknown_types": unknown, "warnings": host,
                "baked_sizes": baked.iter().map(|f| serde_json::json!({ "node": f.node, "location": f.location, "what": f.what, "repairable": f.repaired })).collect::<Vec<_>>(),
                "caution": traced.then_some(oxrt::TRACED) }),
        )?;
    } else {
        println!("{}: valid {kind}, {nodes} nodes", a.model.display());
        for u in unknown.iter().take(10) {
            println!("  type not known before the run: {u}");
        }
        for f in &baked {
            let place = if f.location.is_empty() { String::new() } else { format!(" ({})", f.location) };
            println!("  a size of the example is baked in: {}{place}: {}", f.node, f.what);
        }
        if !baked.is_empty() {
            println!("  `oxrt repair` puts sizes back and proves it");
        }
        if traced {
            println!("  {}", oxrt::TRACED);
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Values whose type or rank inference could not tell.
fn unknown_types(g: &oxrt::ir::Graph) -> Vec<String> {
    let outputs = g.nodes().flat_map(|(_, n)| n.outputs().iter().flatten().map(move |v| (*v, n)));
    outputs
        .filter(|(v, _)| {
            g[*v].ty.as_tensor().is_some_and(|t| t.dims.is_none()) || g[*v].ty == oxrt::ir::ValueType::Unknown
        })
        .map(|(v, n)| format!("`{}` of {}", g[v].name, n.describe()))
        .collect()
}
