//! Whatever a model says, operators answer with a result or an error, never with a panic: the examples
//! with attributes, constants, types and shapes changed at random.

use oxrt_ir::{Attr, Graph, NodeId, Symbols, TensorType, parse_graph};
use oxrt_ops::infer::infer_graph;
use oxrt_ops::{DType, Datum, Interpreter, Tensor, registry};
use std::panic::{AssertUnwindSafe, catch_unwind};

struct Rng(u64);

impl Rng {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        ((self.0 >> 33) as usize) % n
    }

    fn pick<T: Clone>(&mut self, list: &[T]) -> T {
        list[self.below(list.len())].clone()
    }

    fn int(&mut self) -> i64 {
        self.pick(&[-3, -2, -1, 0, 0, 1, 1, 2, 2, 3, 4, 7, i64::MAX, i64::MIN, 1 << 40])
    }

    fn float(&mut self) -> f32 {
        self.pick(&[-1.0, 0.0, 0.5, 1.0, 2.0, 1e30, f32::NAN, f32::INFINITY, f32::NEG_INFINITY])
    }

    fn shape(&mut self) -> Vec<usize> {
        (0..self.below(6)).map(|_| self.pick(&[0, 1, 1, 2, 2, 3, 4])).collect()
    }

    fn tensor(&mut self, dtype: DType, shape: &[usize]) -> Tensor {
        let n = shape.iter().product();
        if dtype == DType::String {
            return Tensor::from_strings(shape, vec!["a.b c".into(); n]).unwrap();
        }
        if dtype.is_complex() {
            return Tensor::zeros(dtype, shape);
        }
        if dtype.is_int() {
            let values: Vec<i64> = (0..n).map(|_| self.int()).collect();
            return Tensor::from_i64(dtype, shape, &values).unwrap();
        }
        let values: Vec<f64> = (0..n).map(|_| self.float() as f64).collect();
        Tensor::from_f64(dtype, shape, &values).unwrap()
    }
}

fn change_attr(rng: &mut Rng, attr: &mut Attr) {
    match attr {
        Attr::Int(x) => *x = rng.int(),
        Attr::Float(x) => *x = rng.float(),
        Attr::String(s) => {
            *s = rng.pick(&["", "linear", "cubic", "NOTSET", "SAME_LOWER", "mean", "max", "ii->i"]).into()
        }
        Attr::Ints(list) => match rng.below(4) {
            0 => drop(list.pop()),
            1 => list.push(rng.int()),
            _ if list.is_empty() => {}
            _ => {
                let at = rng.below(list.len());
                list[at] = rng.int();
            }
        },
        Attr::Floats(list) => list.truncate(list.len() / 2),
        Attr::Strings(list) => list.truncate(list.len() / 2),
        _ => {}
    }
}

fn change(rng: &mut Rng, g: &mut Graph, node: NodeId) {
    let dtypes = [DType::F32, DType::F16, DType::I64, DType::U8, DType::Bool, DType::String, DType::I4, DType::C64];
    match rng.below(5) {
        0 => {
            let names: Vec<String> = g[node].attrs.iter().map(|(k, _)| k.to_string()).collect();
            if !names.is_empty() {
                let name = rng.pick(&names);
                if rng.below(4) == 0 {
                    g[node].attrs.remove(&name);
                } else if let Some(attr) = g[node].attrs.0.get_mut(&name) {
                    change_attr(rng, attr);
                }
            }
        }
        1 => {
            let name =
                rng.pick(&["axis", "axes", "group", "keepdims", "pads", "strides", "mode", "block_size", "direction"]);
            let attr = if rng.below(2) == 0 { Attr::Int(rng.int()) } else { Attr::Ints(vec![rng.int(), rng.int()]) };
            g[node].attrs.set(name, attr);
        }
        2 => {
            let inputs = g[node].inputs().len();
            if inputs > 0 {
                let at = rng.below(inputs);
                g.set_input(node, at, None);
            }
        }
        _ => {
            let inputs: Vec<_> = g[node].inputs().iter().flatten().copied().collect();
            if inputs.is_empty() {
                return;
            }
            let v = rng.pick(&inputs);
            let old = g[v].ty.dtype().unwrap_or(DType::F32);
            let dtype = if rng.below(4) == 0 { rng.pick(&dtypes) } else { old };
            let shape = rng.shape();
            if g[v].is_constant() {
                let t = rng.tensor(dtype, &shape);
                g.set_constant(v, t);
            } else if g.inputs.contains(&v) {
                g[v].ty = TensorType::new(dtype, shape.iter().map(|&d| d.into()).collect()).into();
            }
        }
    }
}

