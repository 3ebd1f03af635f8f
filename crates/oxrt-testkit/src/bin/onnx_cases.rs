//! Runs the official ONNX cases, and others in their layout.
//!
//! ```text
//! onnx_cases --expect tests/expectations [--only SUBSTRING] [--host-steps] [--operators FILE [--write]]
//!     [--device cuda|cuda-emulator] FOLDER...
//! ```
//!
//! Each case runs through the optimised engine with fixed sizes, with dynamic sizes shared, with dynamic sizes free,
//! and through the reference evaluator alone; inference is compared with what was evaluated. Failures must be exactly
//! those of `onnx-engine.txt`, `onnx-reference.txt` and `onnx-inference.txt`.
//!
//! On another device the engine alone runs, with fixed and with shared sizes; failures must be those of `onnx-cuda.txt`.

use oxrt::onnx::read_file;
use oxrt::{Device, Engine, Error, Result};
use oxrt_testkit::case::{Case, allowed_types, find};
use oxrt_testkit::compare::{Tolerance, difference};
use oxrt_testkit::expect::Expectations;
use oxrt_testkit::guard::{for_each, guarded};
use oxrt_testkit::operators::{Counts, page};
use oxrt_testkit::run::{Sizes, read_with_sizes, run_engine, run_reference};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// Time for one case, one way.
const LIMIT: Duration = Duration::from_secs(10);
/// The same for a whole model: vgg19 takes six seconds on two idle cores, and machines that test are busy.
const MODEL_LIMIT: Duration = Duration::from_secs(120);
/// The same on another device, where kernels are compiled first, or emulated.
const DEVICE_LIMIT: Duration = Duration::from_secs(300);
/// Time for the reference evaluator, which is slow on whole models.
const REFERENCE_LIMIT: Duration = Duration::from_secs(100);

#[derive(Default)]
struct Args {
    expect: PathBuf,
    only: String,
    host_steps: bool,
    /// The page that lists the operators, and whether to write it or to check it.
    operators: Option<PathBuf>,
    write: bool,
    device: Device,
    folders: Vec<PathBuf>,
}

type Verdict = std::result::Result<(), String>;

/// Results of one case.
struct Outcome {
    engine: Verdict,
    reference: Verdict,
    inference: Verdict,
    /// (operator, element type) of steps that ran by the reference evaluator, with dynamic shared sizes.
    host: Vec<String>,
    seconds: f64,
}

fn main() -> ExitCode {
    let args = match parse(std::env::args().skip(1)) {
        Ok(args) => args,
        Err(e) => {
            eprintln!(
                "{e}\nusage: onnx_cases --expect DIR [--only SUBSTRING] [--host-steps] [--operators FILE [--write]] FOLDER..."
            );
            return ExitCode::FAILURE;
        }
    };
    match run(&args) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(e) => {
            eprintln!("{e}");
            ExitCode::FAILURE
        }
    }
}

fn parse(mut words: impl Iterator<Item = String>) -> std::result::Result<Args, String> {
    let mut args = Args::default();
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or(format!("{word} needs a value"));
        match word.as_str() {
            "--expect" => args.expect = value()?.into(),
            "--only" => args.only = value()?,
            "--operators" => args.operators = Some(value()?.into()),
            "--write" => args.write = true,
            "--device" => args.device = value()?.parse().map_err(|e: Error| e.to_string())?,
            "--host-steps" => args.host_steps = true,
            _ if word.starts_with("--") => return Err(format!("unknown option {word}")),
            folder => args.folders.push(folder.into()),
        }
    }
    if args.folders.is_empty() || args.expect.as_os_str().is_empty() {
        return Err("--expect and at least one folder are needed".to_string());
    }
    Ok(args)
}

fn run(args: &Args) -> Result<bool> {
    let started = Instant::now();
    let mut cases = Vec::new();
    for folder in &args.folders {
        cases.extend(find(folder)?);
    }
    let all = cases.len();
    cases.retain(|c| c.key().contains(&args.only));
    let device = args.device;
    if device != Device::Cpu {
        return run_device(args, &cases, all, started);
    }
    let results = for_each(&cases, judge);
    let mut good = true;
    for (file, pick) in [
        ("onnx-engine.txt", (|o| &o.engine) as fn(&Outcome) -> &Verdict),
        ("onnx-reference.txt", |o| &o.reference),
        ("onnx-inference.txt", |o| &o.inference),
    ] {
        let list = Expectations::read(&args.expect.join(file))?;
        let keys: Vec<String> = cases.iter().map(Case::key).collect();
        let mut surprises = list.surprises(keys.iter().map(String::as_str).zip(results.iter().map(pick)));
        if cases.len() < all {
            surprises.retain(|s| !s.contains("there is no such case"));
        }
        for s in &surprises {
            println!("{file}: {s}");
        }
        good &= surprises.is_empty();
    }
    if let Some(path) = args.operators.as_ref().filter(|_| cases.len() == all) {
        let mut allowed = BTreeMap::new();
        for folder in &args.folders {
            allowed.extend(allowed_types(folder)?);
        }
        good &= operators_page(path, args.write, &cases, &results, &allowed)?;
    }
    if args.host_steps {
        print_host_steps(results.iter().flat_map(|o| &o.host));
    }
    print_table(&cases, &results);
    println!("{:.0} s, reference evaluator included", started.elapsed().as_secs_f64());
    Ok(good)
}

