//! `oxrt bench`

use crate::args::BuildArgs;
use crate::ui;
use oxrt::{BenchOptions, Error, Result, Tensor};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// Measures an engine or model: load, first run, latency, throughput, memory, time per step
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  oxrt bench model.engine\n  oxrt bench model.engine --size batch=8 --profile-steps --threads 2\n  oxrt bench model.engine --stream 100\n  oxrt bench model.onnx --in x=x.npy --json"
)]
pub struct Args {
    /// .pt2, .onnx or .engine file
    model: PathBuf,
    /// Size of a dimension: NAME=SIZE; by default the one tuned for
    #[arg(long = "size", value_name = "NAME=SIZE")]
    sizes: Vec<String>,
    /// An input from a file; by default random numbers
    #[arg(long = "in", value_name = "NAME=FILE")]
    inputs: Vec<String>,
    /// Least time to measure, in seconds
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// Least number of runs
    #[arg(long, default_value_t = 10)]
    runs: usize,
    /// Sessions of the engine that run at once, each in a thread: adds their throughput together
    #[arg(long, value_name = "N", default_value_t = 1)]
    at_once: usize,
    /// Measures a stream of N runs of random sizes within the engine's ranges instead: what a size costs when it is new, and
    /// after that
    #[arg(long, value_name = "N", conflicts_with_all = ["sizes", "inputs", "profile_steps"])]
    stream: Option<usize>,
    /// Adds the time of each step, with its share of the machine's measured ceilings
    #[arg(long)]
    profile_steps: bool,
    #[command(flatten)]
    build: BuildArgs,
    /// Machine-readable report
    #[arg(long)]
    json: bool,
}

