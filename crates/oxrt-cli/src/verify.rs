//! `oxrt verify`

use crate::args::BuildArgs;
use crate::ui;
use oxrt::{Comparison, Engine, Error, FileKind, Model, Result, Tensor, TensorView, VerifyCase, VerifyOptions, npy};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;

/// Compares a model or engine with saved outputs, or with the reference evaluator at several sizes
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  oxrt verify model.engine --against outputs.npz\n  oxrt verify model.onnx\n  oxrt verify model.engine --source model.pt2\n\nThe .npz holds inputs and outputs under the model's names, or as in0, in1 … and out0, out1 ….\nExit status 1 when a comparison fails."
)]
pub struct Args {
    /// .pt2, .onnx or .engine file to test
    model: PathBuf,
    /// Saved inputs and outputs of the source (.npz)
    #[arg(long, value_name = "NPZ")]
    against: Option<PathBuf>,
    /// Model to compare with (by default the tested model itself, run by the reference evaluator)
    #[arg(long, value_name = "MODEL")]
    source: Option<PathBuf>,
    /// Relative tolerance
    #[arg(long, default_value_t = 1e-3)]
    rtol: f64,
    /// Absolute tolerance
    #[arg(long, default_value_t = 1e-4)]
    atol: f64,
    /// Largest relative L2 error of outputs of an engine of lower precision, which is not held to the two above
    #[arg(long, default_value_t = 2e-2)]
    rel_l2: f64,
    #[command(flatten)]
    build: BuildArgs,
    /// Machine-readable report
    #[arg(long)]
    json: bool,
}

pub fn run(a: Args) -> Result<ExitCode> {
    let progress = ui::Progress::new();
    let budget = VerifyOptions {
        rtol: a.rtol,
        atol: a.atol,
        rel_l2: a.rel_l2,
        threads: a.build.threads,
        ..VerifyOptions::default()
    };
    let cases = match &a.against {
        Some(npz) => {
            let engine = a.build.engine(&a.model, &progress)?;
            vec![against_file(&engine, npz, &budget)?]
        }
        None => {
            let source_path = a.source.as_ref().unwrap_or(&a.model);
            if oxrt::file_kind(source_path)? == FileKind::Engine {
                return Err(Error::invalid("an engine alone has nothing to be compared with")
                    .help("add `--against outputs.npz` or `--source model.onnx`"));
            }
            progress.stage("reading");
            let source = Model::open(source_path)?;
            progress.stage("running both at several sizes");
            let options = VerifyOptions { samples: source.samples().to_vec(), ..budget };
            match oxrt::file_kind(&a.model)? {
                FileKind::Engine => {
                    oxrt::verify_engine(&Engine::open_with(&a.model, a.build.threads)?, &source, &options)?
                }
                _ => {
                    let model = a.build.simplified(Model::open(&a.model)?)?;
                    oxrt::verify_engine(&model.build(&a.build.options(&model)?)?, &source, &options)?
                }
            }
        }
    };
    let took = progress.finish();
    let passed = cases.iter().all(|c| c.passed);
    if a.json {
        ui::print_json(&serde_json::json!({ "passed": passed, "cases": cases, "seconds": took.as_secs_f64() }))?;
    } else {
        println!("{}", report(&cases));
        let compared = oxrt::compared(&cases);
        let refused = cases.len() - compared;
        println!(
            "{} at {} set(s) of inputs in {}{}",
            if passed { "equal within tolerance" } else { "DIFFERENT" },
            compared,
            ui::time(took),
            if refused > 0 { format!("; at {refused} the source itself does not run") } else { String::new() }
        );
    }
    Ok(if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// One row per output and case.
pub fn report(cases: &[VerifyCase]) -> String {
    let head = ["sizes", "output", "max abs", "max rel", "rel L2", "cosine", "ulp", ""];
    let mut rows = vec![head.iter().map(|s| s.to_string()).collect::<Vec<_>>()];
    for case in cases {
        let sizes: Vec<String> = case.sizes.iter().map(|(s, v)| format!("{s}={v}")).collect();
        let sizes = if sizes.is_empty() { "as given".to_string() } else { sizes.join(" ") };
        if let Some(said) = &case.refused {
            let mut row = vec![sizes.clone()];
            row.resize(head.len() - 1, String::new());
            row.push(format!("the source refuses: {said}"));
            rows.push(row);
        }
        for c in &case.outputs {
            let verdict = match (&c.mismatch, c.passed) {
                (Some(m), _) => m.clone(),
                (None, true) => "ok".to_string(),
                (None, false) => {
                    format!("{} of {} outside", c.outside + c.non_finite, c.shape.iter().product::<usize>())
                }
            };
            rows.push(vec![
                sizes.clone(),
                c.name.clone(),
                format!("{:.2e}", c.max_abs),
                format!("{:.2e}", c.max_rel),
                format!("{:.2e}", c.rel_l2),
                format!("{:.8}", c.cosine),
                format!("{:.0}", c.max_ulp),
                verdict,
            ]);
        }
    }
    ui::table(&rows)
}

fn against_file(engine: &Engine, npz: &std::path::Path, budget: &VerifyOptions) -> Result<VerifyCase> {
    let arrays = npy::read_npz(npz)?;
    let find = |name: &str, short: String| arrays.get(name).or_else(|| arrays.get(&short)).cloned();
    let have = || arrays.keys().cloned().collect::<Vec<_>>().join(", ");
    let mut inputs: Vec<(String, Tensor)> = Vec::new();
    for (i, p) in engine.inputs().iter().enumerate() {
        let t = find(&p.name, format!("in{i}")).ok_or_else(|| {
            Error::invalid(format!("{} has no input `{}` (or `in{i}`); it has {}", npz.display(), p.name, have()))
        })?;
        inputs.push((p.name.clone(), oxrt::input::convert(t, p)?));
    }
    let views: Vec<(&str, TensorView)> =
        inputs.iter().map(|(n, t)| Ok((n.as_str(), t.view()?))).collect::<Result<_>>()?;
    let got = engine.run(&views)?;
    let mut outputs: Vec<Comparison> = Vec::new();
    for (i, (name, t)) in got.iter().enumerate() {
        if let Some(want) = find(name, format!("out{i}")) {
            outputs.push(oxrt::compare_outputs(engine, name, t, &want, budget)?);
        }
    }
    if outputs.is_empty() {
        let names: Vec<&str> = got.iter().map(|(n, _)| n).collect();
        return Err(Error::invalid(format!(
            "{} holds none of the outputs {}; it has {}",
            npz.display(),
            names.join(", "),
            have()
        )));
    }
    let passed = outputs.iter().all(|c| c.passed);
    Ok(VerifyCase { sizes: BTreeMap::new(), outputs, passed, refused: None })
}
