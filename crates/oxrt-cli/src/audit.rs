//! `oxrt audit`

use crate::ui;
use oxrt::{Result, Severity};
use std::path::PathBuf;
use std::process::ExitCode;

/// Looks for what a model file could do to the one who opens it, without loading it
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  oxrt audit model.onnx\n  oxrt audit downloaded.pt --json\n\nExit status 1 when something severe is found."
)]
pub struct Args {
    /// .onnx, .pt2, .pt, .npz, pickle or .engine file
    file: PathBuf,
    /// Machine-readable report
    #[arg(long)]
    json: bool,
}

pub fn run(a: Args) -> Result<ExitCode> {
    let report = oxrt::audit(&a.file)?;
    let severe = report.worst() == Some(Severity::High);
    if a.json {
        ui::print_json(&report)?;
    } else {
        println!("{}: {}, {}", a.file.display(), report.kind, ui::bytes(report.bytes as usize));
        for f in &report.findings {
            let word = match f.severity {
                Severity::High => "HIGH",
                Severity::Medium => "medium",
                Severity::Low => "low",
            };
            let place = if f.place.is_empty() { String::new() } else { format!(" `{}`", f.place) };
            println!("  {word:<6} {}{place}: {}", f.code, f.what);
        }
        for (name, value) in &report.facts {
            println!("  {name}: {value}");
        }
        if report.findings.is_empty() {
            println!("  nothing suspicious");
        }
    }
    Ok(if severe { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}
