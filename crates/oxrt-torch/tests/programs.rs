//! Small programs: meaning of in-place writes, options, messages.

mod common;
use common::*;
use oxrt_ops::{Datum, Interpreter};
use oxrt_tensor::Tensor;
use oxrt_torch::{ImportOptions, Program};

fn x23() -> Tensor {
    Tensor::from_slice(&[2, 3], &[1f32, 2.0, 3.0, 4.0, 5.0, 6.0])
}

const NONE: Tiny = Tiny { values: &[], nodes: &[], output: "y", weight: false, guards: "" };

#[test]
fn weights_are_constants_and_names_are_kept() {
    let p = Tiny {
        values: &[("x", 7, &["2", "3"]), ("p_w", 7, &["2", "3"]), ("add", 7, &["2", "3"]), ("y", 7, &["2", "3"])],
        nodes: &["aten.add.Tensor(self=t:x; other=t:p_w; alpha=i:2) -> add", "aten.relu.default(self=t:add) -> y"],
        weight: true,
        ..NONE
    };
    assert_eq!(run(&p, x23()), [1.0, 4.0, 7.0, 10.0, 13.0, 16.0]);
    let m = import_bytes(&p.bytes(), &ImportOptions::default()).unwrap().model;
    let g = &m.graph;
    let weight = g.value_ids().find(|&v| g[v].name == "lin.w").expect("the weight keeps its name");
    assert!(g[weight].is_constant());
    let names: Vec<&str> = g.nodes().map(|(_, n)| n.name.as_str()).collect();
    assert_eq!(names, ["lin/Mul", "lin/Add", "lin/Relu"]);
    let (_, add) = g.nodes().nth(1).unwrap();
    assert_eq!(g[add.output(0).unwrap()].name, "add");
    let source = add.source.as_ref().unwrap();
    assert_eq!((&*source.module, &*source.location, &*source.code), ("lin", "src/m.py:3", "y = self.lin(x)"));
    assert_eq!(g[g.outputs[0]].name, "output");
}

#[test]
fn writes_to_views_reach_the_base_and_other_views() {
    // t = x.clone(); v = t.view(3, 2); r = v[1]; r.add_(10); y = t * 1
    let p = Tiny {
        values: &[
            ("x", 7, &["2", "3"]),
            ("t", 7, &["2", "3"]),
            ("v", 7, &["3", "2"]),
            ("r", 7, &["2"]),
            ("w", 7, &["2"]),
            ("y", 7, &["2", "3"]),
        ],
        nodes: &[
            "aten.clone.default(self=t:x) -> t",
            "aten.view.default(self=t:t; size=l:3, 2) -> v",
            "aten.select.int(self=t:v; dim=i:0; index=i:1) -> r",
            "aten.add_.Tensor(self=t:r; other=i:10) -> w",
            "aten.mul.Tensor(self=t:t; other=i:1) -> y",
        ],
        ..NONE
    };
    assert_eq!(run(&p, x23()), [1.0, 2.0, 13.0, 14.0, 5.0, 6.0]);
}

#[test]
fn a_view_taken_before_a_write_shows_it() {
    // v = x.t(); x.mul_(2); y = v + 0
    let p = Tiny {
        values: &[
            ("x", 7, &["2", "3"]),
            ("c", 7, &["2", "3"]),
            ("v", 7, &["3", "2"]),
            ("m", 7, &["2", "3"]),
            ("y", 7, &["3", "2"]),
        ],
        nodes: &[
            "aten.clone.default(self=t:x) -> c",
            "aten.t.default(self=t:c) -> v",
            "aten.mul_.Tensor(self=t:c; other=i:2) -> m",
            "aten.add.Tensor(self=t:v; other=i:0) -> y",
        ],
        ..NONE
    };
    assert_eq!(run(&p, x23()), [2.0, 8.0, 4.0, 10.0, 6.0, 12.0]);
}

