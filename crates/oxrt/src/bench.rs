//! Measures an engine.

use crate::engine::{Engine, Session};
use crate::verify::inputs_for_engine;
use oxrt_backend::Block;
use oxrt_ops::random::Random;
use oxrt_runtime::DeviceTimes;
use oxrt_tensor::{Error, Result, Tensor, TensorView, bail};
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::Barrier;
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
    /// Sessions that run at once, for their throughput together; one measures none.
    pub at_once: usize,
}

impl Default for BenchOptions {
    fn default() -> BenchOptions {
        BenchOptions { warmup: 3, runs: 10, duration: Duration::from_secs(2), profile: false, at_once: 1 }
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
    /// What a GPU takes for a run without copies, by events (median); `None` on the host, as what follows.
    pub device_ms: Option<f64>,
    /// The host's time to queue a run (median).
    pub enqueue_ms: Option<f64>,
    /// Inputs on their way to the GPU, outputs on their way back (medians).
    pub copy_in_ms: Option<f64>,
    pub copy_out_ms: Option<f64>,
    /// Latency of runs whose inputs and outputs lie in the GPU's memory (median).
    pub device_memory_ms: Option<f64>,
    /// Whether such a run gave the same bytes as one from the host's memory.
    pub device_memory_equal: Option<bool>,
    /// Runs per second of several sessions at once.
    pub at_once_per_s: Option<f64>,
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
    if engine.device().starts_with("cuda") {
        let times = session.device_times(&views, report.runs.clamp(10, 100))?;
        let of = |part: fn(&DeviceTimes) -> f64| Some(median(times.iter().map(part).collect()) * 1e3);
        report.device_ms = of(|t| t.kernels);
        (report.enqueue_ms, report.copy_in_ms) = (of(|t| t.enqueue), of(|t| t.copy_in));
        report.copy_out_ms = of(|t| t.copy_out);
        let (ms, equal) = device_memory(engine, &mut session, inputs, report.runs.clamp(10, 1000))?;
        (report.device_memory_ms, report.device_memory_equal) = (Some(ms), Some(equal));
    }
    if options.at_once > 1 {
        report.at_once_per_s = Some(at_once(engine, &views, options)?);
    }
    if options.profile {
        report.steps = profile(engine, &mut session, &views, report.runs.clamp(1, 20))?;
    }
    report.peak_rss_bytes = resident_peak_bytes();
    Ok(report)
}

fn median(mut list: Vec<f64>) -> f64 {
    list.sort_by(f64::total_cmp);
    list.get(list.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Milliseconds of a run from and to memory of the device (median), and whether it gives what one of the host gives.
fn device_memory(engine: &Engine, session: &mut Session, inputs: &[Tensor], runs: usize) -> Result<(f64, bool)> {
    let device = engine.backend().device().ok_or_else(|| Error::bug("a device without memory"))?;
    let queue = device.queue()?;
    let views = inputs.iter().map(Tensor::view).collect::<Result<Vec<TensorView>>>()?;
    let want: Vec<Tensor> = session.run_ordered(&views)?.iter().map(TensorView::to_tensor).collect::<Result<_>>()?;
    let ins = inputs.iter().map(|t| Block::new(&device, t.bytes().len())).collect::<Result<Vec<_>>>()?;
    let outs = want.iter().map(|t| Block::new(&device, t.bytes().len())).collect::<Result<Vec<_>>>()?;
    for (block, t) in ins.iter().zip(inputs) {
        // SAFETY: the block has that many bytes; the queue is waited for before the tensor goes.
        unsafe { queue.copy_in(block.ptr(), t.bytes().as_ptr(), t.bytes().len())? };
    }
    queue.synchronize()?;
    let in_ptrs: Vec<*const u8> = ins.iter().map(|b| b.ptr().cast_const()).collect();
    let rooms: Vec<(*mut u8, usize)> = outs.iter().map(|b| (b.ptr(), b.len())).collect();
    let shapes: Vec<&[usize]> = inputs.iter().map(Tensor::shape).collect();
    let mut times = Vec::with_capacity(runs);
    for _ in 0..runs {
        let start = Instant::now();
        // SAFETY: each block was made for its tensor; nobody else uses them.
        unsafe { session.run_on_device_within(&in_ptrs, &shapes, &rooms)? };
        times.push(start.elapsed().as_secs_f64() * 1e3);
    }
    let mut equal = true;
    for (block, t) in outs.iter().zip(&want) {
        let mut got = vec![0u8; t.bytes().len()];
        // SAFETY: as above.
        unsafe { queue.copy_out(got.as_mut_ptr(), block.ptr(), got.len())? };
        queue.synchronize()?;
        equal &= got == t.bytes();
    }
    Ok((median(times), equal))
}

/// Runs per second of `options.at_once` sessions of one engine, each in a thread of its own.
fn at_once(engine: &Engine, views: &[TensorView], options: &BenchOptions) -> Result<f64> {
    let ready = Barrier::new(options.at_once);
    let one = || -> Result<f64> {
        let mut session = engine.session();
        let warm = (0..=options.warmup).try_for_each(|_| session.run_ordered(views).map(|_| ()));
        ready.wait();
        warm?;
        let (begin, mut runs) = (Instant::now(), 0);
        while runs < options.runs || begin.elapsed() < options.duration {
            session.run_ordered(views)?;
            runs += 1;
        }
        Ok(runs as f64 / begin.elapsed().as_secs_f64())
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..options.at_once).map(|_| scope.spawn(one)).collect();
        let joined =
            threads.into_iter().map(|t| t.join().unwrap_or_else(|_| Err(Error::bug("a session's thread panicked"))));
        joined.sum()
    })
}

/// Runs of one size within a stream of sizes. Times in milliseconds.
#[derive(Clone, Debug, Serialize)]
pub struct SizeReport {
    pub sizes: BTreeMap<String, i64>,
    pub runs: usize,
    /// The first run: sizes are bound, and memory may have to grow.
    pub first_ms: f64,
    /// The second run, in which a GPU's work is recorded.
    pub second_ms: Option<f64>,
    /// Median of the runs after those.
    pub again_ms: Option<f64>,
    /// What a GPU takes for a run without copies, by events.
    pub device_ms: Option<f64>,
}

/// Random inputs of `runs` sizes, each drawn from the ranges of the engine's first profile (to four times the usual size where
/// there is no upper bound).
///
/// # Errors
/// An engine of fixed sizes.
pub fn random_stream(engine: &Engine, runs: usize, seed: u64) -> Result<Vec<(BTreeMap<String, i64>, Vec<Tensor>)>> {
    let ranges = engine.plan().profiles.first().map(|p| &p.ranges).filter(|r| !r.is_empty());
    let Some(ranges) = ranges else {
        bail!(invalid, "the engine has no dimension whose size could change");
    };
    let mut random = Random::seeded(seed);
    let mut one = |i: usize| -> Result<(BTreeMap<String, i64>, Vec<Tensor>)> {
        let draw = |(s, r): (&oxrt_ir::Symbol, &oxrt_plan::SizeRange)| {
            let (min, max) = (r.min.max(1), r.upper().max(1));
            (s.as_str().to_string(), min + (random.uniform() * (max - min + 1) as f64) as i64)
        };
        let sizes: BTreeMap<String, i64> = ranges.iter().map(draw).collect();
        let inputs = inputs_for_engine(engine, &sizes, seed ^ i as u64)?;
        Ok((sizes, inputs))
    };
    (0..runs).map(&mut one).collect()
}

/// Runs an engine on a stream of sizes, as they come, in one session. `stream` holds the inputs of each run with the sizes
/// of its dimensions.
pub fn bench_stream(engine: &Engine, stream: &[(BTreeMap<String, i64>, Vec<Tensor>)]) -> Result<Vec<SizeReport>> {
    let mut session = engine.session();
    let mut times: BTreeMap<&BTreeMap<String, i64>, Vec<f64>> = BTreeMap::new();
    for (sizes, inputs) in stream {
        let views = inputs.iter().map(Tensor::view).collect::<Result<Vec<TensorView>>>()?;
        let start = Instant::now();
        session.run_ordered(&views)?;
        times.entry(sizes).or_default().push(start.elapsed().as_secs_f64() * 1e3);
    }
    let on_device = engine.is_static() && engine.device().starts_with("cuda");
    let report = |(sizes, ms): (&BTreeMap<String, i64>, Vec<f64>)| {
        let device_ms = match stream.iter().find(|s| &s.0 == sizes).filter(|_| on_device) {
            Some((_, inputs)) => {
                let views = inputs.iter().map(Tensor::view).collect::<Result<Vec<TensorView>>>()?;
                let times = session.device_times(&views, 20)?;
                Some(median(times.iter().map(|t| t.kernels).collect()) * 1e3)
            }
            None => None,
        };
        Ok(SizeReport {
            sizes: sizes.clone(),
            runs: ms.len(),
            first_ms: ms[0],
            second_ms: ms.get(1).copied(),
            again_ms: (ms.len() > 2).then(|| median(ms[2..].to_vec())),
            device_ms,
        })
    };
    times.into_iter().map(report).collect()
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