pub fn run(a: Args) -> Result<ExitCode> {
    let progress = ui::Progress::new();
    let start = Instant::now();
    let engine = a.build.tuned().engine(&a.model, &progress)?;
    let load = start.elapsed();
    if let Some(runs) = a.stream {
        return stream(&a, &engine, runs, load, progress);
    }
    let inputs: Vec<Tensor> = if a.inputs.is_empty() {
        let mut sizes = std::collections::BTreeMap::new();
        for spec in &a.sizes {
            let d: oxrt::DimSpec = spec.parse()?;
            sizes.insert(d.name, d.range.opt);
        }
        oxrt::inputs_for_engine(&engine, &sizes, 1)?
    } else {
        let read = crate::run::read_inputs(&engine, &a.inputs)?;
        let find = |name: &str| read.iter().find(|(n, _)| n == name).map(|(_, t)| t.clone());
        engine
            .inputs()
            .iter()
            .map(|p| find(&p.name).ok_or_else(|| Error::bug("inputs out of step")))
            .collect::<Result<_>>()?
    };
    progress.stage("measuring");
    let options = BenchOptions {
        runs: a.runs,
        duration: Duration::from_secs_f64(a.seconds.clamp(0.0, 3600.0)),
        profile: a.profile_steps,
        at_once: a.at_once.clamp(1, 256),
        ..BenchOptions::default()
    };
    let report = oxrt::bench(&engine, &inputs, &options)?;
    let ceilings = a.profile_steps.then(|| oxrt::measure_ceilings(a.build.threads));
    progress.finish();
    let shapes: Vec<String> =
        engine.inputs().iter().zip(&inputs).map(|(p, t)| format!("{} {}{:?}", p.name, t.dtype(), t.shape())).collect();
    if a.json {
        ui::print_json(&serde_json::json!({
            "model": a.model, "device": engine.device(), "target": engine.plan().target, "inputs": shapes,
            "load_ms": load.as_secs_f64() * 1e3, "report": report,
            "ceiling_gflop_per_s": ceilings.as_ref().map(|c| c.gflops),
            "ceiling_bf16_gflop_per_s": ceilings.as_ref().and_then(|c| c.bf16_gflops),
            "ceiling_gb_per_s": ceilings.as_ref().map(|c| c.gb_per_s),
        }))?;
        return Ok(ExitCode::SUCCESS);
    }
    println!("{} on {} ({})", a.model.display(), engine.device(), engine.plan().target);
    println!("  inputs      {}", shapes.join(", "));
    println!("  load        {}", ui::time(load));
    println!("  first run   {:.2} ms", report.first_run_ms);
    println!(
        "  latency     p50 {:.3} ms · p90 {:.3} · p99 {:.3} · min {:.3} ({} runs)",
        report.p50_ms, report.p90_ms, report.p99_ms, report.min_ms, report.runs
    );
    if let Some(ms) = report.device_ms {
        let part = |ms: Option<f64>| ms.unwrap_or_default();
        println!(
            "  device      {ms:.4} ms per run without copies; queued by the host in {:.4}, copies in {:.4}, out {:.4}",
            part(report.enqueue_ms),
            part(report.copy_in_ms),
            part(report.copy_out_ms)
        );
        println!(
            "  in place    {:.4} ms with inputs and outputs in the device's memory",
            part(report.device_memory_ms)
        );
    }
    println!("  throughput  {:.1} runs/s", report.throughput_per_s);
    if let Some(rate) = report.at_once_per_s {
        println!("              {rate:.1} runs/s of {} sessions at once", a.at_once);
    }
    if report.arena_bytes > 0 {
        println!(
            "  memory      {} of activations (no placement needs less than {}), process peak {}",
            ui::bytes(report.arena_bytes),
            ui::bytes(report.arena_lower_bound_bytes),
            ui::bytes(report.peak_rss_bytes)
        );
    }
    if let Some(c) = ceilings {
        let bf16 = c.bf16_gflops.map_or(String::new(), |peak| format!("{peak:.0} GFLOP/s bf16, "));
        println!("  ceilings    {:.0} GFLOP/s fp32, {bf16}{:.1} GB/s\n", c.gflops, c.gb_per_s);
        let total: f64 = report.steps.iter().map(|s| s.ms).sum();
        let mut rows =
            vec![["ms", "%", "GFLOP/s", "GB/s", "of ceiling", "op", "kernel", "node"].map(String::from).to_vec()];
        let mut steps = report.steps.clone();
        steps.sort_by(|x, y| y.ms.total_cmp(&x.ms));
        for s in steps.iter().take(40) {
            // The nearer limit is the one that counts.
            let peak = if s.precision == "bf16" { c.bf16_gflops.unwrap_or(c.gflops) } else { c.gflops };
            let share = (s.gflop_per_s / peak).max(s.gb_per_s / c.gb_per_s);
            rows.push(vec![
                format!("{:.3}", s.ms),
                format!("{:.1}", 100.0 * s.ms / total),
                format!("{:.1}", s.gflop_per_s),
                format!("{:.1}", s.gb_per_s),
                format!("{:.0} %", 100.0 * share),
                s.op.clone(),
                s.kernel.clone(),
                s.name.clone(),
            ]);
        }
        print!("{}", ui::table(&rows));
        if steps.len() > 40 {
            println!("… and {} shorter steps", steps.len() - 40);
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The report of `--stream`.
fn stream(a: &Args, engine: &oxrt::Engine, runs: usize, load: Duration, progress: ui::Progress) -> Result<ExitCode> {
    let list = oxrt::random_stream(engine, runs, 0)?;
    progress.stage("measuring");
    let sizes = oxrt::bench_stream(engine, &list)?;
    progress.finish();
    if a.json {
        ui::print_json(&serde_json::json!({
            "model": a.model, "device": engine.device(), "target": engine.plan().target,
            "load_ms": load.as_secs_f64() * 1e3, "sizes": sizes,
        }))?;
        return Ok(ExitCode::SUCCESS);
    }
    println!(
        "{} on {} ({}): {runs} runs of {} sizes",
        a.model.display(),
        engine.device(),
        engine.plan().target,
        sizes.len()
    );
    let mut rows = vec![["sizes", "runs", "first ms", "second ms", "again ms", "device ms"].map(String::from).to_vec()];
    let ms = |x: Option<f64>| x.map_or("-".to_string(), |x| format!("{x:.3}"));
    for s in &sizes {
        let named: Vec<String> = s.sizes.iter().map(|(name, n)| format!("{name}={n}")).collect();
        let times = [Some(s.first_ms), s.second_ms, s.again_ms, s.device_ms].map(ms);
        rows.push([named.join(" "), s.runs.to_string()].into_iter().chain(times).collect());
    }
    print!("{}", ui::table(&rows));
    Ok(ExitCode::SUCCESS)
}