#[test]
fn no_operator_panics() {
    std::panic::set_hook(Box::new(|_| {}));
    let mut rng = Rng(7);
    let mut failures = Vec::new();
    // A loop may go on for ever by right.
    for op in registry::all().iter().filter(|op| op.name != "Loop") {
        for (text, ..) in op.examples {
            let Ok(original) = parse_graph(text) else { continue };
            for turn in 0..300 {
                let mut graph = original.clone();
                let Some(node) = graph.nodes().find(|(_, n)| &*n.op == op.name).map(|(id, _)| id) else { break };
                for _ in 0..1 + turn % 3 {
                    change(&mut rng, &mut graph, node);
                }
                let data: Vec<Datum> = graph
                    .inputs
                    .clone()
                    .into_iter()
                    .map(|v| {
                        let ty = graph[v].ty.as_tensor().expect("a tensor");
                        let (dtype, shape) = (ty.dtype, ty.static_shape().unwrap_or_default());
                        rng.tensor(dtype, &shape).into()
                    })
                    .collect();
                let described = graph.to_string();
                let run = AssertUnwindSafe(|| {
                    if infer_graph(&mut graph, &mut Symbols::default()).is_ok() {
                        let _ = Interpreter::new(&graph).run(data);
                    }
                });
                let start = std::time::Instant::now();
                let outcome = catch_unwind(run);
                if start.elapsed().as_secs() > 5 {
                    failures.push(format!("{}: takes long\n    {}", op.name, described.replace('\n', " ")));
                }
                if let Err(panic) = outcome {
                    let message = panic
                        .downcast_ref::<String>()
                        .cloned()
                        .or_else(|| panic.downcast_ref::<&str>().map(|s| s.to_string()))
                        .unwrap_or_default();
                    failures.push(format!("{}: {message}\n    {}", op.name, described.replace('\n', " ")));
                    break;
                }
            }
        }
    }
    let _ = std::panic::take_hook();
    assert!(failures.is_empty(), "{} operators panic\n{}", failures.len(), failures.join("\n"));
}

/// Kernels read as many elements of a bias as there are maps.
#[test]
fn a_bias_of_another_shape() {
    for bias in ["f32[0, 2, 2]", "f32[2, 1]", "f32[1]", "f32[0]"] {
        let mut graph =
            parse_graph(&format!("(f32[1, 1, 3] x, {bias} b) {{ y = Conv(x, f32[2, 1, 1]{{1}}, b) }} => y")).unwrap();
        let error = infer_graph(&mut graph, &mut Symbols::default()).map(|_| ()).unwrap_err().to_string();
        assert!(error.contains("one element per map"), "{error}");
    }
}

/// A loop that provably has no end is an error, as is a trip count of no element, which would be one without bound.
#[test]
fn loops_without_end() {
    let body = "body={(i64 i, bool c, f32[] a) { b = Neg(a) } => c, b}";
    let run = |head: &str, trips: Tensor| {
        let mut graph = parse_graph(&format!(
            "({head} k, f32[] s) {{ y = Loop<{body}>({}, bool{{1}}, s) }} => y",
            if head == "f32[]" { "_" } else { "k" }
        ))
        .unwrap();
        infer_graph(&mut graph, &mut Symbols::default())
            .and_then(|_| Interpreter::new(&graph).run(vec![trips.into(), Tensor::scalar(1f32).into()]))
    };
    assert!(run("i64", Tensor::scalar(3i64)).is_ok());
    let none = run("i64[0]", Tensor::from_i64(DType::I64, &[0], &[]).unwrap()).unwrap_err().to_string();
    assert!(none.contains("the trip count is one element, found 0"), "{none}");
    let endless = run("f32[]", Tensor::scalar(0f32)).unwrap_err().to_string();
    assert!(endless.contains("never ends"), "{endless}");
}
