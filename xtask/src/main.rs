//! Chores: `cargo xtask` lists them.

mod bench;
mod gpu;
mod python;
mod tidy;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Instant;

const HELP: &str = "\
cargo xtask <chore>

  check         format, clippy with warnings denied, tidy rules, licences (no network, no Python)
  test          check, then every Rust test, then the tests against PyTorch and onnxruntime
  rust-test     the Rust tests alone
  python-test   the tests against PyTorch and onnxruntime alone (makes target/venv on first use)
  opinfo        torch's own operator samples, against tests/python/opinfo_uncovered.tsv (all, or the operators named)
  onnx-cases    the official ONNX cases (all ways of running them; --only SUBSTRING, --host-steps)
  onnx-extra    operators without official cases, old opsets, conversions (--suite NAME, --only REGEX)
  operators     writes docs/operators.md from the official cases
  kernel-times  single operators beside onnxruntime, with their answers compared (--only TEXT, --rounds N, --threads N, --markdown)
  fuzz-onnx     random graphs against onnxruntime (--graphs N --seed S, --only FAMILY, --jobs N)
  simplify-peers  oxrt simplify beside onnxsim and OnnxSlim (--only TEXT, --again, --pt2 DIR)
  acceptance    tests the tables of `oxrt check --for` against onnxruntime; `acceptance write` makes them anew
  view-test     the page of `oxrt view` in a headless Chromium (Debian's package `chromium`, or CHROMIUM names its program)
  kernels       compiles the CUDA kernel texts for compute capability 8.0, 9.0 and 10.0 (NVRTC from PyPI; no GPU)
  gpu-test      packs target/gpu-test, a folder that tests and times everything on a machine with a GPU; --run does so here
  bench         times oxrt beside onnxruntime and OpenVINO on the benchmark models (needs ../shared/bench); models are named
                or all; --precision bf16, --threads N, --rounds N, --check against benches/cpu_ratios.json, --record writes it
";

type Outcome = Result<(), String>;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let started = Instant::now();
    let result = match args.first().map(String::as_str) {
        Some("check") => check(),
        Some("test") => check().and_then(|()| rust_test()).and_then(|()| python_test()),
        Some("rust-test") => rust_test(),
        Some("python-test") => python_test(),
        Some("fuzz-onnx") => python::fuzz_onnx(&args[1..]),
        Some("opinfo") => python::opinfo(&args[1..]),
        Some("operators") => python::onnx_cases(&["--write".to_string()]),
        Some("onnx-cases") => python::onnx_cases(&args[1..]),
        Some("onnx-extra") => python::onnx_extra(&args[1..]),
        Some("kernel-times") => python::kernel_times(&args[1..]),
        Some("simplify-peers") => python::simplify_peers(&args[1..]),
        Some("acceptance") => python::acceptance(&args[1..]),
        Some("view-test") => python::view_test(),
        Some("kernels") => python::kernels(),
        Some("gpu-test") => gpu::gpu_test(&args[1..]),
        Some("bench") => bench::bench(&args[1..]),
        _ => {
            print!("{HELP}");
            return ExitCode::FAILURE;
        }
    };
    match result {
        Ok(()) => {
            eprintln!("xtask: all well in {:.0} s", started.elapsed().as_secs_f64());
            ExitCode::SUCCESS
        }
        Err(e) => {
            eprintln!("xtask: {e}");
            ExitCode::FAILURE
        }
    }
}

fn python_test() -> Outcome {
    let small = ["--graphs", "2000", "--seed", "1"].map(String::from);
    // The extra cases are made first: the same runner takes them all.
    python::onnx_extra(&[])
        .and_then(|()| python::onnx_cases(&[]))
        .and_then(|()| python::fuzz_onnx(&small))
        .and_then(|()| python::kernels())
        .and_then(|()| python::test())
        .and_then(|()| python::view_test())
}

/// Root of the repository.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new(".")).to_path_buf()
}

fn cargo() -> Command {
    let mut c = Command::new(std::env::var("CARGO").unwrap_or_else(|_| "cargo".into()));
    c.current_dir(root());
    c
}

/// Runs a command, showing it first.
fn run(command: &mut Command) -> Outcome {
    eprintln!("xtask: {command:?}");
    let status = command.status().map_err(|e| format!("{command:?}: {e}"))?;
    if status.success() { Ok(()) } else { Err(format!("{command:?} ended with {status}")) }
}

fn check() -> Outcome {
    run(cargo().args(["fmt", "--all", "--check"]))?;
    tidy::check()?;
    run(cargo().args(["clippy", "--workspace", "--all-targets", "--profile", "fast", "--", "-D", "warnings"]))
}

fn rust_test() -> Outcome {
    let has_nextest = cargo().args(["nextest", "--version"]).output().is_ok_and(|o| o.status.success());
    if has_nextest {
        run(cargo().args(["nextest", "run", "--workspace", "--cargo-profile", "fast", "--no-fail-fast"]))?;
        return run(cargo().args(["test", "--workspace", "--profile", "fast", "--doc"]));
    }
    run(cargo().args(["test", "--workspace", "--profile", "fast"]))
}
