//! `oxrt convert-opset`

use crate::args::output_path;
use crate::ui;
use oxrt::onnx::WriteOptions;
use oxrt::{Error, Model, Result, VerifyOptions, verify_model};
use std::path::PathBuf;
use std::process::ExitCode;

/// Writes an ONNX model for another opset, and compares the two
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  oxrt convert-opset model.onnx --opset 13\n  oxrt convert-opset old.onnx --opset 21 --ir 10 -o new.onnx\n\nRaises and lowers, opsets 1 to 28. What cannot be said in an older opset is named, with its Python line where the file has it."
)]
pub struct Args {
    /// .onnx or .pt2 file
    model: PathBuf,
    /// Opset to write
    #[arg(long)]
    opset: i64,
    /// IR version to write; by default the one that came with the opset
    #[arg(long)]
    ir: Option<i64>,
    /// File to write; by default NAME.opsetN.onnx
    #[arg(short, long)]
    output: Option<PathBuf>,
    /// Leaves out the comparison with the original
    #[arg(long)]
    no_check: bool,
    /// Machine-readable report
    #[arg(long)]
    json: bool,
}

pub fn run(a: Args) -> Result<ExitCode> {
    let progress = ui::Progress::new();
    progress.stage(format!("reading {}", a.model.display()));
    let model = Model::open(&a.model)?;
    let output = output_path(&a.output, &a.model, &format!("opset{}.onnx", a.opset));
    progress.stage(format!("writing {}", output.display()));
    let options = WriteOptions { opset: Some(a.opset), ir: a.ir, ..WriteOptions::default() };
    let report = model.save_onnx(&output, &options)?;
    let mut skipped = a.no_check.then(|| "not asked for".to_string());
    let mut checks = Vec::new();
    if skipped.is_none() {
        progress.stage("comparing");
        let written = Model::open(&output)?;
        skipped = not_comparable(&model);
        if skipped.is_none() {
            let options = VerifyOptions { samples: model.samples().to_vec(), ..VerifyOptions::default() };
            checks = verify_model(&written, &model, &options)?;
        }
    }
    if let Some(bad) = checks.iter().find(|c| !c.passed) {
        std::fs::remove_file(&output).ok();
        return Err(Error::bug(format!(
            "the model of opset {} differs from the original at {}",
            a.opset,
            bad.describe()
        )));
    }
    let took = progress.finish();
    if a.json {
        ui::print_json(&serde_json::json!({
            "output": output, "opset_before": model.ir().opset, "opset": report.opset, "nodes": report.nodes, "bytes": report.bytes,
            "checks": checks, "not_compared": skipped, "seconds": took.as_secs_f64(),
        }))?;
        return Ok(ExitCode::SUCCESS);
    }
    println!(
        "{}: opset {} → {}, {} nodes in {}",
        output.display(),
        model.ir().opset,
        report.opset,
        report.nodes,
        ui::time(took)
    );
    match (skipped, oxrt::compared(&checks)) {
        (Some(why), _) => println!("  not compared with the original: {why}"),
        (None, n) => println!("  equal to the original at {n} sets of sizes"),
    }
    Ok(ExitCode::SUCCESS)
}

/// Why inputs cannot be drawn for a model.
fn not_comparable(model: &Model) -> Option<String> {
    let g = &model.ir().graph;
    let odd = g.inputs.iter().find(|&&v| g[v].ty.dims().is_none() || g[v].ty.dtype() == Some(oxrt::DType::String));
    if let Some(&v) = odd {
        return Some(format!("nothing can be drawn for the input `{}` {}", g[v].name, g[v].ty));
    }
    let random =
        g.nodes().find(|(_, n)| oxrt::ops::registry::find(&n.op).is_some_and(|op| op.random && &*n.op != "Dropout"));
    random.map(|(_, n)| format!("{} draws at random", n.describe()))
}
