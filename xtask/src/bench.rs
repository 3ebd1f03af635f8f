//! oxrt beside its peers on the benchmark models, in one run, and the record of how they stood.
//!
//! Times do not travel between machines or days; ratios within a run do, to some degree. The record holds the ratio of
//! oxrt's time to that of the fastest peer, by precision and threads.

use crate::python::{python, venv};
use crate::{Outcome, cargo, root, run};
use serde_json::{Map, Value, json};
use std::process::Command;

/// The models of `../shared/bench/cpu_models.py`.
const MODELS: &[&str] = &[
    "resnet50",
    "resnet50_b8",
    "mobilenet_v3_large",
    "efficientnet_b0",
    "convnext_tiny",
    "vit_b_16",
    "swin_t",
    "yolov3_416",
    "unet_256",
    "bert_base_s128",
    "bert_base_b8",
    "gpt2_s128",
    "lstm_2x256",
];
/// A ratio may be worse than the recorded one by this factor: the machine is shared.
const TOLERANCE: f64 = 1.15;

struct Options {
    precision: String,
    threads: String,
    rounds: String,
    /// Build profile of oxrt.
    profile: String,
    /// Peers as `cpu_bench.py` names them, separated by commas; empty for the usual ones.
    peers: String,
    check: bool,
    record: bool,
    models: Vec<String>,
}

fn parse(args: &[String]) -> Result<Options, String> {
    let mut o = Options {
        precision: "fp32".into(),
        threads: "2".into(),
        rounds: "5".into(),
        profile: "release".into(),
        peers: String::new(),
        check: false,
        record: false,
        models: Vec::new(),
    };
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        let mut value = || args.next().cloned().ok_or(format!("{arg} needs a value"));
        match arg.as_str() {
            "--precision" => o.precision = value()?,
            "--threads" => o.threads = value()?,
            "--rounds" => o.rounds = value()?,
            "--profile" => o.profile = value()?,
            "--peers" => o.peers = value()?,
            "--check" => o.check = true,
            "--record" => o.record = true,
            name if MODELS.contains(&name) => o.models.push(name.to_string()),
            other => return Err(format!("`{other}` is neither an option nor one of {}", MODELS.join(", "))),
        }
    }
    if o.models.is_empty() {
        o.models = MODELS.iter().map(|m| m.to_string()).collect();
    }
    Ok(o)
}

/// Times the models and prints a table; checks or writes the record.
pub fn bench(args: &[String]) -> Outcome {
    let o = parse(args)?;
    venv()?;
    let shared = root().join("../shared/bench");
    if !shared.join("cpu_bench.py").exists() {
        return Err(format!("{} has no cpu_bench.py", shared.display()));
    }
    run(cargo().args(["build", "--profile", &o.profile, "-p", "oxrt", "--example", "bench_peer"]))?;
    run(Command::new(python()).args(["-m", "pip", "install", "--quiet", "openvino==2026.4.1"]))?;
    let data = root().join("target/bench-models");
    let missing: Vec<&String> = o.models.iter().filter(|n| !data.join(format!("{n}.npz")).exists()).collect();
    if !missing.is_empty() {
        run(Command::new(python()).arg(shared.join("cpu_models.py")).arg(&data).args(missing))?;
    }
    // OpenVINO's own default is the peer in bfloat16; where the precision is fp32, it is told so.
    let usual = if o.precision == "fp32" { "ort,ov_f32" } else { "ov_auto" };
    let peers: Vec<&str> = if o.peers.is_empty() { usual } else { &o.peers }.split(',').collect();
    let program = root().join("target").join(&o.profile).join("examples/bench_peer");
    let ours = format!("cmd:oxrt={} {}", program.display(), o.precision);
    let results = root().join("target/bench.json");
    run(Command::new(python())
        .arg(shared.join("cpu_bench.py"))
        .arg(&data)
        .args(["--peers", &format!("{},{ours}", peers.join(","))])
        .args(["--models", &o.models.join(","), "--rounds", &o.rounds, "--threads", &o.threads, "--json"])
        .arg(&results))?;
    let text = std::fs::read_to_string(&results).map_err(|e| e.to_string())?;
    let rows: Value = serde_json::from_str(&text).map_err(|e| e.to_string())?;
    // A command is known by the name before its `=`.
    let names: Vec<&str> =
        peers.iter().map(|p| p.strip_prefix("cmd:").map_or(*p, |c| c.split('=').next().unwrap_or(c))).collect();
    let ratios = table(&rows, &names, &o.models)?;
    let key = format!("{}, {} threads", o.precision, o.threads);
    compare(&o, &key, &ratios)
}

/// Prints the table; gives each model's ratio to the fastest peer.
fn table(rows: &Value, peers: &[&str], models: &[String]) -> Result<Vec<(String, f64)>, String> {
    println!("| model | {} | oxrt | ratio | error of oxrt |", peers.join(" | "));
    println!("|---|{}---|---|---|", "---|".repeat(peers.len()));
    let mut ratios = Vec::new();
    for model in models {
        let row = &rows[model];
        let ms = |peer: &str| row[peer]["ms"].as_f64();
        let ours = ms("oxrt").ok_or_else(|| format!("{model}: {}", row["oxrt"]["error"]))?;
        let fastest = peers.iter().filter_map(|p| ms(p)).fold(f64::INFINITY, f64::min);
        let cells: Vec<String> = peers.iter().map(|p| ms(p).map_or("fails".into(), |t| format!("{t:.2}"))).collect();
        let error = row["oxrt"]["rel_err"].as_f64().unwrap_or(f64::NAN);
        println!("| {model} | {} | {ours:.2} | {:.2} | {error:.1e} |", cells.join(" | "), ours / fastest);
        ratios.push((model.clone(), ours / fastest));
    }
    let mean = (ratios.iter().map(|r| r.1.ln()).sum::<f64>() / ratios.len().max(1) as f64).exp();
    println!("\ngeometric mean of the ratios: {mean:.3}");
    Ok(ratios)
}

fn compare(o: &Options, key: &str, ratios: &[(String, f64)]) -> Outcome {
    let path = root().join("benches/cpu_ratios.json");
    let mut record: Value = match std::fs::read_to_string(&path) {
        Ok(text) => serde_json::from_str(&text).map_err(|e| format!("{}: {e}", path.display()))?,
        Err(_) => json!({}),
    };
    if o.check {
        let known = record[key].as_object().ok_or(format!("{} has nothing for `{key}`", path.display()))?;
        let worse: Vec<String> = ratios
            .iter()
            .filter_map(|(model, ratio)| {
                let before = known.get(model)?.as_f64()?;
                (*ratio > TOLERANCE * before).then(|| format!("{model}: {ratio:.2}, recorded {before:.2}"))
            })
            .collect();
        if !worse.is_empty() {
            return Err(format!("slower beside the peers than recorded:\n  {}", worse.join("\n  ")));
        }
    }
    if o.record {
        let entry = record.as_object_mut().ok_or("the record is not an object")?.entry(key).or_insert(json!({}));
        let entry: &mut Map<String, Value> = entry.as_object_mut().ok_or("an entry is not an object")?;
        for (model, ratio) in ratios {
            entry.insert(model.clone(), json!((ratio * 100.0).round() / 100.0));
        }
        std::fs::create_dir_all(root().join("benches")).map_err(|e| e.to_string())?;
        let text = serde_json::to_string_pretty(&record).map_err(|e| e.to_string())?;
        std::fs::write(&path, text + "\n").map_err(|e| e.to_string())?;
    }
    Ok(())
}
