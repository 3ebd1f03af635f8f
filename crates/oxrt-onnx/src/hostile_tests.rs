//! Whatever a file says, nodes are written out, lowered and differentiated with a result or an error, never with a panic.

use crate::{contrib, gradient, lower};
use oxrt_ir::{Attr, Attrs, Dim, Graph, Model, Symbols, TensorType, ValueId, parse_graph};
use oxrt_ops::{Builder, registry};
use oxrt_tensor::{DType, Tensor};
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

    /// An input of the graph or a constant, of any shape and type.
    fn value(&mut self, g: &mut Graph, name: &str) -> ValueId {
        let types = [DType::F32, DType::F32, DType::F16, DType::I32, DType::I64, DType::U8, DType::I8, DType::Bool];
        let (dtype, rank) = (self.pick(&types), self.pick(&[0, 1, 1, 2, 2, 3, 3, 4, 4, 5]));
        let sizes: Vec<usize> = (0..rank).map(|_| self.pick(&[0, 1, 2, 2, 3, 4, 8, 16])).collect();
        if self.below(3) == 0 {
            let n = sizes.iter().product();
            let values: Vec<f64> = (0..n).map(|_| self.pick(&[0.0, 1.0, 2.0, 3.0, 200.0])).collect();
            return g.add_constant(name, Tensor::from_f64(dtype, &sizes, &values).expect("numbers"));
        }
        let dim = |(i, &d): (usize, &usize)| {
            if self.below(4) == 0 { Dim::symbol(["n", "s", "t"][i % 3]) } else { Dim::from(d) }
        };
        let dims = sizes.iter().enumerate().map(dim).collect();
        let dims = if self.below(20) == 0 { None } else { Some(dims) };
        g.add_input(name, TensorType { dtype, dims }.into())
    }

    fn attr(&mut self) -> Attr {
        let int = |r: &mut Rng| r.pick(&[-2, -1, 0, 1, 1, 2, 2, 3, 4, 8, 16, 32, i64::MAX, i64::MIN]);
        match self.below(8) {
            0 => Attr::Float(self.pick(&[-1.0, 0.0, 0.5, f32::NAN, f32::INFINITY])),
            1 => Attr::Ints((0..self.below(5)).map(|_| int(self)).collect()),
            2 => Attr::Floats(vec![0.5; self.below(4)]),
            3 => Attr::String(self.pick(&["", "Relu", "Clip", "bilinear", "reflect", "x"]).into()),
            _ => Attr::Int(int(self)),
        }
    }
}

/// Runs `f`, turning a panic into its message.
fn outcome<R>(f: impl FnOnce() -> R) -> Result<R, String> {
    catch_unwind(AssertUnwindSafe(f)).map_err(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        text.or_else(|| panic.downcast_ref::<&str>().map(|s| s.to_string())).unwrap_or_default()
    })
}

#[test]
fn contrib_operators_do_not_panic() {
    const ATTRS: &[&str] = &[
        "num_heads",
        "kv_num_heads",
        "unidirectional",
        "axis",
        "axes",
        "block_size",
        "K",
        "N",
        "bits",
        "groups",
        "alpha",
        "epsilon",
        "transA",
        "transB",
        "transBatchA",
        "activation",
        "activation_params",
        "channels_last",
        "kernel_shape",
        "pads",
        "strides",
        "mode",
        "do_rotary",
        "local_window_size",
        "qkv_hidden_sizes",
        "scale",
        "keepdims",
        "border",
        "shape",
        "values",
        "bias",
        "max_distance",
        "rotary_embedding_dim",
        "is_bidirectional",
        "quant_type",
        "opset",
        "hidden_size",
        "quantize_axis",
        "gather_axis",
        "smooth_softmax",
        "past_present_share_buffer",
        "group",
        "dilations",
    ];
    std::panic::set_hook(Box::new(|_| {}));
    let mut rng = Rng(11);
    let mut failures = Vec::new();
    for (domain, op) in contrib::names() {
        for _ in 0..600 {
            let mut g = Graph::new("g");
            let count = rng.below(12);
            let inputs: Vec<Option<ValueId>> = (0..count)
                .map(|i| if rng.below(6) == 0 { None } else { Some(rng.value(&mut g, &format!("x{i}"))) })
                .collect();
            let mut attrs = Attrs::new();
            for _ in 0..rng.below(6) {
                let name = rng.pick(ATTRS);
                attrs.set(name, rng.attr());
            }
            if rng.below(2) == 0 {
                attrs.set("num_heads", 2);
                attrs.set("kv_num_heads", 1);
            }
            let described = format!("{g} {attrs:?}");
            let mut symbols = Symbols::default();
            let expand = contrib::find(domain, op, 1).expect("listed");
            let wanted = vec![true; 1 + rng.below(4)];
            let result = outcome(|| {
                let mut b = Builder::new(&mut g, &mut symbols);
                let block = [None, Some(8), Some(16)][count % 3];
                let _ =
                    expand(&mut contrib::Call { b: &mut b, attrs: &attrs, inputs: &inputs, wanted: &wanted, block });
            });
            if let Err(message) = result {
                failures.push(format!("{op}: {message}\n    {}", described.replace('\n', " ")));
                break;
            }
        }
    }
    let _ = std::panic::take_hook();
    assert!(failures.is_empty(), "{} operators panic\n{}", failures.len(), failures.join("\n"));
}

#[test]
fn lowering_and_gradients_do_not_panic() {
    std::panic::set_hook(Box::new(|_| {}));
    let mut rng = Rng(13);
    let mut failures = Vec::new();
    for op in registry::all().iter().filter(|op| !op.name.starts_with("oxrt.")) {
        for (text, ..) in op.examples {
            let Ok(original) = parse_graph(text) else { continue };
            for _ in 0..40 {
                let mut graph = original.clone();
                let node = graph.nodes().find(|(_, n)| &*n.op == op.name).map(|(id, _)| id);
                if let (Some(id), true) = (node, rng.below(2) == 0) {
                    let name = rng.pick(&[
                        "axis",
                        "axes",
                        "perm",
                        "keepdims",
                        "pads",
                        "strides",
                        "alpha",
                        "mode",
                        "start",
                        "ceil_mode",
                    ]);
                    let attr = rng.attr();
                    graph[id].attrs.set(name, attr);
                }
                let mut model = Model { graph, ..Model::default() };
                let opset = 7 + rng.below(22) as i64;
                let result = outcome(|| {
                    if oxrt_ops::infer::infer_model(&mut model).is_err() {
                        return;
                    }
                    let mut lowered = model.clone();
                    let _ = lower::lower(&mut lowered, opset);
                    let (xs, Some(&y)) = (model.graph.inputs.clone(), model.graph.outputs.first()) else { return };
                    let wanted = gradient::Wanted { at: xs.clone(), xs, zs: vec![], y };
                    let _ = gradient::expand(&mut Builder::new(&mut model.graph, &mut model.symbols), &wanted);
                });
                if let Err(message) = result {
                    failures.push(format!("{} to {opset}: {message}\n    {}", op.name, text.replace('\n', " ")));
                    break;
                }
            }
        }
    }
    let _ = std::panic::take_hook();
    assert!(failures.is_empty(), "{} operators panic\n{}", failures.len(), failures.join("\n"));
}
