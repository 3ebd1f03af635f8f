//! `oxrt inspect` and `oxrt view`.

mod common;

use common::{Bench, example};

const DIGITS: &str = "digits/model.pt2";

#[test]
fn inspect_prints_the_tables_that_are_asked_for() {
    let b = Bench::new();
    let report =
        b.ok(&["inspect", &example(DIGITS), "--cost", "--capability", "--memory", "--dim", "batch=8", "--json"]);
    let report: serde_json::Value = serde_json::from_str(&report).unwrap();
    // Three 3×3 convolutions: 2 operations per multiply-add, and the bias.
    assert_eq!(report["cost"]["nodes"][0]["flops_expression"], "19456*batch");
    assert_eq!(report["cost"]["nodes"][0]["flops"], 8.0 * 19456.0);
    assert_eq!(report["capability"]["targets"][0], "cpu fp32");
    assert!(report["capability"]["nodes"][0]["runs"][0]["kernel"]["kernel"].is_string());
    assert!(report["memory"]["arena_bytes"].as_u64() >= report["memory"]["lower_bound_bytes"].as_u64());
    let engine = b.path("d.engine");
    b.ok(&["build", &example(DIGITS), "-o", &engine, "--tuning", &b.path("tune.json")]);
    let text = b.ok(&["inspect", &engine, "--nodes", "--memory", "--tuning", &b.path("tune.json")]);
    assert!(text.contains("timed: ") && text.contains("features.2/Relu") && text.contains("busiest step"), "{text}");
    b.fails(&["inspect", &engine, "--capability"], &["built for one device"]);
    b.fails(&["inspect", &engine, "--cost", "--dim", "width=3"], &["no dimension `width`", "batch"]);
}

#[test]
fn view_writes_one_file() {
    let b = Bench::new();
    let page = b.path("m.html");
    b.ok(&["view", &example(DIGITS), "-o", &page, "--profile", "--with", "simplified"]);
    let text = std::fs::read_to_string(&page).unwrap();
    assert!(text.starts_with("<!doctype html>") && !text.contains("src=\"http"));
    let errors = b.path("errors.json");
    std::fs::write(&errors, r#"[{"node": "nothing", "error": 1}]"#).unwrap();
    b.fails(&["view", &example(DIGITS), "-o", &page, "--errors", &errors], &["errors.json", "no node"]);
    b.fails(&["view", &b.path("absent.onnx"), "-o", &page], &["absent.onnx"]);
}
