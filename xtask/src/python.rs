//! Tests that need PyTorch and onnxruntime as judges: models made by `tests/python/`, in `target/`.

use crate::{Outcome, cargo, root, run};
use std::path::PathBuf;
use std::process::Command;

/// Judges, pinned: a figure or an expectation list holds for these versions.
const PACKAGES: &[&str] = &[
    "torch==2.15.0",
    "torchvision==0.29.2",
    "transformers==5.23.0",
    "timm==1.0.31",
    "onnx==1.23.2",
    "onnxscript==0.7.2",
    "onnxruntime==1.32.0",
    "pillow",
    "expecttest",
    "numpy",
];

/// Simplifiers that ours is compared with.
const SIMPLIFIERS: &[&str] = &["onnxsim==0.8.1", "onnxslim==0.1.98"];

pub fn python() -> PathBuf {
    root().join("target/venv/bin/python")
}

/// Makes `target/venv` with the pinned packages; does nothing when it is there and complete.
pub fn venv() -> Outcome {
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

/// Converts models of every front end, and compares with eager PyTorch and with onnxruntime.
pub fn test() -> Outcome {
    venv()?;
    run(cargo().args(["build", "--profile", "fast", "-p", "oxrt-cli"]))?;
    // Exported programs, TorchScript files, Darknet networks, baked-in sizes, assertions, quantised models.
    for (script, cases) in [
        ("families.py", "pt2-cases"),
        ("torchscript.py", "script-cases"),
        ("darknet.py", "darknet-cases"),
        ("repair.py", "repair-cases"),
        ("assertions.py", "assertion-cases"),
        ("int8.py", "int8-cases"),
    ] {
        run(Command::new(python())
            .env("OMP_NUM_THREADS", "2")
            .arg(root().join("tests/python").join(script))
            .arg("--oxrt")
            .arg(root().join("target/fast/oxrt"))
            .arg("--cases")
            .arg(root().join("target").join(cases)))?;
    }
    odd_models()?;
    opinfo(SAMPLED)
}

/// Models that a conversion once failed on, static and dynamic; `tests/python/odd_models.py` says how to judge the others.
fn odd_models() -> Outcome {
    let cases = root().join("target/odd-cases");
    std::fs::create_dir_all(&cases).map_err(|e| e.to_string())?;
    run(Command::new(python())
        .env("OMP_NUM_THREADS", "1")
        .arg(root().join("tests/python/pt2_zoo.py"))
        .arg("--zoo")
        .arg(root().join("tests/python/odd_models.py"))
        .arg("--oxrt")
        .arg(root().join("target/fast/oxrt"))
        .arg("--cases")
        .arg(&cases)
        .arg("--out")
        .arg(cases.join("results.tsv"))
        .args([
            "write/In",
            "write/Lists",
            "sound/Phases",
            "cache/GrowingCache",
            "heads/RegionOps",
            "kinds/F",
            "layers/ConvKinds",
            "func/",
            "groups/",
            "bytes/",
        ]))
}

/// Operators whose samples are judged in every test run: one or two of each kind. `cargo xtask opinfo` takes them all.
const SAMPLED: &[&str] = &[
    "add",
    "clamp",
    "floor_divide",
    "remainder",
    "pow",
    "isclose",
    "hypot",
    "lgamma",
    "digamma",
    "erfinv",
    "special.i1",
    "special.hermite_polynomial_h",
    "gcd",
    "var_mean",
    "logcumsumexp",
    "cummax",
    "nanmedian",
    "mode",
    "quantile",
    "sort",
    "topk",
    "index_put",
    "index_reduce",
    "scatter_reduce",
    "masked_scatter",
    "nonzero_static",
    "searchsorted",
    "take_along_dim",
    "einsum",
    "tensordot",
    "linalg.solve",
    "linalg.qr",
    "linalg.cholesky",
    "linalg.lu",
    "linalg.eigvalsh",
    "linalg.svdvals",
    "linalg.pinv",
    "matrix_exp",
    "fft.rfft2",
    "fft.hfftn",
    "stft",
    "istft",
    "as_strided",
    "unfold",
    "diag_embed",
    "meshgrid",
    "split_with_sizes_copy",
    "nn.functional.avg_pool2d",
    "nn.functional.adaptive_max_pool2d",
    "nn.functional.conv_transpose1d",
    "nn.functional.cross_entropy",
    "nn.functional.group_norm",
    "nn.functional.grid_sample",
    "nn.functional.interpolate",
    "nn.functional.multi_margin_loss",
    "nn.functional.scaled_dot_product_attention",
    "nn.functional.embedding_bag",
];

/// torch's own samples of operators, against the committed list of what does not pass; without names, all of them.
pub fn opinfo<S: AsRef<std::ffi::OsStr>>(operators: &[S]) -> Outcome {
    venv()?;
    run(cargo().args(["build", "--profile", "fast", "-p", "oxrt-cli"]))?;
    let target = root().join("target");
    run(Command::new(python())
        .env("OMP_NUM_THREADS", "1")
        .arg(root().join("tests/python/pt2_opinfo.py"))
        .arg("--oxrt")
        .arg(target.join("fast/oxrt"))
        .arg("--cases")
        .arg(target.join("opinfo-cases"))
        .arg("--out")
        .arg(target.join("opinfo.tsv"))
        .arg("--check")
        .arg(root().join("tests/python/opinfo_uncovered.tsv"))
        .args(operators))
}

/// The page of `oxrt view` in a headless Chromium; screenshots stay in `target/view-cases`.
pub fn view_test() -> Outcome {
    venv()?;
    run(cargo().args(["build", "--profile", "fast", "-p", "oxrt-cli"]))?;
    run(Command::new(python())
        .env("OMP_NUM_THREADS", "1")
        .arg(root().join("tests/python/view.py"))
        .arg("--oxrt")
        .arg(root().join("target/fast/oxrt"))
        .arg("--cases")
        .arg(root().join("target/view-cases")))
}

/// The official ONNX cases, and those that others wrote beside them in the same layout.
pub fn onnx_cases(options: &[String]) -> Outcome {
    venv()?;
    let cases = root().join("target/onnx-cases");
    run(Command::new(python()).arg(root().join("tests/python/onnx_cases.py")).arg(&cases))?;
    run(cargo()
        .args(["run", "--profile", "fast", "-p", "oxrt-testkit", "--bin", "onnx_cases", "--", "--expect"])
        .arg(root().join("tests/expectations"))
        .arg("--operators")
        .arg(root().join("docs/operators.md"))
        .args(options)
        .arg(&cases))?;
    if !options.is_empty() {
        return Ok(());
    }
    // The CUDA engine's schedules and kernels, on an emulator of a GPU.
    run(cargo()
        .env("OXRT_EMULATOR_CACHE", root().join("target/emulated"))
        .args(["run", "--profile", "fast", "-p", "oxrt-testkit", "--bin", "onnx_cases", "--", "--expect"])
        .arg(root().join("tests/expectations"))
        .args(["--device", "cuda-emulator", "--only", "node/"])
        .arg(cases))
}

/// The CUDA kernel texts by NVIDIA's own compiler, which needs no GPU.
pub fn kernels() -> Outcome {
    venv()?;
    let folder = "import nvidia, os; print(next(d for p in nvidia.__path__ for d, _, files in os.walk(p) \
                  if any(f.startswith('libnvrtc.so') for f in files)))";
    let output = Command::new(python()).args(["-c", folder]).output().map_err(|e| format!("python: {e}"))?;
    if !output.status.success() {
        return Err(format!("NVRTC is not in the virtual environment: {}", String::from_utf8_lossy(&output.stderr)));
    }
    run(cargo()
        .env("LD_LIBRARY_PATH", String::from_utf8_lossy(&output.stdout).trim())
        .env("OXRT_NVRTC_ARCHS", "80,90,100")
        .args(["test", "--profile", "fast", "-p", "oxrt-cuda", "--", "texts_that_compile"]))
}

/// Operators without official cases, old opsets, element types and models that onnxruntime optimised, with onnxruntime's
/// answers; then conversions between opsets. Arguments go to the generator (`--suite contrib`, `--only REGEX`).
pub fn onnx_extra(args: &[String]) -> Outcome {
    venv()?;
    run(cargo().args(["build", "--profile", "fast", "-p", "oxrt-cli"]))?;
    let folder = root().join("tests/python/onnx_extra");
    let oxrt = root().join("target/fast/oxrt");
    let python = || {
        let mut c = Command::new(python());
        c.env("OMP_NUM_THREADS", "1");
        c
    };
    run(python()
        .arg(&folder)
        .arg("--cases")
        .arg(root().join("target/onnx-cases-extra"))
        .arg("--oxrt")
        .arg(&oxrt)
        .args(args))?;
    if args.is_empty() {
        return run(python().arg(folder.join("conversions.py")).arg("--oxrt").arg(oxrt));
    }
    Ok(())
}

/// Single operators beside onnxruntime.
pub fn kernel_times(options: &[String]) -> Outcome {
    venv()?;
    run(cargo().args(["build", "--release", "-p", "oxrt", "--example", "bench_peer"]))?;
    run(Command::new(python())
        .arg(root().join("tests/python/kernel_times.py"))
        .arg("--peer")
        .arg(root().join("target/release/examples/bench_peer"))
        .args(options))
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

/// `oxrt simplify` beside onnxsim and OnnxSlim: nodes, contract, numbers, time; arguments go to the script (`--only TEXT`,
/// `--pt2 DIR` for programs that node_counts.py kept).
pub fn simplify_peers(args: &[String]) -> Outcome {
    venv()?;
    let target = root().join("target");
    run(Command::new(python())
        .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"])
        .args(SIMPLIFIERS))?;
    run(Command::new(python()).arg(root().join("tests/python/onnx_cases.py")).arg(target.join("onnx-cases")))?;
    run(cargo().args(["build", "--profile", "fast", "-p", "oxrt-cli"]))?;
    run(Command::new(python())
        .env("OMP_NUM_THREADS", "1")
        .arg(root().join("tests/python/simplify_peers.py"))
        .arg("--oxrt")
        .arg(target.join("fast/oxrt"))
        .arg("--cases")
        .arg(target.join("simplify-cases"))
        .arg("--onnx-cases")
        .arg(target.join("onnx-cases"))
        .arg("--out")
        .arg(target.join("simplify-peers.jsonl"))
        .args(args))
}

/// The tables behind `oxrt check --for`: `write` makes those of onnxruntime and OpenVINO anew from the packages of every
/// version, without it they are tested against the oldest and the newest.
pub fn acceptance(args: &[String]) -> Outcome {
    venv()?;
    let target = root().join("target");
    let script = |what: &str| {
        let mut c = Command::new(python());
        c.env("OMP_NUM_THREADS", "1").arg(root().join("tests/python/acceptance.py")).arg(what);
        c.arg("--ort").arg(target.join("onnxruntime"));
        c
    };
    run(&mut script("fetch"))?;
    if args.first().is_some_and(|a| a == "write") {
        return run(script("table").arg("--write").arg(root().join("crates/oxrt/src/accept")));
    }
    run(Command::new(python()).arg(root().join("tests/python/onnx_cases.py")).arg(target.join("onnx-cases")))?;
    run(cargo().args(["build", "--profile", "fast", "-p", "oxrt-cli"]))?;
    run(script("test")
        .arg("--oxrt")
        .arg(target.join("fast/oxrt"))
        .arg("--onnx-cases")
        .arg(target.join("onnx-cases"))
        .args(args))
}
