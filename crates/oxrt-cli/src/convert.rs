//! `oxrt convert`

use crate::args::{BuildArgs, ImportArgs, output_path};
use crate::build::{describe_profile, peak_memory, summary};
use crate::{ui, verify};
use oxrt::onnx::WriteOptions;
use oxrt::{BenchOptions, Error, Model, Result, SimplifyOptions, VerifyOptions};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// The whole road: import, simplify, build, compare with the source at several sizes, measure
#[derive(clap::Args)]
#[command(after_help = "Example:\n  oxrt convert model.pt2 -o model.engine --dim batch=1:8:64 --onnx model.onnx")]
pub struct Args {
    /// .pt2 or .onnx file
    model: PathBuf,
    /// Engine file to write; by default the model's name with .engine
    #[arg(short, long)]
    output: Option<PathBuf>,
    /// Keeps the simplified ONNX file too
    #[arg(long, value_name = "FILE")]
    onnx: Option<PathBuf>,
    #[command(flatten)]
    import: ImportArgs,
    #[command(flatten)]
    build: BuildArgs,
    /// Leaves out the comparison with the source
    #[arg(long)]
    no_check: bool,
    /// Machine-readable report
    #[arg(long)]
    json: bool,
}

pub fn run(a: Args) -> Result<ExitCode> {
    let progress = ui::Progress::new();
    let mut rows: Vec<(String, Duration, String)> = Vec::new();
    let mut clock = Instant::now();
    let mut lap = |name: &str, what: String| {
        rows.push((name.to_string(), clock.elapsed(), what));
        clock = Instant::now();
    };
    progress.stage(format!("importing {}", a.model.display()));
    let options = a.import.options(Vec::new(), a.build.no_checks);
    let mut source = Model::open_with(&a.model, &options)?;
    source.track_origins();
    source.warnings.iter().for_each(|w| ui::warn(w));
    let weights: usize = constants(source.ir());
    lap("import", format!("{} nodes, {} of weights", source.ir().graph.num_nodes(), ui::bytes(weights)));

    progress.stage("simplifying");
    let (simple, simplified) = source.simplify(&SimplifyOptions { no_check: true, passes: a.build.passes() })?;
    let fired: usize = simplified.rules.iter().map(|r| r.1).sum();
    lap("simplify", format!("{} → {} nodes by {fired} rewrites", simplified.nodes_before, simplified.nodes_after));
    if let Some(path) = &a.onnx {
        let w = simple.save_onnx(path, &WriteOptions::default())?;
        lap("write ONNX", format!("{}, opset {}", path.display(), w.opset));
    }

    let build = a.build.tuned().options(&simple)?;
    let (engine, built) = simple.build_with(&build, &mut progress.callback())?;
    let fused: usize = built.rules.iter().map(|r| r.1).sum();
    let output = output_path(&a.output, &a.model, "engine");
    let mut what = format!(
        "{} steps for {} ({}), {fused} rewrites",
        engine.plan().steps.len(),
        engine.device(),
        engine.plan().target
    );
    if !built.host_nodes.is_empty() {
        what.push_str(&format!("; by the reference evaluator: {}", summary(&built.host_nodes)));
    }
    lap("build", what);

    let mut cases = Vec::new();
    if !a.no_check {
        progress.stage("comparing with the source at several sizes");
        let verify =
            VerifyOptions { samples: source.samples().to_vec(), threads: a.build.threads, ..VerifyOptions::default() };
        cases = oxrt::verify_engine(&engine, &source, &verify)?;
        let worst = cases.iter().flat_map(|c| &c.outputs).map(|c| c.max_abs).fold(0.0, f64::max);
        let compared = oxrt::compared(&cases);
        let refused = cases.len() - compared;
        let beside = if refused > 0 { format!("; at {refused} the source itself does not run") } else { String::new() };
        lap("verify", format!("{compared} sets of sizes, largest difference {worst:.2e}{beside}"));
        if cases.iter().any(|c| !c.passed) {
            progress.finish();
            eprint!("{}", verify::report(&cases));
            return Err(Error::bug("the engine differs from the source; no engine was written")
                .help("`oxrt build --no-fusion` builds without fusions"));
        }
    }
    let bytes = engine.save(&output)?;
    lap("save", format!("{}, {}", output.display(), ui::bytes(bytes as usize)));

    progress.stage("measuring");
    let inputs = oxrt::inputs_for_engine(&engine, &Default::default(), 1)?;
    let bench = oxrt::bench(
        &engine,
        &inputs,
        &BenchOptions { duration: Duration::from_millis(300), runs: 5, ..BenchOptions::default() },
    )?;
    lap(
        "measure",
        format!(
            "p50 {:.3} ms at {}",
            bench.p50_ms,
            inputs.iter().map(|t| format!("{:?}", t.shape())).collect::<Vec<_>>().join(" ")
        ),
    );
    progress.finish();
    let profiles: Vec<String> = engine.plan().profiles.iter().map(describe_profile).collect();
    if a.json {
        let stages: Vec<_> = rows
            .iter()
            .map(|(n, t, w)| serde_json::json!({"stage": n, "seconds": t.as_secs_f64(), "result": w}))
            .collect();
        ui::print_json(&serde_json::json!({
            "output": output, "stages": stages, "profiles": profiles, "simplify_rules": simplified.rules, "engine_rules": built.rules,
            "host_nodes": built.host_nodes, "checks": cases, "bench": bench, "notes": built.notes,
        }))?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut table = vec![["stage", "time", "result"].map(String::from).to_vec()];
    table.extend(rows.into_iter().map(|(n, t, w)| vec![n, ui::time(t), w]));
    print!("{}", ui::table(&table));
    profiles.iter().filter(|p| !p.is_empty()).for_each(|p| println!("sizes     {p}"));
    if let Some(m) = peak_memory(&engine) {
        println!("memory    {} of activations at the tuned sizes", ui::bytes(m));
    }
    built.notes.iter().for_each(|n| println!("note      {n}"));
    Ok(ExitCode::SUCCESS)
}

/// Bytes of all constants, shared ones once.
fn constants(ir: &oxrt::ir::Model) -> usize {
    let g = &ir.graph;
    let mut seen = std::collections::HashSet::new();
    g.value_ids()
        .filter_map(|v| g.constant(v))
        .filter(|t| seen.insert(t.bytes().as_ptr()))
        .map(|t| t.bytes().len())
        .sum()
}
