//! Every kind of bad input: a message with what, where and what next; a status other than 0; no panic, no file left.

mod common;

use common::{Bench, example};
use oxrt::npy::write_npz;
use oxrt::{DType, Tensor};
use std::path::Path;

const DIGITS: &str = "digits/model.pt2";

fn with_engine() -> (Bench, String) {
    let b = Bench::new();
    let engine = b.path("d.engine");
    b.ok(&["build", &example(DIGITS), "-o", &engine]);
    (b, engine)
}

fn npz(b: &Bench, name: &str, x: &Tensor) -> String {
    let path = b.path("x.npz");
    write_npz(Path::new(&path), [(name, x)]).unwrap();
    path
}

/// Cuts at many places and flips many bytes; each result must load or fail, never crash.
fn damage(good: &[u8], mut try_it: impl FnMut(&[u8])) {
    let steps = 40;
    for i in 0..steps {
        try_it(&good[..good.len() * i / steps]);
        let mut altered = good.to_vec();
        let at = (good.len() - 1) * i / steps;
        altered[at] ^= 0x55;
        try_it(&altered);
    }
}

#[test]
fn cut_off_and_altered_pt2() {
    let b = Bench::new();
    let good = std::fs::read(example(DIGITS)).unwrap();
    damage(&good, |bytes| {
        std::fs::write(b.path("bad.pt2"), bytes).unwrap();
        let r = b.run(&["check", &b.path("bad.pt2")]);
        assert!(matches!(r.code, Some(0..=2)), "{:?} {}", r.code, r.err);
    });
    std::fs::write(b.path("bad.pt2"), &good[..good.len() / 2]).unwrap();
    b.fails(&["export", &b.path("bad.pt2"), "-o", &b.path("x.onnx")], &["bad.pt2"]);
    std::fs::write(b.path("empty.pt2"), []).unwrap();
    b.fails(&["check", &b.path("empty.pt2")], &["empty"]);
    b.fails(&["check", &b.path("absent.pt2")], &["absent.pt2", "No such file"]);
    std::fs::write(b.path("weights.pth"), b"\x80\x02}q\x00.").unwrap();
    b.fails(&["check", &b.path("weights.pth")], &["no graph", "torch.export"]);
}

#[test]
fn cut_off_and_altered_onnx() {
    let b = Bench::new();
    b.ok(&["export", &example(DIGITS), "-o", &b.path("m.onnx")]);
    let good = std::fs::read(b.path("m.onnx")).unwrap();
    damage(&good, |bytes| {
        std::fs::write(b.path("bad.onnx"), bytes).unwrap();
        let r = b.run(&["check", &b.path("bad.onnx")]);
        assert!(matches!(r.code, Some(0..=2)), "{:?} {}", r.code, r.err);
    });
    std::fs::write(b.path("bad.onnx"), &good[..good.len() / 2]).unwrap();
    b.fails(&["build", &b.path("bad.onnx")], &["bad.onnx", "ONNX"]);
}

#[test]
fn cut_off_and_altered_engine() {
    let (b, engine) = with_engine();
    let good = std::fs::read(&engine).unwrap();
    damage(&good, |bytes| {
        std::fs::write(b.path("bad.engine"), bytes).unwrap();
        let r = b.run(&["check", &b.path("bad.engine")]);
        assert!(matches!(r.code, Some(1 | 2)), "an altered engine was taken: {:?} {}", r.code, r.err);
        assert!(!r.err.contains("internal error"), "{}", r.err);
    });
    let mut version = good.clone();
    version[8] = 99;
    std::fs::write(b.path("bad.engine"), version).unwrap();
    b.fails(&["run", &b.path("bad.engine")], &["format 99", "oxrt build"]);
}