/// The engine on another device.
fn run_device(args: &Args, cases: &[Case], all: usize, started: Instant) -> Result<bool> {
    let device = args.device;
    let runs = for_each(cases, |case: &Case| {
        let mut host = Vec::new();
        for sizes in [Sizes::Fixed, Sizes::Shared] {
            let own = case.clone();
            let result = guarded(DEVICE_LIMIT, move || run_engine_way(&own, sizes, device));
            match result.map(flat).and_then(|r| r) {
                // Known sizes tell what has no kernel from what only a run tells.
                Ok(steps) if sizes == Sizes::Fixed => host = steps,
                Ok(_) => {}
                Err(e) => return (Err(format!("{sizes:?} sizes: {e}")), host),
            }
        }
        (Ok(()), host)
    });
    let (results, host): (Vec<_>, Vec<_>) = runs.into_iter().unzip();
    if args.host_steps {
        print_host_steps(host.iter().flatten());
    }
    let list = Expectations::read(&args.expect.join("onnx-cuda.txt"))?;
    let keys: Vec<String> = cases.iter().map(Case::key).collect();
    let mut surprises = list.surprises(keys.iter().map(String::as_str).zip(results.iter()));
    if cases.len() < all {
        surprises.retain(|s| !s.contains("there is no such case"));
    }
    for s in &surprises {
        println!("{s}");
    }
    let good = results.iter().filter(|r| r.is_ok()).count();
    println!("{good} of {} on {device:?} in {:.0} s", cases.len(), started.elapsed().as_secs_f64());
    Ok(surprises.is_empty())
}

fn judge(case: &Case) -> Outcome {
    let mut seconds = 0f64;
    let mut host = Vec::new();
    let mut engine = Ok(());
    let limit = if case.suite == "light" { MODEL_LIMIT } else { LIMIT };
    for sizes in Sizes::ALL {
        let (own, started) = (case.clone(), Instant::now());
        let result = guarded(limit, move || run_engine_way(&own, sizes, Device::Cpu));
        seconds = seconds.max(started.elapsed().as_secs_f64());
        match result.map(flat) {
            Ok(Ok(steps)) if sizes == Sizes::Shared => host = steps,
            Ok(Ok(_)) => {}
            Ok(Err(e)) | Err(e) => engine = Err(format!("{sizes:?} sizes: {e}")),
        }
    }
    let own = case.clone();
    let (reference, inference) = match guarded(REFERENCE_LIMIT, move || run_reference_way(&own)) {
        Ok(Ok((difference, gap))) => (flat(Ok(((), difference))), gap.map_err(|e| one_line(&e))),
        Ok(Err(e)) => (Err(one_line(&e)), Err(one_line(&e))),
        Err(e) => (Err(e.clone()), Err(e)),
    };
    Outcome { engine, reference, inference, host, seconds }
}

/// An error and a difference are both failures.
fn flat<T>(result: Result<(T, Option<String>)>) -> std::result::Result<T, String> {
    match result {
        Ok((value, None)) => Ok(value),
        Ok((_, Some(difference))) => Err(difference),
        Err(e) => Err(one_line(&e)),
    }
}

fn one_line(e: &Error) -> String {
    e.to_string().replace('\n', ";")
}

fn tolerance(case: &Case) -> Tolerance {
    Tolerance { rtol: case.rtol, atol: case.atol, largest: 0.0, types_only: case.random }
}

