//! `oxrt repair`

use crate::args::output_path;
use crate::ui;
use oxrt::onnx::WriteOptions;
use oxrt::{Model, RepairOptions, Result};
use std::path::PathBuf;
use std::process::ExitCode;

/// Finds sizes that an exporter wrote down as numbers, puts them back, and proves it at several sizes
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  oxrt repair model.onnx -o dynamic.onnx\n  oxrt repair static.onnx --dim x:0=batch --dim x:1=time"
)]
pub struct Args {
    /// .onnx file
    model: PathBuf,
    /// File to write; by default NAME.repaired.onnx
    #[arg(short, long)]
    output: Option<PathBuf>,
    /// A dimension that should be dynamic: INPUT:AXIS=NAME or INPUT:AXIS=NAME=MIN..MAX
    #[arg(long = "dim", value_name = "DIM")]
    dims: Vec<String>,
    /// Size of a dimension in the example that the file was exported with: NAME=SIZE
    #[arg(long, value_name = "SIZE")]
    example: Vec<String>,
    /// Only says what it finds
    #[arg(long)]
    dry_run: bool,
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
    let model = Model::open(&a.model)?;
    let options = RepairOptions { dims: a.dims, example: a.example };
    progress.stage("repairing and running at several sizes");
    let (fixed, report) = model.repair(&options)?;
    let complete = report.is_complete();
    let output = output_path(&a.output, &a.model, "repaired.onnx");
    if !a.dry_run {
        fixed.save_onnx(&output, &WriteOptions { opset: a.opset, ..WriteOptions::default() })?;
    }
    progress.finish();
    let code = if complete { ExitCode::SUCCESS } else { ExitCode::from(1) };
    if a.json {
        let output = (!a.dry_run).then_some(output);
        ui::print_json(&serde_json::json!({ "output": output, "complete": complete, "report": report }))?;
        return Ok(code);
    }
    let example: Vec<String> = report.example.iter().map(|(s, n)| format!("{s}={n}")).collect();
    println!(
        "exported at {}",
        if example.is_empty() { "sizes that left no trace".to_string() } else { example.join(", ") }
    );
    for (node, location, what, repaired) in &report.findings {
        let place = if location.is_empty() { String::new() } else { format!(" ({location})") };
        println!("  {} {node}{place}: {what}", if *repaired { "repaired" } else { "found   " });
    }
    if report.findings.is_empty() {
        println!("  no size was baked in");
    }
    let rows = report.rows.iter().map(|(s, c)| (format!("rows of {s} together and one by one"), c));
    let named = |what: &'static str| move |c| (what.to_string(), c);
    let at_example = report.at_example.iter().map(named("as the original"));
    let elsewhere = report.elsewhere.iter().map(named("engine"));
    for (what, case) in at_example.chain(elsewhere).chain(rows) {
        println!("  {} {what}, {}", if case.passed { "ok      " } else { "DIFFERS " }, case.describe());
    }
    if let Some(caution) = &report.caution {
        println!("  {caution}");
    }
    if !a.dry_run {
        println!("{}", output.display());
    }
    Ok(code)
}
