//! A folder that tests and times the CUDA engine on a machine with an NVIDIA GPU, which needs neither Rust nor this repository.

use crate::{Outcome, cargo, root, run};
use std::fs;
use std::path::Path;
use std::process::Command;

/// What runs there. The official cases come as an archive; onnxruntime and PyTorch are wanted for answers and peers alone.
const SCRIPT: &str = r#"#!/bin/sh
# Runs in this folder; needs the NVIDIA driver, NVRTC, and python3 with torch for the models.
set -u
cd "$(dirname "$0")"
export LD_LIBRARY_PATH="/usr/local/cuda/lib64:${LD_LIBRARY_PATH:-}"
date -u
./oxrt doctor | grep -A1 CUDA
tar xJf cases.tar.xz
# The suite `light` is not in the archive.
python3 -c "
import json
m = json.load(open('cases/manifest.json'))
m['cases'] = [c for c in m['cases'] if c['suite'] != 'light']
json.dump(m, open('cases/manifest.json', 'w'))"
./onnx_cases --expect expectations --device cuda cases
cases=$?
python3 gpu_ops.py --oxrt ./oxrt
small=$?
python3 gpu_sizes.py --oxrt ./oxrt --sizes "${SIZES:-100}"
sizes=$?
python3 gpu.py --oxrt ./oxrt --peers "${PEERS-graph,freeze}" --budget "${BUDGET:-450}" --out "${OUT:-.}/gpu.json"
models=$?
exit $((cases + small + models + sizes))
"#;

/// Packs `target/gpu-test`; with `--run`, runs it here; with `--fast`, of the profile `fast`.
pub fn gpu_test(args: &[String]) -> Outcome {
    let folder = root().join("target/gpu-test");
    let io = |e: std::io::Error| format!("{}: {e}", folder.display());
    fs::create_dir_all(folder.join("expectations")).map_err(io)?;
    let cases = root().join("target/onnx-cases");
    if !cases.join("node").is_dir() {
        return Err("the official cases are not there yet: `cargo xtask onnx-cases` makes them".to_string());
    }
    let profile = if args.iter().any(|a| a == "--fast") { "fast" } else { "release" };
    run(cargo().args(["build", "--profile", profile, "-p", "oxrt-cli", "-p", "oxrt-testkit"]))?;
    let copy = |from: &Path, to: &str| fs::copy(from, folder.join(to)).map(|_| ()).map_err(io);
    for program in ["oxrt", "onnx_cases"] {
        copy(&root().join("target").join(profile).join(program), program)?;
        // Symbols are most of it, and it has to be carried.
        run(Command::new("strip").arg(folder.join(program)))?;
    }
    copy(&root().join("tests/python/gpu.py"), "gpu.py")?;
    copy(&root().join("tests/python/gpu_ops.py"), "gpu_ops.py")?;
    copy(&root().join("tests/python/gpu_sizes.py"), "gpu_sizes.py")?;
    copy(&root().join("tests/expectations/onnx-cuda.txt"), "expectations/onnx-cuda.txt")?;
    fs::write(folder.join("run.sh"), SCRIPT).map_err(io)?;
    // The whole models of the suite `light` are larger than all other cases together.
    run(Command::new("tar").arg("cJf").arg(folder.join("cases.tar.xz")).arg("-C").arg(root().join("target")).args([
        "--exclude=light",
        "--transform",
        "s/^onnx-cases/cases/",
        "onnx-cases",
    ]))?;
    eprintln!("xtask: carry {} to a machine with a GPU and run `sh run.sh` there", folder.display());
    if args.iter().any(|a| a == "--run") {
        return run(Command::new("sh").arg(folder.join("run.sh")));
    }
    Ok(())
}
