//! Imports a `.pt2`, runs it by the reference evaluator and compares with expected outputs.
//!
//! ```text
//! pt2_check MODEL.pt2 [--list] [IN.npz OUT.npz]...
//! ```
//! Arrays of the archives are named 0, 1, … in order; `<n>:bf16` holds bfloat16 as u16. Exit status 1 when a
//! difference exceeds 1e-3 relative + 1e-4 absolute (1e-2 for 16-bit floats) and is not noise beside the
//! largest magnitude of its output.

use oxrt_ir::broken_conditions;
use oxrt_ops::{Datum, Interpreter};
use oxrt_tensor::{DType, Error, Result, Tensor, bail, npy};
use oxrt_torch::{ImportOptions, import};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;

fn main() {
    match run() {
        Ok(true) => {}
        Ok(false) => std::process::exit(1),
        Err(e) => {
            println!("error: {e}");
            std::process::exit(2);
        }
    }
}

fn run() -> Result<bool> {
    let mut args: Vec<String> = std::env::args().skip(1).collect();
    let list = args.iter().position(|a| a == "--list").map(|i| args.remove(i)).is_some();
    let Some(model) = args.first() else { bail!(invalid, "usage: pt2_check MODEL.pt2 [--list] [IN.npz OUT.npz]...") };
    let start = Instant::now();
    let imported = import(Path::new(model), &ImportOptions::default())?;
    let g = &imported.model.graph;
    println!("import {:.3} s, {} nodes", start.elapsed().as_secs_f64(), g.num_nodes());
    for v in &g.inputs {
        println!("in  {}: {}", g[*v].name, g[*v].ty);
    }
    for v in &g.outputs {
        println!("out {}: {}", g[*v].name, g[*v].ty);
    }
    for (s, r) in imported.model.symbols.iter() {
        println!("dim {s} {r}");
    }
    for w in &imported.warnings {
        println!("warning: {w}");
    }
    if list {
        for (_, node) in g.nodes() {
            let name = |v: &Option<oxrt_ir::ValueId>| v.map_or("-".to_string(), |v| g[v].name.clone());
            let types: Vec<String> =
                node.outputs().iter().flatten().map(|&v| format!("{}: {}", g[v].name, g[v].ty)).collect();
            let inputs: Vec<String> = node.inputs().iter().map(name).collect();
            println!("{} = {}({}) {:?} # {}", types.join(", "), node.op, inputs.join(", "), node.attrs, node.name);
        }
    }
    let mut good = true;
    for pair in args[1..].chunks_exact(2) {
        good &= check(&imported.model, &pair[0], &pair[1])?;
    }
    Ok(good)
}

fn load(path: &str) -> Result<Vec<Tensor>> {
    let mut arrays: Vec<(usize, Tensor)> = Vec::new();
    for (name, t) in npy::read_npz(Path::new(path))? {
        let (number, kind) = name.split_once(':').unwrap_or((&name, ""));
        let number = number.parse().map_err(|_| Error::invalid(format!("the array name `{name}` is no number")))?;
        let t = if kind == "bf16" { Tensor::from_bytes(DType::BF16, t.shape(), t.bytes())? } else { t };
        arrays.push((number, t));
    }
    arrays.sort_by_key(|a| a.0);
    Ok(arrays.into_iter().map(|a| a.1).collect())
}

fn check(model: &oxrt_ir::Model, inputs: &str, outputs: &str) -> Result<bool> {
    let g = &model.graph;
    let (inputs, expected) = (load(inputs)?, load(outputs)?);
    // Plain numbers among the arguments are no inputs of the graph.
    let inputs = match inputs.len() > g.inputs.len() {
        true => inputs.into_iter().filter(|t| t.rank() > 0).collect(),
        false => inputs,
    };
    let mut sizes: BTreeMap<String, i64> = BTreeMap::new();
    for (v, t) in g.inputs.iter().zip(&inputs) {
        for (d, &n) in g.dims(*v).unwrap_or_default().iter().zip(t.shape()) {
            if let Some(s) = d.as_symbol() {
                sizes.insert(s.to_string(), n as i64);
            }
        }
    }
    if let Some(broken) = broken_conditions(model, &|n| sizes.get(n).copied()).first() {
        println!("skipped: the sizes break `{broken}`, which the program was traced under");
        return Ok(true);
    }
    let start = Instant::now();
    let got = Interpreter::new(g).run(inputs.into_iter().map(Datum::Tensor).collect())?;
    let seconds = start.elapsed().as_secs_f64();
    if got.len() != expected.len() {
        bail!(invalid, "{} outputs, {} expected", got.len(), expected.len());
    }
    let mut good = true;
    for (i, (a, b)) in got.into_iter().zip(&expected).enumerate() {
        let a = a.into_tensor()?;
        let name = &g[g.outputs[i]].name;
        if a.shape() != b.shape() {
            println!("BAD {name}: shape {:?}, expected {:?}", a.shape(), b.shape());
            good = false;
            continue;
        }
        // The declared type must hold for what came out.
        if g[g.outputs[i]].ty.dtype() != Some(a.dtype()) {
            println!("BAD {name}: {} came out, {} declared", a.dtype(), g[g.outputs[i]].ty);
            good = false;
        }
        let narrow = matches!(b.dtype(), DType::F16 | DType::BF16);
        let (rtol, atol) = if narrow { (1e-2, 1e-2) } else { (1e-3, 1e-4) };
        let (x, y) = (a.to_f64_vec()?, b.to_f64_vec()?);
        let scale = y.iter().filter(|v| v.is_finite()).fold(0f64, |m, v| m.max(v.abs()));
        let (mut worst, mut relative, mut bad) = (0f64, 0f64, 0);
        for (&p, &q) in x.iter().zip(&y) {
            if p == q || p.is_nan() && q.is_nan() {
                continue;
            }
            let d = (p - q).abs();
            if !d.is_finite() {
                bad += 1;
                continue;
            }
            worst = worst.max(d);
            relative = relative.max(d / q.abs().max(1e-12));
            bad += (d > atol + rtol * q.abs() && d > 1e-4 * scale) as usize;
        }
        let verdict = if bad == 0 { "ok " } else { "BAD" };
        let dtype = if a.dtype() == b.dtype() { String::new() } else { format!(" ({} for {})", a.dtype(), b.dtype()) };
        println!(
            "{verdict} {name}{dtype}: abs {worst:.2e} rel {relative:.2e} of {scale:.2e}, {bad}/{} off, {seconds:.2} s",
            x.len()
        );
        good &= bad == 0;
    }
    Ok(good)
}
