//! Tests that need PyTorch and onnxruntime as judges: models made by `tests/python/`, in `target/`.

use crate::{Outcome, cargo, root, run};
use std::path::PathBuf;
use std::process::Command;

/// Judges, pinned: a figure or an expectation list holds for these versions.
const PACKAGES: &[&str] =
    &["torch==2.15.0", "torchvision==0.29.2", "transformers==5.23.0", "onnx==1.23.2", "onnxruntime==1.32.0", "numpy"];

fn python() -> PathBuf {
    root().join("target/venv/bin/python")
}

/// Makes `target/venv` with the pinned packages; does nothing when it is there and complete.
fn venv() -> Outcome {
    let stamp = root().join("target/venv/packages");
    let wanted = PACKAGES.join("\n");
    if std::fs::read_to_string(&stamp).is_ok_and(|have| have == wanted) {
        return Ok(());
    }
    run(Command::new("python3").args(["-m", "venv"]).arg(root().join("target/venv")))?;
    run(Command::new(python())
        .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"])
        .args(PACKAGES))?;
    std::fs::write(&stamp, wanted).map_err(|e| e.to_string())
}

/// Exports the families, converts them, and compares with eager PyTorch and with onnxruntime.
pub fn test() -> Outcome {
    venv()?;
    run(cargo().args(["build", "--profile", "fast", "-p", "oxrt-cli"]))?;
    let cases = root().join("target/pt2-cases");
    let threads = ("OMP_NUM_THREADS", "2");
    run(Command::new(python())
        .env(threads.0, threads.1)
        .arg(root().join("tests/python/families.py"))
        .arg("--oxrt")
        .arg(root().join("target/fast/oxrt"))
        .arg("--cases")
        .arg(cases))
}

/// The official ONNX cases, and those that others wrote beside them in the same layout.
pub fn onnx_cases(options: &[String]) -> Outcome {
    venv()?;
    let cases = root().join("target/onnx-cases");
    run(Command::new(python()).arg(root().join("tests/python/onnx_cases.py")).arg(&cases))?;
    let extra = root().join("target/onnx-cases-extra");
    let folders = [&cases, &extra].into_iter().filter(|f| f.exists());
    run(cargo()
        .args(["run", "--profile", "fast", "-p", "oxrt-testkit", "--bin", "onnx_cases", "--", "--expect"])
        .arg(root().join("tests/expectations"))
        .arg("--operators")
        .arg(root().join("docs/operators.md"))
        .args(options)
        .args(folders))
}

/// Random graphs against onnxruntime; `--graphs N --seed S`.
pub fn fuzz_onnx(options: &[String]) -> Outcome {
    venv()?;
    run(cargo().args(["build", "--profile", "fast", "-p", "oxrt-testkit", "--bin", "onnx_peer"]))?;
    run(Command::new(python())
        .env("OMP_NUM_THREADS", "1")
        .arg(root().join("tests/python/onnx_random/main.py"))
        .arg("--peer")
        .arg(root().join("target/fast/onnx_peer"))
        .arg("--keep")
        .arg(root().join("target/onnx-random"))
        .args(options))
}

/// Side by side with onnxruntime on the models of `../shared/bench`.
pub fn bench(models: &[String]) -> Outcome {
    venv()?;
    let shared = root().join("../shared/bench");
    if !shared.join("cpu_bench.py").exists() {
        return Err(format!("{} has no cpu_bench.py", shared.display()));
    }
    run(cargo().args(["build", "--release", "-p", "oxrt", "--example", "bench_peer"]))?;
    let data = root().join("target/bench-models");
    let names: Vec<String> = if models.is_empty() {
        ["resnet50", "mobilenet_v3_large", "vit_b_16", "bert_base_s128", "yolov3_416", "unet_256"]
            .map(String::from)
            .to_vec()
    } else {
        models.to_vec()
    };
    let missing: Vec<&String> = names.iter().filter(|n| !data.join(format!("{n}.npz")).exists()).collect();
    if !missing.is_empty() {
        run(Command::new(python()).args(["-m", "pip", "install", "--quiet", "onnxscript==0.7.2"]))?;
        run(Command::new(python()).arg(shared.join("cpu_models.py")).arg(&data).args(missing))?;
    }
    let peer = format!("cmd:oxrt={} fp32", root().join("target/release/examples/bench_peer").display());
    run(Command::new(python()).arg(shared.join("cpu_bench.py")).arg(&data).args([
        "--peers",
        &format!("ort,{peer}"),
        "--models",
        &names.join(","),
        "--rounds",
        "5",
    ]))
}
