//! `oxrt export`

use crate::args::{ImportArgs, output_path};
use crate::ui;
use oxrt::onnx::WriteOptions;
use oxrt::{Model, Result};
use std::path::PathBuf;
use std::process::ExitCode;

/// Converts a PyTorch program (.pt2) or TorchScript module (.pt) or Darknet network (.cfg) to ONNX
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  oxrt export model.pt2 -o model.onnx --dim batch=1..64\n  oxrt export model.pt2 --input-name pixels --output-name logits --opset 17\n  oxrt export scripted.pt --input x=f32[batch,3,224,224]\n  oxrt export yolov3.cfg --weights yolov3.weights --nms 0.45:0.25"
)]
pub struct Args {
    /// A .pt2 or TorchScript .pt file (or .onnx, to write it for another opset)
    model: PathBuf,
    /// File to write; by default the model's name with .onnx
    #[arg(short, long)]
    output: Option<PathBuf>,
    #[command(flatten)]
    import: ImportArgs,
    /// A dynamic dimension: NAME=MIN..MAX, NAME=SIZE, or INPUT:AXIS=NEW_NAME
    #[arg(long = "dim", value_name = "DIM")]
    dims: Vec<String>,
    /// Opset to write, 7 or higher; by default the lowest from 18 up that has all operators
    #[arg(long)]
    opset: Option<i64>,
    /// Puts tensors of at least this many bytes into FILE.data
    #[arg(long, value_name = "BYTES")]
    external_data: Option<usize>,
    /// Leaves out the model's own assertions and the conditions on sizes under which it was exported
    #[arg(long)]
    no_checks: bool,
    /// Machine-readable report
    #[arg(long)]
    json: bool,
}

pub fn run(a: Args) -> Result<ExitCode> {
    let progress = ui::Progress::new();
    progress.stage(format!("reading {}", a.model.display()));
    let options = a.import.options(a.dims, a.no_checks);
    let model = Model::open_with(&a.model, &options)?;
    let output = output_path(&a.output, &a.model, "onnx");
    progress.stage(format!("writing {}", output.display()));
    let report = model
        .save_onnx(&output, &WriteOptions { opset: a.opset, external_data_threshold: a.external_data, ir: None })?;
    let took = progress.finish();
    model.warnings.iter().for_each(|w| ui::warn(w));
    let ir = model.ir();
    let port = |v: &oxrt::ir::ValueId| format!("{} {}", ir.graph[*v].name, ir.graph[*v].ty);
    let inputs: Vec<String> = ir.graph.inputs.iter().map(port).collect();
    let outputs: Vec<String> = ir.graph.outputs.iter().map(port).collect();
    let dims: Vec<String> = ir.symbols.iter().map(|(s, r)| format!("{s}={r}")).collect();
    if a.json {
        ui::print_json(&serde_json::json!({
            "output": output, "opset": report.opset, "nodes": report.nodes, "bytes": report.bytes,
            "external_bytes": report.external_bytes, "inputs": inputs, "outputs": outputs, "dims": dims,
            "seconds": took.as_secs_f64(), "peak_rss_bytes": oxrt::resident_peak_bytes(), "warnings": model.warnings,
        }))?;
    } else {
        println!(
            "{}: opset {}, {} nodes, {} in {}",
            output.display(),
            report.opset,
            report.nodes,
            ui::bytes((report.bytes + report.external_bytes) as usize),
            ui::time(took)
        );
        println!("  inputs   {}", inputs.join(", "));
        println!("  outputs  {}", outputs.join(", "));
        if !dims.is_empty() {
            println!("  dims     {}", dims.join(", "));
        }
    }
    Ok(ExitCode::SUCCESS)
}
