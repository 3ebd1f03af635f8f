//! A file beyond the 2 GiB that a protobuf message may have, in little memory.

use std::fs::File;
use std::process::{Command, Stdio};

const SIDE: u64 = 8192;
const LAYERS: u64 = 12;
const WEIGHT: u64 = SIDE * SIDE * 4;

fn varint(mut n: u64) -> Vec<u8> {
    let mut out = Vec::new();
    while n >= 0x80 {
        out.push(n as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
    out
}

fn number(field: u64, n: u64) -> Vec<u8> {
    [varint(field << 3), varint(n)].concat()
}

fn message(field: u64, parts: &[Vec<u8>]) -> Vec<u8> {
    let body = parts.concat();
    [varint(field << 3 | 2), varint(body.len() as u64), body].concat()
}

fn text(field: u64, s: &str) -> Vec<u8> {
    message(field, &[s.as_bytes().to_vec()])
}

fn value(field: u64, name: &str) -> Vec<u8> {
    let batch = message(1, &[text(2, "batch")]);
    let side = message(1, &[number(1, SIDE)]);
    let ty = message(2, &[message(1, &[number(1, 1), message(2, &[batch, side])])]);
    message(field, &[text(1, name), ty])
}

fn node(op: &str, inputs: &[&str], output: &str) -> Vec<u8> {
    let inputs: Vec<Vec<u8>> = inputs.iter().map(|i| text(1, i)).collect();
    message(1, &[inputs.concat(), text(2, output), text(3, output), text(4, op)])
}

/// `batch × 8192` through twelve products with weights of 256 MiB each, with an Identity between.
fn model() -> Vec<u8> {
    let mut graph = vec![text(2, "large"), value(11, "x"), value(12, "y")];
    let mut last = "x".to_string();
    for i in 0..LAYERS {
        let entry = |key: &str, value: &str| message(13, &[text(1, key), text(2, value)]);
        graph.push(message(
            5,
            &[
                number(1, SIDE),
                number(1, SIDE),
                number(2, 1),
                text(8, &format!("w{i}")),
                entry("location", "large.bin"),
                entry("offset", &(i * WEIGHT).to_string()),
                entry("length", &WEIGHT.to_string()),
                number(14, 1),
            ],
        ));
        graph.push(node("MatMul", &[&last, &format!("w{i}")], &format!("m{i}")));
        graph.push(node("Identity", &[&format!("m{i}")], &format!("i{i}")));
        last = if i + 1 == LAYERS { "y".to_string() } else { format!("r{i}") };
        graph.push(node("Relu", &[&format!("i{i}")], &last));
    }
    [number(1, 8), message(7, &graph), message(8, &[number(2, 17)])].concat()
}

/// Largest memory of its own (pages of mapped files left out) that a run had, in bytes, and its output.
fn run(args: &[&str]) -> (u64, String) {
    let mut child =
        Command::new(env!("CARGO_BIN_EXE_oxrt")).args(args).stdout(Stdio::piped()).spawn().expect("oxrt starts");
    let status = format!("/proc/{}/status", child.id());
    let mut peak = 0;
    while child.try_wait().expect("a child").is_none() {
        let text = std::fs::read_to_string(&status).unwrap_or_default();
        let line = text.lines().find_map(|l| l.strip_prefix("RssAnon:"));
        let kib = line.and_then(|l| l.trim().trim_end_matches(" kB").parse::<u64>().ok()).unwrap_or(0);
        peak = peak.max(kib << 10);
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    let output = child.wait_with_output().expect("output");
    assert!(output.status.success(), "oxrt {args:?}");
    (peak, String::from_utf8_lossy(&output.stdout).into_owned())
}

struct Folder(std::path::PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).ok();
    }
}

#[test]
#[cfg(target_os = "linux")]
fn three_gigabytes_take_the_memory_of_the_graph_and_one_tensor() {
    let folder = Folder(std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/large-file-test"));
    std::fs::create_dir_all(&folder.0).unwrap();
    let path = |name: &str| folder.0.join(name).display().to_string();
    std::fs::write(path("large.onnx"), model()).unwrap();
    // A hole: zeros that take no space.
    File::create(path("large.bin")).unwrap().set_len(LAYERS * WEIGHT).unwrap();
    const { assert!(LAYERS * WEIGHT > 3_000_000_000) };

    let limit = WEIGHT + (64 << 20);
    let (peak, report) = run(&["simplify", &path("large.onnx"), "-o", &path("small.onnx"), "--no-check", "--json"]);
    let report: serde_json::Value = serde_json::from_str(&report).unwrap();
    assert_eq!((report["nodes_before"].as_u64(), report["nodes_after"].as_u64()), (Some(36), Some(24)));
    assert!(peak < limit, "{} MiB", peak >> 20);
    let written: u64 = std::fs::read_dir(&folder.0)
        .unwrap()
        .flatten()
        .filter(|e| e.file_name().to_string_lossy().starts_with("small"))
        .map(|e| e.metadata().unwrap().len())
        .sum();
    assert!(written > 3_000_000_000, "{written}");
    // What was written can be read, and audited without being read.
    let (peak, text) = run(&["check", &path("small.onnx")]);
    assert!(text.contains("valid onnx, 24 nodes") && peak < limit, "{text} {} MiB", peak >> 20);
    let (peak, text) = run(&["audit", &path("large.onnx")]);
    assert!(text.contains("nothing suspicious") && peak < 32 << 20, "{text} {} MiB", peak >> 20);
}