#[test]
fn damaged_pictures() {
    let b = Bench::new();
    let good = std::fs::read(example("super_resolution/cat.png")).unwrap();
    let sr = example("super_resolution/model.pt2");
    for bad in [&good[..100], &good[..good.len() / 3], b"not a picture"] {
        std::fs::write(b.path("bad.png"), bad).unwrap();
        b.fails(
            &["run", &sr, "--in", &format!("image={}", b.path("bad.png")), "--out", &b.path("y.png")],
            &["bad.png"],
        );
    }
    std::fs::write(b.path("x.txt"), "hello").unwrap();
    b.fails(&["run", &sr, "--in", &format!("image={}", b.path("x.txt"))], &["x.txt", ".npy"]);
    b.fails(&["run", &sr, "--in", &example("super_resolution/cat.png"), "--out", &b.path("y.xyz")], &["xyz"]);
}

#[test]
fn wrong_names_types_ranks_and_sizes() {
    let (b, engine) = with_engine();
    let good = Tensor::zeros(DType::F32, &[2, 1, 8, 8]);
    let run = |name: &str, x: &Tensor, words: &[&str]| {
        let file = npz(&b, name, x);
        b.fails(&["run", &engine, "--in", &file], words);
    };
    run("pixelz", &good, &["`pixels`", "missing"]);
    run("pixels", &Tensor::zeros(DType::I64, &[2, 1, 8, 8]), &["pixels", "f32", "i64"]);
    run("pixels", &Tensor::zeros(DType::F32, &[1, 8, 8]), &["rank 4", "[1, 8, 8]"]);
    run("pixels", &Tensor::zeros(DType::F32, &[2, 3, 8, 8]), &["axis 1", "size 1", "given 3"]);
    run("pixels", &Tensor::zeros(DType::F32, &[2000, 1, 8, 8]), &["batch", "2000", "1024"]);
    let x = npz(&b, "pixels", &good);
    b.fails(&["run", &engine, "--in", &format!("nope={x}")], &["no input `nope`", "pixels"]);
    b.fails(
        &["run", &engine, "--in", &x, "--out", &format!("nope={}", b.path("y.npy"))],
        &["no output `nope`", "output"],
    );
    b.fails(&["run", &engine], &["pixels", "missing", "--in"]);
}

#[test]
fn bad_ranges_and_options() {
    let b = Bench::new();
    let (model, out) = (example(DIGITS), b.path("x.engine"));
    b.fails(&["build", &model, "-o", &out, "--dim", "batch=8:4:16"], &["min ≤ opt ≤ max"]);
    b.fails(&["build", &model, "-o", &out, "--dim", "bach=1:4:16"], &["no dimension `bach`", "batch"]);
    b.fails(&["build", &model, "-o", &out, "--dim", "batch"], &["--dim"]);
    b.fails(&["build", &model, "-o", &out, "--dim", "batch=1:4:4096"], &["1024"]);
    b.fails(&["build", &model, "-o", &out, "--device", "cuda"], &["CUDA"]);
    b.fails(&["build", &model, "-o", &out, "--device", "tpu"], &["tpu"]);
    b.fails(&["build", &model, "-o", &out, "--precision", "fp4"], &["fp4"]);
    b.fails(&["export", &model, "-o", &b.path("x.onnx"), "--opset", "0"], &["1 to 28"]);
    b.fails(&["export", &model, "-o", &b.path("x.onnx"), "--input-name", "a=b"], &["`a`", "pixels"]);
}

#[test]
fn unwritable_places_leave_nothing() {
    let b = Bench::new();
    b.fails(&["export", &example(DIGITS), "-o", &b.path("no/such/folder/x.onnx")], &["no/such/folder"]);
    // A device that is always full stands for a full disk.
    if Path::new("/dev/full").exists() {
        let r = b.run(&["completions", "bash"]);
        assert_eq!(r.code, Some(0));
        let full = std::process::Command::new(env!("CARGO_BIN_EXE_oxrt"))
            .args(["inspect", &example(DIGITS), "--json"])
            .stdout(std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap())
            .output()
            .unwrap();
        assert!(full.status.code().is_some_and(|c| c != 0), "a full disk went unnoticed");
    }
}
