//! Rules run on small graphs written as text.
#![allow(dead_code)]

use oxrt_ir::{Model, parse_graph};
use oxrt_ops::{Datum, Interpreter};
use oxrt_passes::{Log, Options, prepare_engine, simplify};
use oxrt_tensor::Tensor;

pub fn model(text: &str) -> Model {
    let mut m = Model { graph: parse_graph(text).unwrap(), ..Default::default() };
    oxrt_ops::infer::infer_model(&mut m).unwrap();
    m
}

/// Random-looking inputs; symbols are 2, 3, 4 … in order of appearance.
pub fn inputs(m: &Model) -> Vec<Datum> {
    let mut sizes = std::collections::BTreeMap::new();
    let g = &m.graph;
    let mut out = Vec::new();
    for &v in &g.inputs {
        g[v].ty.for_each_symbol(&mut |s| {
            let next = 2 + sizes.len() as i64;
            sizes.entry(s.clone()).or_insert(next);
        });
        let dims = g.dims(v).unwrap();
        let shape: Vec<usize> = dims.iter().map(|d| d.eval(&|s| sizes.get(s).copied()).unwrap() as usize).collect();
        let n: usize = shape.iter().product();
        let values: Vec<f64> = (0..n).map(|i| ((i * 37 + 11) % 29) as f64 / 7.0 - 2.0).collect();
        out.push(Tensor::from_f64(g[v].ty.dtype().unwrap(), &shape, &values).unwrap().into());
    }
    out
}

pub fn run(m: &Model) -> Vec<Vec<f64>> {
    let outputs = Interpreter::new(&m.graph).run(inputs(m)).unwrap();
    outputs.iter().map(|d| d.as_tensor().unwrap().to_f64_vec().unwrap()).collect()
}

pub fn check(text: &str, pass: fn(&mut Model) -> Log, expect: &[&str], never: &[&str]) -> Model {
    check_within(1e-4, text, pass, expect, never)
}

pub fn check_within(tolerance: f64, text: &str, pass: fn(&mut Model) -> Log, expect: &[&str], never: &[&str]) -> Model {
    let before = model(text);
    let mut after = before.clone();
    let log = pass(&mut after);
    let fired: Vec<&str> = log.steps.iter().map(|s| s.rule).collect();
    expect
        .iter()
        .for_each(|r| assert!(fired.contains(r), "{r} did not fire on\n{text}\nonly {fired:?}\n{}", after.graph));
    never.iter().for_each(|r| assert!(!fired.contains(r), "{r} fired on\n{text}"));
    for (name_before, name_after) in before.graph.outputs.iter().zip(&after.graph.outputs) {
        assert_eq!(before.graph[*name_before].name, after.graph[*name_after].name, "output names are the contract");
    }
    for (a, b) in run(&before).iter().zip(run(&after)) {
        assert_eq!(a.len(), b.len());
        let close = |(x, y): (&f64, &f64)| (x - y).abs() <= tolerance * (0.1 + x.abs());
        assert!(a.iter().zip(&b).all(close), "other numbers after {fired:?}\n{text}\n{}\n{a:?}\n{b:?}", after.graph);
    }
    after
}

pub fn simple(m: &mut Model) -> Log {
    simplify(m, &Options::default()).unwrap()
}

pub fn engine(m: &mut Model) -> Log {
    prepare_engine(m, &Options::default()).unwrap()
}

pub fn count(m: &Model, op: &str) -> usize {
    m.graph.nodes().filter(|(_, n)| &*n.op == op).count()
}