/// Steps without a kernel, and how the outputs differ from those wanted.
fn run_engine_way(case: &Case, sizes: Sizes, device: Device) -> Result<(Vec<String>, Option<String>)> {
    let declared = read_file(&case.model())?;
    let model = match sizes {
        Sizes::Fixed => declared.clone(),
        _ => read_with_sizes(&std::fs::read(case.model())?, sizes)?,
    };
    let g = &declared.graph;
    let inputs = case.values("input", g.inputs.iter().map(|&v| &g[v].ty))?;
    let want = case.values("output", g.outputs.iter().take(case.num_outputs()).map(|&v| &g[v].ty))?;
    // Equal numbers must come from one thread and from two.
    let threads = if sizes == Sizes::Shared { 2 } else { 1 };
    let (engine, got) = run_engine(model, &inputs, threads, device)?;
    Ok((host_steps(&engine), difference(&got, &want, tolerance(case))))
}

/// How the outputs differ from those wanted, and what inference did not know.
fn run_reference_way(case: &Case) -> Result<(Option<String>, Result<()>)> {
    let model = read_file(&case.model())?;
    let g = &model.graph;
    let inputs = case.values("input", g.inputs.iter().map(|&v| &g[v].ty))?;
    let want = case.values("output", g.outputs.iter().take(case.num_outputs()).map(|&v| &g[v].ty))?;
    let (got, gap) = run_reference(&model, &inputs)?;
    Ok((difference(&got, &want, tolerance(case)), gap))
}

/// `operator element-type` of every step without a kernel.
fn host_steps(engine: &Engine) -> Vec<String> {
    let plan = engine.plan();
    let steps = plan.steps.iter().filter(|s| s.is_on_host(&plan.graph));
    steps
        .map(|s| {
            let node = &plan.graph[s.node];
            let types: Vec<String> = node
                .inputs()
                .iter()
                .flatten()
                .take(2)
                .map(|&v| plan.graph[v].ty.dtype().map_or("other".to_string(), |d| d.to_string()))
                .collect();
            format!("{} {}", node.op, types.join(","))
        })
        .collect()
}

/// Writes the page of operators, or says whether it is current.
fn operators_page(
    path: &std::path::Path,
    write: bool,
    cases: &[Case],
    results: &[Outcome],
    allowed: &BTreeMap<String, Vec<String>>,
) -> Result<bool> {
    let mut counts = Counts::new();
    for (case, outcome) in cases.iter().zip(results).filter(|(c, _)| !c.op.is_empty()) {
        let count = counts.entry(case.op.clone()).or_default();
        count.0 += outcome.engine.is_ok() as usize;
        count.1 += 1;
    }
    let page = page(&counts, allowed);
    if write {
        std::fs::write(path, page)?;
        return Ok(true);
    }
    let current = std::fs::read_to_string(path).is_ok_and(|old| old == page);
    if !current {
        println!("{} is not current; `cargo xtask operators` writes it", path.display());
    }
    Ok(current)
}

fn print_host_steps<'a>(steps: impl Iterator<Item = &'a String>) {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for step in steps {
        *counts.entry(step).or_default() += 1;
    }
    let mut counts: Vec<_> = counts.into_iter().collect();
    counts.sort_by_key(|&(step, n)| (std::cmp::Reverse(n), step));
    println!("steps by the reference evaluator:");
    for (step, n) in counts {
        println!("{n:>5}  {step}");
    }
}

fn print_table(cases: &[Case], results: &[Outcome]) {
    let mut suites: BTreeMap<&str, [usize; 4]> = BTreeMap::new();
    for (case, o) in cases.iter().zip(results) {
        for suite in [case.suite.as_str(), "~ all"] {
            let row = suites.entry(suite).or_default();
            let passed = [true, o.engine.is_ok(), o.reference.is_ok(), o.inference.is_ok()];
            row.iter_mut().zip(passed).for_each(|(n, p)| *n += p as usize);
        }
    }
    println!("{:<20}{:>8}{:>8}{:>11}{:>11}", "suite", "cases", "engine", "reference", "inference");
    for (suite, [all, engine, reference, inference]) in suites {
        println!("{:<20}{all:>8}{engine:>8}{reference:>11}{inference:>11}", suite.trim_start_matches("~ "));
    }
    let slowest = cases.iter().zip(results).max_by(|a, b| a.1.seconds.total_cmp(&b.1.seconds));
    if let Some((case, o)) = slowest {
        println!("slowest: {} {:.1} s", case.key(), o.seconds);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments() {
        let parse = |s: &str| parse(s.split_whitespace().map(String::from));
        let a = parse("--expect e --only abs x y").unwrap();
        assert_eq!((a.expect.as_path(), a.only.as_str(), a.folders.len()), (std::path::Path::new("e"), "abs", 2));
        assert!(parse("x").is_err() && parse("--expect e").is_err() && parse("--expect e --what x").is_err());
    }
}