#[test]
fn a_copy_is_no_view() {
    let p = Tiny {
        values: &[("x", 7, &["2", "3"]), ("c", 7, &["2", "3"]), ("z", 7, &["2", "3"]), ("y", 7, &["2", "3"])],
        nodes: &[
            "aten.clone.default(self=t:x) -> c",
            "aten.zero_.default(self=t:c) -> z",
            "aten.add.Tensor(self=t:x; other=i:0) -> y",
        ],
        ..NONE
    };
    assert_eq!(run(&p, x23()), [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
}

#[test]
fn slices_with_steps_are_written() {
    // c[:, ::2] = 0
    let p = Tiny {
        values: &[("x", 7, &["2", "3"]), ("y", 7, &["2", "3"]), ("s", 7, &["2", "2"]), ("f", 7, &["2", "2"])],
        nodes: &[
            "aten.clone.default(self=t:x) -> y",
            "aten.slice.Tensor(self=t:y; dim=i:1; start=i:0; end=i:9223372036854775807; step=i:2) -> s",
            "aten.fill_.Scalar(self=t:s; value=i:0) -> f",
        ],
        ..NONE
    };
    assert_eq!(run(&p, x23()), [0.0, 2.0, 0.0, 0.0, 5.0, 0.0]);
}

#[test]
fn every_missing_operator_is_reported_at_once() {
    let p = Tiny {
        values: &[("x", 7, &["2", "3"]), ("a", 7, &["2", "3"]), ("y", 7, &["2", "3"])],
        nodes: &[
            "aten.made_up.default(self=t:x) -> a",
            "prims.other.default(self=t:a) -> b",
            "prims.other.default(self=t:a) -> y",
        ],
        ..NONE
    };
    let e = import_bytes(&p.bytes(), &ImportOptions::default()).unwrap_err().to_string();
    assert!(e.contains("2 kinds of operation (3 nodes)"), "{e}");
    assert!(e.contains("aten.made_up.default, first in lin (src/m.py:3)"), "{e}");
    assert!(e.contains("prims.other.default × 2") && e.contains("help:"), "{e}");
}

#[test]
fn operators_of_other_namespaces_are_nodes_of_their_domain() {
    let p = Tiny {
        values: &[("x", 7, &["2", "3"]), ("p_w", 7, &["2", "3"]), ("y", 7, &["2", "3"])],
        nodes: &["my_ops.mix.default(x=t:x; w=t:p_w; alpha=i:2; sizes=l:3, 4) -> y"],
        weight: true,
        ..NONE
    };
    let imported = import_bytes(&p.bytes(), &ImportOptions::default()).unwrap();
    assert!(imported.warnings.iter().any(|w| w.contains("my_ops.mix")), "{:?}", imported.warnings);
    let g = &imported.model.graph;
    let (_, node) = g.nodes().next().unwrap();
    assert_eq!((&*node.op, node.inputs().len()), ("my_ops.mix", 2));
    assert_eq!(node.attrs.int_or("alpha", 0).unwrap(), 2);
    assert_eq!(node.attrs.ints("sizes").unwrap(), Some(&[3, 4][..]));
    assert_eq!(g[g.outputs[0]].ty.to_string(), "f32[2, 3]");
}

#[test]
fn bf16_is_computed_in_f32_and_rounded_back() {
    let p = Tiny {
        values: &[("x", 7, &["2", "3"]), ("h", 13, &["2", "3"]), ("s", 13, &["2", "3"]), ("y", 7, &["2", "3"])],
        nodes: &[
            "aten.to.dtype(self=t:x; dtype=d:13) -> h",
            "aten.mul.Tensor(self=t:h; other=t:h) -> s",
            "aten.to.dtype(self=t:s; dtype=d:7) -> y",
        ],
        ..NONE
    };
    let m = import_bytes(&p.bytes(), &ImportOptions::default()).unwrap().model;
    let ops: Vec<&str> = m.graph.nodes().map(|(_, n)| &*n.op).collect();
    assert_eq!(ops.iter().filter(|o| **o == "Cast").count(), 5, "{ops:?}");
    let (_, mul) = m.graph.nodes().find(|(_, n)| &*n.op == "Mul").unwrap();
    assert_eq!(m.graph[mul.input(0).unwrap()].ty.dtype(), Some(oxrt_tensor::DType::F32));
}

fn dynamic(guards: &str) -> Vec<u8> {
    let json = Tiny {
        values: &[("x", 7, &["s0", "3"]), ("y", 7, &["s0", "3"])],
        nodes: &["aten.relu.default(self=t:x) -> y"],
        ..NONE
    }
    .json();
    let json = json.replace("\"guards_code\": []", &format!("\"guards_code\": [{guards}]"));
    archive(&json, &weight_config(&meta(7, &["2", "3"])))
}

#[test]
fn symbols_get_names_and_the_soft_minimum_goes() {
    let f = file(&dynamic(""));
    let p = Program::open(&f.0).unwrap();
    assert_eq!(format!("{:?}", p.inputs[0].dims), "[batch, 3]");
    assert_eq!(p.dims[0].1.to_string(), "1..");
    // A guard that fails at 1 keeps the 2, one that pins the size gives a warning.
    let p = Program::open(&file(&dynamic("\"L['x'].size()[0] != 1\"")).0).unwrap();
    assert_eq!(p.dims[0].1.to_string(), "2..");
    let p = Program::open(&file(&dynamic("\"(L['x'].size()[0] % 7) == 0\"")).0).unwrap();
    assert!(p.warnings[0].contains("`(batch % 7) == 0`"), "{:?}", p.warnings);
}

#[test]
fn dimensions_inputs_and_outputs_are_renamed() {
    let options = ImportOptions {
        input_names: vec!["x=tokens".into()],
        output_names: vec!["result".into()],
        dims: vec!["x:0=n=1..64".parse().unwrap()],
        ..ImportOptions::default()
    };
    // Places are named by the old input name: options are read before the renaming.
    let m = import_bytes(&dynamic(""), &options).unwrap().model;
    let g = &m.graph;
    assert_eq!((&*g[g.inputs[0]].name, &*g[g.outputs[0]].name), ("tokens", "result"));
    assert_eq!(g[g.outputs[0]].ty.to_string(), "f32[n, 3]");
    assert_eq!(m.symbols.iter().map(|(s, r)| format!("{s} {r}")).collect::<Vec<_>>(), ["n 1..64"]);
    let bad = ImportOptions { dims: vec!["height=1..2".parse().unwrap()], ..Default::default() };
    let e = import_bytes(&dynamic(""), &bad).unwrap_err().to_string();
    assert!(e.contains("no dynamic dimension `height`; there are: batch (1..)"), "{e}");
    let bad = ImportOptions { dims: vec!["batch=0..2".parse().unwrap()], ..Default::default() };
    assert!(import_bytes(&dynamic(""), &bad).unwrap_err().to_string().contains("exported for 1.."));
    for text in ["", "batch", "batch=", "batch=3..2", "batch=a=b"] {
        assert!(text.parse::<oxrt_torch::DimOption>().is_err(), "{text}");
    }
}

/// `x` in, a check that all of it is positive, `y = relu(x)` out.
fn checked(check: &str) -> Vec<u8> {
    let sizes: &[&str] = &["2", "3"];
    let program = Tiny {
        values: &[("x", 7, sizes), ("c", 12, sizes), ("all", 12, &[]), ("token", 7, sizes), ("y", 7, sizes)],
        nodes: &[
            "aten.gt.Scalar(self=t:x; other=i:0) -> c",
            "aten.all.default(self=t:c) -> all",
            check,
            "aten.relu.default(self=t:x) -> y",
        ],
        output: "y",
        weight: false,
        guards: "",
    };
    program.bytes()
}

#[test]
fn assertions_are_checked_when_the_model_runs() {
    for check in [
        "aten._assert_async.msg(self=t:all; assert_msg=s:all must be positive) -> ",
        "aten._functional_assert_async.msg(self=t:all; assert_msg=s:all must be positive; dep_token=t:x) -> token",
    ] {
        let imported = import_bytes(&checked(check), &ImportOptions::default()).unwrap();
        let run = |x: [f32; 6]| {
            let x = Tensor::from_slice(&[2, 3], &x);
            Interpreter::new(&imported.model.graph).run(vec![Datum::Tensor(x)])
        };
        assert!(run([1.0; 6]).is_ok());
        let e = run([1.0, 2.0, 0.0, 1.0, 1.0, 1.0]).unwrap_err().to_string();
        assert!(e.contains("all must be positive"), "{e}");
        let e = format!("{:?}", run([0.0; 6]).unwrap_err());
        assert!(e.contains("src/m.py:3"), "{e}");
    }
}

#[test]
fn a_wrong_assertion_on_a_type_is_an_error() {
    let fine = checked("aten._assert_tensor_metadata.default(a=t:x; dtype=d:7) -> ");
    assert!(import_bytes(&fine, &ImportOptions::default()).is_ok());
    let wrong = checked("aten._assert_tensor_metadata.default(a=t:x; dtype=d:8) -> ");
    let e = import_bytes(&wrong, &ImportOptions::default()).unwrap_err().to_string();
    assert!(e.contains("asserts"), "{e}");
}

#[test]
fn lists_of_tensors_are_taken_element_by_element() {
    let program = |call: &'static str| {
        let nodes = ["aten.clone.default(self=t:x) -> y", call];
        let values: &[(&str, i64, &[&str])] = &[("x", 7, &["2", "3"]), ("y", 7, &["2", "3"])];
        Tiny { values, nodes: &nodes, output: "y", weight: false, guards: "" }.bytes()
    };
    // The second element is the first: it reads what was written there.
    let twice = program("aten._foreach_add_.List(self=T:y, y; other=T:x, x) -> ");
    let m = import_bytes(&twice, &ImportOptions::default()).unwrap().model;
    let x = Tensor::from_slice(&[2, 3], &[1.0f32, 2.0, 3.0, 4.0, 5.0, 6.0]);
    let out = Interpreter::new(&m.graph).run(vec![Datum::Tensor(x)]).unwrap();
    let Datum::Tensor(y) = &out[0] else { panic!() };
    assert_eq!(y.to_f64_vec().unwrap(), [3.0, 6.0, 9.0, 12.0, 15.0, 18.0]);
    let short = program("aten._foreach_add_.List(self=T:y, y; other=T:x) -> ");
    let e = import_bytes(&short, &ImportOptions::default()).map(|_| ()).unwrap_err().to_string();
    assert!(e.contains("`other` has no element 1"), "{e}");
}
