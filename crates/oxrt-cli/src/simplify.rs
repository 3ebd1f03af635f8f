//! `oxrt simplify`

use crate::args::output_path;
use crate::ui;
use oxrt::onnx::WriteOptions;
use oxrt::{Error, ExportOptions, Model, Result, SimplifyOptions, passes};
use std::path::PathBuf;
use std::process::ExitCode;

/// Rewrites a model to fewer operators, and compares the result with the original
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  oxrt simplify model.onnx -o small.onnx\n  oxrt simplify model.onnx --dim batch=1 --disable-rule fuse-conv-bn --fold-limit 65536\n  oxrt simplify model.onnx --extract hidden..logits -o head.onnx"
)]
pub struct Args {
    /// .onnx or .pt2 file
    model: PathBuf,
    /// File to write; by default NAME.simple.onnx
    #[arg(short, long)]
    output: Option<PathBuf>,
    /// Range of a dimension, or its fixed size: NAME=MIN..MAX
    #[arg(long = "dim", value_name = "DIM")]
    dims: Vec<String>,
    /// Name of an input: NEW in order of the inputs, or OLD=NEW
    #[arg(long = "input-name", value_name = "NAME")]
    input_names: Vec<String>,
    /// Name of an output: NEW in order of the outputs, or OLD=NEW
    #[arg(long = "output-name", value_name = "NAME")]
    output_names: Vec<String>,
    /// Takes only the part that computes the values TO (by default the outputs) from the values FROM (by default the inputs), each
    /// a list of names: FROM..TO
    #[arg(long, value_name = "FROM..TO")]
    extract: Option<String>,
    /// Leaves out a rule (an unknown name lists them)
    #[arg(long = "disable-rule", value_name = "RULE")]
    disabled: Vec<String>,
    /// Stops after N rewrites, to find the one that breaks a graph
    #[arg(long, value_name = "N")]
    stop_at: Option<usize>,
    /// Largest constant, in bytes, that folding may add
    #[arg(long, default_value_t = 1 << 20, value_name = "BYTES")]
    fold_limit: usize,
    /// Leaves out the comparison with the original
    #[arg(long)]
    no_check: bool,
    /// Opset to write
    #[arg(long)]
    opset: Option<i64>,
    /// Machine-readable report
    #[arg(long)]
    json: bool,
}

pub fn run(a: Args) -> Result<ExitCode> {
    let progress = ui::Progress::new();
    progress.stage(format!("reading {}", a.model.display()));
    // Names of the user are those of the result: the part is taken out by the names that the file has.
    let renames = (a.input_names, a.output_names);
    let mut options = ExportOptions { dims: a.dims, ..ExportOptions::default() };
    if a.extract.is_none() {
        (options.input_names, options.output_names) = renames.clone();
    }
    let mut model = Model::open_with(&a.model, &options)?;
    if let Some(part) = &a.extract {
        let (from, to) = part.split_once("..").ok_or_else(|| {
            Error::invalid(format!("`--extract {part}` is not FROM..TO"))
                .help("write `--extract hidden..logits`, or `..hidden`")
        })?;
        let names = |list: &str| list.split(',').filter(|n| !n.is_empty()).map(String::from).collect::<Vec<_>>();
        model = model.extracted(&names(from), &names(to))?;
        let names = ExportOptions { input_names: renames.0, output_names: renames.1, ..ExportOptions::default() };
        model.rename(&names)?;
    }
    progress.stage("simplifying and comparing");
    let options = SimplifyOptions {
        passes: passes::Options {
            disabled: a.disabled,
            stop_at: a.stop_at,
            fold_limit: a.fold_limit,
            ..passes::Options::default()
        },
        no_check: a.no_check,
    };
    let (simple, report) = model.simplify(&options)?;
    let output = output_path(&a.output, &a.model, "simple.onnx");
    let written = simple.save_onnx(&output, &WriteOptions { opset: a.opset, ..WriteOptions::default() })?;
    let took = progress.finish();
    let worst = report.checks.iter().flat_map(|c| &c.outputs).map(|c| c.max_abs).fold(0.0, f64::max);
    if a.json {
        ui::print_json(&serde_json::json!({
            "output": output, "nodes_before": report.nodes_before, "nodes_after": report.nodes_after, "rules": report.rules, "steps": report.steps, "kept": report.kept,
            "checks": report.checks, "bytes": written.bytes, "opset": written.opset, "seconds": took.as_secs_f64(),
        }))?;
        return Ok(ExitCode::SUCCESS);
    }
    println!("{}: {} → {} nodes in {}", output.display(), report.nodes_before, report.nodes_after, ui::time(took));
    for (rule, n) in &report.rules {
        println!("  {n:>5} × {rule}");
    }
    for k in &report.kept {
        println!("  not folded: {} would hold {} (--fold-limit)", k.node, ui::bytes(k.bytes));
    }
    match oxrt::compared(&report.checks) {
        0 if report.steps.is_empty() => println!("  nothing to rewrite: the graph is the original"),
        0 => println!("  not compared with the original"),
        n => println!("  equal to the original at {n} sets of sizes (largest difference {worst:.2e})"),
    }
    Ok(ExitCode::SUCCESS)
}
