//! `oxrt build`

use crate::args::{BuildArgs, output_path};
use crate::ui;
use oxrt::{Error, ExportOptions, Model, Result};
use std::path::PathBuf;
use std::process::ExitCode;

/// Builds an engine file from a model
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  oxrt build model.onnx -o model.engine --dim batch=1:8:64\n  oxrt build model.onnx --dim batch=1 --profile batch=2:16:64    two profiles\n  oxrt build model.onnx --minShapes=x:1x3x32x32 --optShapes=x:1x3x224x224 --maxShapes=x:8x3x512x512 --saveEngine=m.engine"
)]
pub struct Args {
    /// .onnx or .pt2 file
    model: PathBuf,
    /// File to write; by default the model's name with .engine
    #[arg(short, long, visible_alias = "saveEngine")]
    output: Option<PathBuf>,
    #[command(flatten)]
    build: BuildArgs,
    /// Machine-readable report
    #[arg(long)]
    json: bool,
}

pub fn run(a: Args) -> Result<ExitCode> {
    if oxrt::file_kind(&a.model)? == oxrt::FileKind::Engine {
        return Err(Error::invalid(format!("{} is an engine already", a.model.display()))
            .help("`oxrt run` and `oxrt bench` take it as it is"));
    }
    let progress = ui::Progress::new();
    progress.stage(format!("reading {}", a.model.display()));
    let mut model =
        Model::open_with(&a.model, &ExportOptions { no_checks: a.build.no_checks, ..ExportOptions::default() })?;
    model.warnings.iter().for_each(|w| ui::warn(w));
    model.track_origins();
    if !a.build.no_simplify {
        progress.stage("simplifying");
    }
    let model = a.build.simplified(model)?;
    let options = a.build.tuned().options(&model)?;
    let (engine, report) = model.build_with(&options, &mut progress.callback())?;
    let output = output_path(&a.output, &a.model, "engine");
    let bytes = engine.save(&output)?;
    let memory = peak_memory(&engine);
    let took = progress.finish();
    let profiles: Vec<String> = engine.plan().profiles.iter().map(describe_profile).collect();
    if a.json {
        ui::print_json(&serde_json::json!({
            "output": output, "bytes": bytes, "device": engine.device(), "target": engine.plan().target,
            "steps": engine.plan().steps.len(), "profiles": profiles, "rules": report.rules, "host_nodes": report.host_nodes,
            "arena_bytes_at_opt": memory, "notes": report.notes, "seconds": took.as_secs_f64(),
        }))?;
        return Ok(ExitCode::SUCCESS);
    }
    report.notes.iter().for_each(|n| eprintln!("note: {n}"));
    println!(
        "{}: {} steps for {} ({}), {} in {}",
        output.display(),
        engine.plan().steps.len(),
        engine.device(),
        engine.plan().target,
        ui::bytes(bytes as usize),
        ui::time(took)
    );
    profiles.iter().filter(|p| !p.is_empty()).for_each(|p| println!("  profile  {p}"));
    if let Some(m) = memory {
        println!("  memory   {} of activations at the tuned sizes", ui::bytes(m));
    }
    if !report.host_nodes.is_empty() {
        println!(
            "  {} node(s) run by the reference evaluator: {}",
            report.host_nodes.len(),
            summary(&report.host_nodes)
        );
    }
    Ok(ExitCode::SUCCESS)
}

pub fn describe_profile(p: &oxrt::plan::Profile) -> String {
    p.ranges.iter().map(|(s, r)| format!("{s}={r}")).collect::<Vec<_>>().join(" ")
}

/// `3 × NonZero, 1 × TopK`
pub fn summary(nodes: &[(String, String)]) -> String {
    let mut counts = std::collections::BTreeMap::new();
    nodes.iter().for_each(|(op, _)| *counts.entry(op).or_insert(0) += 1);
    counts.into_iter().map(|(op, n)| format!("{n} × {op}")).collect::<Vec<_>>().join(", ")
}

/// Bytes of activations at the first profile's tuned sizes.
pub fn peak_memory(engine: &oxrt::Engine) -> Option<usize> {
    let profile = engine.plan().profiles.first()?;
    let lookup = |s: &oxrt::ir::Symbol| profile.ranges.get(s).map(|r| r.opt);
    let shapes: Option<Vec<Vec<usize>>> = engine
        .inputs()
        .iter()
        .map(|p| p.ty.dims()?.iter().map(|d| usize::try_from(d.eval(&lookup)?).ok()).collect())
        .collect();
    let shapes = shapes?;
    let pairs: Option<Vec<_>> =
        engine.inputs().iter().zip(&shapes).map(|(p, s)| Some((p.ty.dtype()?, s.as_slice()))).collect();
    engine.is_static().then(|| engine.session().memory_for(&pairs?).ok().map(|m| m.0))?
}
