//! Every example of every operator: parsed, inferred, evaluated, compared.

use oxrt_ir::{Symbols, parse_graph};
use oxrt_ops::infer::{contradiction, infer_graph};
use oxrt_ops::{DType, Datum, Error, Interpreter, OpDef, Tensor, registry};

/// `name = elements`, or `name[2,3] = elements` when the graph leaves the shape open.
fn input(text: &str, dtype: DType, shape: Option<Vec<usize>>) -> Tensor {
    let (head, values) = text.split_once('=').expect("name = elements");
    let shape = match head.trim().split_once('[') {
        Some((_, dims)) => dims.trim_end_matches(']').split(',').map(|d| d.trim().parse().unwrap()).collect(),
        None => shape.expect("a static shape"),
    };
    tensor(dtype, &shape, values)
}

fn tensor(dtype: DType, shape: &[usize], values: &str) -> Tensor {
    let words: Vec<&str> = values.split_whitespace().collect();
    if dtype == DType::String {
        return Tensor::from_strings(shape, words.iter().map(|w| w.to_string()).collect()).unwrap();
    }
    let n: usize = shape.iter().product();
    let values: Vec<f64> = match words[..] {
        // A ramp, for inputs whose values do not matter much.
        [".."] => (0..n).map(|i| i as f64).collect(),
        _ => words.iter().map(|w| w.parse().unwrap_or_else(|_| panic!("`{w}` is not a number"))).collect(),
    };
    Tensor::from_f64(dtype, shape, &values).unwrap()
}

fn check(op: &OpDef, text: &str, inputs: &[&str], expected: &str) -> Result<(), String> {
    let mut graph = parse_graph(text).map_err(|e| e.to_string())?;
    let mut symbols = Symbols::default();
    infer_graph(&mut graph, &mut symbols).map_err(|e| format!("inference: {e}"))?;
    if !graph.nodes().any(|(_, n)| &*n.op == op.name) {
        return Err("the example does not use the operator".into());
    }
    let data: Vec<Datum> = graph
        .inputs
        .iter()
        .map(|&v| {
            let value = &graph[v];
            let ty = value.ty.as_tensor().expect("a tensor");
            let given = inputs.iter().find(|i| i.split(['=', '[']).next().unwrap().trim() == value.name);
            let given = given.unwrap_or_else(|| panic!("{}: no value for {}", op.name, value.name));
            input(given, ty.dtype, ty.static_shape()).into()
        })
        .collect();
    let results = Interpreter::new(&graph)
        .run_observed(data, &|g, id, outputs| {
            contradiction(g, id, outputs, false).map_or(Ok(()), |p| Err(Error::bug(p)))
        })
        .map_err(|e| format!("evaluation: {e}"))?;
    let got = results[0].as_tensor().ok_or("the first output is not a tensor")?;
    if let Some(strings) = got.strings() {
        let want: Vec<&str> = expected.split_whitespace().collect();
        return if strings == want { Ok(()) } else { Err(format!("got {strings:?}, expected {want:?}")) };
    }
    let got = got.to_f64_vec().map_err(|e| e.to_string())?;
    let want: Vec<f64> = expected.split_whitespace().map(|w| w.parse().unwrap()).collect();
    let close = |a: f64, b: f64| (a.is_nan() && b.is_nan()) || a == b || (a - b).abs() <= 1e-6 + 1e-5 * b.abs();
    if got.len() == want.len() && got.iter().zip(&want).all(|(&a, &b)| close(a, b)) {
        Ok(())
    } else {
        Err(format!("got {got:?}, expected {want:?}"))
    }
}

#[test]
fn every_example_holds() {
    let mut failures = Vec::new();
    for op in registry::all() {
        if op.examples.is_empty() {
            failures.push(format!("{} has no example", op.name));
        }
        for (text, inputs, expected) in op.examples {
            if let Err(e) = check(op, text, inputs, expected) {
                failures.push(format!("{}: {text}\n    {e}", op.name));
            }
        }
    }
    assert!(failures.is_empty(), "{} failures\n{}", failures.len(), failures.join("\n"));
}
