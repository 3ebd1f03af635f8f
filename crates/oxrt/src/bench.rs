//! Measures an engine.

use crate::engine::{Engine, Session};
use oxrt_tensor::{Result, Tensor, TensorView};
use serde::Serialize;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

#[derive(Clone, Debug)]
pub struct BenchOptions {
    /// Runs before the clock counts.
    pub warmup: usize,
    /// Least number of timed runs.
    pub runs: usize,
    /// Least time to measure for.
    pub duration: Duration,
    /// Adds a per-step profile.
    pub profile: bool,
}

impl Default for BenchOptions {
    fn default() -> BenchOptions {
        BenchOptions { warmup: 3, runs: 10, duration: Duration::from_secs(2), profile: false }
    }
}

/// Latencies in milliseconds, sizes in bytes.
#[derive(Clone, Debug, Default, Serialize)]
pub struct BenchReport {
    pub first_run_ms: f64,
    pub runs: usize,
    pub mean_ms: f64,
    pub min_ms: f64,
    pub p50_ms: f64,
    pub p90_ms: f64,
    pub p99_ms: f64,
    pub throughput_per_s: f64,
    /// What a GPU takes for a run without copies (median of replays); `None` on the host.
    pub device_ms: Option<f64>,
    pub arena_bytes: usize,
    pub arena_lower_bound_bytes: usize,
    /// Largest resident memory of the process so far.
    pub peak_rss_bytes: usize,
    pub steps: Vec<StepTotal>,
}

/// Mean of one step over the profiled runs.
#[derive(Clone, Debug, Serialize)]
pub struct StepTotal {
    pub name: String,
    pub op: String,
    pub kernel: String,
    /// Precision of the kernel's arithmetic: `fp32`, `bf16`.
    pub precision: &'static str,
    pub ms: f64,
    pub gflop_per_s: f64,
    pub gb_per_s: f64,
    /// Bytes of inputs and outputs of one run.
    pub bytes: u64,
    /// Names of the model's nodes whose work the step does; empty for steps that only move data for others.
    pub origins: Vec<String>,
}

/// Runs the engine on `inputs` (in its order) and reports the distribution of the latency.
pub fn bench(engine: &Engine, inputs: &[Tensor], options: &BenchOptions) -> Result<BenchReport> {
    let views = inputs.iter().map(Tensor::view).collect::<Result<Vec<TensorView>>>()?;
    let mut session = engine.session();
    let start = Instant::now();
    session.run_ordered(&views)?;
    let mut report = BenchReport { first_run_ms: start.elapsed().as_secs_f64() * 1e3, ..BenchReport::default() };
    for _ in 0..options.warmup {
        session.run_ordered(&views)?;
    }
    let mut times = Vec::new();
    let begin = Instant::now();
    while times.len() < options.runs || begin.elapsed() < options.duration {
        let t = Instant::now();
        session.run_ordered(&views)?;
        times.push(t.elapsed().as_secs_f64() * 1e3);
    }
    let total = begin.elapsed().as_secs_f64();
    times.sort_by(f64::total_cmp);
    let at = |q: f64| times[((times.len() as f64 * q) as usize).min(times.len() - 1)];
    report.runs = times.len();
    report.mean_ms = times.iter().sum::<f64>() / times.len() as f64;
    (report.min_ms, report.p50_ms, report.p90_ms, report.p99_ms) = (times[0], at(0.5), at(0.9), at(0.99));
    report.throughput_per_s = times.len() as f64 / total;
    if engine.is_static() {
        let shapes: Vec<_> = inputs.iter().map(|t| (t.dtype(), t.shape())).collect();
        (report.arena_bytes, report.arena_lower_bound_bytes) = session.memory_for(&shapes)?;
    }
    if engine.is_static() && engine.device().starts_with("cuda") {
        let mut seconds = session.device_seconds(&views, report.runs.clamp(10, 100))?;
        seconds.sort_by(f64::total_cmp);
        report.device_ms = seconds.get(seconds.len() / 2).map(|s| s * 1e3);
    }
    if options.profile {
        report.steps = profile(engine, &mut session, &views, report.runs.clamp(1, 20))?;
    }
    report.peak_rss_bytes = resident_peak_bytes();
    Ok(report)
}

fn profile(engine: &Engine, session: &mut Session, views: &[TensorView], runs: usize) -> Result<Vec<StepTotal>> {
    session.start_profile();
    for _ in 0..runs {
        session.run_ordered(views)?;
    }
    let records = session.take_profile();
    let nodes = engine.plan().graph.nodes();
    let origins: BTreeMap<&str, _> = nodes.map(|(_, n)| (n.name.as_str(), &n.origins)).collect();
    let mut order: Vec<String> = Vec::new();
    let mut totals: BTreeMap<String, StepTotal> = BTreeMap::new();
    for r in records {
        let entry = totals.entry(r.name.clone()).or_insert_with(|| {
            order.push(r.name.clone());
            StepTotal {
                name: r.name.clone(),
                op: r.op.clone(),
                kernel: r.kernel.clone(),
                precision: engine.precision_of(&r.kernel).name(),
                ms: 0.0,
                gflop_per_s: 0.0,
                gb_per_s: 0.0,
                bytes: r.bytes,
                origins: origins
                    .get(r.name.as_str())
                    .map(|o| o.iter().map(|o| o.to_string()).collect())
                    .unwrap_or_default(),
            }
        });
        entry.ms += r.seconds * 1e3 / runs as f64;
        // Work per run for now; divided by the time below.
        (entry.gflop_per_s, entry.gb_per_s) = (r.flops as f64, r.bytes as f64);
    }
    Ok(order
        .into_iter()
        .filter_map(|name| totals.remove(&name))
        .map(|mut t| {
            let seconds = (t.ms / 1e3).max(1e-12);
            t.gflop_per_s /= seconds * 1e9;
            t.gb_per_s /= seconds * 1e9;
            t
        })
        .collect())
}

/// Peak resident memory of this process in bytes; 0 where the system does not say.
pub fn resident_peak_bytes() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|l| l.starts_with("VmHWM:"));
    let kib = line.and_then(|l| l.split_whitespace().nth(1)).and_then(|w| w.parse::<usize>().ok());
    kib.unwrap_or(0) * 1024
}
